"""Bars and histograms of the sections of curation; no drawing grows with the number of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.plots.page import IN_PAGE, QUIET, SERIES, WIDE_IN, svg_of
from manifests.report.parts import Chart

_BAR_IN = 0.22
_MOST_NAME_CHARS = 44


@dataclass(frozen=True, eq=False)
class Kind:
    """Values of one kind of picture, as one outline of a histogram."""

    name: str
    values: npt.NDArray[np.floating[Any]]
    colour: str


@dataclass(frozen=True)
class Mark:
    """A line at one value, with its name."""

    value: float
    name: str


def bars(key: str, counts: Sequence[tuple[str, int]], caption: str, *, colour: str = SERIES[0]) -> Chart:
    """Return horizontal bars, the first on top, each with its count beside it.

    Parameters
    ----------
    key : str
        As `svg_of` takes it.
    counts : sequence of (str, int)
        Name and count of each bar; at least one.
    caption : str
        As `Chart` has it.
    colour : str
        Of all bars.
    """
    names = [_shortened(name) for name, _ in counts]
    values = [n for _, n in counts]
    places = np.arange(len(counts))
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(WIDE_IN, 0.5 + _BAR_IN * len(counts))
        axes = figure.subplots()
        drawn = axes.barh(places, values, height=0.6, color=colour)
        axes.bar_label(drawn, [f"{n:,}" for n in values], fontsize=8, padding=4)
        # Places, not names: of two names that are shortened to one, each keeps its bar.
        axes.set_yticks(places, names)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.margins(x=0.09, y=0.02)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.xaxis.set_visible(False)
        svg = svg_of(figure, key)
    return Chart(svg, caption, "; ".join(f"{name}: {n:,}" for name, n in counts))


def draw_histogram(
    axes: Any,
    edges: npt.NDArray[np.floating[Any]],
    kinds: Sequence[Kind],
    *,
    label: str,
    mark: Mark | None = None,
    has_log_counts: bool = False,
) -> None:
    """Draw an outline a kind over common `edges`; values beyond the ends are counted in the outermost bins.

    Parameters
    ----------
    axes : matplotlib Axes
        Empty.
    edges : (n_bins + 1,) array
        Rising.
    kinds : sequence of Kind
        Those without values are left out.
    label : str
        Of the values.
    mark : Mark, optional
        A line to draw.
    has_log_counts : bool
        A logarithmic axis of counts: few pictures stay visible beside many.
    """
    for kind in kinds:
        if len(kind.values):
            counts, _ = np.histogram(np.clip(kind.values, edges[0], edges[-1]), edges)
            axes.stairs(counts, edges, fill=True, color=kind.colour, alpha=0.25)
            axes.stairs(counts, edges, color=kind.colour, linewidth=1.3, label=f"{kind.name} ({counts.sum():,})")
    if mark is not None:
        axes.axvline(mark.value, color=QUIET, linewidth=1, linestyle="--", label=mark.name)
    if has_log_counts:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_minor_formatter("")
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel=label, ylabel="pictures", xlim=(edges[0], edges[-1]))


def _shortened(name: str) -> str:
    """Return `name` as a chart can show it: not too long, and without letters that its fonts lack."""
    # Beyond the European alphabets, matplotlib could not measure the text.
    shown = "".join(letter if letter.isprintable() and ord(letter) < 0x250 else "?" for letter in name)
    return shown if len(shown) <= _MOST_NAME_CHARS else shown[: _MOST_NAME_CHARS - 1] + "…"
