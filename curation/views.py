"""The views of a picture that are embedded: the whole, and overlapping tiles that show small objects large.

`python cli.py bench views --data DIR` measures what a grid finds and costs, with a real classifier. 60 ImageNet
pictures, each pasted at 5 % of the area into 1024 x 768 px that show no class: the class was among the ten of the
highest cosines over the views in 0.08 of them by the whole picture alone, in 0.35 with two tiles along the shorter
side (7 views), in 0.6 with three (10 to 16) and in 0.8 with four (17). Hence four: an object of 5 % of the area
fills a third of such a tile. Two grids together found no more than the finer alone; tiles in the shape of the
picture, of which a model does not see the ends, found as many as squares in as many views.
"""

import math

from PIL import Image

FULL = "full"

TILING = "squares"
"""The rule of `tile_boxes`, by which a store of other tiles is told apart."""

DEFAULT_GRID = 4

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


def cut_views(image: Image.Image, grid: int) -> list[tuple[str, Image.Image]]:
    """Return the whole picture and its tiles with their names, ``full`` and ``tile_<grid>_<row>_<column>``.

    Parameters
    ----------
    image : Image
        Upright.
    grid : int
        Tiles along the shorter side, as `tile_boxes` takes them; 0 for none.
    """
    tiles = [
        (f"tile_{grid}_{row}_{column}", image.crop(box))
        for row, boxes in enumerate(tile_boxes(image.width, image.height, grid))
        for column, box in enumerate(boxes)
    ]
    return [(FULL, image), *tiles]


def least_side_px(grid: int, input_px: int) -> int:
    """Return how long the shorter side of a picture must be for every view to have `input_px` to its own."""
    return math.ceil(input_px * (grid + 1) / 2) if grid else input_px


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
