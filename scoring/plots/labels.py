"""Where labels go beside their points: a small search over places, the same for the same input.

All lengths are in one unit, that of the renderer, y upwards. A box is (left, bottom, right, top).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_N_DIRECTIONS = 16
_GAPS = np.array([0.35, 0.8, 1.4, 2.1, 3.0, 4.0, 5.2, 6.6, 8.2, 10.0, 12.0, 14.5])
"""Distances of a label from its point, in heights of a line of text."""

_MOST_SWEEPS = 30

_CLEARLY_FURTHER = 1.5
"""A point so many times as far from a label as the label's own is not taken for its own."""

# Costs in heights of distance: a label goes far to lie on nothing, and somewhat further to keep its line free.
_LABEL_ON_LABEL, _LABEL_ON_POINT, _LINE_THROUGH_LABEL, _LINES_CROSS, _LINE_THROUGH_POINT, _LABEL_ON_BAR = (
    1000.0, 300.0, 60.0, 20.0, 10.0, 2.0,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Places:
    """Every place that labels may take.

    Attributes
    ----------
    boxes : array
        (n_labels, n_places, 4).
    ends : array
        Where the line from the point ends: the point of the box nearest to it, (n_labels, n_places, 2).
    cost : array
        Of the place itself, whatever the other labels do; infinite outside the bounds, (n_labels, n_places).
    """

    boxes: Array
    ends: Array
    cost: Array


def place_labels(
    points: Array, sizes: Array, *, bounds: Sequence[float], point_radius: float, bars: Array
) -> tuple[Array, Array]:
    """Return the box of each label and the end of the line that joins it to its point.

    Labels are placed one after the other, those with the most neighbours first, each where it costs least; then
    each is moved again for as long as that lowers the cost of all. Nothing is drawn at random. Labels overlap only
    where no place within reach is free.

    Parameters
    ----------
    points : array
        What is labelled, (n, 2).
    sizes : array
        Width and height of the labels, (n, 2).
    bounds : sequence of float
        The box in which labels must lie.
    point_radius : float
        Half the width of a marker.
    bars : array
        Boxes that labels should rather not cover, (n_bars, 4).

    Returns
    -------
    boxes, ends : array
        (n, 4) and (n, 2).
    """
    places = _all_places(points, sizes, bounds, point_radius, bars)
    height = sizes[:, 1].max()
    crowd = (np.abs(points[:, None] - points[None]) < 4 * height).all(axis=2).sum(axis=1)  # (n,)
    order = np.lexsort([np.arange(len(points)), -crowd])
    chosen = np.full(len(points), -1)
    for _ in range(_MOST_SWEEPS):
        before = chosen.copy()
        for label in order:
            chosen[label] = np.argmin(places.cost[label] + _cost_beside(label, chosen, points, places))
        if (chosen == before).all():
            break
    rows = np.arange(len(points))
    return places.boxes[rows, chosen], places.ends[rows, chosen]


def is_doubtful(points: Array, boxes: Array) -> NDArray[np.bool_]:
    """Return whether another point is about as near to a label (n, 4) as its own point (n, 2), (n,)."""
    nearest = np.clip(points[None], boxes[:, None, :2], boxes[:, None, 2:])  # (n labels, n points, 2)
    distance = np.linalg.norm(points[None] - nearest, axis=2)
    own = np.diagonal(distance).copy()
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1) < _CLEARLY_FURTHER * own


def _overlap_area(boxes: Array, others: Array) -> Array:
    """Return the area that each of `boxes` (..., 4) shares with each of `others` (..., 4), broadcast."""
    width = np.minimum(boxes[..., 2], others[..., 2]) - np.maximum(boxes[..., 0], others[..., 0])
    height = np.minimum(boxes[..., 3], others[..., 3]) - np.maximum(boxes[..., 1], others[..., 1])
    return np.clip(width, 0, None) * np.clip(height, 0, None)


