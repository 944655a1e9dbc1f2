import csv
import dataclasses
import json
import math

import pytest
import torch
from PIL import Image

import cli
from curation.localize import train as training
from curation.localize import training_run
from curation.localize.checkpoints import load_localizer, load_state, sizes_from
from curation.localize.evaluate import evaluate, fitted_threshold
from curation.localize.network import LocalizerNetwork
from curation.localize.referring_set import read_examples
from curation.localize.towers import frozen_towers
from curation.localize.train import TrainingData, TrainingPlan, train_localizer
from manifests.errors import InputError, ModelError
from tests.localize_world import TINY_SIZES, tiny_encoder, write_layout
from tests.tiny_clip import make_tiny_clip

PLAN = TrainingPlan(n_epochs=3, milestone=2, batch_size=4, learning_rate=3e-3)
FILES = ("localizer.safetensors", "training.pt", "history.csv")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("data"), {"train": 9, "val": 3, "testA": 2})


@pytest.fixture(scope="module")
def data(layout):
    return TrainingData(read_examples(layout, "refcoco", "train"), read_examples(layout, "refcoco", "val"))


def run(encoder, data, out_dir, plan=PLAN, sizes=TINY_SIZES):
    return train_localizer(encoder, sizes, plan, data, out_dir=out_dir, announce=lambda line: None)


def history_of(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(encoder, data, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("whole")
    run(encoder, data, out_dir)
    return out_dir


def test_a_resumed_training_ends_in_the_same_bytes(encoder, data, whole, tmp_path):
    run(encoder, data, tmp_path, dataclasses.replace(PLAN, n_epochs=1))
    run(encoder, data, tmp_path, dataclasses.replace(PLAN, n_epochs=2))
    run(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("file", ["localizer.safetensors", "training.pt"])
def test_a_training_killed_after_any_file_ends_in_the_same_bytes(
    encoder, data, whole, tmp_path, monkeypatch, file
):
    name = {"localizer.safetensors": "save_localizer", "training.pt": "save_state"}[file]
    save, calls = getattr(training, name), []

    def killed(path, *others):
        save(path, *others)
        calls.append(path)
        # Other draws than the epoch's own must not matter to the one that follows.
        torch.rand(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, name, killed)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, data, tmp_path)
    assert [path.name for path in calls] == [file]
    monkeypatch.undo()
    run(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_training_that_is_done_runs_no_epoch_again(encoder, data, whole, monkeypatch):
    before = contents(whole)
    monkeypatch.setattr(training, "save_state", None)
    assert len(run(encoder, data, whole)) == 3
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"plan": dataclasses.replace(PLAN, seed=1)}, "seed: this training was begun with 0, and now it is 1"),
        (
            {"sizes": dataclasses.replace(TINY_SIZES, n_words=9)},
            "n_words: this training was begun with 8, and now it is 9",
        ),
    ],
)
def test_a_training_of_another_recipe_is_not_gone_on_with(encoder, data, whole, changed, said):
    with pytest.raises(InputError, match=said):
        run(encoder, data, whole, **changed)


def test_a_training_on_other_examples_is_not_gone_on_with(encoder, data, whole):
    with pytest.raises(InputError, match="examples to learn from: this training was begun with"):
        run(encoder, TrainingData(data.train[1:], data.val), whole)


def test_a_training_whose_picture_or_mask_has_changed_is_not_gone_on_with(encoder, tmp_path):
    layout = write_layout(tmp_path / "data", {"train": 4, "val": 1})
    plan, out_dir = dataclasses.replace(PLAN, n_epochs=1), tmp_path / "out"

    def run_on_layout():
        splits = (read_examples(layout, "refcoco", split) for split in ("train", "val"))
        return run(encoder, TrainingData(*splits), out_dir, plan)

    run_on_layout()
    for path, said in (
        (layout / "images" / "train2014" / "picture_2.png", "examples to learn from: this training"),
        (layout / "masks" / "refcoco" / "5.png", "examples to choose by: this training"),
    ):
        content = path.read_bytes()
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
        with pytest.raises(InputError, match=said):
            run_on_layout()
        path.write_bytes(content)
    run_on_layout()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": math.nan}, "learning_rate: expected a number above 0, found nan"),
        ({"learning_rate": math.inf}, "learning_rate: expected a number above 0, found inf"),
        ({"bridger_factor": 0}, "bridger_factor: expected a number above 0, found 0"),
        ({"seed": -1}, "seed: expected at least 0, found -1"),
        ({"n_epochs": 0}, "n_epochs: expected at least 1, found 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
    ],
)
def test_an_impossible_plan_is_refused_by_the_name_of_its_field(changes, said):
    with pytest.raises(InputError, match=said):
        dataclasses.replace(PLAN, **changes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda state: state.clear(), "it has no asked"),
        (lambda state: state.update(history=None), "it has no history"),
        (lambda state: state["history"][0].pop("loss"), "missing 1 required positional argument: 'loss'"),
        (lambda state: state["history"][0].update(figures=3), "must be a mapping"),
        (lambda state: state["network"].popitem(), "Missing key"),
        (lambda state: state["optimizer"].clear(), "'param_groups'"),
    ],
)
def test_a_state_that_is_not_whole_is_refused_and_it_is_said_what_to_do(
    encoder, data, whole, tmp_path, damage, said
):
    state = load_state(whole / "training.pt")
    damage(state)
    torch.save(state, tmp_path / "training.pt")
    with pytest.raises(
        ModelError, match=rf"not a state of train-localizer .*{said}.*; delete it, or give another"
    ):
        run(encoder, data, tmp_path)


