"""How well scores separate two populations: AUROC, AUPR both ways, FPR95 both ways.

All take raw scores, higher = more OOD, and depend on their order alone: ties count as ties, nothing is scaled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.errors import FeatureError

METRIC_NAMES = ("auroc", "aupr_in", "aupr_out", "fpr95_in", "fpr95_out")


@dataclass(frozen=True)
class Metrics:
    """The five figures of one method on one OOD set, as fractions."""

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95_in: float
    fpr95_out: float


def measure(in_scores: ArrayLike, out_scores: ArrayLike) -> Metrics:
    """Return all five metrics.

    Parameters
    ----------
    in_scores, out_scores : array_like
        Scores of the ID and the OOD images, (n_in,) and (n_out,), higher = more OOD.

    Raises
    ------
    FeatureError
        A population is empty or not one-dimensional, or a score is NaN or infinite.
    """
    return Metrics(
        auroc=auroc(in_scores, out_scores),
        aupr_in=aupr_in(in_scores, out_scores),
        aupr_out=aupr_out(in_scores, out_scores),
        fpr95_in=fpr95_in(in_scores, out_scores),
        fpr95_out=fpr95_out(in_scores, out_scores),
    )


def auroc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return P(out > in) + P(out = in) / 2 over all pairs, in [0, 1].

    Raises
    ------
    FeatureError
        As `measure`.
    """
    in_sorted, out_sorted = _sorted_populations(in_scores, out_scores)
    # Twice the Mann-Whitney statistic, in integers: a tie counts once from the left and not from the right.
    n_below = np.searchsorted(in_sorted, out_sorted, side="left").sum(dtype=np.int64)
    n_not_above = np.searchsorted(in_sorted, out_sorted, side="right").sum(dtype=np.int64)
    return float(n_below + n_not_above) / (2 * len(in_sorted) * len(out_sorted))


def aupr_in(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the area under precision over recall with ID as the positive class.

    As in the ViM repository and OpenOOD, the trapezoid rule over the distinct thresholds; not average precision.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    in_sorted, out_sorted = _sorted_populations(in_scores, out_scores)
    return _area_under_precision(-in_sorted[::-1], -out_sorted[::-1])


def aupr_out(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the area under precision over recall with OOD as the positive class; otherwise as `aupr_in`."""
    in_sorted, out_sorted = _sorted_populations(in_scores, out_scores)
    return _area_under_precision(out_sorted, in_sorted)


def fpr95_in(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the share of OOD images let through where 95 % of ID images are kept (the ViM paper's FPR95).

    The threshold is the floor(0.95 n_in)-th most ID-like ID score, the first for n_in = 1; an OOD image at the
    threshold is let through.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    in_sorted, out_sorted = _sorted_populations(in_scores, out_scores)
    n_kept = max(95 * len(in_sorted) // 100, 1)
    return float(np.searchsorted(out_sorted, in_sorted[n_kept - 1], side="right")) / len(out_sorted)


def fpr95_out(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the share of ID images lost where 95 % of OOD images are caught (OpenOOD's FPR95).

    The threshold is the largest at which at least 95 % of OOD scores are at or above it; an ID image at the
    threshold is lost.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    in_sorted, out_sorted = _sorted_populations(in_scores, out_scores)
    n_caught = -(-95 * len(out_sorted) // 100)
    n_kept = np.searchsorted(in_sorted, out_sorted[-n_caught], side="left")
    return float(len(in_sorted) - n_kept) / len(in_sorted)


def _sorted_populations(in_scores: ArrayLike, out_scores: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    populations = []
    for name, scores in (("in_scores", in_scores), ("out_scores", out_scores)):
        population = np.asarray(scores, dtype=np.float64)
        if population.ndim != 1 or not len(population):
            raise FeatureError(
                f"{name}: expected one score an image, at least one, found shape {population.shape}"
            )
        n_strange = int((~np.isfinite(population)).sum())
        if n_strange:
            raise FeatureError(f"{name}: {n_strange} of {len(population)} scores are NaN or infinite")
        populations.append(np.sort(population))
    return tuple(populations)


def _area_under_precision(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the area for ascending scores of both classes, where a higher score is more positive."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    n_true = len(positive) - np.searchsorted(positive, thresholds, side="left")
    n_false = len(negative) - np.searchsorted(negative, thresholds, side="left")
    recall = np.concatenate([[0.0], n_true / len(positive)])
    # With nothing caught precision is 0 / 0; one, as in scikit-learn.
    precision = np.concatenate([[1.0], n_true / (n_true + n_false)])
    return float(np.trapezoid(precision, recall))
