import itertools
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from curation.views import cut_views, least_side_px
from manifests.errors import InputError
from manifests.tiles import FULL, tile_boxes, view_box


def flat(boxes):
    return [box for row in boxes for box in row]


def test_tiles_of_a_square_picture_overlap_by_half():
    assert flat(tile_boxes(90, 90, 2)) == [(0, 0, 60, 60), (30, 0, 90, 60), (0, 30, 60, 90), (30, 30, 90, 90)]


def test_a_longer_side_has_as_many_tiles_as_come_nearest_to_a_quarter_of_overlap():
    # 3 : 2 at three along the shorter: tiles of half the height, 300 px, four in a row and one every 200 px.
    assert [box[0] for box in tile_boxes(900, 600, 3)[0]] == [0, 200, 400, 600]
    assert [len(row) for row in tile_boxes(600, 900, 3)] == [3] * 4
    # 4 : 3: as many as along the shorter.
    assert [[len(row) for row in tile_boxes(1024, 768, grid)] for grid in (2, 3, 4)] == [[2] * 2, [3] * 3, [4] * 4]


@pytest.mark.parametrize("size", [(1024, 768), (683, 1024), (300, 300), (299, 299), (1024, 300), (7, 5)])
@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_every_pixel_is_in_a_tile_and_every_tile_in_the_picture(size, grid):
    seen = np.zeros(size, bool)
    for left, top, right, bottom in flat(tile_boxes(*size, grid)):
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert right - left == bottom - top
        seen[left:right, top:bottom] = True
    assert seen.all()


@pytest.mark.parametrize("shape", [Fraction(1), Fraction(4, 3), Fraction(3, 2), Fraction(16, 9), Fraction(3)])
def test_neighbours_overlap_by_an_eighth_at_least_whatever_the_shape(shape):
    for grid in (3, 4):
        row = tile_boxes(int(600 * shape), 600, grid)[0]
        side = row[0][2] - row[0][0]
        assert all(left[2] - right[0] >= side / 8 for left, right in itertools.pairwise(row))


def test_a_panorama_has_no_more_tiles_than_twelve_in_a_row():
    assert [len(row) for row in tile_boxes(4000, 100, 3)] == [12, 12, 12]


def test_views_are_named_by_grid_row_and_column_and_show_their_part():
    image = Image.fromarray(np.arange(90 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(90, 120, 3))
    views = dict(cut_views(image, 2))
    assert list(views)[:3] == ["full", "tile_2_0_0", "tile_2_0_1"]
    assert list(views)[-1] == "tile_2_1_1"
    assert views["full"] is image
    np.testing.assert_array_equal(np.asarray(views["tile_2_1_1"]), np.asarray(image)[30:90, 60:120])


def test_the_smallest_picture_has_views():
    assert {view.size for _, view in cut_views(Image.new("RGB", (1, 1)), 3)} == {(1, 1)}


def test_a_picture_of_the_least_side_has_tiles_of_the_models_size():
    for grid in (1, 2, 3, 4):
        side = least_side_px(grid, 224)
        box = tile_boxes(side, side, grid)[0][0]
        assert box[2] - box[0] >= 224
    assert least_side_px(0, 224) == 224


def test_view_named_in_a_table_has_the_box_that_was_cut() -> None:
    image = Image.linear_gradient("L").resize((400, 300))
    for view, cut in cut_views(image, 3):
        assert image.crop(view_box(view, 400, 300)).tobytes() == cut.tobytes()
    assert view_box(FULL, 400, 300) == (0, 0, 400, 300)


@pytest.mark.parametrize("view", ["tile_3_0_9", "tile_0_0_0", "tile_3_0", "tile_3_-1_0", "corner", "", "full "])
def test_view_that_a_picture_does_not_have_is_refused(view: str) -> None:
    with pytest.raises(InputError, match="has none of this name"):
        view_box(view, 400, 300)
