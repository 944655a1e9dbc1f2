import csv
import dataclasses
import json
import math
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from curation.localize import train as training
from curation.localize.checkpoints import load_localizer
from curation.localize.evaluate import evaluate
from curation.localize.network import LocalizerNetwork
from curation.localize.recipe import Recipe
from curation.localize.referring_set import read_examples
from curation.localize.towers import frozen_towers
from curation.localize.train import TrainingExamples
from curation.localize.training_state import read_state
from curation.threads import one_thread
from manifests.errors import InputError, ModelError
from tests.conftest import REPOSITORY
from tests.localize_world import TINY_RECIPE, TINY_SIZES, tiny_encoder, train_tiny, write_layout

FILES = ("localizer.safetensors", "training.safetensors", "history.csv", "curves.png")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Layers this small are done before a second thread has woken.
    with one_thread():
        yield


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def encoder(clip_folder):
    return tiny_encoder(clip_folder)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("data"), {"train": 9, "val": 3, "testA": 2})


@pytest.fixture(scope="module")
def data(layout):
    return TrainingExamples(read_examples(layout, "refcoco", "train"), read_examples(layout, "refcoco", "val"))


def history_of(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def whole(encoder, data, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("whole")
    train_tiny(encoder, data, out_dir)
    return out_dir


def test_a_resumed_training_ends_in_the_same_bytes(encoder, data, whole, tmp_path):
    train_tiny(encoder, data, tmp_path, dataclasses.replace(TINY_RECIPE, n_epochs=1))
    train_tiny(encoder, data, tmp_path, dataclasses.replace(TINY_RECIPE, n_epochs=2))
    train_tiny(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("file", ["localizer.safetensors", "training.safetensors"])
def test_a_training_killed_after_any_file_ends_in_the_same_bytes(
    encoder, data, whole, tmp_path, monkeypatch, file
):
    name = {"localizer.safetensors": "save_localizer", "training.safetensors": "write_state"}[file]
    save, calls = getattr(training, name), []

    def killed(path, *others):
        save(path, *others)
        calls.append(path)
        # Other draws than the epoch's own must not matter to the one that follows.
        torch.rand(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, name, killed)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(encoder, data, tmp_path)
    assert [path.name for path in calls] == [file]
    monkeypatch.undo()
    train_tiny(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_training_killed_by_the_system_ends_in_the_same_bytes(
    encoder, data, whole, clip_folder, layout, tmp_path
):
    # Two steps an epoch: the sixth is in the third.
    program = (
        "import os, signal, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from curation.localize import train as module\n"
        "from curation.localize.referring_set import read_examples\n"
        "from tests.localize_world import tiny_encoder, train_tiny\n"
        "clip, layout, out_dir = map(Path, sys.argv[1:])\n"
        "calls, loss = [], module.text_to_pixel_loss\n"
        "def counted(*given):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 6:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return loss(*given)\n"
        "module.text_to_pixel_loss = counted\n"
        "splits = (read_examples(layout, 'refcoco', split) for split in ('train', 'val'))\n"
        "train_tiny(tiny_encoder(clip), module.TrainingExamples(*splits), out_dir)\n"
    )
    arguments = [sys.executable, "-c", program, *map(str, (clip_folder, layout, tmp_path))]
    assert subprocess.run(arguments, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert len(read_state(tmp_path / "training.safetensors").history) == 2
    assert len(history_of(tmp_path)) == 2
    train_tiny(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_training_that_is_done_runs_no_epoch_again_and_draws_a_lost_plot(encoder, data, whole):
    before = contents(whole)
    (whole / "curves.png").unlink()
    assert len(train_tiny(encoder, data, whole, announce=pytest.fail)) == 3
    assert contents(whole) == before


def test_a_training_leaves_torchs_generator_and_threads_as_they_were(encoder, data, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train_tiny(encoder, data, tmp_path, dataclasses.replace(TINY_RECIPE, n_epochs=1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == 1


def test_each_epoch_is_told_in_a_line_after_the_sizes_of_the_network(encoder, data, tmp_path):
    lines = []
    history = train_tiny(
        encoder, data, tmp_path, dataclasses.replace(TINY_RECIPE, n_epochs=2), announce=lines.append
    )
    assert [line.split(" ")[0] for line in lines[:2]] == ["frozen:", "trained:"]
    figures = history[1].figures
    assert lines[3].startswith(
        f"epoch 2/2: loss {history[1].loss:.4f}, mean IoU {figures.mean_iou:.3f}, overall IoU "
        f"{figures.overall_iou:.3f}, precision at 0.5 {figures.precision_at[0]:.3f}, "
    )
    assert lines[3].endswith(" images/s")


def test_bfloat16_changes_the_loss_by_its_rounding_and_is_part_of_the_settings(encoder, data, tmp_path):
    # A step too small to tell the two apart by anything but rounding.
    recipe = Recipe(n_epochs=1, batch_size=9, learning_rate=1e-7)
    losses = [train_tiny(encoder, data, tmp_path / str(amp), recipe, amp=amp)[0].loss for amp in (False, True)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    with pytest.raises(InputError, match=r"a training with another amp \(True, now False\)"):
        train_tiny(encoder, data, tmp_path / "True", recipe)


def test_a_training_that_diverges_says_so_and_keeps_the_epochs_before(encoder, data, whole, tmp_path, monkeypatch):
    train_tiny(encoder, data, tmp_path, dataclasses.replace(TINY_RECIPE, n_epochs=2))
    before = contents(tmp_path)
    monkeypatch.setattr(training, "text_to_pixel_loss", lambda logits, masks: logits.sum() * math.nan)
    with pytest.raises(
        ModelError, match="the loss of epoch 3 is nan: the training diverged; lower the learning rate"
    ):
        train_tiny(encoder, data, tmp_path)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    train_tiny(encoder, data, tmp_path)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"recipe": dataclasses.replace(TINY_RECIPE, seed=1)},
            r"a training with another recipe seed \(0, now 1\); give the",
        ),
        (
            {"sizes": dataclasses.replace(TINY_SIZES, n_words=9)},
            r"a training with another network n_words \(8, now 9\); give the same, or another --out",
        ),
    ],
)
def test_a_training_of_another_recipe_is_not_gone_on_with(encoder, data, whole, changed, said):
    with pytest.raises(InputError, match=said):
        train_tiny(encoder, data, whole, **changed)


def test_a_training_on_other_examples_is_not_gone_on_with(encoder, data, whole):
    with pytest.raises(InputError, match="a training with another examples to learn from"):
        train_tiny(encoder, TrainingExamples(data.train[1:], data.val), whole)


def test_a_training_whose_picture_or_mask_has_changed_is_not_gone_on_with(encoder, tmp_path):
    layout = write_layout(tmp_path / "data", {"train": 4, "val": 1})
    recipe, out_dir = dataclasses.replace(TINY_RECIPE, n_epochs=1), tmp_path / "out"

    def run_on_layout():
        splits = (read_examples(layout, "refcoco", split) for split in ("train", "val"))
        return train_tiny(encoder, TrainingExamples(*splits), out_dir, recipe)

    run_on_layout()
    for path, said in (
        (layout / "images" / "train2014" / "picture_2.png", "another examples to learn from"),
        (layout / "masks" / "refcoco" / "5.png", "another examples to choose by"),
    ):
        content = path.read_bytes()
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
        with pytest.raises(InputError, match=said):
            run_on_layout()
        path.write_bytes(content)
    run_on_layout()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda record, tensors: record.clear(), "'history'"),
        (lambda record, tensors: record.update(history=None), "'NoneType' object is not iterable"),
        (
            lambda record, tensors: record["history"][0].pop("loss"),
            "missing 1 required positional argument: 'loss'",
        ),
        (lambda record, tensors: record["history"][0].update(figures=3), "'int' object is not a mapping"),
        (lambda record, tensors: tensors.pop("network.word_positions"), "Missing key"),
        (lambda record, tensors: tensors.pop("adam.exp_avg.word_positions"), "exp_avg.word_positions"),
        (
            lambda record, tensors: tensors.update({"adam.exp_avg.word_positions": torch.ones(2)}),
            "exp_avg.word_positions is of another shape",
        ),
    ],
)
def test_a_state_that_is_not_whole_is_refused_and_it_is_said_what_to_do(
    encoder, data, whole, tmp_path, damage, said
):
    with safe_open(whole / "training.safetensors", framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        record = json.loads(stored.metadata()["training"])
    damage(record, tensors)
    save_file(tensors, tmp_path / "training.safetensors", {"training": json.dumps(record)})
    with pytest.raises(
        ModelError, match=rf"not a state of train-localizer .*{said}.*; delete it, or give another"
    ):
        train_tiny(encoder, data, tmp_path)


def test_a_training_whose_best_weights_are_gone_says_so(encoder, data, whole, tmp_path):
    shutil.copy(whole / "training.safetensors", tmp_path)
    (tmp_path / ".tmpA1b2C3").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"localizer\.safetensors: the best epoch's weights are gone"):
        train_tiny(encoder, data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a state", b"\x10" + bytes(40)])
def test_a_damaged_state_is_refused(encoder, data, tmp_path, content):
    (tmp_path / "training.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a state of train-localizer"):
        train_tiny(encoder, data, tmp_path)


def test_the_rate_falls_to_a_tenth_after_the_milestone(whole):
    rows = history_of(whole)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([3e-3, 3e-3, 3e-4])


def test_the_bridgers_factor_reaches_its_weights_alone(encoder, data, tmp_path):
    one_step = Recipe(n_epochs=1, milestone=1, batch_size=9, learning_rate=1e-3, bridger_factor=10)
    torch.manual_seed(one_step.seed_of("weights"))
    start = LocalizerNetwork(frozen_towers(encoder.network), TINY_SIZES).state_dict()
    train_tiny(encoder, data, tmp_path, one_step)
    end = read_state(tmp_path / "training.safetensors").network
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
    assert evaluate(kept, data.val, n_phrases=1).mean_iou == best


def test_training_lowers_the_loss_to_less_than_a_third(encoder, data, tmp_path):
    recipe = Recipe(n_epochs=20, milestone=18, batch_size=9, learning_rate=1e-2)
    history = train_tiny(encoder, TrainingExamples(data.train, data.val[:1]), tmp_path, recipe)
    assert history[-1].loss < history[0].loss / 3
