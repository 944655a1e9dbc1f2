"""How every plot looks and how it is written: one table of settings, and what differs from place to place."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.axis import Axis
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from manifests.durable import replacing
from manifests.errors import InputError

COLUMN_WIDTH_IN, TEXT_WIDTH_IN = 3.25, 6.875
"""Width of a column and of both in the CVPR author kit; a picture printed at its own size keeps its font size."""

METADATA: Mapping[str, Mapping[str, None]] = {
    "png": {"Software": None},
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
}
"""What a file of each format says of its making: no date and no maker, so that equal plots are equal bytes."""

FORMATS = tuple(METADATA)

_EVERYWHERE: Mapping[str, object] = {
    # All words of a plot are of one size, but for what is set apart on purpose.
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    # Names of sets and classes are shown as they are, a dollar sign too.
    "text.parse_math": False,
    # Ids inside the file would be random otherwise.
    "svg.hashsalt": "openimage-o",
}


@dataclass(frozen=True, eq=False)
class PlotStyle:
    """How plots look at one place.

    Attributes
    ----------
    settings : mapping
        Of matplotlib, beyond those of all plots: what this place has a reason for.
    canvas : type
        What its figures are measured by.
    """

    settings: Mapping[str, object]
    canvas: type[FigureCanvasBase] = FigureCanvasAgg

    @contextlib.contextmanager
    def applied(self, more: Mapping[str, object] | None = None) -> Iterator[None]:
        """Build and write figures within: whatever the user's matplotlibrc says, equal input looks equal."""
        settings = {**_EVERYWHERE, **self.settings, **(more or {})}
        with matplotlib.style.context(["default", settings]):
            yield

    def new_figure(self, width_in: float, height_in: float) -> Figure:
        """Return an empty figure that makes room for its own titles and legends, outside of pyplot's state."""
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        self.canvas(figure)
        return figure

    def write(self, figure: Figure, path: Path) -> None:
        """Write `figure` to `path` in one step, in the format that its suffix names.

        Raises
        ------
        InputError
            The suffix names none of `FORMATS`.
        """
        file_format = _format_of(path)
        with self.applied(), replacing(path) as temporary:
            figure.savefig(temporary, format=file_format, metadata=METADATA[file_format])

    @contextlib.contextmanager
    def figure_at(self, path: Path, width_in: float, height_in: float) -> Iterator[Figure]:
        """Yield an empty figure, to be drawn on within, and write it to `path` as `write` does.

        Raises
        ------
        InputError
            As `write`, before anything is drawn.
        """
        _format_of(path)
        with self.applied():
            figure = self.new_figure(width_in, height_in)
            yield figure
            self.write(figure, path)


ON_PAPER = PlotStyle(
    {
        "figure.dpi": 300,
        # Letters and lines of the CVPR author kit's figures, which are printed at their own size.
        "font.size": 7,
        "figure.titlesize": 8,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.1,
        # TrueType, as publishers refuse the Type 3 fonts of the default.
        "pdf.fonttype": 42,
    }
)
"""Figures of a paper, in its column or over its width."""

ON_SCREEN = PlotStyle({"figure.dpi": 150, "font.size": 8})
"""Pictures that are opened beside a terminal: in pixels rather than in print."""


def in_percent(axis: Axis) -> None:
    """Write the ticks of an axis of fractions as percent, without the sign, which the axis title carries."""
    # Ten digits, in which the noise of the product disappears.
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.10g}"))


def _format_of(path: Path) -> str:
    file_format = path.suffix.removeprefix(".")
    if file_format not in FORMATS:
        raise InputError(f"{path}: expected a file name that ends in {', '.join(f'.{name}' for name in FORMATS)}")
    return file_format
