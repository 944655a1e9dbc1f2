"""Where the tiles of a picture lie: known to the stages that embed them and to those that show them."""

import math
import re

from manifests.errors import InputError

FULL = "full"
"""The view that is the whole picture."""

_MOST_ALONG = 12
"""Tiles along the longer side at most: enough for a panorama of 1 : 4 at three along the shorter."""


def tile_boxes(width_px: int, height_px: int, grid: int) -> list[list[tuple[int, int, int, int]]]:
    """Return the boxes (left, top, right, bottom) of the tiles, row by row.

    Tiles are squares, as models look at squares: of a tile in the shape of the picture, and so of the picture,
    they would not see the ends. `grid` squares share the shorter side, each 2 / (grid + 1) of it, so that
    neighbours overlap by half. Along the longer side there are as many as come nearest to a quarter of overlap,
    from end to end: `grid` in a picture of 4 : 3.
    """
    if not grid:
        return []
    shorter_px = min(width_px, height_px)
    side_px = math.ceil(2 * shorter_px / (grid + 1))
    tops, lefts = (
        _starts(length_px - side_px, _n_along(length_px, shorter_px, grid)) for length_px in (height_px, width_px)
    )
    return [[(left, top, left + side_px, top + side_px) for left in lefts] for top in tops]


def tile_name(grid: int, row: int, column: int) -> str:
    """Return the name of a tile's view."""
    return f"tile_{grid}_{row}_{column}"


def view_box(view: str, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of a view, in pixels of the upright picture.

    Raises
    ------
    InputError
        The picture has no view of this name.
    """
    if view == FULL:
        return (0, 0, width_px, height_px)
    named = re.fullmatch(r"tile_(\d{1,3})_(\d{1,3})_(\d{1,3})", view)
    if named:
        grid, row, column = map(int, named.groups())
        boxes = tile_boxes(width_px, height_px, grid)
        if row < len(boxes) and column < len(boxes[row]):
            return boxes[row][column]
    raise InputError(f"view {view!r}: a picture of {width_px} x {height_px} px has none of this name")


def _n_along(length_px: int, shorter_px: int, grid: int) -> int:
    """Return how many tiles come nearest to a quarter of overlap, but leave no gap and are at least `grid`."""
    # The length is (grid + 1) / 2 * length / shorter tiles long, and n tiles that overlap so are (3 n + 1) / 4.
    n_nearest = (4 * (grid + 1) * length_px + shorter_px) // (6 * shorter_px)
    n_without_gap = math.ceil((grid + 1) * length_px / (2 * shorter_px))
    return max(grid, min(max(n_nearest, n_without_gap), _MOST_ALONG))


def _starts(beyond_px: int, n_tiles: int) -> list[int]:
    """Return where tiles begin along a side that is longer than one by `beyond_px`: evenly, from end to end."""
    if n_tiles == 1:
        return [beyond_px // 2]
    return [round(beyond_px * position / (n_tiles - 1)) for position in range(n_tiles)]
