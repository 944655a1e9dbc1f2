"""Bootstrap intervals of the five metrics, and of differences between methods on the same images.

ID and OOD images are drawn anew, each with replacement and apart from each other. What is drawn depends on the
seed, the sizes and the name of the OOD set alone: all methods meet the same images, so that their differences are
paired, and all OOD sets meet the same ID images. An interval holds what another sample of images would change; it
knows nothing of another training run or of wrong labels.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from manifests.ahead import done_in_threads
from manifests.errors import FeatureError, InputError
from scoring.metrics import METRIC_NAMES, Metrics, as_population, measure, n_caught, n_kept

# The least that Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3, give percentiles.
N_DRAWS = 1000

# Images by draws that one thread holds at a time, measured at 50,000 ID images: with fewer, threads wait for the
# interpreter; with more, arrays leave the cache.
BLOCK_IMAGES = 200_000

_Counts: TypeAlias = NDArray[np.unsignedinteger]
_Floats: TypeAlias = NDArray[np.float64]
_Positions: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each image stands in each draw; made by `draw_resamples`, used for all methods.

    Attributes
    ----------
    seed : int
        What the draws came from.
    in_counts : array
        Unsigned integers, (n_draws, n_in); each row sums to n_in.
    out_counts : dict of str to array
        The same by OOD set, (n_draws, n_out).
    """

    seed: int
    in_counts: _Counts
    out_counts: Mapping[str, _Counts]

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self.in_counts)


@dataclass(frozen=True, eq=False)
class MetricDraws:
    """The five metrics of one method on one OOD set, as measured and in each draw.

    Attributes
    ----------
    drawn : str
        Seed, sizes and OOD set in words; equal where the draws are the same.
    measured : Metrics
        On all images, each once.
    auroc, aupr_in, aupr_out, fpr95_in, fpr95_out : array
        Fractions, float64, (n_draws,).
    """

    drawn: str
    measured: Metrics
    auroc: _Floats
    aupr_in: _Floats
    aupr_out: _Floats
    fpr95_in: _Floats
    fpr95_out: _Floats


@dataclass(frozen=True)
class PairedDifference:
    """By how much one method's metric exceeds another's on the same images, as a fraction.

    Attributes
    ----------
    difference : float
        As measured on all images.
    low, high : float
        Ends of its percentile interval.
    share_sign_lost : float
        Share of draws in which the difference is zero or has the other sign; 1 where `difference` is zero. It is
        no p-value: draws scatter about the difference measured, not about zero.
    """

    difference: float
    low: float
    high: float
    share_sign_lost: float


def draw_resamples(n_in: int, n_out: Mapping[str, int], *, n_draws: int = N_DRAWS, seed: int = 0) -> Resamples:
    """Return draws with replacement of the ID images and of the images of each OOD set, as many as there are.

    The ID draws depend on `seed` and `n_in` alone, those of an OOD set on `seed`, its name and its size: another
    set beside it changes nothing. An image takes one byte a draw.

    Parameters
    ----------
    n_in : int
        Number of ID images.
    n_out : dict of str to int
        Number of images of each OOD set, by its name.
    n_draws : int
        Number of draws, at least 1.
    seed : int
        At least 0.

    Raises
    ------
    InputError
        `n_draws` or `seed` is too small, or a set has no image.
    """
    if n_draws < 1 or seed < 0:
        raise InputError(
            f"bootstrap: expected at least 1 draw and a seed of at least 0, found {n_draws} draws and seed {seed}"
        )
    for name, n_images in (("ID", n_in), *n_out.items()):
        if n_images < 1:
            raise InputError(f"bootstrap: expected at least 1 image in set {name}, found {n_images}; leave it out")
    return Resamples(
        seed=seed,
        in_counts=_drawn_counts(np.random.default_rng([seed]), n_in, n_draws),
        out_counts={
            name: _drawn_counts(np.random.default_rng([seed, *name.encode()]), n_images, n_draws)
            for name, n_images in n_out.items()
        },
    )


