"""How the pictures of screening are made and written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from manifests.durable import replacing
from manifests.errors import InputError

_STYLE = {
    "figure.dpi": 150,
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of classes are shown as they are, a dollar sign too.
    "text.parse_math": False,
}


@contextlib.contextmanager
def figure_at(path: Path, width_in: float, height_in: float) -> Iterator[Figure]:
    """Yield an empty figure, and write it to `path` in one step; equal figures are equal bytes.

    Raises
    ------
    InputError
        `path` does not end in ``.png``.
    """
    if path.suffix != ".png":
        raise InputError(f"{path}: expected a file name that ends in .png")
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
