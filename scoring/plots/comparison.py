"""AUROC on one OOD set against AUROC on another, one marker a method, as in Figure 1 of the ViM paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from numpy.typing import NDArray

from manifests.plots.style import COLUMN_WIDTH_IN, TEXT_WIDTH_IN, in_percent
from scoring.plots.labels import is_doubtful, place_labels
from scoring.plots.results import Estimate
from scoring.plots.style import PRINTED, PlotLook, lines_of

_MOST_LABELS_IN_A_COLUMN = 16
_MARKER_POINTS = {"D": 4.2, "^": 5.2, "s": 4.6, "*": 7.5}
"""Sizes at which the four look equally large."""

_LABEL_FONT_POINTS = 6.5
_PADDING_POINTS = 0.6
_LONGEST_GAP_POINTS = 10.0
"""A label further from its marker is joined to it by a line; nearer ones only where they could be mistaken."""


@dataclass(frozen=True)
class ComparedMethod:
    """One marker: a method's title, what it reads, and its AUROC on both sets."""

    title: str
    family: str
    x: Estimate
    y: Estimate


def comparison_figure(
    methods: Sequence[ComparedMethod], *, x_set: str, y_set: str, look: PlotLook = PRINTED
) -> Figure:
    """Return one labelled marker a method, its AUROC on `x_set` to the right and on `y_set` upwards.

    Whiskers are the intervals, where there are any. The labels' places are searched for, so that none lies on
    another or on a marker; with many methods the picture is wider.
    """
    width_in = COLUMN_WIDTH_IN if len(methods) <= _MOST_LABELS_IN_A_COLUMN else 0.75 * TEXT_WIDTH_IN
    with look.style.applied():
        figure = look.new_figure(width_in, width_in)
        axes = figure.subplots()
        for method in methods:
            _draw_method(axes, method, look)
        axes.margins(0.12)
        axes.set(xlim=np.clip(axes.get_xlim(), 0, 1), ylim=np.clip(axes.get_ylim(), 0, 1))
        has_diagonal = _draw_diagonal(axes, look)
        in_percent(axes.xaxis)
        in_percent(axes.yaxis)
        axes.set_xlabel("\n".join(lines_of(["AUROC on", f"{x_set}, %"], 0.75 * width_in)))
        axes.set_ylabel("\n".join(lines_of(["AUROC on", f"{y_set}, %"], 0.75 * width_in)))
        figure.legend(handles=_legend(methods, has_diagonal, look), loc="outside upper center", ncols=3)
        _label(figure, axes, methods, look)
    return figure


def _draw_method(axes: Axes, method: ComparedMethod, look: PlotLook) -> None:
    marker, colour = look.families[method.family]
    for start, end in _whiskers(method):
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=0.7, zorder=2)
    # A marker at 100 % would lose half its area.
    axes.plot(method.x.value, method.y.value, zorder=3, clip_on=False, **_marker_style(marker, colour, look))


def _whiskers(method: ComparedMethod) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return both ends of each interval that there is."""
    x, y = method.x, method.y
    whiskers = []
    if x.low is not None and x.high is not None:
        whiskers.append(((x.low, y.value), (x.high, y.value)))
    if y.low is not None and y.high is not None:
        whiskers.append(((x.value, y.low), (x.value, y.high)))
    return whiskers


def _marker_style(marker: str, colour: str, look: PlotLook) -> dict[str, Any]:
    return {
        "marker": marker,
        "markersize": look.scale * _MARKER_POINTS[marker],
        "color": colour,
        "markeredgecolor": look.ground,
        "markeredgewidth": 0.3,
        "linestyle": "none",
    }


def _draw_diagonal(axes: Axes, look: PlotLook) -> bool:
    """Draw where both AUROC are equal, if that is in sight; the axes keep their limits."""
    x_limits, y_limits = axes.get_xlim(), axes.get_ylim()
    ends = [max(x_limits[0], y_limits[0]), min(x_limits[1], y_limits[1])]
    if ends[0] < ends[1]:
        axes.plot(ends, ends, color=look.quiet, linestyle=":", linewidth=0.7, zorder=1)
    return ends[0] < ends[1]


def _legend(methods: Sequence[ComparedMethod], has_diagonal: bool, look: PlotLook) -> list[Line2D]:
    families = {method.family for method in methods}
    handles = [
        Line2D([], [], label=family, **_marker_style(*style, look))
        for family, style in look.families.items()
        if family in families
    ]
    if any(auroc.low is not None for method in methods for auroc in (method.x, method.y)):
        handles.append(Line2D([], [], color=look.quiet, linewidth=0.7, label="95 % interval"))
    if has_diagonal:
        handles.append(Line2D([], [], color=look.quiet, linestyle=":", linewidth=0.7, label="equal AUROC"))
    return handles


def _label(figure: Figure, axes: Axes, methods: Sequence[ComparedMethod], look: PlotLook) -> None:
    figure.draw_without_rendering()
    # Places are found for this layout, which must not change on writing.
    figure.set_layout_engine("none")
    # A point of print.
    dots_a_point = look.scale * figure.dpi / 72
    padding = _PADDING_POINTS * dots_a_point
    texts = [_text(axes, method, look) for method in methods]
    sizes = np.array([text.get_window_extent().size for text in texts]) + 2 * padding
    to_dots = axes.transData.transform
    points = to_dots([(method.x.value, method.y.value) for method in methods])
    radius = max(_MARKER_POINTS.values()) / 2 * dots_a_point
    boxes, ends = place_labels(
        points, sizes, bounds=axes.bbox.extents, point_radius=radius, bars=_whisker_boxes(axes, methods)
    )
    is_far = np.linalg.norm(ends - points, axis=1) > _LONGEST_GAP_POINTS * dots_a_point
    has_line = is_far | is_doubtful(points, boxes)
    for text, point, box, end, is_joined in zip(texts, points, boxes, ends, has_line, strict=True):
        text.set_position((box[:2] + padding - point) * 72 / figure.dpi)
        if is_joined:
            axes.plot(
                *axes.transData.inverted().transform([point, end]).T, color=look.quiet, linewidth=0.4, zorder=1.5
            )


def _text(axes: Axes, method: ComparedMethod, look: PlotLook) -> Annotation:
    return axes.annotate(
        method.title,
        (method.x.value, method.y.value),
        xytext=(0, 0),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=look.scale * _LABEL_FONT_POINTS,
        zorder=4,
        path_effects=[withStroke(linewidth=1.2, foreground=look.ground)] if look.has_halo else [],
    )


def _whisker_boxes(axes: Axes, methods: Sequence[ComparedMethod]) -> NDArray[np.float64]:
    """Return the whiskers as boxes a dot wide to each side, (n_whiskers, 4), in dots."""
    ends = [whisker for method in methods for whisker in _whiskers(method)]
    in_dots = axes.transData.transform(np.array(ends).reshape(-1, 2)).reshape(-1, 4)
    return in_dots + np.array([-1, -1, 1, 1])
