"""The way of masks through `localize`, `calibrate` and `screen`, gone by running what is told as the next step."""

import json
import shlex
import shutil

import pytest

import cli
from manifests import schema
from manifests.next_command import option_words
from manifests.next_screen import to_screen
from manifests.next_step import next_step
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, classes_csv, pictures
from tests.screen_world import screened
from tests.tiny_clip import make_tiny_clip

N_PICTURES = 14
DAMAGED = "0005"


def step_words(step):
    """Return the words of a step after ``python cli.py``, without the workspace."""
    assert step is not None
    return shlex.split(step.command)[2:-2]


def follow(space, step=None):
    """Run what `step`, or else the workspace, tells as the next step; return its words."""
    step = step or next_step(space)
    assert cli.run(shlex.split(step.command)[2:]) == 0
    return step_words(step)


def run(space, *words):
    assert cli.run([*map(str, words), "--workspace", str(space.root)]) == 0


def download_again(space, n_pictures=N_PICTURES, n_attempts=1):
    """Leave what a further download does: a table of other bytes, of so many pictures."""
    add_pictures(space, pictures(n_pictures))
    rows = space.read(schema.DOWNLOADS).to_pylist()
    space.write(schema.DOWNLOADS, [row | {"attempts": n_attempts} for row in rows])
    with space.stage("download", {}, [space.path_of(schema.CANDIDATES)]) as kept:
        kept.counts = {"ok": n_pictures}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """Pictures after `embed`, one of which loses its end before `screen`; with the classes and some truth."""
    folder = tmp_path_factory.mktemp("masks")
    model, pretrained = make_tiny_clip(folder)
    space = Workspace(folder / "ws")
    download_again(space)
    run(space, "embed", "--model", model, "--pretrained", pretrained, "--tiles", "0", "--device", "cpu")
    classes_csv(folder)
    rows = [f"{number:04x},{'in' if number % 2 else 'out'}" for number in range(N_PICTURES)]
    (folder / "truth.csv").write_text("\n".join(["image_id,truth", *rows]) + "\n", encoding="utf-8")
    run(space, "screen", "--classes", folder / "names.csv")
    path = space.root / space.relative_image_path(DAMAGED)
    path.write_bytes(path.read_bytes()[:200])
    run(space, "localize", "--dropped", "--templates", "simple", "--device", "cpu")
    run(
        space, "calibrate", "--labelled", folder / "truth.csv", "--masks", "--classes", folder / "names.csv",
        "--max-lost", "0.2",
    )  # fmt: skip
    return space


@pytest.fixture
def space(embedded, tmp_path):
    shutil.copytree(embedded.root.parent, tmp_path / "all")
    return Workspace(tmp_path / "all" / "ws")


def screen_words(space, *more):
    path = space.root / "calibration.json"
    return ["screen", "--calibration", str(path), "--classes", str(space.classes_path), *more]


LOCALIZE = ["localize", "--dropped", "--templates", "simple"]


def test_masks_made_anew_without_the_dropped_are_completed_before_the_screen_that_takes_them(space):
    assert follow(space) == screen_words(space, "--masks")
    assert step_words(next_step(space))[0] == "annotate"
    before = space.path_of(schema.SCREEN).read_bytes()
    shutil.rmtree(space.masks_dir)
    space.path_of(schema.LOCALIZED).unlink()
    run(space, "localize", "--templates", "simple", "--limit", "1", "--device", "cpu")
    assert follow(space) == LOCALIZE
    # These are the masks that were screened with: nothing is to be done again.
    assert step_words(next_step(space))[0] == "annotate"
    run(space, *screen_words(space, "--masks"))
    assert space.path_of(schema.SCREEN).read_bytes() == before


def test_a_picture_that_localize_cannot_read_is_dropped_with_the_reason_stored_and_that_stays_so(space):
    reasons = {k: row["reason"] for k, row in screened(space).items() if row["reason"] == "unreadable"}
    assert reasons == {}
    follow(space)
    found = screened(space)
    assert [k for k, row in found.items() if row["reason"] == "unreadable"] == [DAMAGED]
    assert (found[DAMAGED]["status"], found[DAMAGED]["risk"]) == ("dropped", None)
    record = json.loads((space.root / "provenance" / "screen.json").read_text(encoding="utf-8"))
    assert record["counts"]["unreadable"] == 1
    assert any(name.startswith("masks/") for name in record["inputs"])
    calibrated = json.loads((space.root / "provenance" / "calibrate.json").read_text(encoding="utf-8"))
    assert calibrated["counts"]["absent"] == 1
    before = space.path_of(schema.SCREEN).read_bytes()
    # A run that does not ask for what was dropped forgets no reason.
    run(space, "localize", "--templates", "simple", "--device", "cpu")
    run(space, *screen_words(space, "--masks"))
    assert space.path_of(schema.SCREEN).read_bytes() == before


def test_a_picture_that_can_be_read_again_comes_back(space):
    follow(space)
    path = space.root / space.relative_image_path(DAMAGED)
    path.write_bytes(pictures(N_PICTURES)[DAMAGED])
    run(space, *LOCALIZE, "--device", "cpu")
    assert follow(space) == screen_words(space, "--masks")
    assert {row["reason"] for row in screened(space).values()} == {None}


def test_new_pictures_are_screened_without_masks_then_localized_then_screened_with_them(space):
    follow(space)
    download_again(space, N_PICTURES + 2)
    assert follow(space)[0] == "embed"
    assert follow(space) == ["screen", "--classes", str(space.classes_path)]
    assert follow(space) == LOCALIZE
    assert follow(space) == screen_words(space, "--masks")
    assert len(screened(space)) == N_PICTURES + 2
    assert step_words(next_step(space))[0] == "annotate"


def test_masks_of_another_localizer_ask_for_another_calibration(space):
    run(space, "localize", "--dropped", "--templates", "openai", "--device", "cpu")
    step = next_step(space)
    words = ["calibrate", "--labelled", "truth.csv", "--masks", "--classes", str(space.classes_path)]
    assert step_words(step) == words
    assert step.placeholders == ["truth.csv"]


def test_the_newest_calibration_is_taken_and_one_without_masks_asks_for_none(space, tmp_path):
    own = tmp_path / "own.json"
    given = {"labelled": space.root.parent / "truth.csv", "out": own, "classes": space.classes_path}
    run(space, "calibrate", *option_words(given), "--max-lost", "0.2")
    without = ["screen", "--calibration", str(own), "--classes", str(space.classes_path)]
    assert follow(space, next_step(space, given)) == without
    download_again(space, n_attempts=2)
    assert step_words(to_screen(space, {})) == without
