"""What is known of the errors of a team of annotators, and of what the review set holds: the inputs of a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotation.decisions import Decision
from annotation.gold import read_gold
from annotation.statistics.answer_matrix import (
    ANSWER_WORDS,
    DIFFICULT,
    IN,
    OUT,
    AnswerMatrix,
    answer_matrix,
    answers_in_queue,
    code_of,
)
from annotation.statistics.dawid_skene import dawid_skene
from annotation.statistics.opinions import gold_answers
from annotation.statistics.review_shares import answered_shares, review_risks
from annotation.statistics.shared_votes import SharedVotes, measured_votes, stated_votes
from manifests.errors import InputError
from manifests.workspace import Workspace

N_DRAWS = 4000
"""Draws of whatever was measured; 2.5 % of them lie beyond each end of an interval."""

_N_CODES = len(ANSWER_WORDS)


@dataclass(frozen=True)
class TeamErrors:
    """How a team answers, by truth, and the shares of the truths in the review set.

    Attributes
    ----------
    votes : tuple of tuple of SharedVotes
        By truth, then by answer, in the order of `ANSWER_WORDS`; of one draw, or of many.
    shares : ndarray of float64, (n_draws, 3)
        Of each truth in the review set.
    source : str
        Where the errors were measured, in words.
    knows_truth : bool
        Whether the errors were told from a known truth, or are stated; not where a model made the truth out of the
        answers themselves, in which errors that annotators share look like truth.
    """

    votes: tuple[tuple[SharedVotes, ...], ...]
    shares: np.ndarray
    source: str
    knows_truth: bool

    @property
    def sees_shared_errors(self) -> bool:
        """Whether it is known how often two annotators miss the same image."""
        return self.knows_truth and self.votes[IN][OUT].is_paired


@dataclass(frozen=True)
class StatedRates:
    """Rates given by whoever plans, in [0, 1].

    Attributes
    ----------
    miss_rate, false_in_rate, difficult_rate : float
        In answered out; out answered in; either answered difficult.
    prevalence : float
        Share of the review set that is in-distribution; the rest is out.
    hard_share, hard_miss_rate : float
        The share of the in-distribution images that is hard, and their miss rate; `miss_rate` is that of all.
    """

    miss_rate: float
    prevalence: float
    false_in_rate: float = 0.0
    difficult_rate: float = 0.0
    hard_share: float = 0.0
    hard_miss_rate: float = 0.0


def stated_errors(rates: StatedRates, n_votes: int) -> TeamErrors:
    """Return what stated rates come to, without any interval.

    Raises
    ------
    InputError
        A rate is no share, or two of them leave less than nothing for a third.
    """
    for name, rate in vars(rates).items():
        if not 0 <= rate <= 1 or (name == "hard_share" and rate == 1):
            raise InputError(f"{name}: expected a share in [0, 1], found {rate}")
    try:
        missed = stated_votes(
            rates.miss_rate, hard_share=rates.hard_share, hard_mean=rates.hard_miss_rate, n_votes=n_votes
        )
    except ValueError as error:
        raise InputError(f"miss rates: {error}") from error
    found = 1 - rates.miss_rate - rates.difficult_rate
    passed = 1 - rates.false_in_rate - rates.difficult_rate
    if found < 0 or passed < 0:
        raise InputError("miss_rate or false_in_rate, with difficult_rate: come to more than 1")

    def alike(mean: float) -> SharedVotes:
        return stated_votes(mean, hard_share=0, hard_mean=0, n_votes=n_votes)

    votes = (
        (alike(passed), alike(rates.false_in_rate), alike(rates.difficult_rate)),
        (missed, alike(found), alike(rates.difficult_rate)),
        _always(DIFFICULT, 1),
    )
    return TeamErrors(votes, np.array([[1 - rates.prevalence, rates.prevalence, 0.0]]), "as stated", True)


def measured_errors(
    workspace: Workspace,
    decisions: Mapping[str, Sequence[Decision]],
    *,
    prevalence: float | None = None,
    seed: int = 0,
) -> TeamErrors:
    """Return the errors of a team, measured on gold, or else by Dawid-Skene on what they answered.

    The shares of the truths follow from the answers to the review set: n_in / n = share_in P(in | in) + share_out
    P(in | out), and the same for out, solved for both shares (Rogan & Gladen 1978, Am. J. Epidemiology 107).

    Parameters
    ----------
    workspace : Workspace
        With gold, where there is any.
    decisions : mapping of str to sequence of Decision
        All decisions by annotator.
    prevalence : float, optional
        Share of the review set that is in-distribution, where it is known better.
    seed : int
        Of the draws.

    Raises
    ------
    InputError
        Nobody has answered; or images of some risks wait for a first answer, or the annotators do not tell in from
        out on gold, and `prevalence` is not given.
    """
    first = answer_matrix({name: answers_in_queue(given, "first") for name, given in decisions.items()})
    gold = read_gold(workspace)
    on_gold = answer_matrix({name: gold_answers(given, gold) for name, given in decisions.items()})
    generator = np.random.default_rng(seed)
    truths = np.array([code_of(gold[image_id].answer) for image_id in on_gold.image_ids], dtype=np.int64)
    knows_truth = {OUT, IN} <= set(truths.tolist())
    if knows_truth:
        votes, source = _votes_on_gold(on_gold, truths, first, generator)
    elif first.image_ids:
        votes, source = _votes_by_model(first, generator)
    else:
        raise InputError("plan: nobody has answered yet: give --miss-rate and --prevalence, or annotate first")
    if prevalence is None:
        answered = answered_shares(first, review_risks(workspace, gold), generator, N_DRAWS)
        shares = _shares(answered, votes)
    else:
        shares = _stated_shares(prevalence)
    return TeamErrors(votes, shares, source, knows_truth)


def _votes_on_gold(
    on_gold: AnswerMatrix, truths: np.ndarray, first: AnswerMatrix, generator: np.random.Generator
) -> tuple[tuple[tuple[SharedVotes, ...], ...], str]:
    weights = _weights(on_gold, first)
    votes = tuple(
        tuple(
            measured_votes(on_gold.answers[truths == truth], weights, generator, n_codes=_N_CODES, n_draws=N_DRAWS)
        )
        if (truths == truth).any()
        else _always(truth, N_DRAWS)
        for truth in range(_N_CODES)
    )
    n_in, n_out = (truths == IN).sum(), (truths == OUT).sum()
    return votes, f"gold: {n_in:,} in and {n_out:,} out, {(on_gold.answers >= 0).sum():,} answers" + _unmeasured(
        on_gold, first
    )


def _unmeasured(on_gold: AnswerMatrix, first: AnswerMatrix) -> str:
    """Return in words who votes and has answered no gold."""
    n_votes, n_on_gold = (first.answers >= 0).sum(axis=0), (on_gold.answers >= 0).sum(axis=0)
    names = [name for place, name in enumerate(first.annotator_ids) if n_votes[place] and not n_on_gold[place]]
    return f"; {', '.join(names)} answered none and is taken to err as the others" if names else ""


def _weights(on_gold: AnswerMatrix, first: AnswerMatrix) -> np.ndarray:
    """Return each annotator's votes by their answers on gold, so that who votes much counts much."""
    n_on_gold = (on_gold.answers >= 0).sum(axis=0)
    # Who was only trained on gold so far counts little beside those who vote, and as any other where nobody does.
    n_votes = np.maximum((first.answers >= 0).sum(axis=0), 1)
    weights = np.divide(n_votes, n_on_gold, out=np.zeros(len(n_votes)), where=n_on_gold > 0)
    return weights / weights.max()


