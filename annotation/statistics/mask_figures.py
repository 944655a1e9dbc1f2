"""Answers with evidence masks opened beside those without: what they were, how long they took, who agreed."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from annotation.decisions import Decision
from annotation.statistics.agreement import Estimate, mean_share
from manifests.text_table import aligned

NOT_RECORDED = "not recorded"

WORDS = {
    "opened": "opened",
    "closed": "not opened",
    "none": "none there",
    NOT_RECORDED: NOT_RECORDED,
}
"""What the states of `annotation.mask_use.STATES` are called, in the order of the tables."""

_OF_PAIR = ("opened", NOT_RECORDED, "closed", "none")
"""A pair is of the first of these that one of its answers is: what was not recorded may have been opened."""

ANSWER_HEADER = ("evidence masks", "answers", "in", "out", "difficult", "median s", "90 % s")
"""Of a table of `answer_cells`."""

PAIR_HEADER = ("evidence masks", "images", "pairs of answers", "agree", "95 % interval")
"""Of a table of `pair_cells`."""

HOW_COUNTED = (
    "Half of the answers took less than the median, nine in ten less than the 90 % s. Two answers to one image "
    "are a pair: opened where either annotator had opened the masks. Two that say in agree, whichever the class. "
    "Every image weighs the same; the intervals are of resampled images (95 %): too narrow where images are few, "
    "and none where all agree alike."
)

NO_PROOF = (
    "Annotators chose themselves where to open masks, likely where a picture was hard: what differs between these "
    "rows is no proof of what masks do."
)


@dataclass(frozen=True)
class MaskFigures:
    """The answers of one state.

    Attributes
    ----------
    state : str
        A key of `WORDS`.
    answers : Counter of str
        Answers by word.
    median_s, p90_s : float
        Seconds an answer: half took less than the one, nine in ten less than the other.
    n_pairs : int
        Pairs of answers to one image, of this state.
    agreement : Estimate
        The share of these pairs that agree, as `annotation.statistics.agreement.raw_agreement` has it of all
        pairs: it does not fall where an image has many answers.
    """

    state: str
    answers: Counter[str]
    median_s: float
    p90_s: float
    n_pairs: int
    agreement: Estimate


def mask_figures(votes: Mapping[str, Mapping[str, Decision]]) -> tuple[MaskFigures, ...]:
    """Return the figures of each state that has answers; nothing where no masks were opened.

    Parameters
    ----------
    votes : mapping of str to mapping of str to Decision
        Annotator to image to standing answer, without ``skip``, as `annotation.consensus.counted_votes` gives it.
    """
    by_state: dict[str, list[Decision]] = {state: [] for state in WORDS}
    by_image: dict[str, list[Decision]] = {}
    for decision in (decision for of_annotator in votes.values() for decision in of_annotator.values()):
        by_state[state_of(decision)].append(decision)
        by_image.setdefault(decision.image_id, []).append(decision)
    if not by_state["opened"]:
        return ()
    pairs: dict[str, list[Counter[bool]]] = {state: [] for state in WORDS}
    for said in by_image.values():
        for state, agreed in _pairs_of(said).items():
            pairs[state].append(agreed)
    return tuple(_figures(state, found, pairs[state]) for state, found in by_state.items() if found)


def state_of(decision: Decision) -> str:
    """Return the key of `WORDS` for one answer."""
    return NOT_RECORDED if decision.masks is None else decision.masks.state


def mask_lines(figures: Sequence[MaskFigures]) -> list[str]:
    """Return the figures as lines for the terminal; none of none."""
    if not figures:
        return []
    lines = aligned([ANSWER_HEADER, *map(answer_cells, figures)])
    pairs = pair_rows(figures)
    if pairs:
        lines += ["", *aligned([PAIR_HEADER, *pairs])]
    return [f"  {line}".rstrip() for line in [*lines, NO_PROOF]]


def answer_cells(figures: MaskFigures) -> tuple[str, ...]:
    """Return the row of a table below `ANSWER_HEADER`."""
    n_all = figures.answers.total()
    return (
        WORDS[figures.state],
        f"{n_all:,}",
        *(f"{figures.answers[word] / n_all:.1%}" for word in ("in", "out", "difficult")),
        f"{figures.median_s:.1f}",
        f"{figures.p90_s:.1f}",
    )


def pair_rows(figures: Iterable[MaskFigures]) -> list[tuple[str, ...]]:
    """Return the rows of a table below `PAIR_HEADER`, of states that have pairs."""
    return [pair_cells(one) for one in figures if one.n_pairs]


def pair_cells(figures: MaskFigures) -> tuple[str, ...]:
    """Return the row of a table below `PAIR_HEADER`."""
    found = figures.agreement
    # Of images that all agree alike, every resample is the same: it says nothing of how sure that is.
    interval = f"{found.low:.1%} to {found.high:.1%}" if found.low < found.high else "-"
    return WORDS[figures.state], f"{found.n_images:,}", f"{figures.n_pairs:,}", f"{found.value:.1%}", interval


def _pairs_of(said: Sequence[Decision]) -> dict[str, Counter[bool]]:
    """Return of the answers to one image, by the state of the pair, how many pairs agree and how many do not."""
    found: dict[str, Counter[bool]] = {}
    for one, other in combinations(said, 2):
        states = (state_of(one), state_of(other))
        state = next(state for state in _OF_PAIR if state in states)
        found.setdefault(state, Counter())[one.answer == other.answer] += 1
    return found


def _figures(state: str, given: Sequence[Decision], pairs: Sequence[Counter[bool]]) -> MaskFigures:
    seconds = [decision.seconds for decision in given]
    # Of one value, statistics knows no quantiles.
    p90_s = statistics.quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    answers = Counter(decision.answer for decision in given)
    agreement = mean_share([agreed[True] / agreed.total() for agreed in pairs])
    n_pairs = sum(agreed.total() for agreed in pairs)
    return MaskFigures(state, answers, statistics.median(seconds), p90_s, n_pairs, agreement)
