"""The command `train-localizer`."""

import json
import os
import re

import pytest
import torch

import cli
from curation.localize import training_run, trial
from manifests.folder_lock import held
from tests.localize_world import write_layout
from tests.tiny_clip import make_tiny_clip


def test_the_command_trains_on_a_layout_and_prints_a_table_for_each_test_split(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 9, "val": 3, "testA": 2})
    folder = tmp_path / "clip"
    folder.mkdir()
    config, weights = make_tiny_clip(folder)
    arguments = [
        "train-localizer", "--data", str(layout), "--test-split", "testA", "--model", config,
        "--pretrained", weights, "--input-px", "32", "--words", "8", "--epochs", "1", "--batch-size", "3",
        "--readers", "1", "--device", "cpu", "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "testA: 2 masks, 4 phrases"
    assert lines[1].split("  ")[0] == "answer"
    # Every box is 16 x 12 px of 60 x 40.
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "trained", "centred box, 8.0% of the area", "the whole picture",
    ]  # fmt: skip
    assert lines[4].split()[3] == "0.080"
    assert "trained: Bridger " in said.err
    assert (tmp_path / "localizer" / "contact_sheet.png").exists()
    # A record is of all that was given or taken by default, lists as lists; --pretrained was a path.
    recorded = json.loads((tmp_path / "provenance" / "train-localizer.json").read_text())["arguments"]
    assert recorded == {
        "workspace": str(tmp_path), "data": str(layout), "test_split": ["testA"], "model": config,
        "pretrained": weights, "input_px": "32", "n_words": "8", "epochs": "1", "batch_size": "3", "readers": "1",
        "device": "cpu", "dataset": "refcoco", "seed": "0",
    }  # fmt: skip


