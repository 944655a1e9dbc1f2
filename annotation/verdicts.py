"""The rule that turns answers into verdicts: pure, and blind to the order of annotators, images and lines."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotation.decisions import Decision
from manifests.errors import InputError

MIN_VOTES = 2
"""At least two annotators must have answered, as in the ViM paper, section 5."""

Answers = Mapping[str, Mapping[str, Decision]]
"""Annotator to image to standing answer, of one queue."""


@dataclass(frozen=True)
class ConsensusRule:
    """When votes are a verdict.

    Attributes
    ----------
    n_votes : int
        Answers that an image needs.
    majority : float
        Share of its answers that must agree, above one half; 1 is all of them. Half is no majority, so that a
        tie is always disputed.
    set_aside : tuple of str
        Annotators whose answers stay in their logs and are not counted, in whatever queue.

    Raises
    ------
    InputError
        `n_votes` is below 1, or `majority` not in (0.5, 1].
    """

    n_votes: int = MIN_VOTES
    majority: float = 1.0
    set_aside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n_votes < 1:
            raise InputError(f"votes: expected 1 or more, found {self.n_votes}")
        if not 0.5 < self.majority <= 1:
            raise InputError(f"majority: expected more than 0.5 and at most 1, found {self.majority}")

    def __str__(self) -> str:
        share = "all of them" if self.majority == 1 else f"{self.majority:g} of them"
        aside = f", without {', '.join(self.set_aside)}" if self.set_aside else ""
        return f"{self.n_votes} answers an image, {share} alike{aside}"

    def agreed(self, n_by_answer: Counter[str]) -> str | None:
        """Return the answer that as many as needed agree on, or None."""
        n_all = n_by_answer.total()
        for answer, n in n_by_answer.items():
            if n / n_all >= self.majority:
                return answer
        return None


@dataclass(frozen=True)
class _Cast:
    """All that was said of one image by annotators who count.

    Attributes
    ----------
    votes, inspections, rulings : sequence of Decision
        Standing answers but ``skip``: given blind, in a round of inspection, and as adjudicator of a dispute.
    n_needed : int
        Votes that the image needs: those of the rule, more after a failed round of inspection.
    """

    votes: Sequence[Decision]
    inspections: Sequence[Decision]
    rulings: Sequence[Decision]
    n_needed: int


def verdict_rows(
    image_ids: Iterable[str],
    votes: Answers,
    rule: ConsensusRule | None = None,
    *,
    inspections: Answers | None = None,
    rulings: Answers | None = None,
    n_needed: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Return one row of `manifests.schema.VERDICTS` for each image, sorted by id.

    ``skip`` counts as no answer. In this order:

    1. What more than half of the adjudicators' rulings say is final; without that, the image stays ``disputed``.
    2. Where the votes agree and an inspector says otherwise, the image is ``disputed``.
    3. With fewer votes than needed it is ``open``.
    4. What as many as the rule asks for agree on is the verdict: for ``in`` with the class, where all name the
       same. Anything else is ``disputed``.

    Parameters
    ----------
    image_ids : iterable of str
        The images under review.
    votes, inspections, rulings : mapping
        Annotator to image to standing answer, each of one queue.
    rule : ConsensusRule, optional
        Default: two votes, unanimous, nobody set aside.
    n_needed : mapping of str to int, optional
        Votes needed, for images that need more than the rule says.
    """
    rule = rule or ConsensusRule()
    voted, inspected, ruled = (
        _by_image(answers or {}, rule.set_aside) for answers in (votes, inspections, rulings)
    )
    more = n_needed or {}
    return [
        _verdict_row(
            image_id,
            _Cast(
                voted.get(image_id, ()),
                inspected.get(image_id, ()),
                ruled.get(image_id, ()),
                max(rule.n_votes, more.get(image_id, 0)),
            ),
            rule,
        )
        for image_id in sorted(image_ids)
    ]


def n_votes_of(row: Mapping[str, Any]) -> int:
    """Return how many answers were counted for an image, of its row of `schema.VERDICTS`."""
    return int(row["n_out"] + row["n_in"] + row["n_difficult"])


def majority_ruling(rulings: Iterable[str]) -> str | None:
    """Return the answer that more than half of the rulings on an image give, None where they contradict so."""
    counts = Counter(rulings)
    return next((answer for answer, n in counts.items() if 2 * n > counts.total()), None)


def _by_image(answers: Answers, set_aside: Sequence[str]) -> dict[str, list[Decision]]:
    by_image: dict[str, list[Decision]] = {}
    for annotator_id, given in answers.items():
        if annotator_id not in set_aside:
            for image_id, decision in given.items():
                if decision.answer != "skip":
                    by_image.setdefault(image_id, []).append(decision)
    return by_image


def _verdict_row(image_id: str, cast: _Cast, rule: ConsensusRule) -> dict[str, Any]:
    n_by_answer = Counter(decision.answer for decision in cast.votes)
    verdict, source = _verdict(cast, n_by_answer, rule)
    # Of a ruling, the adjudicators' class; else that of all who voted for it.
    said_so = [
        decision.class_index
        for decision in (cast.rulings if source == "adjudication" else cast.votes)
        if decision.answer == verdict
    ]
    return {
        "image_id": image_id,
        "verdict": verdict,
        "source": source,
        "n_out": n_by_answer["out"],
        "n_in": n_by_answer["in"],
        "n_difficult": n_by_answer["difficult"],
        "class_index": said_so[0] if verdict == "in" and len(set(said_so)) == 1 else None,
    }


def _verdict(cast: _Cast, n_by_answer: Counter[str], rule: ConsensusRule) -> tuple[str, str]:
    if cast.rulings:
        return majority_ruling(decision.answer for decision in cast.rulings) or "disputed", "adjudication"
    agreed = rule.agreed(n_by_answer) if len(cast.votes) >= rule.n_votes else None
    if agreed and any(decision.answer != agreed for decision in cast.inspections):
        return "disputed", "inspection"
    if len(cast.votes) < cast.n_needed:
        return "open", "consensus"
    return agreed or "disputed", "consensus"
