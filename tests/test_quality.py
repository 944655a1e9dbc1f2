import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import convolve

from curation.screening.checks import CHECKS, picture_facts
from curation.screening.quality import measure_quality
from manifests import schema
from manifests.errors import InputError
from manifests.images import decode_image, read_image
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures
from tests.screen_world import noise_jpeg


def flagged(image):
    facts = picture_facts(image)
    return {
        name
        for name, check in CHECKS.items()
        if (facts[name] > check.threshold if check.is_high_bad else facts[name] < check.threshold)
    }


def noise(width=240, height=200, low=0, high=256):
    pixels = np.random.default_rng(0).integers(low, high, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_every_check_is_a_column_and_every_column_a_check():
    assert tuple(CHECKS) == schema.QUALITY_CHECKS
    assert set(picture_facts(noise())) == set(CHECKS)


def test_blur_is_the_variance_of_scipys_laplacian():
    image = noise()
    grey = np.asarray(image.convert("L"), float)
    kernel = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    expected = convolve(grey, np.array(kernel))[1:-1, 1:-1].var()
    assert picture_facts(image)["blur"] == pytest.approx(expected)


def test_a_plain_picture_scores_as_worked_out_by_hand():
    facts = picture_facts(Image.new("RGB", (300, 100), (51, 51, 51)))
    assert facts == {
        "blur": 0, "dark": pytest.approx(0.2), "low_information": 0, "odd_size": 100, "extreme_aspect": 3,
        "near_empty": 1,
    }  # fmt: skip


def test_two_grey_values_in_halves_are_one_bit():
    image = Image.new("RGB", (128, 128), "black")
    image.paste("white", (0, 0, 64, 128))
    facts = picture_facts(image)
    assert facts["low_information"] == pytest.approx(1)
    assert facts["near_empty"] == pytest.approx(0.5)
    assert facts["dark"] == 1


def test_a_colour_at_the_edge_of_a_cube_is_one_colour():
    image = Image.new("RGB", (64, 64), (31, 31, 31))
    image.paste((32, 32, 32), (0, 0, 32, 64))
    assert picture_facts(image)["near_empty"] == 1


@pytest.mark.parametrize(
    ("image", "flags"),
    [
        (noise(), set()),
        (noise().filter(ImageFilter.GaussianBlur(8)), {"blur"}),
        (noise(high=40), {"dark"}),
        (noise(width=90), {"odd_size"}),
        (noise(width=700), {"extreme_aspect"}),
        (Image.new("RGB", (200, 200), "white"), {"blur", "low_information", "near_empty"}),
    ],
)
def test_each_fault_is_flagged_by_its_check(image, flags):
    found = flagged(image)
    assert flags <= found
    if not flags:
        assert found == flags


def test_a_rotation_learnt_later_is_measured_again(tmp_path, monkeypatch):
    workspace = world(tmp_path, 3)
    measure_quality(workspace)
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    workspace.write(schema.CANDIDATES, [row | {"rotation_deg": 90 * (row["image_id"] == "0001")} for row in rows])
    opened = []

    contents = {picture.path.read_bytes(): k for k, picture in stored_pictures(workspace).items()}

    def decode(content, rotation_deg):
        opened.append((contents[content], rotation_deg))
        return decode_image(content, rotation_deg)

    monkeypatch.setattr("curation.screening.quality.decode_image", decode)
    measure_quality(workspace)
    assert opened == [("0001", 90)]


def test_the_smallest_picture_has_scores():
    assert np.isfinite(list(picture_facts(Image.new("RGB", (1, 1))).values())).all()


def world(folder, n_images=20):
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(n_images)}
    stream = io.BytesIO()
    Image.new("RGB", (200, 200), "white").save(stream, "JPEG")
    return add_pictures(Workspace(folder), contents | {"white": stream.getvalue()})


def test_the_table_holds_scores_and_flags_and_a_rerun_measures_nothing(tmp_path, monkeypatch):
    workspace = world(tmp_path)
    counts = measure_quality(workspace)
    assert (counts["measured"], counts["unreadable"], counts["near_empty"]) == (21, 0, 1)
    rows = {row["image_id"]: row for row in workspace.read(schema.QUALITY).to_pylist()}
    facts = picture_facts(read_image(tmp_path / "images" / "00" / "0003.jpg"))
    assert {name: rows["0003"][f"{name}_score"] for name in CHECKS} == pytest.approx(facts, rel=1e-6)
    assert rows["white"]["is_near_empty"]
    assert not rows["0003"]["is_near_empty"]
    first = workspace.path_of(schema.QUALITY).read_bytes()
    opened = []
    monkeypatch.setattr("curation.screening.quality.decode_image", lambda *a: opened.append(a))
    measure_quality(workspace, n_workers=1)
    assert opened == []
    assert workspace.path_of(schema.QUALITY).read_bytes() == first


def test_a_changed_picture_is_measured_again_and_a_vanished_one_leaves(tmp_path):
    workspace = world(tmp_path)
    measure_quality(workspace)
    before = workspace.read(schema.QUALITY).to_pylist()
    image_ids = [row["image_id"] for row in before if row["image_id"] != "white"]
    contents = {image_id: noise_jpeg(int(image_id, 16)) for image_id in image_ids}
    del contents["0000"]
    contents["0001"] = noise_jpeg(77)
    measure_quality(add_pictures(workspace, contents))
    after = {row["image_id"]: row for row in workspace.read(schema.QUALITY).to_pylist()}
    assert after.keys() == contents.keys()
    changed = {row["image_id"] for row in before if row["image_id"] in after and after[row["image_id"]] != row}
    assert changed == {"0001"}


def test_a_picture_that_cannot_be_read_is_counted_and_has_no_row(tmp_path):
    workspace = world(tmp_path, 3)
    (tmp_path / "images" / "00" / "0002.jpg").write_bytes(b"<html>")
    counts = measure_quality(workspace)
    assert (counts["measured"], counts["unreadable"]) == (3, 1)
    assert "0002" not in workspace.read(schema.QUALITY).column("image_id").to_pylist()


def test_no_worker_is_refused(tmp_path):
    with pytest.raises(InputError, match="--workers: expected 1 or more, found 0"):
        measure_quality(Workspace(tmp_path), n_workers=0)
