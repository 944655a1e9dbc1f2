"""Histograms of the scores of one method: ID against each OOD set, on one axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from manifests.plots.style import COLUMN_WIDTH_IN, in_percent
from scoring.metrics import fpr95_in, n_kept
from scoring.plots.style import PRINTED, PlotLook, lines_of

_FENCE_FACTOR = 3.0
"""Tukey (1977, "Exploratory Data Analysis", 2D): beyond three interquartile ranges a value is "far out"."""

_WORTHWHILE_ZOOM = 3.0
"""Scores within [0, 1] that crowd at one end, such as MSP, are far out by Tukey's rule and yet no nuisance."""

_MARGIN = 0.02
"""Share of the axis left free at each end, where a threshold would lie on the frame."""

_QUANTILES = np.linspace(0, 1, 1001)
_FEWEST_BINS, _MOST_BINS = 10, 60
"""At a column's width, sixty bins are 1.2 mm each."""

_PEAK_DECILE, _LARGEST_PEAK_RATIO = 0.9, 4.0
"""A bin may be four times as high as the ninth decile of them all; what is higher is cut, to show the rest."""

_FRAME_IN, _PANEL_IN, _LINE_IN = 0.5, 0.75, 0.12
"""Heights of what surrounds the panels, of one panel, and of one line above it."""

_PANEL_WIDTH_IN = 3.0

_LONGEST_BESIDE_ANOTHER = 27
"""Characters of the first legend text with which two columns of legend fit the width."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """One population over common bins.

    Attributes
    ----------
    edges : array
        Ascending, (n_bins + 1,).
    counts : array
        Images of each bin, (n_bins,); the last bin holds its upper edge.
    n_below, n_above : int
        Images outside the edges.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    n_below: int
    n_above: int

    @property
    def n_images(self) -> int:
        """Images of the whole population."""
        return int(self.counts.sum()) + self.n_below + self.n_above

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of all images in each bin, so that bins and what lies outside sum to one, (n_bins,)."""
        return self.counts / self.n_images


def score_range(in_scores: ArrayLike, populations: Sequence[ArrayLike]) -> tuple[float, float]:
    """Return the ends of the axis: all scores, but for those far out of the bulk of the populations.

    The bulk is the interquartile range of all populations together, each weighing the same; far out is what is
    more than three times its width away from it. Nothing is cut off where the rest would become less than three
    times as large by it, or where the bulk is one value; nor the threshold that keeps 95 % of ID, likewise.

    Parameters
    ----------
    in_scores : array_like
        Scores of the ID images, (n_in,), not empty, finite.
    populations : sequence of array_like
        Scores of the images of each OOD set, likewise.
    """
    pooled = np.concatenate([np.quantile(np.asarray(scores), _QUANTILES) for scores in (in_scores, *populations)])
    first_quartile, third_quartile = np.quantile(pooled, [0.25, 0.75])
    reach = _FENCE_FACTOR * (third_quartile - first_quartile)
    is_near = (pooled >= first_quartile - reach) & (pooled <= third_quartile + reach)
    near = pooled[is_near] if reach else pooled
    lowest, highest = float(near.min()), float(near.max())
    longest = _WORTHWHILE_ZOOM * (highest - lowest)
    for wanted in (pooled, np.append(near, threshold_in(in_scores))):
        if np.ptp(wanted) <= longest:
            lowest, highest = float(wanted.min()), float(wanted.max())
            break
    magnitude = max(abs(lowest), abs(highest))
    margin = _MARGIN * (highest - lowest)
    if highest - lowest <= 1e-9 * magnitude:
        # Equal up to rounding: bins between them would be narrower than numbers are dense.
        margin = max(0.5, 1e-3 * magnitude)
    return lowest - margin, highest + margin


def histogram(scores: ArrayLike, edges: NDArray[np.float64]) -> Histogram:
    """Return how many of `scores` (n,) lie in each bin between `edges`, and how many outside."""
    values = np.sort(np.asarray(scores, dtype=np.float64))
    below_edge = np.searchsorted(values, edges, side="left")
    below_edge[-1] = np.searchsorted(values, edges[-1], side="right")
    return Histogram(edges, np.diff(below_edge), int(below_edge[0]), int(len(values) - below_edge[-1]))


def threshold_in(in_scores: ArrayLike) -> float:
    """Return the threshold of `scoring.metrics.fpr95_in`: kept as ID is what scores at most this."""
    values = np.sort(np.asarray(in_scores, dtype=np.float64))
    return float(values[n_kept(len(values)) - 1])


def histogram_figure(
    in_scores: ArrayLike, out_scores: Mapping[str, ArrayLike], *, title: str, val: str, aurocs: Mapping[str, float]
) -> Figure:
    """Return one panel an OOD set, one below the other, with ID in each and the threshold that keeps 95 % of ID.

    Parameters
    ----------
    in_scores : array_like
        Scores of the ID images, (n,), higher = more OOD.
    out_scores : mapping of OOD set to array_like
        Scores of the OOD images.
    title : str
        The method's.
    val : str
        Name of the ID set.
    aurocs : mapping of OOD set to float
        Fractions, to stand beside the panels.
    """
    ends = score_range(in_scores, list(out_scores.values()))
    threshold = threshold_in(in_scores)
    pairs, headers = [], []
    for ood_set, scores in out_scores.items():
        edges = np.linspace(*ends, n_bins(min(np.size(in_scores), np.size(scores))) + 1)
        pairs.append((histogram(in_scores, edges), histogram(scores, edges)))
        metrics = f"AUROC {100 * aurocs[ood_set]:.2f} %, fpr95_in {100 * fpr95_in(in_scores, scores):.2f} %"
        headers.append(_header(f"{ood_set} ({np.size(scores):,} images):", metrics, *pairs[-1]))
    heading = [f"{title}: scores of ID and OOD images", *_beyond(histogram(in_scores, np.array(ends)), "ID")]
    if not ends[0] <= threshold <= ends[1]:
        heading.append(f"threshold beyond the axis: {threshold:.4g}")
    in_label = "\n".join(lines_of([f"ID: {val}", f"({np.size(in_scores):,} images)"], _PANEL_WIDTH_IN))
    n_columns = 2 if len(in_label) <= _LONGEST_BESIDE_ANOTHER else 1
    n_lines = len(heading) + sum(map(len, headers)) + in_label.count("\n") + 4 // n_columns
    with PRINTED.style.applied():
        figure = PRINTED.new_figure(COLUMN_WIDTH_IN, _FRAME_IN + _PANEL_IN * len(pairs) + _LINE_IN * n_lines)
        panels = figure.subplots(len(pairs), 1, sharex=True, squeeze=False)[:, 0]
        for axes, pair, header in zip(panels, pairs, headers, strict=True):
            draw_panel(axes, *pair, threshold=threshold, look=PRINTED)
            axes.set_title("\n".join(header), loc="left", pad=2, linespacing=1.15)
        panels[-1].set_xlabel("OOD score (higher = more OOD)")
        figure.supylabel("images in a bin, %", fontsize=7)
        _draw_legend(figure, "\n".join(heading), in_label, n_columns)
    return figure


def n_bins(n_images: int) -> int:
    """Return the Rice rule's number of bins, within what can be seen."""
    return int(np.clip(np.ceil(2 * np.cbrt(n_images)), _FEWEST_BINS, _MOST_BINS))


