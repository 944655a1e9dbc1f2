"""The views of a picture that are embedded: the whole, and overlapping tiles that show small objects large."""

from PIL import Image

FULL = "full"


def view_names(grid: int) -> list[str]:
    """Return the names of the views of a `grid` x `grid` tiling, whole picture first; 0 means no tiles."""
    return [FULL, *(f"tile_{grid}_{row}_{column}" for row in range(grid) for column in range(grid))]


def cut_views(image: Image.Image, grid: int) -> list[Image.Image]:
    """Return the views of `image` in the order of `view_names`.

    A tile is 2 / (grid + 1) of each side and overlaps its neighbours by half, so that an object of up to half a
    tile lies whole in at least one.
    """
    views = [image]
    if grid:
        step_x, step_y = image.width / (grid + 1), image.height / (grid + 1)
        views += [
            image.crop((
                int(column * step_x), int(row * step_y),
                max(int((column + 2) * step_x), int(column * step_x) + 1),
                max(int((row + 2) * step_y), int(row * step_y) + 1),
            ))
            for row in range(grid)
            for column in range(grid)
        ]  # fmt: skip
    return views
