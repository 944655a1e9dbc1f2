from pathlib import Path

import pytest
from PIL import Image

from annotation.examples import find_examples
from annotation.review import read_class_names, read_items, read_review, review_image_ids
from manifests import schema
from manifests.errors import InputError, StageMissingError, TableError
from manifests.images import decode_image, inspect_image
from manifests.label_space import ClassName
from manifests.workspace import Workspace
from tests.annotation_workspace import image_id_of, make_examples, make_workspace


def test_review_set_comes_riskiest_first_and_ties_by_id(tmp_path: Path) -> None:
    items = read_review(make_workspace(tmp_path))
    assert [item.risk for item in items] == [1.0, 0.75, 0.5, 0.5, 0.25, 0.125]
    assert [item.image_id for item in items] == [image_id_of(number) for number in (4, 2, 1, 3, 0, 5)]


def test_dropped_pictures_are_not_under_review(tmp_path: Path) -> None:
    assert review_image_ids(make_workspace(tmp_path, n_review=2, n_dropped=3)) == [image_id_of(0), image_id_of(1)]


def test_review_item_does_not_tell_whether_it_is_a_control(tmp_path: Path) -> None:
    items = {item.image_id: item for item in read_review(make_workspace(tmp_path))}
    assert "control" not in repr(items[image_id_of(1)])


def test_the_place_in_the_queue_does_not_tell_a_control(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=6)
    template = workspace.read(schema.SCREEN).to_pylist()[0]
    downloads, candidates = (
        workspace.read(table).to_pylist()[0] for table in (schema.DOWNLOADS, schema.CANDIDATES)
    )
    ids = [image_id_of(number) for number in range(1000)]
    # As `screen` leaves it: all controls are riskier than every other picture.
    rows = [
        template | {"image_id": image_id, "is_control": number % 5 == 0, "reason": None}
        | {"risk": 0.95 if number % 5 == 0 else number / 2000}
        for number, image_id in enumerate(ids)
    ]  # fmt: skip
    workspace.write(schema.SCREEN, rows)
    workspace.write(schema.CANDIDATES, [candidates | {"image_id": k} for k in ids])
    workspace.write(
        schema.DOWNLOADS, [downloads | {"image_id": k, "path": workspace.relative_image_path(k)} for k in ids]
    )
    items = read_review(workspace)
    controls = [place for place, item in enumerate(items) if int(item.image_id, 16) % 5 == 0]
    assert len(controls) == 200
    # 200 places drawn of 1,000: their mean is 500, give or take 20, and each fifth holds 40, give or take 6.
    assert abs(sum(controls) / 200 - 500) < 60
    assert all(20 < sum(start <= place < start + 200 for place in controls) < 60 for start in range(0, 1000, 200))
    assert max(item.risk for item in items) < 0.5
    by_id = {item.image_id: item.risk for item in items}
    assert {item.image_id: item.risk for item in read_items(workspace, ids[:20])} == {
        k: by_id[k] for k in ids[:20]
    }


def test_rotation_comes_from_the_candidates(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=2)
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    rows[0]["rotation_deg"] = 90
    workspace.write(schema.CANDIDATES, rows)
    assert {item.image_id: item.rotation_deg for item in read_review(workspace)} == {
        image_id_of(0): 90,
        image_id_of(1): 0,
    }


def test_review_before_screen_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageMissingError, match="screen"):
        review_image_ids(Workspace(tmp_path))


def test_picture_under_review_without_a_file_is_refused_by_name(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=2)
    rows = [row for row in workspace.read(schema.DOWNLOADS).to_pylist() if row["image_id"] != image_id_of(1)]
    workspace.write(schema.DOWNLOADS, rows)
    with pytest.raises(TableError, match=f"{image_id_of(1)} is under review but has no picture"):
        read_review(workspace)


def test_class_names_and_their_absence(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    assert read_class_names(workspace)[2] == ClassName(2, "great white shark, white shark", "n00000002")
    (tmp_path / "classes.csv").unlink()
    assert read_class_names(workspace) == {}


def test_examples_are_found_by_class_index_and_by_wnid(tmp_path: Path) -> None:
    make_examples(tmp_path, n_classes=2)
    names = {
        0: ClassName(0, "tench", "n00000000"),
        1: ClassName(1, "goldfish", "n00000001"),
        2: ClassName(2, "shark"),
    }
    assert find_examples(tmp_path, [0, 1, 2], names) == {
        0: tmp_path / "n00000000" / "a.jpg",
        1: tmp_path / "1" / "a.jpg",
    }


def test_examples_for_no_class_shown_are_refused(tmp_path: Path) -> None:
    make_examples(tmp_path, n_classes=2)
    with pytest.raises(InputError, match="holds no picture for any class shown"):
        find_examples(tmp_path, [7], {})
    with pytest.raises(InputError, match="expected a folder"):
        find_examples(tmp_path / "absent", [1], {})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_size_on_screen_is_that_of_the_picture_as_embedded(
    tmp_path: Path, orientation: int, rotation_deg: int
) -> None:
    workspace = make_workspace(tmp_path, n_review=1, n_dropped=0)
    path = tmp_path / workspace.relative_image_path(image_id_of(0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    width_px, height_px = inspect_image(path.read_bytes())
    rows = workspace.read(schema.DOWNLOADS).to_pylist()
    workspace.write(schema.DOWNLOADS, [rows[0] | {"width_px": width_px, "height_px": height_px}])
    candidates = workspace.read(schema.CANDIDATES).to_pylist()
    workspace.write(schema.CANDIDATES, [candidates[0] | {"rotation_deg": rotation_deg}])
    (item,) = read_review(workspace)
    assert item.upright_size_px == decode_image(path.read_bytes(), rotation_deg).size


def test_size_of_a_turned_picture_that_is_gone_is_that_of_the_table(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1, n_dropped=0)
    candidates = workspace.read(schema.CANDIDATES).to_pylist()
    workspace.write(schema.CANDIDATES, [candidates[0] | {"rotation_deg": 90}])
    (item,) = read_review(workspace)
    item.path.unlink()
    assert item.upright_size_px == (400, 300)
