"""How the plots of scores look: what each colour means, on a printed page and within a page of the report."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from manifests.colours import BLACK, BLUE, GREEN, GREY, ORANGE, PALE_GREY, PURPLE, SKY_BLUE, VERMILLION
from manifests.plots.style import ON_PAPER, PlotStyle

N_LINES = 7
"""Lines that can be told apart in one plot."""

_CHARACTER_IN = 0.058
"""Width of a small letter of the printed font, somewhat wide for a text's average."""

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

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
    style : PlotStyle
        Of the place.
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
    style: PlotStyle

    def new_figure(self, width_in: float, height_in: float) -> Figure:
        """Return an empty figure as large as one of these printed lengths."""
        return self.style.new_figure(self.scale * width_in, self.scale * height_in)

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
    style=ON_PAPER,
)


def lines_of(parts: Sequence[str], width_in: float) -> list[str]:
    """Return `parts` as lines not much longer than `width_in` in print, broken between them rather than within."""
    text = " ".join(part.replace(" ", _NO_BREAK_SPACE) for part in parts)
    lines = textwrap.wrap(text, int(width_in / _CHARACTER_IN), break_on_hyphens=False)
    return [line.replace(_NO_BREAK_SPACE, " ") for line in lines]
