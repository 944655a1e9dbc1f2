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

from manifests.tiles import FULL, tile_boxes, tile_name

TILING = "squares"
"""The rule of `manifests.tiles.tile_boxes`, by which a store of other tiles is told apart."""

DEFAULT_GRID = 4


def cut_views(image: Image.Image, grid: int) -> list[tuple[str, Image.Image]]:
    """Return the whole picture and its tiles with their names, ``full`` and ``tile_<grid>_<row>_<column>``.

    Parameters
    ----------
    image : Image
        Upright.
    grid : int
        Tiles along the shorter side, as `manifests.tiles.tile_boxes` takes them; 0 for none.
    """
    tiles = [
        (tile_name(grid, row, column), image.crop(box))
        for row, boxes in enumerate(tile_boxes(image.width, image.height, grid))
        for column, box in enumerate(boxes)
    ]
    return [(FULL, image), *tiles]


def least_side_px(grid: int, input_px: int) -> int:
    """Return how long the shorter side of a picture must be for every view to have `input_px` to its own."""
    return math.ceil(input_px * (grid + 1) / 2) if grid else input_px
