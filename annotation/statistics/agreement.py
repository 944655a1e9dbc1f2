"""How far annotators agree beyond chance: Krippendorff's alpha, Fleiss' and Cohen's kappa, with intervals.

How to read them: 1 is full agreement, 0 is what answers drawn at random from the same shares would give, below 0
is worse than that. Krippendorff (2004, Content Analysis, 2nd ed., p. 241) relies on 0.8 and above, and draws
tentative conclusions from 0.667. All three fall when one answer is rare, though the annotators disagree no more
often (Feinstein & Cicchetti 1990, J. Clin. Epidemiol. 43): where nearly every image is out, read the raw agreement
beside them. Agreement is not truth: annotators who copy each other agree fully. Gold images tell the one from the
other.

The intervals are 95 % percentile bootstrap intervals over images. Images with the same answers are told apart by
nothing, so a resample is one multinomial draw over the distinct patterns of answers: exact, and fast at any size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.statistics.answer_matrix import NO_ANSWER

N_REPLICATES = 1000

CONFIDENCE = 0.95

_MOST_CELLS = 4_000_000
"""Of replicates x answers in memory at a time: 32 MB."""


@dataclass(frozen=True)
class Estimate:
    """One coefficient with its bootstrap interval.

    Attributes
    ----------
    value, low, high : float
        NaN where it is not defined: too few answers, or all answers are the same, so that chance agrees fully too.
    n_images : int
        Images that count: those with at least two answers.
    """

    value: float
    low: float
    high: float
    n_images: int

    def __str__(self) -> str:
        if np.isnan(self.value):
            return f"not defined ({self.n_images:,} images with two answers, or no two different answers)"
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}, {self.n_images:,} images)"


def krippendorff_alpha(codes: np.ndarray, *, n_replicates: int = N_REPLICATES, seed: int = 0) -> Estimate:
    """Return Krippendorff's alpha for nominal data; images may lack answers.

    alpha = 1 - D_o / D_e, with D_o the share of disagreeing pairs within images, each image weighted by its
    answers, and D_e that of all pairs of answers (Krippendorff 2004, section 11.3).

    Parameters
    ----------
    codes : ndarray of int, (n_images, n_annotators)
        Any codes from 0; negative for no answer.
    n_replicates : int
        Bootstrap resamples.
    seed : int
        Of the resamples.
    """
    patterns = _pairable_patterns(codes)

    def alpha(weights: np.ndarray) -> np.ndarray:
        n_answers = weights @ patterns.n_answers
        agreeing = weights @ (patterns.agreeing_pairs / (patterns.n_answers - 1))
        squares = _sum_of_squares(weights, patterns)
        expected = n_answers**2 - squares
        return _one_minus((n_answers - 1) * (n_answers - agreeing), expected)

    return _with_interval(alpha, patterns.counts, n_replicates, seed)


def fleiss_kappa(codes: np.ndarray, *, n_replicates: int = N_REPLICATES, seed: int = 0) -> Estimate:
    """Return Fleiss' kappa over the images with the commonest number of answers (two or more; ties: the larger).

    kappa = (P - P_e) / (1 - P_e), with P the share of agreeing pairs within images and P_e the sum of the squared
    shares of the answers (Fleiss 1971, Psychological Bulletin 76, equations 3 to 7). It asks for the same number
    of answers an image, which is why the others are left out. Parameters as in `krippendorff_alpha`.
    """
    patterns = _pairable_patterns(codes)
    if not patterns.counts.size:
        return _with_interval(np.zeros, patterns.counts, n_replicates, seed)
    n_by_size = np.bincount(patterns.n_answers, weights=patterns.counts)
    size = int(np.flatnonzero(n_by_size == n_by_size.max())[-1])
    patterns = patterns.only(patterns.n_answers == size)

    def kappa(weights: np.ndarray) -> np.ndarray:
        n_images = weights.sum(axis=1)
        agreed = weights @ patterns.agreeing_pairs / (n_images * size * (size - 1))
        by_chance = _sum_of_squares(weights, patterns) / (n_images * size) ** 2
        return _one_minus(1 - agreed, 1 - by_chance)

    return _with_interval(kappa, patterns.counts, n_replicates, seed)


def cohen_kappa(
    first: np.ndarray, second: np.ndarray, *, n_replicates: int = N_REPLICATES, seed: int = 0
) -> Estimate:
    """Return Cohen's kappa of two annotators over the images that both answered (Cohen 1960).

    Parameters
    ----------
    first, second : ndarray of int, (n_images,)
        Codes from 0; negative for no answer.
    n_replicates, seed : int
        As in `krippendorff_alpha`.
    """
    both = (first >= 0) & (second >= 0)
    cells, counts = np.unique(np.stack([first[both], second[both]], axis=1), axis=0, return_counts=True)
    n_codes = int(cells.max()) + 1 if cells.size else 0
    is_of = [np.eye(n_codes)[cells[:, side]] for side in range(2)]
    is_equal = cells[:, 0] == cells[:, 1]

    def kappa(weights: np.ndarray) -> np.ndarray:
        n_images = weights.sum(axis=1)
        by_chance = ((weights @ is_of[0]) * (weights @ is_of[1])).sum(axis=1) / n_images**2
        return _one_minus(1 - weights @ is_equal / n_images, 1 - by_chance)

    return _with_interval(kappa, counts, n_replicates, seed)


def raw_agreement(codes: np.ndarray, *, n_replicates: int = N_REPLICATES, seed: int = 0) -> Estimate:
    """Return the share of agreeing pairs of answers within images, every image weighing the same."""
    patterns = _pairable_patterns(codes)
    shares = patterns.agreeing_pairs / (patterns.n_answers * (patterns.n_answers - 1))
    return _mean(shares, patterns.counts, n_replicates, seed)


def mean_share(shares: Sequence[float], *, n_replicates: int = N_REPLICATES, seed: int = 0) -> Estimate:
    """Return the mean of one share an image, every image weighing the same.

    Parameters
    ----------
    shares : sequence of float
        One an image, in any order.
    n_replicates, seed : int
        As in `krippendorff_alpha`.
    """
    distinct, counts = np.unique(np.asarray(shares, dtype=np.float64), return_counts=True)
    return _mean(distinct, counts, n_replicates, seed)


def _mean(shares: np.ndarray, counts: np.ndarray, n_replicates: int, seed: int) -> Estimate:
    def mean(weights: np.ndarray) -> np.ndarray:
        return weights @ shares / weights.sum(axis=1)

    return _with_interval(mean, counts, n_replicates, seed)


@dataclass(frozen=True)
class _Patterns:
    """Distinct sets of answers to an image, and how many images have each."""

    codes: np.ndarray  # (n_patterns, most answers), sorted, negative first
    counts: np.ndarray
    n_answers: np.ndarray
    agreeing_pairs: np.ndarray  # ordered pairs of equal answers

    def only(self, chosen: np.ndarray) -> "_Patterns":
        return _Patterns(
            self.codes[chosen], self.counts[chosen], self.n_answers[chosen], self.agreeing_pairs[chosen]
        )


def _pairable_patterns(codes: np.ndarray) -> _Patterns:
    """Return the patterns with at least two answers; one alone pairs with nothing."""
    ordered = np.sort(np.where(codes < 0, NO_ANSWER, codes), axis=1)
    ordered = ordered[(ordered >= 0).sum(axis=1) >= 2]
    # Missing answers come first: no column is needed in front of the fullest row.
    ordered = ordered[:, (ordered >= 0).any(axis=0)]
    rows, counts = np.unique(ordered, axis=0, return_counts=True)
    is_given = rows >= 0
    agreeing = np.zeros(len(rows), dtype=np.int64)
    for step in range(1, rows.shape[1]):
        agreeing += 2 * ((rows[:, step:] == rows[:, :-step]) & is_given[:, :-step]).sum(axis=1)
    return _Patterns(rows, counts, is_given.sum(axis=1), agreeing)


def _sum_of_squares(weights: np.ndarray, patterns: _Patterns) -> np.ndarray:
    """Return, for each row of pattern weights, the sum over codes of their squared numbers of answers."""
    pattern, place = np.nonzero(patterns.codes >= 0)
    codes = patterns.codes[pattern, place]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    totals = np.add.reduceat(weights[:, pattern[order]], starts, axis=1)
    return (totals**2).sum(axis=1)


def _one_minus(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return 1 - numerator / denominator, NaN where chance alone agrees fully."""
    safe = np.where(denominator > 0, denominator, np.nan)
    return 1 - numerator / safe


def _with_interval(
    coefficient: Callable[[np.ndarray], np.ndarray], counts: np.ndarray, n_replicates: int, seed: int
) -> Estimate:
    n_images = int(counts.sum())
    if not n_images:
        return Estimate(np.nan, np.nan, np.nan, 0)
    value = float(coefficient(counts[np.newaxis].astype(np.float64))[0])
    replicates = np.concatenate([coefficient(weights) for weights in _resamples(counts, n_replicates, seed)])
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(value) or not defined.size:
        return Estimate(value, np.nan, np.nan, n_images)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return Estimate(value, float(low), float(high), n_images)


def _resamples(counts: np.ndarray, n_replicates: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    shares = counts / counts.sum()
    rows = max(1, _MOST_CELLS // len(counts))
    for start in range(0, n_replicates, rows):
        size = min(rows, n_replicates - start)
        yield generator.multinomial(int(counts.sum()), shares, size=size).astype(np.float64)
