"""The stage `localize`: what it writes, what it goes on from, and what it says of bad input."""

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation.evidence_masks import EvidenceMasks
from annotation.review import read_items
from curation.localize.loading import choose_localizer
from curation.localize.localize import LocalizeRules, plan_localize
from manifests import schema
from manifests.errors import InputError, StageMissingError, TableError
from manifests.funnel import format_funnel, funnel
from manifests.label_space import ClassName, write_label_space
from manifests.masks import MaskStore, cells_of
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.localize_stage_world import (
    N_PICTURES,
    SWAPPED,
    Lamp,
    files_of,
    make_screened,
    rows_of,
    run,
    shown_of,
    write_screen,
)
from tests.picture_workspace import add_pictures, jpeg, pictures, scene
from tests.tiny_clip import embed_pictures, make_tiny_clip


def test_table_and_masks_say_where_each_shown_class_is_and_how_much(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    summary = run(workspace)
    assert (summary.n_new, summary.n_kept, summary.n_unreadable, summary.n_left) == (6, 0, 0, 0)
    rows = rows_of(workspace)
    assert set(rows) == {(f"{number:04x}", shown) for number in range(6) for shown in shown_of(number)}
    red = Image.open(workspace.root / workspace.relative_image_path("0002")).getpixel((0, 0))[0]
    row = rows["0002", 3]
    assert row["area_share"] == 0.25
    assert row["peak"] == pytest.approx(0.5 + red / 512, abs=1 / 500)
    content = (workspace.root / workspace.relative_image_path("0002")).read_bytes()
    assert (row["localizer"], row["rotation_deg"]) == ("00000000000000aa", 0)
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    store = MaskStore(workspace, row["localizer"])
    cells = cells_of(store.read_shard(store.shard_of("0002"))["0002"].masks[3])
    assert np.flatnonzero(cells[0]).tolist() == list(range(48, 64))


def test_dropped_pictures_are_left_out_but_for_gold_and_when_asked_for(tmp_path: Path) -> None:
    dropped = {"status": "dropped", "reason": "in_class"}
    workspace = make_screened(tmp_path, x0001=dropped, x0002=dropped, x0003=dropped | {"shown_classes": None})
    gold = [{"image_id": "0002", "answer": "out", "class_index": None, "note": None}]
    workspace.write(schema.GOLD, gold)
    run(workspace)
    assert {image_id for image_id, _ in rows_of(workspace)} == {"0000", "0002", "0004", "0005"}
    assert run(workspace, has_dropped=True).n_new == 1
    assert {image_id for image_id, _ in rows_of(workspace)} == {"0000", "0001", "0002", "0004", "0005"}
    before = files_of(workspace)
    assert run(workspace).n_kept == 4
    assert files_of(workspace) == before


def test_status_counts_the_images_to_review_that_have_masks(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path, x0004={"status": "dropped", "reason": "leak"})

    def told() -> list[str]:
        return [line for line in format_funnel(funnel(workspace)).splitlines() if "with masks" in line]

    assert told() == []
    run(workspace, limit=3)
    assert [line.split() for line in told()] == [["with", "masks", "3", "without", "2"]]
    run(workspace)
    assert [line.split() for line in told()] == [["with", "masks", "5"]]
    # "cat" and "tree" have changed places: 0000, 0002 and 0003 show one of them, and their masks are of the other.
    write_label_space(workspace.classes_path, [ClassName(index, name) for index, name in enumerate(SWAPPED)])
    assert [line.split() for line in told()] == [["with", "masks", "2", "without", "3"]]
    assert plan_localize(workspace, {}, LocalizeRules()).n_due == 3
    # Five are under review; the sixth was dropped, and has masks.
    run(workspace, has_dropped=True)
    assert [line.split() for line in told()] == [["with", "masks", "5"]]


def test_a_second_run_asks_for_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    before, lamp = files_of(workspace), Lamp()
    assert (run(workspace, lamp).n_kept, lamp.asked) == (6, [])
    assert files_of(workspace) == before


def test_a_changed_screen_makes_anew_what_is_shown_otherwise_and_keeps_what_was_dropped(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    changes = {"x0001": {"shown_classes": [3, 0]}, "x0004": {"status": "dropped", "reason": "leak"}}
    write_screen(workspace, **changes)
    lamp = Lamp()
    assert run(workspace, lamp).n_new == 1
    assert lamp.asked == [("tree", "cat")]
    fresh = make_screened(tmp_path / "fresh", **changes)
    run(fresh, has_dropped=True)
    assert files_of(workspace) == files_of(fresh)


@pytest.mark.parametrize("has_dropped", [False, True])
def test_masks_asked_for_by_another_name_are_made_anew(tmp_path: Path, has_dropped: bool) -> None:
    dropped = {"x0000": {"status": "dropped", "reason": "in_class"}}
    workspace = make_screened(tmp_path, **dropped)
    run(workspace, has_dropped=True)
    write_label_space(workspace.classes_path, [ClassName(index, name) for index, name in enumerate(SWAPPED)])
    renamed = Lamp(names=SWAPPED)
    assert run(workspace, renamed, has_dropped=has_dropped).n_new == (4 if has_dropped else 3)
    assert set(renamed.asked) == {("tree", "dog"), ("sea", "cat"), ("cat", "tree")}
    image_ids = {image_id for image_id, _ in rows_of(workspace)}
    assert ("0000" in image_ids) == has_dropped
    fresh = make_screened(tmp_path / "fresh", **dropped)
    write_label_space(fresh.classes_path, [ClassName(index, name) for index, name in enumerate(SWAPPED)])
    run(fresh, Lamp(names=SWAPPED), has_dropped=has_dropped)
    assert files_of(workspace) == files_of(fresh)
    assert run(workspace, Lamp(names=SWAPPED), has_dropped=has_dropped).n_new == 0


def test_a_run_with_nothing_new_decodes_no_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    monkeypatch.setattr("manifests.masks.cells_of", pytest.fail)
    assert run(workspace).n_kept == 6


def test_changed_pixels_are_localized_again(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    add_pictures(workspace, pictures(N_PICTURES) | {"0003": jpeg(scene(77))})
    assert run(workspace).n_new == 1


def test_runs_with_a_limit_end_in_the_bytes_of_one_run(tmp_path: Path) -> None:
    at_once, in_parts = make_screened(tmp_path / "a"), make_screened(tmp_path / "b")
    run(at_once)
    assert [run(in_parts, limit=4).n_left, run(in_parts, limit=4, n_workers=5).n_left] == [2, 0]
    assert files_of(in_parts) == files_of(at_once)


def test_a_killed_run_goes_on_and_ends_in_the_bytes_of_one_run(tmp_path: Path) -> None:
    whole, killed = make_screened(tmp_path / "a"), make_screened(tmp_path / "b")
    run(whole)
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.localize_stage_world import *\n"
        "run(Workspace(Path(sys.argv[1])), Lamp(kill_after=4))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program, str(killed.root)], cwd=REPOSITORY)
    assert finished.returncode == -signal.SIGKILL
    assert not killed.has(schema.LOCALIZED)
    assert run(killed).n_kept == 4
    assert files_of(killed) == files_of(whole)


def test_unreadable_pictures_are_counted_kept_with_a_reason_and_tried_last(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    store = MaskStore(workspace, Lamp().digest)
    first = min(pictures(N_PICTURES), key=store.shard_of)
    path = workspace.root / workspace.relative_image_path(first)
    content = path.read_bytes()
    path.write_bytes(content[:200])
    assert (run(workspace, limit=1).n_unreadable, run(workspace, limit=1).n_new) == (1, 1)
    (reason,) = [reason for _, reason in store.read_unreadable().values()]
    assert reason.startswith("the file is not the one downloaded")
    assert first not in {image_id for image_id, _ in rows_of(workspace)}
    path.write_bytes(content)
    run(workspace)
    whole = make_screened(tmp_path / "whole")
    run(whole)
    assert files_of(workspace) == files_of(whole)


def test_values_that_are_no_numbers_are_a_reason_and_not_a_mask(tmp_path: Path) -> None:
    class Broken(Lamp):
        def evidence(self, picture: Image.Image, names: Sequence[str]) -> np.ndarray:
            return np.full((len(names), 4, 4), np.nan, np.float32)

    workspace = make_screened(tmp_path)
    assert run(workspace, Broken()).n_unreadable == 6
    reasons = {reason for _, reason in MaskStore(workspace, Lamp().digest).read_unreadable().values()}
    assert reasons == {"the localizer gives a value that is no number"}


def test_localizing_before_screening_says_what_to_run(tmp_path: Path) -> None:
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    with pytest.raises(StageMissingError, match="run the stage 'screen'"):
        run(workspace)
    with pytest.raises(InputError, match="--limit: expected 1 or more, found 0"):
        LocalizeRules(limit=0)


def test_a_plan_counts_what_the_last_run_by_the_same_localizer_left(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)

    def planned(**arguments: object) -> tuple[int, int, str]:
        plan = plan_localize(workspace, arguments, LocalizeRules(limit=3))
        return plan.n_due, plan.n_done, Path(plan.writes[0]).name

    assert planned() == (3, 0, "<digest of the localizer>")
    run(workspace, limit=4)
    before = files_of(workspace)
    assert planned() == (2, 4, Lamp().digest)
    assert planned(model="other", pretrained=None) == (3, 0, "<digest of the localizer>")
    assert files_of(workspace) == before


def test_a_shard_of_another_version_is_named_and_what_to_do(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    path = next(workspace.masks_dir.rglob("shard-*.parquet"))
    path.write_bytes(workspace.path_of(schema.SCREEN).read_bytes())
    said = "lacks the columns sha256, .*, mask; .*: delete .*masks/00000000000000aa and run 'localize' again"
    with pytest.raises(TableError, match=said):
        run(workspace)


def test_a_damaged_shard_is_named_and_once_deleted_made_anew_alone(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    before = files_of(workspace)
    path = next(workspace.masks_dir.rglob("shard-*.parquet"))
    path.write_bytes(path.read_bytes()[:500])
    # Six pictures lie in six shards of 256.
    (told,) = [step for step in funnel(workspace) if step.stage == "  with masks"]
    assert (told.n_images, told.left) == (5, {"damaged": 1})
    said = rf"{path.name}: cannot be read as Parquet \(.*\): delete it and run 'localize' again"
    with pytest.raises(TableError, match=said):
        run(workspace)
    path.unlink()
    (told,) = [step for step in funnel(workspace) if step.stage == "  with masks"]
    assert (told.n_images, told.left) == (5, {"damaged": 1})
    assert (run(workspace).n_new, files_of(workspace)) == (1, before)
    unreadable = path.parent / "unreadable.parquet"
    unreadable.write_bytes(b"")
    with pytest.raises(TableError, match=r"unreadable\.parquet: .*: delete it and run 'localize' again"):
        run(workspace)


def test_a_shard_read_for_its_facts_alone_cannot_be_written_back_as_one_without_masks(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    store = MaskStore(workspace, Lamp().digest)
    before = files_of(workspace)
    facts, whole = store.read_facts(store.shard_of("0002")), store.read_shard(store.shard_of("0002"))
    assert facts["0002"].facts == whole["0002"].facts
    assert facts["0002"].facts[3].area_share == 0.25
    with pytest.raises(AttributeError, match="has no attribute 'masks'"):
        store.write_shard(store.shard_of("0002"), facts)
    assert files_of(workspace) == before


def test_a_table_of_another_version_is_told_with_its_masks_at_once(tmp_path: Path) -> None:
    workspace = make_screened(tmp_path)
    run(workspace)
    shutil.copy(workspace.path_of(schema.SCREEN), workspace.path_of(schema.LOCALIZED))
    with pytest.raises(
        TableError, match=r"localized\.parquet: .* move it and .*masks away and run the stage 'localize' again"
    ):
        workspace.read(schema.LOCALIZED)


class TestWhatAnnotatorsGet:
    def test_masks_are_those_of_the_shown_classes_in_their_order(self, tmp_path: Path) -> None:
        workspace = make_screened(tmp_path)
        run(workspace)
        items = read_items(workspace, pictures(N_PICTURES))
        said: list[str] = []
        masks = EvidenceMasks.read(workspace, items, announce=said.append)
        assert said == []
        assert [mask["class_index"] for mask in masks.of(items[3])] == [3, 0]
        assert masks.of(items[3])[0]["area_share"] == 0.25

    def test_masks_of_a_screen_or_picture_that_has_changed_are_not_shown_and_it_is_said(
        self, tmp_path: Path
    ) -> None:
        workspace = make_screened(tmp_path)
        run(workspace)
        write_screen(workspace, x0001={"shown_classes": [1, 3]})
        add_pictures(workspace, pictures(N_PICTURES) | {"0002": jpeg(scene(77))})
        items = {item.image_id: item for item in read_items(workspace, pictures(N_PICTURES))}
        said: list[str] = []
        masks = EvidenceMasks.read(workspace, items.values(), announce=said.append)
        assert [mask["class_index"] for mask in masks.of(items["0001"])] == [1]
        assert masks.of(items["0002"]) == []
        assert not masks.has("0002")
        assert len(said) == 1
        assert said[0].startswith("masks: 2 of 6 pictures lack those of some classes")

    def test_masks_of_a_class_that_is_called_otherwise_now_are_not_shown(self, tmp_path: Path) -> None:
        workspace = make_screened(tmp_path)
        run(workspace)
        write_label_space(workspace.classes_path, [ClassName(index, name) for index, name in enumerate(SWAPPED)])
        items = {item.image_id: item for item in read_items(workspace, pictures(N_PICTURES))}
        said: list[str] = []
        masks = EvidenceMasks.read(workspace, items.values(), announce=said.append)
        assert [mask["class_index"] for mask in masks.of(items["0000"])] == [1]
        assert [mask["class_index"] for mask in masks.of(items["0001"])] == [1, 2]
        assert masks.of(items["0003"]) == []
        assert said[0].startswith("masks: 4 of 6 pictures lack those of some classes")

    def test_a_workspace_without_masks_has_none_and_says_nothing(self, tmp_path: Path) -> None:
        workspace = make_screened(tmp_path)
        items = read_items(workspace, pictures(N_PICTURES))
        masks = EvidenceMasks.read(workspace, items, announce=pytest.fail)
        assert not masks.has("0001")
        assert masks.of(items[1]) == []


def test_the_default_localizer_is_the_clip_of_the_embeddings_and_equals_that_model_given(tmp_path: Path) -> None:
    model, pretrained = make_tiny_clip(tmp_path)
    workspace = make_screened(tmp_path / "ws")
    with pytest.raises(StageMissingError, match="run the stage 'embed' first"):
        choose_localizer(workspace)
    embed_pictures(workspace, model, pretrained, grid=0, device="cpu")
    by_default = choose_localizer(workspace, template_set="simple", device="cpu")
    given = choose_localizer(workspace, model=model, pretrained=pretrained, template_set="simple", device="cpu")
    assert by_default.digest == given.digest
    assert by_default.name == "heat map of tiny-test.json with tiny-test.safetensors"
    with pytest.raises(InputError, match="--templates: expected openai or simple, found 'plain'"):
        choose_localizer(workspace, template_set="plain")
