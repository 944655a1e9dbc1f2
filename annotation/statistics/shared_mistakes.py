"""Mistakes that two annotators have in common on gold: what copying looks like, and agreement cannot show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, lgamma, log

from annotation.decisions import Decision
from annotation.gold import GoldEntry
from annotation.statistics.answer_matrix import ANSWER_WORDS
from annotation.statistics.opinions import gold_answers

STRIKING = 0.001
"""A tail probability below this is named: with ten annotators, 45 pairs name one by chance in twenty reports."""


@dataclass(frozen=True)
class SharedMistakes:
    """Equal wrong answers of two annotators on the gold images that both answered.

    Attributes
    ----------
    n_images : int
        Gold images that both answered.
    n_equal : int
        Of these, answered wrong by both, in the same way.
    expected : float
        How many would be were their mistakes independent given the truth.
    probability : float
        Of as many or more by chance (Poisson).
    """

    n_images: int
    n_equal: int
    expected: float
    probability: float

    @property
    def is_striking(self) -> bool:
        """Whether chance hardly makes so many."""
        return self.probability < STRIKING


def shared_mistakes(
    first: Sequence[Decision], second: Sequence[Decision], gold: Mapping[str, GoldEntry]
) -> SharedMistakes:
    """Return the equal mistakes of two annotators' logs.

    Their expected number is, over truths and wrong answers, n_first n_second / n: each one's mistakes of that kind
    among the gold images of that truth that both answered.
    """
    answers = gold_answers(first, gold), gold_answers(second, gold)
    both = sorted(answers[0].keys() & answers[1].keys())
    n_equal, expected = 0, []
    for word in ANSWER_WORDS:
        images = [image_id for image_id in both if gold[image_id].answer == word]
        for wrong in ANSWER_WORDS:
            if wrong != word and images:
                made = [{image_id for image_id in images if given[image_id].answer == wrong} for given in answers]
                n_equal += len(made[0] & made[1])
                expected.append(len(made[0]) * len(made[1]) / len(images))
    mean = fsum(expected)
    return SharedMistakes(len(both), n_equal, mean, _poisson_tail(n_equal, mean))


def _poisson_tail(n_events: int, mean: float) -> float:
    """Return the probability of `n_events` or more."""
    if n_events == 0 or mean == 0:
        return 1.0
    below = fsum(exp(n * log(mean) - mean - lgamma(n + 1)) for n in range(n_events))
    return max(0.0, 1 - below)