def bootstrap(
    in_scores: ArrayLike,
    out_scores: Mapping[str, ArrayLike],
    resamples: Resamples,
    *,
    n_threads: int | None = None,
    block_images: int = BLOCK_IMAGES,
) -> dict[str, MetricDraws]:
    """Return the metrics of one method on each OOD set, as `scoring.metrics.measure` gives them, in each draw.

    Parameters
    ----------
    in_scores : array_like
        Scores of the ID images, (n_in,), higher = more OOD, for every method in the same order of images.
    out_scores : dict of str to array_like
        The same by OOD set, (n_out,).
    resamples : Resamples
        Drawn for these sets; may hold others too.
    n_threads : int, optional
        At most; one a core if not given.
    block_images : int
        Images by draws that a thread holds at a time. Speed and memory depend on it, figures do not.

    Raises
    ------
    FeatureError
        The resamples were drawn for other sets or sizes, or as `scoring.metrics.measure`.
    """
    _check_drawn(in_scores, out_scores, resamples)
    in_walk = _walk(as_population("in_scores", in_scores))
    crossings = {name: _crossing(in_walk, -as_population(name, scores)) for name, scores in out_scores.items()}
    n_rows = max(block_images // max(len(in_walk.order), *(len(c.out_walk.order) for c in crossings.values())), 1)
    blocks = [slice(start, start + n_rows) for start in range(0, resamples.n_draws, n_rows)]
    n_threads = min(n_threads or os.cpu_count() or 1, len(blocks))
    values = {name: np.empty((len(METRIC_NAMES), resamples.n_draws)) for name in crossings}

    def fill(thread: int) -> None:
        scratch = _Scratch()
        for draws in blocks[thread::n_threads]:
            in_walked = _walked(in_walk, resamples.in_counts[draws], scratch, "in")
            for name, crossing in crossings.items():
                out_walked = _walked(crossing.out_walk, resamples.out_counts[name][draws], scratch, "out")
                values[name][:, draws] = _metrics(in_walked, out_walked, crossing, scratch)

    # Listed, as an error of a thread is raised where its result is read.
    list(done_in_threads(fill, range(n_threads), n_threads=n_threads))
    return {
        name: MetricDraws(_drawn(resamples, name), measure(in_scores, out_scores[name]), *values[name])
        for name in crossings
    }


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the percentiles of `values`, one a draw, (n_draws,), that enclose the share `level` in their middle.

    Raises
    ------
    InputError
        `level` is not between 0 and 1.
    FeatureError
        `values` is empty or not one-dimensional, or a value is NaN or infinite.
    """
    if not 0 < level < 1:
        raise InputError(f"interval: expected a level above 0 and below 1, such as 0.95, found {level}")
    low, high = np.quantile(as_population("interval", values), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(
    one: MetricDraws, other: MetricDraws, metric: str, *, level: float = 0.95
) -> PairedDifference:
    """Return `one` minus `other` in the metric named, with the interval that the draws they share give.

    Raises
    ------
    InputError
        `metric` is none of the five, or `level` is not between 0 and 1.
    FeatureError
        The two were measured on different draws.
    """
    if metric not in METRIC_NAMES:
        raise InputError(f"paired difference: expected one of {', '.join(METRIC_NAMES)}, found {metric!r}")
    if one.drawn != other.drawn:
        raise FeatureError(
            f"paired difference: expected both methods on the same draws, found {one.drawn} and {other.drawn}; "
            f"use one Resamples for both"
        )
    difference = getattr(one.measured, metric) - getattr(other.measured, metric)
    differences = getattr(one, metric) - getattr(other, metric)
    low, high = interval(differences, level)
    return PairedDifference(difference, low, high, float(np.mean(np.sign(difference) * differences <= 0)))


def _drawn_counts(random: np.random.Generator, n_images: int, n_draws: int) -> _Counts:
    counts: _Counts = np.empty((n_draws, n_images), np.uint8)
    for draw in range(n_draws):
        drawn = np.bincount(random.integers(n_images, size=n_images), minlength=n_images)
        # Rarer than one draw in 1e500, but a count that wraps round would pass unseen.
        if drawn.max() > np.iinfo(counts.dtype).max:
            counts = counts.astype(np.uint32)
        counts[draw] = drawn
    return counts


def _check_drawn(in_scores: ArrayLike, out_scores: Mapping[str, ArrayLike], resamples: Resamples) -> None:
    if not out_scores:
        raise FeatureError("bootstrap: expected the scores of at least one OOD set, found none")
    unknown = [name for name in out_scores if name not in resamples.out_counts]
    if unknown:
        raise FeatureError(
            f"bootstrap: no draws of OOD set {', '.join(unknown)}, only of {', '.join(resamples.out_counts)}; "
            f"draw resamples for all sets"
        )
    pairs = [("ID", in_scores, resamples.in_counts)]
    pairs += [(name, scores, resamples.out_counts[name]) for name, scores in out_scores.items()]
    for name, scores, counts in pairs:
        if np.shape(scores) != counts.shape[1:]:
            raise FeatureError(
                f"bootstrap: set {name} was drawn with {counts.shape[1]} images, found scores of shape "
                f"{np.shape(scores)}; draw resamples for this size"
            )


def _drawn(resamples: Resamples, name: str) -> str:
    n_in, n_out = resamples.in_counts.shape[1], resamples.out_counts[name].shape[1]
    return f"{resamples.n_draws} draws of {n_in} ID and {n_out} {name} images with seed {resamples.seed}"


class _Scratch:
    """The arrays of one thread, used again for each block: new ones cost as much in page faults as the sums."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, DTypeLike], NDArray] = {}

    def array(self, name: str, shape: tuple[int, int], dtype: DTypeLike = np.float64) -> NDArray:
        """Return the array of this name, contiguous, with whatever it holds."""
        size = shape[0] * shape[1]
        held = self._held.get((name, dtype))
        if held is None or held.size < size:
            held = self._held[name, dtype] = np.empty(size, dtype)
        return held[:size].reshape(shape)

    def taken(self, name: str, values: NDArray, columns: _Positions) -> NDArray:
        """Return these columns of `values` in the array of this name."""
        out = self.array(name, (len(values), len(columns)), values.dtype)
        # Clipping changes nothing, as all columns exist; without it take() fills a copy first.
        return np.take(values, columns, axis=1, out=out, mode="clip")


@dataclass(frozen=True, eq=False)
class _Walk:
    """One population as a threshold reaches it: ID from its most ID-like image, OOD from its most OOD-like."""

    order: _Positions  # (n,), the images
    ends: _Positions  # (m,), place in `order` of the last image of each distinct score
    keys: _Floats  # (m,), the distinct scores, ascending; of OOD with the sign changed


def _walk(keys: _Floats) -> _Walk:
    order = np.argsort(keys)
    ascending = keys[order]
    ends = np.flatnonzero(np.append(ascending[1:] != ascending[:-1], True))
    return _Walk(order, ends, ascending[ends])


@dataclass(frozen=True, eq=False)
class _Crossing:
    """An OOD set, and where its walk and that of the ID set meet."""

    out_walk: _Walk
    out_above: _Positions  # (m_in,), distinct OOD scores above each distinct ID score
    out_at_least: _Positions  # (m_in,), the same, and the one at it
    in_below: _Positions  # (m_out,), distinct ID scores below each distinct OOD score
    in_at_most: _Positions  # (m_out,), the same, and the one at it


def _crossing(in_walk: _Walk, out_keys: _Floats) -> _Crossing:
    out_walk = _walk(out_keys)
    return _Crossing(
        out_walk,
        out_above=np.searchsorted(out_walk.keys, -in_walk.keys, side="left"),
        out_at_least=np.searchsorted(out_walk.keys, -in_walk.keys, side="right"),
        in_below=np.searchsorted(in_walk.keys, -out_walk.keys, side="left"),
        in_at_most=np.searchsorted(in_walk.keys, -out_walk.keys, side="right"),
    )


@dataclass(frozen=True, eq=False)
class _Walked:
    """What a walk meets in b draws."""

    n_images: int
    reached: (
        _Floats  # (b, m + 1), images up to each distinct score, from 0, for which the least positive number stands
    )
    left: _Floats  # (b, m + 1), the others, down to 0
    weights: _Floats  # (b, m), images at each distinct score


def _walked(walk: _Walk, counts: _Counts, scratch: _Scratch, role: str) -> _Walked:
    n_rows, n_images, n_scores = len(counts), len(walk.order), len(walk.ends)
    running = scratch.array(f"{role} running", (n_rows, n_images), np.int32)
    running[:] = scratch.taken(f"{role} ordered", counts, walk.order)
    for row in running:
        # Of two dimensions at once, NumPy sums with the interpreter's lock held.
        np.cumsum(row, dtype=np.int32, out=row)
    reached = scratch.array(f"{role} reached", (n_rows, n_scores + 1))
    left = scratch.array(f"{role} left", (n_rows, n_scores + 1))
    weights = scratch.array(f"{role} weights", (n_rows, n_scores))
    reached[:, 0] = 0
    reached[:, 1:] = scratch.taken(f"{role} at ends", running, walk.ends)
    np.subtract(n_images, reached, out=left)
    np.subtract(reached[:, 1:], reached[:, :-1], out=weights)
    for row in reached:
        # Before anything is caught, nothing is caught wrongly: the share 0 / 0 becomes 0, as precision is 1 there.
        row[: row.searchsorted(0, side="right")] = np.finfo(np.float64).tiny
    return _Walked(n_images, reached, left, weights)


def _metrics(in_walked: _Walked, out_walked: _Walked, crossing: _Crossing, scratch: _Scratch) -> _Floats:
    """Return the metrics, (5, b), in the order of `METRIC_NAMES`."""
    n_in, n_out = in_walked.n_images, out_walked.n_images
    rows = np.arange(len(in_walked.left))

    in_at_least = scratch.taken("at", in_walked.left, crossing.in_below)
    in_above = scratch.taken("before", in_walked.left, crossing.in_at_most)
    # Pairs that OOD does not win, twice: a tie is in the first sum only.
    n_lost = _row_sums(in_at_least, out_walked.weights) + _row_sums(in_above, out_walked.weights)
    auroc = 1 - n_lost / (2 * n_in * n_out)
    caught = np.array([row.searchsorted(n_caught(n_out)) for row in out_walked.reached]) - 1
    fpr95_out = in_at_least[rows, caught] / n_in
    aupr_out = _area_under_precision(out_walked, in_at_least, in_above, scratch)

    out_at_most = scratch.taken("at", out_walked.left, crossing.out_above)
    out_below = scratch.taken("before", out_walked.left, crossing.out_at_least)
    kept = np.array([row.searchsorted(n_kept(n_in)) for row in in_walked.reached]) - 1
    fpr95_in = out_at_most[rows, kept] / n_out
    aupr_in = _area_under_precision(in_walked, out_at_most, out_below, scratch)
    return np.stack([auroc, aupr_in, aupr_out, fpr95_in, fpr95_out])


def _area_under_precision(positive: _Walked, at: _Floats, before: _Floats, scratch: _Scratch) -> _Floats:
    """Return the area, (b,), overwriting the negatives caught with and before each positive score, (b, m).

    A score at which recall rises adds the rise times the mean of precision before and at it (the trapezoid rule);
    others add nothing. What is summed is one minus precision.
    """
    total = scratch.array("total", at.shape)
    for negatives, reached in ((at, positive.reached[:, 1:]), (before, positive.reached[:, :-1])):
        np.add(negatives, reached, out=total)
        np.divide(negatives, total, out=negatives)
    at += before
    return 1 - _row_sums(at, positive.weights) / (2 * positive.n_images)


def _row_sums(values: _Floats, weights: _Floats) -> _Floats:
    # Not by BLAS, whose sums depend on its number of threads.
    return np.einsum("ij,ij->i", values, weights)
