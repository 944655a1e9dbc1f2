"""ROC curves of all methods on one OOD set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType
from numpy.typing import ArrayLike, NDArray

from manifests.plots.style import in_percent
from manifests.ranking import Ranking
from scoring.plots.style import PRINTED, PlotLook, lines_of

_TOLERANCE = 1 / 2000
"""How far a drawn curve may be from the whole one; a curve of 3 inches has 900 dots at 300 dots an inch."""

_PLOT_IN, _TITLE_IN, _ROWS_A_COLUMN = 3.25, 2.7, 20


@dataclass(frozen=True, eq=False)
class RocCurve:
    """One method's curve.

    Attributes
    ----------
    title : str
        The method's.
    let_through, kept : array
        Share of OOD let through and share of ID kept at each threshold, ascending from (0, 0) to (1, 1), (n,).
    auroc : float
        A fraction.
    """

    title: str
    let_through: NDArray[np.float64]
    kept: NDArray[np.float64]
    auroc: float


def roc_points(in_scores: ArrayLike, out_scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return share of OOD let through and share of ID kept at every distinct threshold, first none, at last all.

    ID is the positive class, as in the ViM paper. Between two points the curve is straight: ties are a slope.

    Parameters
    ----------
    in_scores, out_scores : array_like
        Scores of the ID and the OOD images, (n_in,) and (n_out,), finite, higher = more OOD.
    """
    return Ranking.of(in_scores, out_scores).roc()


def bends(
    let_through: NDArray[np.float64], kept: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points of the curve at which it bends: a polyline that nowhere leaves the whole one visibly.

    No point that is left out is further than `_TOLERANCE`, in parts of an axis, from the curve that remains.

    References
    ----------
    Ramer (1972) and Douglas and Peucker (1973): a stretch is split at its point furthest from the chord for as
    long as that is too far.
    """
    points = np.stack([let_through, kept], axis=1)  # (n, 2)
    is_kept = np.zeros(len(points), dtype=bool)
    is_kept[[0, -1]] = True
    stretches = [(0, len(points) - 1)]
    while stretches:
        first, last = stretches.pop()
        if last - first < 2:
            continue
        # The ends differ, as each threshold keeps or lets through at least one image more.
        chord = points[last] - points[first]
        offset = points[first + 1 : last] - points[first]
        distance = np.abs(chord[0] * offset[:, 1] - chord[1] * offset[:, 0]) / np.hypot(*chord)
        furthest = int(distance.argmax())
        if distance[furthest] > _TOLERANCE:
            split = first + 1 + furthest
            is_kept[split] = True
            stretches += [(first, split), (split, last)]
    return let_through[is_kept], kept[is_kept]


def roc_figure(
    curves: Sequence[RocCurve],
    *,
    coloured: Sequence[str],
    in_name: str,
    out_name: str,
    note: str = "",
    look: PlotLook = PRINTED,
) -> Figure:
    """Return all `curves` in one square, and beside it their titles, best AUROC first.

    Parameters
    ----------
    curves : sequence of RocCurve
        At least one.
    coloured : sequence of str
        Titles of the curves to stand out, `N_LINES` at most, each with the same colour in every figure; the others
        are grey.
    in_name, out_name : str
        What to call ID and OOD images on the axes.
    note : str
        How `coloured` were chosen, below the titles.
    look : PlotLook
        Where it is shown.
    """
    styles = dict(zip(coloured, look.lines, strict=False))
    ordered = sorted(curves, key=lambda curve: -curve.auroc)
    n_columns = -(-len(ordered) // _ROWS_A_COLUMN)
    with look.style.applied():
        figure = look.new_figure(_PLOT_IN, _PLOT_IN)
        axes = figure.subplots()
        for line in _guides(look):
            axes.add_line(line)
        # The best on top, and grey below colour.
        for curve in sorted(curves, key=lambda curve: (curve.title in styles, curve.auroc)):
            axes.add_line(_line(curve, styles, look))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        in_percent(axes.xaxis)
        in_percent(axes.yaxis)
        title = lines_of([f"ROC curves: ID ({in_name})", f"against OOD ({out_name})"], _TITLE_IN)
        axes.set_title("\n".join(title))
        axes.set_xlabel("OOD images let through, %")
        axes.set_ylabel("ID images kept, % (ID is the positive class)")
        legend = figure.legend(
            handles=[*(_line(curve, styles, look, _label(curve)) for curve in ordered), *_guides(look)],
            title="AUROC, %" + (f"\n{note}" if note else ""),
            alignment="left",
            loc="outside right upper",
            ncols=n_columns,
            handlelength=2.8,
        )
        # As wide as its words need.
        legend_in = legend.get_window_extent().width / figure.dpi
        figure.set_size_inches(look.scale * _PLOT_IN + legend_in, look.scale * _PLOT_IN)
    return figure


def _guides(look: PlotLook) -> list[Line2D]:
    kept = Line2D(
        [0, 1], [0.95, 0.95], color=look.quiet, linestyle="--", linewidth=0.6, label="95 % of ID kept: fpr95_in"
    )
    return [kept, Line2D([0, 1], [0, 1], color=look.quiet, linestyle=":", linewidth=0.6, label="chance")]


def _label(curve: RocCurve) -> str:
    # Filled up with spaces as wide as a digit, so that the figures stand below each other.
    return f"{100 * curve.auroc:6.2f}".replace(" ", "\N{FIGURE SPACE}") + f"  {curve.title}"


def _line(
    curve: RocCurve, styles: Mapping[str, tuple[str, LineStyleType]], look: PlotLook, label: str = ""
) -> Line2D:
    colour, dashes = styles.get(curve.title, (look.faint, "-"))
    return Line2D(
        *bends(curve.let_through, curve.kept),
        color=colour,
        linestyle=dashes,
        linewidth=1.2 if curve.title in styles else 0.6,
        label=label,
        # A curve along the edge of the square would lose half its width.
        clip_on=False,
    )
