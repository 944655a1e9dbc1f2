"""Charts that live in a page: drawn by matplotlib, coloured by the page, readable on light and dark."""

import hashlib
import io
import re

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from manifests.plots.style import METADATA, PlotStyle

# Colours that nobody would choose stand for the page's own, and are exchanged for them in the finished drawing.
INK, QUIET, LINE, GROUND = "#010201", "#010202", "#010203", "#010204"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216", "#010217")
"""Told apart by everyone, in this order: blue, vermillion, green, orange, purple, sky blue, grey."""
BAD = SERIES[1]

_VARIABLES = {
    INK: "var(--text)",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    GROUND: "var(--ground)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
WIDE_IN, HALF_IN = 8.6, 4.2
"""Width of a chart that fills the page, and of one of two side by side."""

IN_PAGE = PlotStyle(
    {
        "font.size": 9,
        "axes.linewidth": 0.7,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        # Letters stay letters: they take the page's font, can be searched, and are read aloud.
        "svg.fonttype": "none",
        "font.sans-serif": ["system-ui", "DejaVu Sans"],
    },
    canvas=FigureCanvasSVG,
)
"""Charts of the report; `svg_of` writes them."""


def svg_of(figure: Figure, key: str) -> str:
    """Return `figure` as an SVG element for a page whose style sheet names the colours.

    Parameters
    ----------
    figure : Figure
        Of `IN_PAGE`, drawn in the colours of this module.
    key : str
        Unlike that of every other chart of the page: ids within the drawing are made of it.
    """
    stream = io.StringIO()
    salt = hashlib.sha256(key.encode()).hexdigest()
    with IN_PAGE.applied({"svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", metadata=METADATA["svg"])
    drawn = stream.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, variable)
    # Groups carry running names (`figure_1`, `axes_1`) that would repeat from drawing to drawing.
    return re.sub(r'<g id="[A-Za-z0-9_.]+"(/?)>', r"<g\1>", drawn)
