"""How large the pictures of a set are, and of which shape, as charts whose size does not grow with the set."""

import math
from collections import Counter
from collections.abc import Sequence

from manifests.plots.page import HALF_IN, IN_PAGE, LINE, SERIES, svg_of
from manifests.report.parts import Chart

_HEIGHT_IN = 3.1
_MOST_STEPS = 16
_LARGEST_POINTS = 260.0
_ASPECT_STEPS = 12
"""Bars from one doubling of the aspect to the next."""

_FURTHEST = 2
"""Doublings: what is wider than 4:1, or higher than 1:4, is counted in the outermost bar."""

_TICKS = {
    "1:4": -2.0,
    "1:2": -1.0,
    "2:3": math.log2(2 / 3),
    "1:1": 0.0,
    "3:2": math.log2(1.5),
    "2:1": 1.0,
    "4:1": 2.0,
}


def size_chart(sizes: Sequence[tuple[int, int]], key: str) -> Chart:
    """Return widths against heights: a disc a cell of the grid, its area by the number of pictures.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Width and height of each picture, px, upright.
    key : str
        Unlike that of every other chart of the page.
    """
    step = _step(max(max(size) for size in sizes))
    counts = Counter((width // step, height // step) for width, height in sizes)
    most = max(counts.values())
    cells = sorted(counts)
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(HALF_IN, _HEIGHT_IN)
        axes = figure.add_subplot()
        axes.scatter(
            [(x + 0.5) * step for x, _ in cells], [(y + 0.5) * step for _, y in cells],
            s=[max(4.0, _LARGEST_POINTS * counts[cell] / most) for cell in cells], color=SERIES[0], alpha=0.75,
            linewidths=0, clip_on=False,
        )  # fmt: skip
        edge = (max(max(cell) for cell in cells) + 1) * step
        axes.plot((0, edge), (0, edge), color=LINE, linewidth=0.8, zorder=0)
        axes.set(xlim=(0, edge), ylim=(0, edge), xlabel="width, px", ylabel="height, px", aspect="equal")
        svg = svg_of(figure, f"{key} sizes")
    widths, heights = sorted(width for width, _ in sizes), sorted(height for _, height in sizes)
    described = (
        f"Widths from {widths[0]:,} to {widths[-1]:,} px, median {_median(widths):,}; heights from "
        f"{heights[0]:,} to {heights[-1]:,} px, median {_median(heights):,}; the fullest cell of {step} px "
        f"holds {most:,} pictures."
    )
    return Chart(svg, f"Width against height. The area of a disc is the number of pictures in {step} x {step} px; "
                 f"the largest has {most:,}.", described)  # fmt: skip


def aspect_chart(sizes: Sequence[tuple[int, int]], key: str) -> Chart:
    """Return how often each ratio of width to height is met, with 1:2 and 2:1 as far from 1:1 as each other."""
    end = _FURTHEST * _ASPECT_STEPS
    counts = Counter(
        min(max(math.floor(math.log2(width / height) * _ASPECT_STEPS + 0.5), -end), end) for width, height in sizes
    )
    places = range(-end, end + 1)
    with IN_PAGE.applied():
        figure = IN_PAGE.new_figure(HALF_IN, _HEIGHT_IN)
        axes = figure.add_subplot()
        axes.bar(
            [place / _ASPECT_STEPS for place in places], [counts[place] for place in places],
            width=0.86 / _ASPECT_STEPS, color=SERIES[0],
        )  # fmt: skip
        axes.set_xticks(list(_TICKS.values()), list(_TICKS))
        axes.set(xlim=(-_FURTHEST - 0.1, _FURTHEST + 0.1), xlabel="width : height", ylabel="pictures")
        axes.grid(axis="y")
        svg = svg_of(figure, f"{key} aspects")
    n_wide, n_high = sum(w > h for w, h in sizes), sum(w < h for w, h in sizes)
    told = f"{n_wide:,} are wider than high, {n_high:,} higher than wide, {len(sizes) - n_wide - n_high:,} square"
    return Chart(svg, f"Shapes: {told}.", f"Of {len(sizes):,} pictures, {told}.")


def _step(longest: int) -> int:
    """Return a round number of px of which at most `_MOST_STEPS` reach the longest side."""
    step = 8
    while longest // step >= _MOST_STEPS:
        step *= 2
    return step


def _median(values: Sequence[int]) -> int:
    return values[len(values) // 2]