def test_a_damaged_state_is_refused(encoder, data, tmp_path):
    (tmp_path / "training.pt").write_bytes(b"not a state")
    with pytest.raises(ModelError, match="not a state of train-localizer"):
        run(encoder, data, tmp_path)


def test_the_rate_falls_to_a_tenth_after_the_milestone(whole):
    rows = history_of(whole)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([3e-3, 3e-3, 3e-4])
    assert [float(TrainingPlan().learning_rate_at(epoch)) for epoch in (0, 34, 35, 49)] == pytest.approx(
        [1e-4, 1e-4, 1e-5, 1e-5]
    )


def test_the_bridgers_factor_reaches_its_weights_alone(encoder, data, tmp_path):
    one_step = TrainingPlan(n_epochs=1, milestone=1, batch_size=9, learning_rate=1e-3, bridger_factor=10)
    torch.manual_seed(one_step.seed)
    start = LocalizerNetwork(frozen_towers(encoder.network), TINY_SIZES).state_dict()
    run(encoder, data, tmp_path, one_step)
    end = load_state(tmp_path / "training.pt")["network"]
    # Adam's first step is its rate for every weight that has a gradient well above its epsilon.
    moved = {
        part: max(
            float((end[name] - start[name]).abs().max())
            for name in start
            if name.startswith(part) and "weight" in name
        )
        for part in ("bridger.words_in", "alignment.layers")
    }
    assert moved["bridger.words_in"] == pytest.approx(1e-2, rel=0.05)
    assert moved["alignment.layers"] == pytest.approx(1e-3, rel=0.05)


def test_the_localizer_kept_is_that_of_the_best_epoch(encoder, whole, data):
    best = max(float(row["mean_iou"]) for row in history_of(whole))
    kept = load_localizer(whole / "localizer.safetensors", encoder)
    assert evaluate(kept, data.val, n_phrases=1).figures().mean_iou == best


def test_training_lowers_the_loss_to_less_than_a_third(encoder, data, tmp_path):
    plan = TrainingPlan(n_epochs=20, milestone=18, batch_size=9, learning_rate=1e-2)
    history = run(encoder, TrainingData(data.train, data.val[:1]), tmp_path, plan)
    assert history[-1].loss < history[0].loss / 3


def test_the_threshold_of_a_baseline_is_fitted_on_examples_given(data):
    class Half:
        name = digest = "half"

        def evidence(self, picture, names):
            # The left third, where the boxes are, has 0.3, the rest 0.1.
            values = torch.full((len(names), 4, 6), 0.1)
            values[:, :, :2] = 0.3
            return values.numpy()

    class Blind(Half):
        def evidence(self, picture, names):
            return torch.zeros(len(names), 4, 6).numpy()

    left = [example for example in data.train if example.segment_id in ("1", "5")]
    assert 0.1 < fitted_threshold(Half(), left) < 0.3
    assert evaluate(Blind(), left).figures().mean_iou == 0


# The command.


def test_the_command_trains_on_a_layout_and_prints_the_test_splits(layout, tmp_path, capsys):
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
    assert "testA, 2 masks, 4 phrases: mean iou " in said.out
    assert "trained: Bridger " in said.err
    assert (tmp_path / "localizer" / "contact_sheet.png").exists()


def test_a_bad_picture_is_one_line_of_the_command(tmp_path, capsys):
    layout = write_layout(tmp_path / "data", {"train": 5, "val": 1})
    (layout / "images" / "train2014" / "picture_3.png").write_bytes(b"not a picture")
    folder = tmp_path / "clip"
    folder.mkdir()
    config, weights = make_tiny_clip(folder)
    arguments = [
        "train-localizer", "--data", str(layout), "--model", config, "--pretrained", weights, "--input-px", "32",
        "--words", "8", "--epochs", "1", "--batch-size", "5", "--readers", "2", "--device", "cpu",
        "--workspace", str(tmp_path),
    ]  # fmt: skip
    assert cli.run(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "segment 3: its picture or mask cannot be read (not_an_image" in last
    assert "Traceback" not in last


def test_the_command_trains_on_drawn_scenes_beside_the_heat_map(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_run, "N_HELD_OUT_SCENES", 2)
    arguments = ["train-localizer", "--scenes", "4", "--epochs", "1", "--batch-size", "2", "--input-px", "64"]
    assert cli.run([*arguments, "--device", "cpu", "--workspace", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trained, 2 masks, ")
    assert lines[1].startswith("heat map, from 0.")
    assert cli.run([*arguments, "--epochs", "3", "--dry-run", "--workspace", str(tmp_path)]) == 0
    plan = capsys.readouterr().out.splitlines()
    assert plan[:2] == ["epochs to do: 2; done already: 1", "would read 4 scenes, drawn first if need be"]
    assert f"would write {tmp_path / 'localizer'}" in plan
    assert {path.name for path in (tmp_path / "localizer").iterdir()} == {
        *FILES, "scenes", "contact_sheet.png", "scene_clip.json", "scene_clip.safetensors",
    }  # fmt: skip


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


def test_sizes_are_read_back_as_they_were_written():
    assert sizes_from(json.loads(json.dumps(dataclasses.asdict(TINY_SIZES)))) == TINY_SIZES
