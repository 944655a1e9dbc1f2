"""How well scores separate two populations: AUROC, AUPR both ways, FPR95 both ways.

All take raw scores, higher = more OOD, and depend on their order alone: ties count as ties, nothing is scaled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.errors import FeatureError
from manifests.ranking import Ranking

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
    ranking = _ranking(in_scores, out_scores)
    return Metrics(
        auroc=ranking.auroc(),
        aupr_in=_aupr_in(ranking),
        aupr_out=_aupr_out(ranking),
        fpr95_in=_fpr95_in(ranking),
        fpr95_out=_fpr95_out(ranking),
    )


def auroc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return P(out > in) + P(out = in) / 2 over all pairs, in [0, 1].

    Raises
    ------
    FeatureError
        As `measure`.
    """
    return _ranking(in_scores, out_scores).auroc()


def aupr_in(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the area under precision over recall with ID as the positive class.

    As in the ViM repository and OpenOOD, the trapezoid rule over the distinct thresholds; not average precision.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    return _aupr_in(_ranking(in_scores, out_scores))


def aupr_out(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the area under precision over recall with OOD as the positive class; otherwise as `aupr_in`."""
    return _aupr_out(_ranking(in_scores, out_scores))


def fpr95_in(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the share of OOD images let through where 95 % of ID images are kept (the ViM paper's FPR95).

    The threshold is the `n_kept`-th most ID-like ID score; an OOD image at the threshold is let through.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    return _fpr95_in(_ranking(in_scores, out_scores))


def fpr95_out(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Return the share of ID images lost where 95 % of OOD images are caught (OpenOOD's FPR95).

    The threshold is the `n_caught`-th most OOD-like OOD score, so the largest at which at least 95 % of OOD scores
    are at or above it; an ID image at the threshold is lost.

    Raises
    ------
    FeatureError
        As `measure`.
    """
    return _fpr95_out(_ranking(in_scores, out_scores))


def n_kept(n_in: int) -> int:
    """Return how many of `n_in` ID images `fpr95_in` keeps: 95 %, rounded down, and at least one."""
    return max(95 * n_in // 100, 1)


def n_caught(n_out: int) -> int:
    """Return how many of `n_out` OOD images `fpr95_out` catches: 95 %, rounded up."""
    return -(-95 * n_out // 100)


def as_population(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the scores of one population as float64, (n,), in the order given.

    Parameters
    ----------
    name : str
        What an error message calls the population.
    scores : array_like
        One score an image, (n,).

    Raises
    ------
    FeatureError
        The population is empty or not one-dimensional, or a score is NaN or infinite.
    """
    population = np.asarray(scores, dtype=np.float64)
    if population.ndim != 1 or not len(population):
        raise FeatureError(f"{name}: expected one score an image, at least one, found shape {population.shape}")
    n_strange = int((~np.isfinite(population)).sum())
    if n_strange:
        raise FeatureError(f"{name}: {n_strange} of {len(population)} scores are NaN or infinite")
    return population


def _ranking(in_scores: ArrayLike, out_scores: ArrayLike) -> Ranking:
    return Ranking.of(as_population("in_scores", in_scores), as_population("out_scores", out_scores))


def _aupr_in(ranking: Ranking) -> float:
    return _area_under_precision(ranking.n_in_at_most, ranking.n_out_at_most)


def _aupr_out(ranking: Ranking) -> float:
    n_in_at_least = ranking.n_in - ranking.n_in_at_most[::-1]
    n_out_at_least = ranking.n_out - ranking.n_out_at_most[::-1]
    return _area_under_precision(n_out_at_least, n_in_at_least)


def _fpr95_in(ranking: Ranking) -> float:
    threshold = np.searchsorted(ranking.n_in_at_most, n_kept(ranking.n_in))
    return float(ranking.n_out_at_most[threshold]) / ranking.n_out


def _fpr95_out(ranking: Ranking) -> float:
    # The last place with enough OOD images above it.
    threshold = np.searchsorted(ranking.n_out_at_most, ranking.n_out - n_caught(ranking.n_out), side="right") - 1
    return float(ranking.n_in - ranking.n_in_at_most[threshold]) / ranking.n_in


def _area_under_precision(n_true: NDArray[np.int64], n_false: NDArray[np.int64]) -> float:
    """Return the area for the images caught of either class as the threshold falls, (k + 1,) from 0."""
    recall = n_true / n_true[-1]
    # With nothing caught precision is 0 / 0; one, as in scikit-learn.
    precision = np.append(1.0, n_true[1:] / (n_true[1:] + n_false[1:]))
    return float(np.trapezoid(precision, recall))