def test_a_finished_training_is_not_judged_again_and_tells_the_same_figures_as_numbers(
    tmp_path, monkeypatch, capsys
):
    layout = write_layout(tmp_path / "data", {"train": 4, "val": 3, "testA": 2})
    arguments = of_layout(tmp_path, layout, batch_size=2, readers=1)
    assert cli.run(arguments) == 0
    first, localizer = capsys.readouterr().out.splitlines(), tmp_path / "localizer"
    files = {path: path.read_bytes() for path in localizer.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(trial, "judged", lambda *_, **__: pytest.fail("it is judged again"))
        assert cli.run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == first
    assert told["notices"] == [
        "train-localizer: 4 masks with 8 phrases to learn from, 3 masks to choose the epoch by; epochs: 1",
        f"{localizer / 'figures.json'}: this localizer was judged on these examples before",
    ]
    assert {path: path.read_bytes() for path in localizer.iterdir()} == files
    (judgement,) = told["data"]["figures"]
    assert (judgement["title"], judgement["n_masks"], judgement["n_phrases"]) == (
        "val, by which the epoch was chosen too", 3, 6,
    )  # fmt: skip
    whole = judgement["contenders"][2]
    assert (whole["name"], whole["threshold"], whole["precision_at_0.5"]) == ("the whole picture", 0.5, 0)
    assert whole["mean_iou"] == pytest.approx(16 * 12 / (60 * 40))
    recorded = json.loads((tmp_path / "provenance" / "train-localizer.json").read_text())["details"]
    assert recorded == {"figures": [judgement]}
    # Another split is judged, by the localizer that lies there.
    assert cli.run([*arguments, "--test-split", "testA"]) == 0
    assert capsys.readouterr().out.startswith("testA: 2 masks, 4 phrases\n")


def of_layout(tmp_path, layout, *, batch_size, readers):
    """Return the command line of a training for one epoch on a layout, by a tiny CLIP model."""
    (tmp_path / "clip").mkdir()
    config, weights = make_tiny_clip(tmp_path / "clip")
    return [
        "train-localizer", "--data", str(layout), "--model", config, "--pretrained", weights, "--input-px", "32",
        "--words", "8", "--epochs", "1", "--batch-size", str(batch_size), "--readers", str(readers), "--device",
        "cpu", "--workspace", str(tmp_path),
    ]  # fmt: skip


def test_without_a_test_split_the_table_is_of_val_and_says_what_it_chose(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 4, "val": 3})
    arguments = of_layout(tmp_path, layout, batch_size=2, readers=1)
    assert cli.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "val, by which the epoch was chosen too: 3 masks, 6 phrases"
    assert [line.split("  ")[0] for line in lines[2:5]] == [
        "trained", "centred box, 8.0% of the area", "the whole picture",
    ]  # fmt: skip
    # The heads of the bridges follow the model, which a plan does not load: they count as no other setting.
    assert cli.run([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "epochs to do: 0; done already: 1"
    for changed, said in (
        (["--input-px", "64"], "a training with another network input_px (32, now 64)"),
        (["--seed", "5"], "a training with another recipe seed (0, now 5)"),
    ):
        messages = []
        for ending in (["--dry-run"], []):
            assert cli.run([*arguments, *changed, *ending]) == 1
            messages.append(capsys.readouterr().err.splitlines()[-1])
        assert said in messages[0]
        assert messages[0] == messages[1]


def test_a_bad_picture_is_one_line_of_the_command(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 5, "val": 1})
    (layout / "images" / "train2014" / "picture_3.png").write_bytes(b"not a picture")
    arguments = of_layout(tmp_path, layout, batch_size=5, readers=2)
    assert cli.run(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "segment 3: its picture or mask cannot be read (not_an_image" in last
    assert "Traceback" not in last


def test_the_command_trains_on_drawn_scenes_beside_what_is_not_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "N_HELD_OUT_SCENES", 2)
    shown = sheets_shown(monkeypatch)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    arguments = ["train-localizer", "--scenes", "4", "--epochs", "1", "--batch-size", "2", "--input-px", "64"]
    try:
        assert cli.run([*arguments, "--device", "cpu", "--workspace", str(tmp_path)]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)
    lines, said = (text.splitlines() for text in capsys.readouterr())
    # Before anything that takes time: drawing, learning and judging are minutes each.
    assert said[0] == "train-localizer: 4 scenes, and 4 held out"
    assert re.fullmatch(
        r"train-localizer: 4 masks with \d+ phrases to learn from, 2 masks to choose the epoch by; epochs: 1",
        said[1],
    )
    assert re.fullmatch(r"judging 6 answers to \d phrases of 2 masks", said[-1])
    assert lines[0].startswith("scenes held out: 2 masks, ")
    assert [line.split("  ")[0].split(",")[0] for line in lines[2:8]] == [
        "trained", "heat map of the same CLIP", "heat map of the sample's CLIP", "all that stands out",
        "centred box", "the whole picture",
    ]  # fmt: skip
    # The heat map of the scenes' own CLIP, whose text tower was never trained, is in the table alone.
    assert shown == [["trained", "heat map of the sample's CLIP", "all that stands out"]]
    arguments += ["--device", "cpu", "--workspace", str(tmp_path)]
    for ending in (["--dry-run"], []):
        assert cli.run([*arguments, "--seed", "5", *ending]) == 1
        assert "seed: the scenes there were drawn with 0, and now it is 5; give the" in capsys.readouterr().err
    assert cli.run([*arguments, "--epochs", "3", "--dry-run"]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[:2] == ["epochs to do: 2; done already: 1", "would read 4 scenes, drawn first if need be"]
    assert f"would write {tmp_path / 'localizer'}" in plan
    # Where there is something to localize in, the next step is that, with the CLIP that the network belongs to.
    (tmp_path / "screen.parquet").touch()
    assert cli.run(arguments) == 0
    folder = tmp_path / "localizer"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"next: python cli.py localize --checkpoint {folder / 'localizer.safetensors'} --model "
        f"{folder / 'scene_clip.json'} --pretrained {folder / 'scene_clip.safetensors'} --workspace {tmp_path}"
    )
    assert {path.name for path in (tmp_path / "localizer").iterdir()} == {
        "localizer.safetensors", "training.safetensors", "history.csv", "curves.png", "contact_sheet.png",
        "figures.json", "scenes", "scene_clip.json", "scene_clip.safetensors", ".lock",
    }  # fmt: skip


def test_two_trainings_into_one_folder_are_refused_though_their_workspaces_are_two(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with held(out, "train-localizer", option="--out"):
        before = sorted(out.iterdir())
        for name in ("a", "b"):
            assert cli.run([
                "train-localizer", "--scenes", "8", "--workspace", str(tmp_path / name), "--out", str(out),
            ]) == 1  # fmt: skip
            assert re.fullmatch(
                rf"error: {re.escape(str(out))} is in use by process {os.getpid()} on .* \(train-localizer, since "
                r".*\): wait for its end, or use another --out\n",
                capsys.readouterr().err,
            )
        # Not even what the other is writing is taken for a left-over.
        assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("below", ["", "further"])
def test_an_out_folder_that_is_a_file_is_refused_by_its_name(tmp_path, capsys, below):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    arguments = ["train-localizer", "--scenes", "8", "--workspace", str(tmp_path / "ws"), "--out", str(out)]
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err == f"error: --out {out}: expected a folder, found a file there or above it\n"


def sheets_shown(monkeypatch):
    """Return a list that gets the names of the contenders of each contact sheet."""
    shown, write = [], trial.write_contact_sheet

    def written(path, examples, contenders):
        shown.append([one.name for one in contenders])
        write(path, examples, contenders)

    monkeypatch.setattr(trial, "write_contact_sheet", written)
    return shown


def test_the_only_heat_map_of_a_given_model_is_on_the_contact_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "N_HELD_OUT_SCENES", 2)
    shown = sheets_shown(monkeypatch)
    config, weights = make_tiny_clip(tmp_path)
    arguments = [
        "train-localizer", "--scenes", "2", "--model", config, "--pretrained", weights, "--epochs", "1",
        "--batch-size", "2", "--input-px", "32", "--device", "cpu", "--workspace", str(tmp_path / "ws"),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    assert shown == [["trained", "heat map of the same CLIP", "all that stands out"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenes", "5", "--pretrained", "openai"], "--pretrained: it has no effect without --model"),
        (["--scenes", "5", "--test-split", "testA"], "--test-split: it has no effect without --data"),
        (["--scenes", "5", "--readers", "9"], "--readers: it has no effect without --data"),
        (["--scenes", "5", "--dataset", "refcoco+"], "--dataset: it has no effect without --data"),
        *(
            (["--convert", "f", "--model", "m", *given], f"{given[0]}: it has no effect with --convert")
            for given in (
                ["--pretrained", "x"], ["--interactor", "paper"], ["--epochs", "3"], ["--input-px", "320"],
                ["--milestone", "1"], ["--batch-size", "2"], ["--learning-rate", "1"], ["--bridger-factor", "1"],
                ["--seed", "1"], ["--amp"], ["--device", "cpu"],
            )
        ),
        (["--convert", "f", "--model", "m", "--test-split", "x"], "--test-split: it has no effect without --data"),
    ],
)  # fmt: skip
def test_the_command_refuses_options_that_would_do_nothing(arguments, said, tmp_path, capsys):
    assert cli.run(["train-localizer", *arguments, "--workspace", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one of --data, --scenes and --convert"),
        (["--scenes", "9", "--data", "x"], "expected one of --data, --scenes and --convert"),
        (["--data", "x"], "--data needs --model and --pretrained"),
        (["--convert", "x"], "--convert needs --model"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(arguments, said, tmp_path, capsys):
    assert cli.run(["train-localizer", *arguments, "--workspace", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err
