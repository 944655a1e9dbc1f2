"""The course of a training: a row of plots over its epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from manifests.colours import BLUE, GREEN, GREY, ORANGE, VERMILLION
from manifests.plots.style import ON_PAPER, TEXT_WIDTH_IN, in_percent

_HEIGHT_IN = 1.9

_LINES = ((BLUE, "-"), (VERMILLION, "-"), (GREEN, "--"), (ORANGE, "-."))


@dataclass(frozen=True)
class CurvePanel:
    """One plot of the row.

    Attributes
    ----------
    title : str
        What is measured, and its unit where it has one: ``"accuracy, %"``.
    series : mapping of str to sequence
        Name of each line, four at most, and its value after every epoch, None where it is not defined. A line that
        is alone needs no legend and gets none.
    scale : {"linear", "percent", "log"}
        "percent" writes fractions as percent, from 0 to 100; "log" needs positive values.
    """

    title: str
    series: Mapping[str, Sequence[float | None]]
    scale: Literal["linear", "percent", "log"] = "linear"


def curves_figure(
    epochs: Sequence[int], panels: Sequence[CurvePanel], *, title: str, steps: Sequence[int] = ()
) -> Figure:
    """Return the panels side by side, as a printed figure: `manifests.plots.style.ON_PAPER` writes it.

    Parameters
    ----------
    epochs : sequence of int
        Their numbers, rising; at least one.
    panels : sequence of CurvePanel
        At least one; each with as many values a line as there are epochs.
    title : str
        Above all of them.
    steps : sequence of int
        Epochs with which a setting of the training changes, each marked by a dotted line before it.
    """
    with ON_PAPER.applied():
        figure = ON_PAPER.new_figure(TEXT_WIDTH_IN, _HEIGHT_IN)
        figure.suptitle(title)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            _draw(axes, epochs, panel)
            for step in steps:
                axes.axvline(step - 0.5, color=GREY, linestyle=":", linewidth=0.6)
    return figure


def _draw(axes: Axes, epochs: Sequence[int], panel: CurvePanel) -> None:
    for (name, values), (colour, dashes) in zip(panel.series.items(), _LINES[: len(panel.series)], strict=True):
        known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
        # A single epoch is a point, which a line would not show.
        marker = "." if len(known) == 1 else ""
        x, y = [epoch for epoch, _ in known], [value for _, value in known]
        axes.plot(x, y, color=colour, linestyle=dashes, marker=marker, label=name)
    axes.set_title(panel.title)
    axes.set_xlabel("epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    # Epochs are whole, and a training of one has one tick.
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if all(value is None for value in chain.from_iterable(panel.series.values())):
        # Ticks would be figures that nobody measured.
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not defined", color=GREY, ha="center", va="center", transform=axes.transAxes)
        return
    _scale(axes, panel)
    if len(panel.series) > 1:
        axes.legend(loc="best", handlelength=1.2)


def _scale(axes: Axes, panel: CurvePanel) -> None:
    if panel.scale == "percent":
        axes.set_ylim(0, 1)
        in_percent(axes.yaxis)
    # Without a positive value a logarithmic axis has no ends.
    if panel.scale == "log" and any(chain.from_iterable(panel.series.values())):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
