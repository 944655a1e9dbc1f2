"""Dawid and Skene's model: the likeliest truth of each image and the confusion of each annotator, together.

A second opinion beside the consensus, never the verdict. The model takes the answers to one image to be
independent given its truth: annotators who copy each other, or who all miss the same small object, make it surer
than it may be. With two answers an image and no known truth it has more unknowns than the data can settle, and
follows its start.
"""

from dataclasses import dataclass

import numpy as np

from annotation.statistics.answer_matrix import ANSWER_WORDS, NO_ANSWER

TOLERANCE = 1e-3
"""Done when one round adds less than this to the log-likelihood of all answers, in nats.

No data tell such fits apart. A stricter end is worse, not better: where a truth hardly occurs, as ``difficult``
often does, the likelihood has a nearly flat ridge, on which EM creeps for tens of thousands of rounds, all for one
nat, to a fit that splits another truth in two."""

MAX_ITERATIONS = 2000

_LEAST = 1e-300
"""Stands for a probability of zero, whose logarithm times a count of zero has no value."""


@dataclass(frozen=True)
class DawidSkene:
    """The fitted model. Truths and answers are in the order of the answers' codes.

    Attributes
    ----------
    posteriors : ndarray of float64, (n_images, n_answers)
        Probability of each truth; 1 for a known one.
    confusions : ndarray of float64, (n_annotators, n_answers, n_answers)
        Of annotator, truth, answer: probability of the answer given the truth. A truth that nobody had to answer
        has equal shares in its row.
    shares : ndarray of float64, (n_answers,)
        Share of each truth among the images whose truth is not known.
    log_likelihood : float
        Of the answers, in nats.
    n_iterations : int
        Rounds of the EM algorithm.
    is_converged : bool
        Whether the last round added less than the tolerance.
    """

    posteriors: np.ndarray
    confusions: np.ndarray
    shares: np.ndarray
    log_likelihood: float
    n_iterations: int
    is_converged: bool


def dawid_skene(
    answers: np.ndarray,
    *,
    known: np.ndarray | None = None,
    n_answers: int = len(ANSWER_WORDS),
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> DawidSkene:
    """Return the maximum-likelihood fit by the EM algorithm, started at the shares of the answers to each image.

    Posterior of truth t: shares[t] times the product over annotators of confusion[annotator, t, answer],
    normalised (E step); confusions and shares are the posterior-weighted counts, normalised (M step). In
    logarithms.

    Parameters
    ----------
    answers : ndarray of int, (n_images, n_annotators)
        Codes from 0 to `n_answers` - 1, negative for no answer.
    known : ndarray of int, (n_images,), optional
        The truth where it is known, negative elsewhere. Such images teach the confusions, and not the shares.
    n_answers : int
        How many different answers there are.
    tolerance : float
        See `TOLERANCE`.
    max_iterations : int
        Stop here in any case; `is_converged` tells.

    Raises
    ------
    ValueError
        There are no images, or an image has neither an answer nor a known truth.

    References
    ----------
    Dawid & Skene 1979, Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
    Statistics 28, equations 2.3 to 2.5.

    Notes
    -----
    Images with equal answers have equal posteriors, so that a round costs the number of distinct rows, summed in
    their sorted order: the result is the same whatever the order of the images.
    """
    truth = np.full(len(answers), NO_ANSWER) if known is None else known
    rows, place, counts = np.unique(
        np.maximum(np.column_stack([truth, answers]), NO_ANSWER), axis=0, return_inverse=True, return_counts=True
    )
    if not len(rows) or (rows < 0).all(axis=1).any():
        raise ValueError("expected images, each with an answer or a known truth")
    weights = counts.astype(np.float64)
    is_open = rows[:, 0] < 0
    given = np.stack([rows[:, 1:] == code for code in range(n_answers)], axis=2).astype(np.float64)  # (p, a, l)
    fixed = np.eye(n_answers)[np.maximum(rows[:, 0], 0)]  # (p, t)
    posteriors = np.where(is_open[:, np.newaxis], _vote_shares(given), fixed)
    log_likelihood, n_iterations, gained = -np.inf, 0, np.inf
    confusions, shares = _maximise(posteriors, given, weights, is_open)
    while gained >= tolerance and n_iterations < max_iterations:
        before = log_likelihood
        posteriors, log_likelihood = _expect(confusions, shares, given, weights, fixed, is_open)
        confusions, shares = _maximise(posteriors, given, weights, is_open)
        gained = log_likelihood - before
        n_iterations += 1
    return DawidSkene(
        posteriors[place.ravel()], confusions, shares, log_likelihood, n_iterations, gained < tolerance
    )


def _vote_shares(given: np.ndarray) -> np.ndarray:
    votes = given.sum(axis=1)
    return votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)


def _maximise(
    posteriors: np.ndarray, given: np.ndarray, weights: np.ndarray, is_open: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    weighted = posteriors * weights[:, np.newaxis]
    counts = np.einsum("pt,pal->atl", weighted, given)
    n_of_truth = counts.sum(axis=2, keepdims=True)
    n_answers = counts.shape[2]
    confusions = np.where(n_of_truth > 0, counts / np.where(n_of_truth > 0, n_of_truth, 1), 1 / n_answers)
    n_open = weighted[is_open].sum(axis=0)
    shares = n_open / n_open.sum() if n_open.sum() else np.full(n_answers, 1 / n_answers)
    return confusions, shares


def _expect(
    confusions: np.ndarray, shares: np.ndarray, given: np.ndarray, weights: np.ndarray, fixed: np.ndarray,
    is_open: np.ndarray,
) -> tuple[np.ndarray, float]:  # fmt: skip
    log_confusions = np.log(np.maximum(confusions, _LEAST))
    log_answers = np.einsum("pal,atl->pt", given, log_confusions)
    log_joint = log_answers + np.log(np.maximum(shares, _LEAST))
    highest = log_joint.max(axis=1, keepdims=True)
    evidence = np.exp(log_joint - highest).sum(axis=1, keepdims=True)
    posteriors = np.exp(log_joint - highest) / evidence
    # A known truth is given, not drawn: only its answers have a likelihood.
    log_rows = np.where(is_open, (highest + np.log(evidence))[:, 0], (log_answers * fixed).sum(axis=1))
    return np.where(is_open[:, np.newaxis], posteriors, fixed), float(weights @ log_rows)
