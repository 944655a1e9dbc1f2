"""Answers with evidence masks opened beside those without: what they were, how long they took, who agreed."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotation.decisions import Decision
from manifests.proportions import Share, counted_share
from manifests.text_table import aligned

NOT_RECORDED = "not recorded"

WORDS = {
    "opened": "opened",
    "closed": "not opened",
    "none": "none there",
    NOT_RECORDED: NOT_RECORDED,
}
"""What the states of `annotation.mask_use.STATES` are called, in the order of the table."""

HEADER = (
    "evidence masks", "answers", "in", "out", "difficult", "median s", "90 % s",
    "images", "all agree", "95 % interval",
)  # fmt: skip
"""Of a table of `mask_cells`; with ``images`` begin those that two or more have answered."""

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
    agreement : Share
        Of the images with two answers or more, those on which all gave the same one. An image counts once, in the
        first state of `WORDS` that any of its answers has.
    """

    state: str
    answers: Counter[str]
    median_s: float
    p90_s: float
    agreement: Share


def mask_figures(votes: Mapping[str, Mapping[str, Decision]]) -> tuple[MaskFigures, ...]:
    """Return the figures of each state that has answers; nothing where no masks were opened.

    Parameters
    ----------
    votes : mapping of str to mapping of str to Decision
        Annotator to image to standing answer, without ``skip``, as `annotation.consensus.counted_votes` gives it.
    """
    given = [decision for of_annotator in votes.values() for decision in of_annotator.values()]
    by_state: dict[str, list[Decision]] = {state: [] for state in WORDS}
    by_image: dict[str, list[Decision]] = {}
    for decision in given:
        by_state[state_of(decision)].append(decision)
        by_image.setdefault(decision.image_id, []).append(decision)
    if not by_state["opened"]:
        return ()
    n_images, n_agreed = Counter[str](), Counter[str]()
    for said in by_image.values():
        if len(said) > 1:
            states = {state_of(decision) for decision in said}
            first = next(state for state in WORDS if state in states)
            n_images[first] += 1
            n_agreed[first] += len({decision.answer for decision in said}) == 1
    return tuple(
        _figures(state, found, counted_share(n_agreed[state], n_images[state]))
        for state, found in by_state.items()
        if found
    )


def state_of(decision: Decision) -> str:
    """Return the key of `WORDS` for one answer."""
    return NOT_RECORDED if decision.masks is None else decision.masks.state


def mask_lines(figures: Sequence[MaskFigures]) -> list[str]:
    """Return the figures as lines for the terminal; none of none."""
    if not figures:
        return []
    lines = aligned([HEADER, *(mask_cells(one) for one in figures)])
    return [f"  {line}" for line in [*lines, NO_PROOF]]


def mask_cells(figures: MaskFigures) -> tuple[str, ...]:
    """Return the row of a table below `HEADER`."""
    n_all, agreed = figures.answers.total(), figures.agreement
    return (
        WORDS[figures.state],
        f"{n_all:,}",
        *(f"{figures.answers[word] / n_all:.1%}" for word in ("in", "out", "difficult")),
        f"{figures.median_s:.1f}",
        f"{figures.p90_s:.1f}",
        f"{agreed.n_all:,}",
        f"{agreed.value:.1%}" if agreed.n_all else "-",
        f"{agreed.low:.1%} to {agreed.high:.1%}" if agreed.n_all else "-",
    )


def _figures(state: str, given: Sequence[Decision], agreement: Share) -> MaskFigures:
    seconds = [decision.seconds for decision in given]
    # Of one value, statistics knows no quantiles.
    p90_s = statistics.quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    answers = Counter(decision.answer for decision in given)
    return MaskFigures(state, answers, statistics.median(seconds), p90_s, agreement)