def _all_places(points: Array, sizes: Array, bounds: Sequence[float], point_radius: float, bars: Array) -> Places:
    line_height = sizes[:, 1].max()
    angles = 2 * np.pi * np.arange(_N_DIRECTIONS) / _N_DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (16, 2)
    gaps = point_radius + line_height * _GAPS  # (n_gaps,)
    # A box is pushed out along its direction until it clears the gap by half its own width and height.
    shifts = gaps[:, None, None] * directions  # (n_gaps, 16, 2)
    centres = points[:, None, None] + shifts + sizes[:, None, None] / 2 * directions  # (n, n_gaps, 16, 2)
    centres = centres.reshape(len(points), -1, 2)  # (n, n_places, 2)
    boxes = np.concatenate([centres - sizes[:, None] / 2, centres + sizes[:, None] / 2], axis=2)
    ends = np.clip(points[:, None], boxes[..., :2], boxes[..., 2:])

    # Of places equally near, the one to the right reads best, then above and below, then to the left.
    cost = np.broadcast_to((_GAPS[:, None] + 0.1 * (1 - np.cos(angles))).reshape(-1), boxes.shape[:2]).copy()
    markers = np.concatenate([points - point_radius, points + point_radius], axis=1)  # (n, 4)
    cost += _LABEL_ON_POINT * (_overlap_area(boxes[:, :, None], markers) > 0).sum(axis=2)
    cost += _LABEL_ON_BAR * (_overlap_area(boxes[:, :, None], bars) > 0).sum(axis=2)
    near_line = _distance_to_segments(points, points[:, None], ends) < point_radius  # (n, n_places, n)
    near_line[np.arange(len(points)), :, np.arange(len(points))] = False
    cost += _LINE_THROUGH_POINT * near_line.sum(axis=2)
    left, bottom, right, top = bounds
    is_inside = (boxes[..., :2] >= (left, bottom)).all(axis=2) & (boxes[..., 2:] <= (right, top)).all(axis=2)
    return Places(boxes, ends, np.where(is_inside, cost, np.inf))


def _cost_beside(label: int, chosen: NDArray[np.int64], points: Array, places: Places) -> Array:
    """Return the cost of each place of `label` beside the labels that have one, (n_places,)."""
    others = np.flatnonzero((chosen >= 0) & (np.arange(len(points)) != label))
    boxes, ends = places.boxes[label], places.ends[label]
    other_boxes, other_ends = places.boxes[others, chosen[others]], places.ends[others, chosen[others]]
    start, other_starts = points[label], points[others]
    on_label = _overlap_area(boxes[:, None], other_boxes) > 0  # (n_places, n_others)
    own_line = _crosses_box(start, ends[:, None], other_boxes)
    other_line = _crosses_box(other_starts, other_ends, boxes[:, None])
    lines = _segments_cross(start, ends[:, None], other_starts, other_ends)
    return (
        _LABEL_ON_LABEL * on_label + _LINE_THROUGH_LABEL * (own_line * 1.0 + other_line) + _LINES_CROSS * lines
    ).sum(axis=1)


def _distance_to_segments(points: Array, starts: Array, ends: Array) -> Array:
    """Return the distance of every point (k, 2) from every segment (..., 2), as (..., k)."""
    along = ends - starts  # (..., 2)
    squared_length = np.maximum((along**2).sum(axis=-1), 1e-12)
    offset = points - starts[..., None, :]  # (..., k, 2)
    share = np.clip((offset * along[..., None, :]).sum(axis=-1) / squared_length[..., None], 0, 1)
    return np.linalg.norm(offset - share[..., None] * along[..., None, :], axis=-1)


def _crosses_box(starts: Array, ends: Array, boxes: Array) -> NDArray[np.bool_]:
    """Return whether segments pass through the inside of boxes, broadcast (Liang and Barsky 1984)."""
    along = ends - starts
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    one, other = (boxes[..., :2] - starts) / along, (boxes[..., 2:] - starts) / along
    enters = np.maximum(np.minimum(one, other).max(axis=-1), 0)
    leaves = np.minimum(np.maximum(one, other).min(axis=-1), 1)
    return enters < leaves


def _segments_cross(starts: Array, ends: Array, other_starts: Array, other_ends: Array) -> NDArray[np.bool_]:
    """Return whether two segments cross at a point inside both, broadcast."""

    def side(origin: Array, tip: Array, point: Array) -> Array:
        first, second = tip - origin, point - origin
        return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]

    apart = side(starts, ends, other_starts) * side(starts, ends, other_ends) < 0
    other_apart = side(other_starts, other_ends, starts) * side(other_starts, other_ends, ends) < 0
    return apart & other_apart
