"""`localize --checkpoint` with a localizer that was really trained: from drawn scenes to masks in a workspace."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

import cli
from curation.clip import load_encoder
from curation.localize.checkpoints import LOCALIZER_FILE, load_localizer
from curation.localize.loading import choose_localizer
from curation.localize.recipe import Recipe
from curation.localize.referring_set import read_examples
from curation.localize.scenes import SCENES, write_scenes
from curation.localize.train import TrainingExamples, train_localizer
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from manifests.errors import ModelError
from manifests.images import read_image
from manifests.masks import MaskStore, cells_of
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.localize_stage_world import NAMES, files_of, make_screened, rows_of, shown_of
from tests.localize_world import TINY_SIZES
from tests.tiny_clip import embed_pictures, make_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def checkpoint(clip, tmp_path_factory):
    """The file that a training of two epochs on eight scenes leaves."""
    folder = tmp_path_factory.mktemp("training")
    write_scenes(folder / SCENES, {"train": 8, "val": 2, "test": 1}, seed=0)
    data = TrainingExamples(*(read_examples(folder / SCENES, SCENES, split) for split in ("train", "val")))
    recipe = Recipe(n_epochs=2, milestone=1, batch_size=4, learning_rate=3e-3)
    train_localizer(
        load_encoder(*clip, "cpu"), TINY_SIZES, recipe, data, out_dir=folder / "out", announce=lambda line: None
    )
    return folder / "out" / LOCALIZER_FILE


@pytest.fixture(scope="module")
def embedded(clip, tmp_path_factory):
    workspace = make_screened(tmp_path_factory.mktemp("workspace") / "ws")
    embed_pictures(workspace, *clip, grid=0, device="cpu")
    return workspace


@pytest.fixture
def workspace(embedded, tmp_path):
    shutil.copytree(embedded.root, tmp_path / "ws")
    return Workspace(tmp_path / "ws")


def localize(workspace, *arguments):
    return cli.run(["localize", "--workspace", str(workspace.root), "--device", "cpu", *map(str, arguments)])


def test_its_masks_are_written_and_the_table_says_what_is_in_them(workspace, clip, checkpoint, capsys):
    assert localize(workspace, "--checkpoint", checkpoint) == 0
    localizer = load_localizer(checkpoint, load_encoder(*clip, "cpu"))
    assert f"masks {localizer.digest}" in capsys.readouterr().out
    rows, store = rows_of(workspace), MaskStore(workspace, localizer.digest)
    assert set(rows) == {(f"{number:04x}", shown) for number in range(6) for shown in shown_of(number)}
    assert {row["localizer"] for row in rows.values()} == {localizer.digest}
    areas = set()
    for (image_id, class_index), row in rows.items():
        cells = cells_of(store.read_shard(store.shard_of(image_id))[image_id].masks[class_index])
        picture = read_image(workspace.root / workspace.relative_image_path(image_id))
        # 320 x 240 pixels in an input of 64: 64 x 48 places, which is also the size of a mask.
        (evidence,) = localizer.evidence(picture, [NAMES[class_index]])
        np.testing.assert_array_equal(cells, np.rint(evidence * 255).astype(np.uint8))
        assert row["area_share"] == pytest.approx(float((evidence >= 127.5 / 255).mean()))
        assert row["peak"] == pytest.approx(float(evidence.max()), abs=1 / 500)
        areas.add(row["area_share"])
    assert len(areas) > 1


def test_a_run_that_was_killed_goes_on_and_ends_in_the_bytes_of_one_run(workspace, checkpoint, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(workspace.root, killed)
    assert localize(workspace, "--checkpoint", checkpoint) == 0
    program = (
        "import os, signal, sys, cli\n"
        "from curation.localize.trained import TrainedLocalizer\n"
        "evidence, asked = TrainedLocalizer.evidence, []\n"
        "def dying(self, picture, names):\n"
        "    asked.append(names)\n"
        "    if len(asked) == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return evidence(self, picture, names)\n"
        "TrainedLocalizer.evidence = dying\n"
        "cli.run(sys.argv[1:])\n"
    )
    arguments = ["localize", "--workspace", killed, "--device", "cpu", "--checkpoint", checkpoint]
    finished = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], cwd=REPOSITORY)
    assert finished.returncode == -signal.SIGKILL
    assert not (killed / "localized.parquet").exists()
    assert any((killed / "masks").rglob("shard-*.parquet"))
    assert localize(Workspace(killed), "--checkpoint", checkpoint) == 0
    assert files_of(Workspace(killed)) == files_of(workspace)


def test_masks_of_the_heat_map_and_of_a_checkpoint_lie_side_by_side_and_the_table_is_of_the_last(
    workspace, clip, checkpoint
):
    assert localize(workspace, "--templates", "simple") == 0
    by_heat_map = rows_of(workspace)
    assert localize(workspace, "--checkpoint", checkpoint) == 0
    trained = choose_localizer(workspace, checkpoint, device="cpu").digest
    assert {row["localizer"] for row in rows_of(workspace).values()} == {trained}
    assert len(list(workspace.masks_dir.iterdir())) == 2
    assert localize(workspace, "--templates", "simple") == 0
    assert rows_of(workspace) == by_heat_map


def test_a_checkpoint_of_another_clip_is_refused_and_nothing_is_written(workspace, checkpoint, capsys):
    with pytest.raises(ModelError, match=r"it belongs to tiny-test\.json .*give that --model and --pretrained"):
        choose_localizer(workspace, checkpoint, model=str(CONFIG_PATH), pretrained=str(WEIGHTS_PATH), device="cpu")
    assert localize(
        workspace, "--checkpoint", checkpoint, "--model", CONFIG_PATH, "--pretrained", WEIGHTS_PATH
    ) == 1  # fmt: skip
    assert "it belongs to tiny-test.json" in capsys.readouterr().err
    assert not workspace.masks_dir.exists()


def test_a_dry_run_refuses_the_checkpoint_that_the_run_refuses(workspace, checkpoint, tmp_path, capsys):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-1])
    for given, said in (
        (checkpoint.parent, f"expected a file, found a folder; give {checkpoint}"),
        (tmp_path / "none.safetensors", "none.safetensors: no such file"),
        (cut, "cut.safetensors: cannot be read"),
        (WEIGHTS_PATH, "this is no localizer; train-localizer makes them"),
    ):
        assert localize(workspace, "--checkpoint", given, "--dry-run") == 1
        tried = capsys.readouterr().err
        assert said in tried
        assert localize(workspace, "--checkpoint", given) == 1
        assert capsys.readouterr().err == tried
    assert localize(workspace, "--checkpoint", checkpoint, "--dry-run") == 0
