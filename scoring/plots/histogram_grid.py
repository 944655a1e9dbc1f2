"""Histograms of all methods on one OOD set in one picture: small panels, to be compared at a glance."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifests.plots.style import TEXT_WIDTH_IN
from scoring.methods.table import Method
from scoring.plots.histograms import (
    Histogram,
    draw_panel,
    histogram,
    legend_handles,
    n_bins,
    score_range,
    threshold_in,
)
from scoring.plots.results import Results
from scoring.plots.style import PRINTED, PlotLook

_N_COLUMNS = 4
_ROW_IN, _FRAME_IN = 0.85, 0.35
"""Heights of one row of panels and of what surrounds them."""

_MOST_BINS = 36
"""A panel is a quarter of the page, so that each is half a millimetre in print."""

_GAP = 0.04
"""Between two panels, as a share of the width of one."""

_FIGURE_POINTS, _NOTE_POINTS = 7.0, 5.5


def histogram_grid(results: Results, ood_set: str, *, look: PlotLook = PRINTED) -> Figure:
    """Return one panel a method, best AUROC first: its scores of ID and of one OOD set, and its threshold.

    Each panel has an axis of its own, to the right more OOD, without figures, as scores of two methods cannot be
    compared. Above stand the method and its AUROC, in percent; below, what lies beyond the axis, if anything does.
    """
    methods = sorted(results.methods, key=lambda method: -results.aurocs[method.name, ood_set].value)
    n_rows = -(-len(methods) // _N_COLUMNS)
    n_in, n_out = len(results.image_ids[results.val]), len(results.image_ids[ood_set])
    with look.style.applied():
        figure = look.new_figure(TEXT_WIDTH_IN, _FRAME_IN + _ROW_IN * n_rows)
        panels = figure.subplots(n_rows, _N_COLUMNS, squeeze=False).ravel()
        figure.set_layout_engine("constrained", wspace=_GAP)
        for axes, method in zip(panels, methods, strict=False):
            _draw(axes, results, method, ood_set, look)
        for axes in panels[len(methods) :]:
            axes.remove()
        handles = legend_handles(f"ID: {results.val} ({n_in:,})", f"OOD: {ood_set} ({n_out:,})", look)
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handlelength=1.4, borderpad=0.1)
    return figure


def _draw(axes: Axes, results: Results, method: Method, ood_set: str, look: PlotLook) -> None:
    in_scores, out_scores = results.in_scores[method.name], results.out_scores[ood_set][method.name]
    n_here = min(_MOST_BINS, n_bins(min(len(in_scores), len(out_scores))))
    edges = np.linspace(*score_range(in_scores, [out_scores]), n_here + 1)
    inside, outside = histogram(in_scores, edges), histogram(out_scores, edges)
    threshold = threshold_in(in_scores)
    draw_panel(axes, inside, outside, threshold=threshold, look=look)
    axes.set_xticks([])
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.set_title(method.title, loc="left", pad=2)
    share = f"{100 * results.aurocs[method.name, ood_set].value:.1f}"
    axes.set_title(share, loc="right", pad=2, fontsize=_FIGURE_POINTS * look.scale)
    beyond = _beyond(inside, outside, threshold)
    axes.set_xlabel(beyond, loc="right", fontsize=_NOTE_POINTS * look.scale, labelpad=1)
    # Without words an axis would be an empty element, whose running name every drawing of a page has.
    axes.xaxis.set_visible(bool(beyond))


def _beyond(inside: Histogram, outside: Histogram, threshold: float) -> str:
    """Return what a panel does not show, in words, empty where it shows all."""
    n_images = {"ID": inside.n_below + inside.n_above, "OOD": outside.n_below + outside.n_above}
    hidden = [f"{n:,} {population}" for population, n in n_images.items() if n]
    if not inside.edges[0] <= threshold <= inside.edges[-1]:
        hidden.append("threshold")
    return f"beyond: {', '.join(hidden)}" if hidden else ""
