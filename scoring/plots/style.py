"""How every plot looks and how it is written: sizes, fonts, colours, markers, file formats."""

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import matplotlib.style
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import LineStyleType

from manifests.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PALE_GREY, PURPLE, SKY_BLUE, VERMILLION
from manifests.durable import replacing

COLUMN_WIDTH_IN, TEXT_WIDTH_IN = 3.25, 6.875
"""Width of a column and of both in the CVPR author kit; a picture printed at its own size keeps its font size."""

# Without a date, so that equal plots are equal bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
FORMATS = tuple(_METADATA)

N_LINES = 7
"""Lines that can be told apart in one plot."""

_CHARACTER_IN = 0.058
"""Width of a small letter of the printed font, somewhat wide for a text's average."""

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

_STYLE = {
    "figure.dpi": 300,
    "font.size": 7,
    "axes.titlesize": 7,
    "figure.titlesize": 8,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of sets are shown as they are, a dollar sign too.
    "text.parse_math": False,
    # Ids inside the file would be random otherwise.
    "svg.hashsalt": "openimage-o",
    # TrueType, as publishers refuse the Type 3 fonts of the default.
    "pdf.fonttype": 42,
}

Fill: TypeAlias = tuple[str, float]
"""A colour and its opacity."""


@dataclass(frozen=True)
class PlotLook:
    """How plots look at one place: on a printed page, or within a page of the report.

    Attributes
    ----------
    ink, quiet, faint, ground : str
        Colours of words, of guides, of lines that stand back, and of the page.
    blue, vermillion, green, orange, purple, sky_blue : str
        Told apart by everyone, of the colours by Okabe and Ito; their yellow is too pale for a line on white.
    in_fill, let_through_fill : Fill
        Below a histogram of ID, and of the OOD images that are let through.
    scale : float
        Of all lengths and fonts, where 1 is the printed page.
    has_halo : bool
        Whether words on a plot get a rim of the ground; such words are drawn, and can no longer be searched.
    style : callable
        Figures are built within the context that it returns.
    empty_figure : callable
        Returns a figure of a width and height in inches.
    """

    ink: str
    quiet: str
    faint: str
    ground: str
    blue: str
    vermillion: str
    green: str
    orange: str
    purple: str
    sky_blue: str
    in_fill: Fill
    let_through_fill: Fill
    scale: float
    has_halo: bool
    style: Callable[[], contextlib.AbstractContextManager[None]]
    empty_figure: Callable[[float, float], Figure]

    def new_figure(self, width_in: float, height_in: float) -> Figure:
        """Return an empty figure as large as one of these printed lengths."""
        return self.empty_figure(self.scale * width_in, self.scale * height_in)

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """Marker and colour of what a method reads; the markers are those of Figure 1 of the ViM paper."""
        return {
            "probability": ("D", self.orange),
            "logit": ("^", self.blue),
            "feature": ("s", self.green),
            "feature + logit": ("*", self.vermillion),
        }

    @property
    def lines(self) -> tuple[tuple[str, LineStyleType], ...]:
        """Colour and dashes of `N_LINES` lines, so that none depends on colour alone."""
        return (
            (self.vermillion, "-"),
            (self.blue, "-"),
            (self.green, "--"),
            (self.orange, "-."),
            (self.purple, "--"),
            (self.sky_blue, "-."),
            (self.ink, ":"),
        )


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Build and write printed figures within: whatever the user's matplotlibrc says, equal input looks equal."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that makes room for its own titles and legends, outside of pyplot's state."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


PRINTED = PlotLook(
    ink=BLACK,
    quiet=GREY,
    faint=PALE_GREY,
    ground="#FFFFFF",
    blue=BLUE,
    vermillion=VERMILLION,
    green=GREEN,
    orange=ORANGE,
    purple=PURPLE,
    sky_blue=SKY_BLUE,
    in_fill=("#9CC4E4", 1.0),
    let_through_fill=("#F2B48C", 0.75),
    scale=1.0,
    has_halo=True,
    style=house_style,
    empty_figure=new_figure,
)


def in_percent(axis: Axis) -> None:
    """Write the ticks of an axis of fractions as percent, without the sign, which the axis title carries."""
    # Ten digits, in which the noise of the product disappears.
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.10g}"))


def lines_of(parts: Sequence[str], width_in: float) -> list[str]:
    """Return `parts` as lines not much longer than `width_in` in print, broken between them rather than within."""
    text = " ".join(part.replace(" ", _NO_BREAK_SPACE) for part in parts)
    lines = textwrap.wrap(text, int(width_in / _CHARACTER_IN), break_on_hyphens=False)
    return [line.replace(_NO_BREAK_SPACE, " ") for line in lines]


def write_figure(figure: Figure, path: Path) -> None:
    """Write a printed `figure` to `path` in one step, in the format that its suffix names."""
    file_format = path.suffix.removeprefix(".")
    with house_style(), replacing(path) as temporary:
        figure.savefig(temporary, format=file_format, metadata=_METADATA[file_format])
