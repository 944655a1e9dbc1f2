"""Residual against energy, image by image: the two that ViM adds up, and where each draws its line."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from manifests.plots.style import TEXT_WIDTH_IN
from scoring.plots.histograms import threshold_in
from scoring.plots.results import Results, ScoresByMethod
from scoring.plots.style import PRINTED, PlotLook, lines_of

LOGIT, FEATURE, BOTH = "energy", "residual", "vim"
"""ViM = alpha Residual + Energy (Wang et al. 2022, section 4.3), so that its threshold is a straight line here."""

N_POINTS, SEED = 1000, 0
"""Images drawn at most of each set, and what they are drawn by."""

_PANEL_IN, _FRAME_IN = 2.6, 0.6
_DOT_POINTS, _OPACITY = 1.7, 0.6
_OUTERMOST, _MARGIN = 0.01, 0.04
"""Share of a set's images that an axis may leave out at each end, and share of the axis left free there."""

_LARGEST_DEPARTURE = 1e-6
"""Relative: the parts of one run add up to rounding, those of different settings do not."""


def has_combination(results: Results) -> bool:
    """Return whether energy and residual of every image are known."""
    return {LOGIT, FEATURE} <= {method.name for method in results.methods}


def combination_figure(results: Results, *, alpha: float | None, look: PlotLook = PRINTED) -> Figure:
    """Return one panel an OOD set: Energy to the right, Residual upwards, a dot an image of ID or OOD.

    Parameters
    ----------
    results : Results
        With both methods, see `has_combination`.
    alpha : float, optional
        Of ViM. Its line is drawn where Energy and Residual add up to its scores: not where Residual was fitted
        with another dimension.
    look : PlotLook
        Where it is shown.
    """
    n_columns = min(2, len(results.ood_sets))
    n_rows = -(-len(results.ood_sets) // n_columns)
    with look.style.applied():
        figure = look.new_figure(TEXT_WIDTH_IN * n_columns / 2, _FRAME_IN + _PANEL_IN * n_rows)
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
        lines = _thresholds(results, alpha, _limits(results), look)
        for axes, ood_set in zip(panels, results.ood_sets, strict=False):
            _draw_panel(axes, results, ood_set, look)
            for line in lines:
                axes.plot(*line.get_data(), color=line.get_color(), linestyle=line.get_linestyle(), linewidth=0.9)
        for axes in panels[len(results.ood_sets) :]:
            axes.remove()
        figure.supxlabel("Energy: -log sum of exp(logits), higher = more OOD", fontsize=7 * look.scale)
        figure.supylabel("Residual: length off the principal space", fontsize=7 * look.scale)
        figure.legend(handles=[*_dots(results, look), *lines], loc="outside upper center", ncols=n_columns)
    return figure


def drawn_points(scores: ScoresByMethod) -> NDArray[np.float64]:
    """Return Energy and Residual of the images that are drawn, (n, 2): all, or `N_POINTS` of them by `SEED`.

    Which ones does not depend on the order of the images.
    """
    logit, feature = scores[LOGIT], scores[FEATURE]
    points = np.stack([logit, feature], axis=1)[np.lexsort([feature, logit])]
    if len(points) <= N_POINTS:
        return points
    return points[np.sort(np.random.default_rng(SEED).choice(len(points), N_POINTS, replace=False))]


def _limits(results: Results) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of both axes, the same for all panels: but for the outermost images of each set."""

    def ends(name: str) -> tuple[float, float]:
        populations = [results.in_scores[name], *(scores[name] for scores in results.out_scores.values())]
        outermost = np.array([np.quantile(scores, [_OUTERMOST, 1 - _OUTERMOST]) for scores in populations])
        lowest, highest = float(outermost[:, 0].min()), float(outermost[:, 1].max())
        # Equal scores still need an axis.
        margin = _MARGIN * (highest - lowest) or max(0.5, 1e-3 * abs(highest))
        return lowest - margin, highest + margin

    return ends(LOGIT), ends(FEATURE)


def _draw_panel(axes: Axes, results: Results, ood_set: str, look: PlotLook) -> None:
    x_limits, y_limits = _limits(results)
    axes.set(xlim=x_limits, ylim=y_limits)
    populations = ((results.in_scores, look.blue), (results.out_scores[ood_set], look.vermillion))
    n_beyond = 0
    for scores, colour in populations:
        points = drawn_points(scores)
        is_seen = (points >= (x_limits[0], y_limits[0])).all(axis=1) & (points <= (x_limits[1], y_limits[1])).all(
            axis=1
        )
        n_beyond += int((~is_seen).sum())
        axes.add_patch(_dots_path(points[is_seen], colour, 1e-4 * (x_limits[1] - x_limits[0])))
    beyond = [f"({n_beyond:,} dots beyond the axes)"] if n_beyond else []
    axes.set_title("\n".join(lines_of([ood_set, *beyond], _PANEL_IN)))


def _dots_path(points: ArrayLike, colour: str, length: float) -> PathPatch:
    """Return all dots as one element: lines too short to be seen, with round ends."""
    starts = np.asarray(points)
    vertices = np.stack([starts, starts + np.array([length, 0])], axis=1).reshape(-1, 2)
    path = Path(vertices, np.tile([Path.MOVETO, Path.LINETO], len(starts)))
    path.should_simplify = False
    return PathPatch(
        path, facecolor="none", edgecolor=colour, linewidth=_DOT_POINTS, capstyle="round", alpha=_OPACITY
    )


def _thresholds(
    results: Results,
    alpha: float | None,
    limits: tuple[tuple[float, float], tuple[float, float]],
    look: PlotLook,
) -> list[Line2D]:
    """Return where each of the methods keeps 95 % of ID: what lies to the right and above is called OOD."""
    (left, right), (bottom, top) = limits
    of_logit, of_feature = (threshold_in(results.in_scores[name]) for name in (LOGIT, FEATURE))
    lines = [
        Line2D([of_logit] * 2, [bottom, top], color=look.quiet, linestyle="--", label="95 % of ID kept by Energy"),
        Line2D(
            [left, right], [of_feature] * 2, color=look.quiet, linestyle=":", label="95 % of ID kept by Residual"
        ),
    ]
    if alpha and _adds_up(results, alpha):
        of_both = threshold_in(results.in_scores[BOTH])
        ends = [(of_both - energy) / alpha for energy in (left, right)]
        lines.append(Line2D([left, right], ends, color=look.ink, label="95 % of ID kept by ViM"))
    return lines


def _adds_up(results: Results, alpha: float) -> bool:
    if BOTH not in results.in_scores:
        return False
    scores = results.in_scores
    departure = np.abs(alpha * scores[FEATURE] + scores[LOGIT] - scores[BOTH]).max()
    return bool(departure <= _LARGEST_DEPARTURE * max(1.0, np.abs(scores[BOTH]).max()))


def _dots(results: Results, look: PlotLook) -> Sequence[Line2D]:
    return [
        Line2D([], [], color=colour, marker="o", markersize=3, linestyle="none", label=label)
        for colour, label in ((look.blue, f"ID: {results.val}"), (look.vermillion, "OOD: set named above"))
    ]
