"""The command `train-dml`: what it prints, writes and refuses, and the command that it names next."""

import json
import shlex

import pytest

import cli
from curation.threads import one_thread
from scoring.dml.recipe import LOSSES
from tests.dml_world import write_folder


@pytest.fixture(autouse=True)
def _one_thread():
    # Layers this small are done before a second thread has woken.
    with one_thread():
        yield


def test_command_trains_extracts_and_scores_all_losses(tmp_path, capsys):
    write_folder(tmp_path / "data")
    write_folder(tmp_path / "strange", 0, 4)
    arguments = [
        "--data", str(tmp_path / "data"), "--compare", "--ood", f"strange={tmp_path / 'strange'}",
        "--network", "tiny", "--epochs", "4", "--batch-size", "8", "--center-schedule", "scaled",
        "--device", "cpu", "--workspace", str(tmp_path / "ws"),
    ]  # fmt: skip
    # The pictures of both folders have equal names, which would make them one image.
    for path in (tmp_path / "strange" / "val").rglob("*.png"):
        path.rename(path.with_name(f"strange_{path.name}"))
    assert cli.run(["train-dml", *arguments]) == 0
    first = capsys.readouterr().out
    for baseline in ("max_logit of linear", "max_cosine of cosine"):
        assert f"\nAUROC of DML+ less that of {baseline}, percentage points, with 95 % interval\n" in first
    assert {path.name for path in (tmp_path / "ws" / "features").iterdir()} == {
        "tiny.linear", "tiny.cosine", "tiny.mcf", "tiny.mnc",
    }  # fmt: skip
    assert cli.run(["train-dml", *arguments]) == 0
    assert capsys.readouterr().out == first
    assert cli.run(["train-dml", *arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert {loss: one["epoch"] for loss, one in data["networks"].items()} == dict.fromkeys(LOSSES, 4)
    told = next(line.split() for line in first.splitlines() if line.startswith("dml_plus of mcf and mnc"))
    found = data["figures"]["dml_plus of mcf and mnc"]["strange"]
    assert f"{100 * found['auroc']['value']:.2f}" == told[5]
    assert found["fpr95_in"]["low"] <= found["fpr95_in"]["value"] <= found["fpr95_in"]["high"]
    assert data["published"] is None
    assert cli.run(["train-dml", *arguments, "--dry-run"]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[:2] == ["epochs to do: 0; done already: 16", f"would read the pictures of {tmp_path / 'data'}"]
    assert f"would write {tmp_path / 'ws' / 'training' / 'tiny.mcf'}" in plan
    assert "whether pictures and model are those of the epochs done is seen by the run alone" in plan


def test_both_networks_of_dml_plus_lead_to_the_command_that_scores_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data")
    write_folder(tmp_path / "strange one", 0, 4)
    for path in (tmp_path / "strange one" / "val").rglob("*.png"):
        path.rename(path.with_name(f"strange_{path.name}"))
    common = [
        "--data", "data", "--ood", "far=strange one", "--network", "tiny", "--epochs", "2", "--batch-size", "8",
        "--device", "cpu", "--workspace", "my space",
    ]  # fmt: skip
    assert cli.run(["train-dml", *common, "--loss", "mcf", "--name", "x"]) == 0
    assert "next:" not in capsys.readouterr().err
    # The second goes on where the first, which has no center loss, is done.
    assert cli.run(["train-dml", *common, "--loss", "mnc", "--name", "x", "--center-schedule", "scaled"]) == 0
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint == (
        "next: python cli.py score --features x.mcf --second-features x.mnc --method dml_plus --ood far "
        "--workspace 'my space'"
    )
    assert cli.run([*shlex.split(hint)[3:], "--bootstrap", "0"]) == 0
    assert "DML+" in capsys.readouterr().out
    assert (tmp_path / "my space" / "scores" / "x.mcf.x.mnc" / "results.csv").is_file()


def test_one_epoch_is_told_as_one(tmp_path, capsys):
    write_folder(tmp_path / "data")
    arguments = ["--data", str(tmp_path / "data"), "--loss", "linear", "--network", "tiny", "--epochs", "1"]
    assert cli.run(["train-dml", *arguments, "--device", "cpu", "--workspace", str(tmp_path / "ws")]) == 0
    assert capsys.readouterr().out.startswith("train-dml: linear, 1 epoch (0 done before), right ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--epochs", "3"], "a training with another recipe n_epochs (2, now 3); give another --name"),
        (["--side", "48"], "a training with another preprocessing input_size_px (32, now 48)"),
        (["--amp"], "a training with another amp (False, now True)"),
    ],
)
def test_a_dry_run_refuses_the_settings_that_the_run_would_refuse(changed, said, tmp_path, capsys):
    write_folder(tmp_path / "data")
    arguments = [
        "train-dml", "--data", str(tmp_path / "data"), "--loss", "mcf", "--network", "tiny", "--epochs", "2",
        "--batch-size", "8", "--device", "cpu", "--workspace", str(tmp_path / "ws"),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    capsys.readouterr()
    messages = []
    for ending in (["--dry-run"], []):
        assert cli.run([*arguments, *changed, *ending]) == 1
        messages.append(capsys.readouterr().err.splitlines()[-1])
    assert said in messages[0]
    assert messages[0] == messages[1]


def test_a_dry_run_refuses_a_folder_that_holds_no_data(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name, said in (("none", "no such folder"), ("empty", "expected the folders train and val")):
        arguments = ["--data", str(tmp_path / name), "--loss", "mcf", "--workspace", str(tmp_path / "ws")]
        assert cli.run(["train-dml", *arguments, "--dry-run"]) == 1
        assert f"--data {tmp_path / name}: {said}" in capsys.readouterr().err


def test_a_loss_given_twice_is_trained_and_planned_once(tmp_path, capsys):
    arguments = [
        "train-dml", "--sample", "--loss", "mcf", "--loss", "mcf", "--epochs", "7", "--dry-run",
        "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[0] == "epochs to do: 7; done already: 0"
    assert plan.count(f"would write {tmp_path / 'training' / 'tiny.mcf'}") == 1


@pytest.mark.parametrize("side", ["0", "-4"])
def test_a_side_that_no_picture_has_is_refused_by_its_name(side, tmp_path, capsys):
    arguments = ["train-dml", "--sample", "--loss", "mcf", "--side", side, "--workspace", str(tmp_path)]
    assert cli.run(arguments) == 2
    assert "--side" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_record_holds_what_was_given_and_the_defaults(tmp_path, capsys):
    write_folder(tmp_path / "data")
    arguments = [
        "train-dml", "--data", str(tmp_path / "data"), "--loss", "mcf", "--loss", "cosine", "--network",
        "tiny", "--epochs", "1", "--batch-size", "8", "--no-amp", "--device", "cpu",
        "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run([*arguments, "--json"]) == 0
    networks = json.loads(capsys.readouterr().out)["data"]["networks"]
    assert [(loss, one["epoch"], one["learning_rate"]) for loss, one in networks.items()] == [
        ("mcf", 1, 0.1), ("cosine", 1, 0.1),
    ]  # fmt: skip
    recorded = json.loads((tmp_path / "provenance" / "train-dml.tiny.json").read_text())["arguments"]
    assert recorded == {
        "data": str(tmp_path / "data"), "loss": ["mcf", "cosine"], "network": "tiny", "epochs": "1",
        "batch_size": "8", "amp": "False", "device": "cpu", "workspace": str(tmp_path), "sample": "False",
        "compare": "False", "learning_rate": "0.1", "seed": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either --data FOLDER or --sample"),
        (["--data", "x", "--sample"], "expected either --data FOLDER or --sample"),
        (["--sample"], "expected either --loss mcf|mnc|cosine|linear or --compare"),
        (["--data", "x", "--compare"], "expected at least one --ood NAME=FOLDER to score"),
        (["--sample", "--compare", "--ood", "out=x"], "--ood out: the sample has a set of this name"),
        (["--data", "x", "--loss", "mcf"], "--data x: no such folder"),
        (["--data", "x", "--loss", "arc"], "loss: expected one of linear, cosine, mcf, mnc, found 'arc'"),
        (["--data", "x", "--loss", "mcf", "--ood", "far"], "--ood: expected NAME=FOLDER, found 'far'"),
        (["--data", "x", "--loss", "mcf", "--ood", "far=no"], "--ood far=no: no such folder"),
        (
            ["--data", "x", "--loss", "mcf", "--center-schedule", "scaled"],
            "--center-schedule has no effect on mcf, it is for mnc: leave it out",
        ),
        (
            ["--sample", "--loss", "mnc", "--center-schedule", "published"],
            "--epochs is 50: give --center-schedule scaled",
        ),
    ],
)
def test_impossible_command_line_is_one_clear_error(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train-dml", *arguments]) == 1
    assert message in capsys.readouterr().err
