import base64
import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from curation.open_images import read_metadata
from curation.sample.commands import write_real_lists
from curation.sample.pictures import IN_CLASSES, OUT_KINDS, Corner, draw_out_picture
from curation.sample.training_world import draw_training_world
from curation.sample.world import World, make_world
from curation.sample.world_plan import CANDIDATE_MIX, image_id_of, plan_candidates
from manifests.errors import InputError, UnreadableImageError
from manifests.images import decode_image, read_image

SEED, N_CANDIDATES = 11, 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), seed=SEED, n_candidates=N_CANDIDATES, n_train=2, n_val=1)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def truth_of_kind(world: World, kind: str) -> list[dict[str, str]]:
    return [row for row in rows_of(world.truth_path) if row["kind"] == kind]


def served(world: World, image_id: str) -> bytes:
    return (world.mirror_dir / "test" / f"{image_id}.jpg").read_bytes()


def test_one_seed_gives_the_same_bytes_whatever_the_number_of_processes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("curation.sample.world.SERIAL_BELOW", 0)
    pooled = make_world(tmp_path, seed=SEED, n_candidates=N_CANDIDATES, n_train=2, n_val=1, n_workers=2)
    assert files_of(pooled.root) == files_of(world.root)


def test_another_seed_shares_no_id_and_no_picture(world: World, tmp_path: Path):
    other = make_world(tmp_path, seed=12, n_candidates=40, n_train=1, n_val=0)
    ids = [{row["ImageID"] for row in rows_of(w.metadata_path)} for w in (world, other)]
    pictures = [set(files_of(w.imagenet_train_dir).values()) for w in (world, other)]
    assert not ids[0] & ids[1]
    assert not pictures[0] & pictures[1]


def test_metadata_and_truth_name_the_same_ids_and_the_mirror_lacks_only_the_missing(world: World):
    ids = [row["ImageID"] for row in rows_of(world.metadata_path)]
    missing = {row["image_id"] for row in truth_of_kind(world, "broken_missing")}
    assert ids == sorted(set(ids)) == [row["image_id"] for row in rows_of(world.truth_path)]
    assert len(ids) == N_CANDIDATES
    assert {path.stem for path in (world.mirror_dir / "test").iterdir()} == set(ids) - missing


def test_the_toolkit_reads_the_metadata_cell_for_cell(world: World):
    cells = {row["ImageID"]: row for row in rows_of(world.metadata_path)}
    candidates = list(read_metadata(world.metadata_path))
    assert [row["image_id"] for row in candidates] == list(cells)
    for row in candidates:
        raw = cells[row["image_id"]]
        assert row["original_md5"] == base64.b64decode(raw["OriginalMD5"]).hex()
        assert row["original_size_bytes"] == int(raw["OriginalSize"])
        assert (row["title"] or "") == raw["Title"]
        assert row["rotation_deg"] == (None if raw["Rotation"] in ("", "nan") else float(raw["Rotation"]))


def test_rows_hold_what_flickr_rows_hold_and_point_nowhere(world: World):
    rows = rows_of(world.metadata_path)
    titles = [row["Title"] for row in rows]
    assert any("," in title for title in titles)
    assert any('"' in title for title in titles)
    assert any(not title.isascii() for title in titles)
    for row in rows:
        for column in ("OriginalURL", "OriginalLandingURL", "AuthorProfileURL"):
            assert row[column].split("/")[2].endswith(".example.invalid")


def test_original_md5_is_not_that_of_the_mirrors_copy(world: World):
    for row in rows_of(world.metadata_path):
        path = world.mirror_dir / "test" / f"{row['ImageID']}.jpg"
        if path.exists():
            copy = base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
            assert row["OriginalMD5"] != copy


def test_every_kind_of_candidate_is_there_in_its_share(world: World):
    kinds = [row["kind"] for row in rows_of(world.truth_path)]
    for kind, share in CANDIDATE_MIX.items():
        if not kind.startswith("plain"):
            assert kinds.count(kind) == max(1, round(share * N_CANDIDATES))
    truths = [row["truth"] for row in truth_of_kind(world, "plain")]
    assert truths.count("in") == round(CANDIDATE_MIX["plain_in"] * N_CANDIDATES)


def test_truth_is_in_exactly_where_a_class_is_shown(world: World):
    for row in rows_of(world.truth_path):
        assert (row["truth"] == "in") == (row["class_index"] != "")
        if row["kind"] == "corner":
            assert row["truth"] == "in"
            assert row["drawn"] in OUT_KINDS


def test_broken_candidates_are_refused_for_the_reason_that_they_are_named_after(world: World):
    expected = {
        "broken_html": "not_an_image", "broken_empty": "not_an_image", "broken_garbage": "not_an_image",
        "broken_truncated": "undecodable",
    }  # fmt: skip
    for kind, status in expected.items():
        for row in truth_of_kind(world, kind):
            with pytest.raises(UnreadableImageError) as caught:
                decode_image(served(world, row["image_id"]))
            assert caught.value.status == status