def draw_panel(axes: Axes, inside: Histogram, outside: Histogram, *, threshold: float, look: PlotLook) -> None:
    """Draw ID and OOD over their common bins, the threshold, and filled what it lets through of OOD."""
    edges = inside.edges
    axes.stairs(inside.shares, edges, fill=True, facecolor=look.in_fill)
    axes.stairs(inside.shares, edges, color=look.blue, linewidth=0.6)
    let_through = axes.stairs(outside.shares, edges, fill=True, facecolor=look.let_through_fill)
    kept_side = Rectangle((edges[0], 0), max(threshold - edges[0], 0), 1, transform=axes.get_xaxis_transform())
    let_through.set_clip_path(kept_side)
    axes.stairs(outside.shares, edges, color=look.vermillion, linewidth=1.0)
    if edges[0] <= threshold <= edges[-1]:
        axes.axvline(threshold, color=look.ink, linestyle="--", linewidth=0.8)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.05 * _top(inside, outside))
    in_percent(axes.yaxis)
    axes.locator_params(axis="y", nbins=3)
    axes.locator_params(axis="x", nbins=5)


def _top(inside: Histogram, outside: Histogram) -> float:
    """Return the share at which the panel ends."""
    heights = np.concatenate([inside.shares, outside.shares])
    if not heights.any():
        return 1.0
    return float(min(heights.max(), _LARGEST_PEAK_RATIO * np.quantile(heights[heights > 0], _PEAK_DECILE)))


def _header(name: str, metrics: str, inside: Histogram, outside: Histogram) -> list[str]:
    """Return the lines above a panel: its figures, and what it does not show, so that nothing vanishes."""
    return [*lines_of([name, metrics], _PANEL_WIDTH_IN), *_beyond(outside, "OOD"), *_cut(inside, outside)]


def _beyond(found: Histogram, name: str) -> list[str]:
    """Return a line on the images outside the axis, if there are any."""
    sides = [f"{n:,} {side}" for side, n in (("left", found.n_below), ("right", found.n_above)) if n]
    return [f"{name} images beyond the axis: {', '.join(sides)}"] if sides else []


def _cut(inside: Histogram, outside: Histogram) -> list[str]:
    """Return a line on the bins that are higher than the panel, if there are any."""
    top = _top(inside, outside)
    shares = [
        f"{100 * found.shares.max():.1f} % of {name}"
        for name, found in (("ID", inside), ("OOD", outside))
        if found.shares.max() > top
    ]
    return [f"cut at the top: bins with {', '.join(shares)}"] if shares else []


def _draw_legend(figure: Figure, heading: str, in_label: str, n_columns: int) -> None:
    figure.legend(
        handles=legend_handles(in_label, "OOD: set named above", PRINTED),
        title=heading,
        title_fontsize=8,
        loc="outside upper center",
        ncols=n_columns,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.0,
        borderpad=0.1,
    )


def legend_handles(in_label: str, out_label: str, look: PlotLook) -> list[Patch | Line2D]:
    """Return what the parts of a panel mean, for a legend."""
    return [
        Patch(facecolor=look.in_fill, edgecolor=look.blue, linewidth=0.6, label=in_label),
        Patch(facecolor="none", edgecolor=look.vermillion, label=out_label),
        Line2D([], [], color=look.ink, linestyle="--", linewidth=0.8, label="threshold: 95 % of ID kept"),
        Patch(facecolor=look.let_through_fill, label="OOD let through: fpr95_in"),
    ]