def _votes_by_model(
    first: AnswerMatrix, generator: np.random.Generator
) -> tuple[tuple[tuple[SharedVotes, ...], ...], str]:
    """Return first moments only: the model takes errors as independent, and cannot measure whether they are."""
    model = dawid_skene(first.answers)
    given = np.stack([(first.answers == code).sum(axis=1) for code in range(_N_CODES)], axis=1)
    counts = model.posteriors.T @ given  # (truth, answer)
    votes = tuple(
        tuple(SharedVotes(draws[np.newaxis]) for draws in _dirichlet(row + 0.5, generator).T) for row in counts
    )
    return votes, f"Dawid-Skene on {len(first.image_ids):,} images (no gold answered)"


def _dirichlet(counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.concatenate([counts[np.newaxis] / counts.sum(), generator.dirichlet(counts, N_DRAWS - 1)])


def _always(answer: int, n_draws: int) -> tuple[SharedVotes, ...]:
    """Return votes that are always `answer`: what is assumed of a truth on which nothing was measured."""
    return tuple(SharedVotes(np.full((2, n_draws), float(code == answer))) for code in range(_N_CODES))


def _stated_shares(prevalence: float) -> np.ndarray:
    if not 0 <= prevalence <= 1:
        raise InputError(f"--prevalence: expected a share in [0, 1], found {prevalence}")
    return np.array([[1 - prevalence, prevalence, 0.0]])


def _shares(answered: np.ndarray, votes: Sequence[Sequence[SharedVotes]]) -> np.ndarray:
    """Return draws of the shares of the truths, from those of the answers."""
    answered_out, answered_in = answered[:, OUT], answered[:, IN]
    in_in, in_out = votes[IN][IN].mean, votes[IN][OUT].mean
    out_in, out_out = votes[OUT][IN].mean, votes[OUT][OUT].mean
    determinant = in_in * out_out - out_in * in_out
    if determinant[0] < 0.05:
        raise InputError(
            "plan: these annotators hardly tell in from out on what is known, so their answers do not show how "
            "much of the review set is in-distribution: give --prevalence, or set annotators aside"
        )
    # A draw far out can have none left; it stands for shares that the answers cannot rule out.
    determinant = np.maximum(determinant, 0.05)
    shares_in = np.clip((answered_in * out_out - answered_out * out_in) / determinant, 0, 1)
    shares_out = np.clip((answered_out * in_in - answered_in * in_out) / determinant, 0, 1 - shares_in)
    return np.stack([shares_out, shares_in, 1 - shares_out - shares_in], axis=1)