def test_whole_candidates_decode(world: World):
    for row in rows_of(world.truth_path):
        if not row["kind"].startswith("broken"):
            assert max(decode_image(served(world, row["image_id"])).size) >= 100


def test_exact_duplicates_are_equal_bytes_and_near_duplicates_look_alike_but_differ(world: World):
    def thumbnail(image_id: str) -> np.ndarray:
        grey = decode_image(served(world, image_id)).convert("L").resize((8, 8))
        pixels = np.asarray(grey, dtype=float)
        return pixels - pixels.mean()

    for row in truth_of_kind(world, "exact_duplicate"):
        assert served(world, row["image_id"]) == served(world, row["duplicate_of"])
    for row in truth_of_kind(world, "near_duplicate"):
        assert served(world, row["image_id"]) != served(world, row["duplicate_of"])
        pair = [thumbnail(row["image_id"]).ravel(), thumbnail(row["duplicate_of"]).ravel()]
        assert np.corrcoef(pair)[0, 1] > 0.95


def test_a_turned_picture_is_upright_after_the_rotation_of_its_row(world: World):
    turned = [
        plan for plan in plan_candidates(SEED, N_CANDIDATES) if plan.rotation_deg and plan.kind == "plain_out"
    ]
    assert turned
    for plan in turned:
        upright = draw_out_picture(np.random.default_rng(plan.seed), plan.out_kind, plan.size)
        turned_back = np.asarray(decode_image(served(world, plan.image_id), plan.rotation_deg), dtype=float)
        # JPEG moves a pixel by a few steps of 255; another turn moves it by tens.
        assert np.abs(turned_back - np.asarray(upright, dtype=float)).mean() < 8


def test_labels_name_every_picture_of_the_imagenet_and_ids_are_unique(world: World):
    for folder, path in (
        (world.imagenet_train_dir, world.train_labels_path),
        (world.imagenet_val_dir, world.val_labels_path),
    ):
        rows = rows_of(path)
        assert sorted(row["file"] for row in rows) == sorted(files_of(folder))
        assert len({Path(row["file"]).stem for row in rows}) == len(rows)
        assert {int(row["class_index"]) for row in rows} == set(range(len(IN_CLASSES)))
    for row in rows_of(world.train_labels_path):
        assert row["file"].split("/")[0] == row["class_index"]


def test_every_class_has_an_example_and_its_imagenet_name(world: World):
    from curation.clip import imagenet_class_names

    for class_index, row in enumerate(rows_of(world.classes_path)):
        assert int(row["class_index"]) == class_index
        assert row["name"] == imagenet_class_names()[IN_CLASSES[class_index].imagenet_index]
        assert read_image(world.examples_dir / str(class_index) / "1.jpg").size == (160, 160)


def test_no_out_kind_is_a_class_of_imagenet():
    from curation.clip import imagenet_class_names

    assert not {name.lower() for name in imagenet_class_names()} & set(OUT_KINDS)


def test_a_corner_object_changes_one_corner_only(monkeypatch: pytest.MonkeyPatch):
    # Without the camera, whose noise depends on how much was drawn before it.
    monkeypatch.setattr("curation.sample.pictures._finished", lambda rng, image: image)
    without, cornered = (
        np.asarray(draw_out_picture(np.random.default_rng(3), "stripes", (200, 150), corner), dtype=int)
        for corner in (None, Corner(class_index=9, width_share=0.2))
    )
    rows, columns = np.nonzero(np.abs(without - cornered).sum(axis=2))
    assert 20 <= np.ptp(rows) < 50
    assert 20 <= np.ptp(columns) < 50


def test_ids_are_hashes_of_sixteen_hex_digits():
    assert image_id_of(0, 0) == hashlib.blake2b(b"0/0", digest_size=8).hexdigest()
    assert len(image_id_of(0, 0)) == 16


def test_a_world_whose_record_is_damaged_is_drawn_anew(tmp_path: Path):
    size = {"n_train": 1, "n_val": 1, "n_candidates": 40}
    draw_training_world(tmp_path, **size)
    drawn = files_of(tmp_path)
    (tmp_path / "drawn.json").write_bytes(b"\xff\xfe")
    (tmp_path / "out" / "left over.jpg").write_bytes(b"")
    draw_training_world(tmp_path, **size)
    assert files_of(tmp_path) == drawn


@pytest.mark.parametrize("content", [b"\xff\xfe", b"image_id,truth\n" + b"a" * 200_000 + b",in\n"])
def test_a_truth_table_of_real_pictures_that_is_no_csv_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "truth.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"--real .*: expected pool/truth\.csv with image_id, truth, class_index"):
        write_real_lists(tmp_path, tmp_path)


def test_too_small_a_world_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="expected 40 or more, found 10"):
        make_world(tmp_path, n_candidates=10)
