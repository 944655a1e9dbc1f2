"""Images that wait for answers which nobody who has worked here so far can give."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from annotation.ballots import Ballots
from annotation.verdicts import ConsensusRule, majority_ruling

_N_NAMED = 3


@dataclass(frozen=True)
class Standstill:
    """Images that go no further with the people there are.

    Attributes
    ----------
    unanswerable : dict of str to tuple of str
        Open image to those who have skipped it, where everybody who votes here has had it.
    contradicted : dict of str to tuple of str
        Image to its adjudicators, where no answer has more than half of their rulings.
    """

    unanswerable: dict[str, tuple[str, ...]]
    contradicted: dict[str, tuple[str, ...]]

    def lines(self) -> list[str]:
        """Return for each kind, where there are any, how many, why, which, and what helps."""
        lines = []
        if self.unanswerable:
            n_skipped = sum(bool(names) for names in self.unanswerable.values())
            why = f", {n_skipped:,} of them skipped by somebody" if n_skipped else ""
            lines.append(
                f"{len(self.unanswerable):,} open images need another annotator: all who vote here have had "
                f"them{why} ({_named(self.unanswerable)})"
            )
        if self.contradicted:
            lines.append(
                f"{len(self.contradicted):,} disputes need another adjudicator: the rulings contradict each other "
                f"({_named(self.contradicted)})"
            )
        return lines


def standstill(
    rows: Iterable[Mapping[str, Any]],
    ballots: Ballots,
    rule: ConsensusRule,
    gold_ids: Collection[str],
) -> Standstill:
    """Return what goes no further.

    Parameters
    ----------
    rows : iterable of mapping
        Of `annotation.verdicts.verdict_rows`.
    ballots : Ballots
        All answers; whoever has voted in the first queue and is not set aside is taken to go on.
    rule : ConsensusRule
        By which the rows were made.
    gold_ids : collection of str
        Images that are asked as gold and wait for no vote.
    """
    standing = {name: own for name, own in ballots.standing.items() if name not in rule.set_aside}
    voters = {name: own for name, own in standing.items() if own.votes("first")}
    unanswerable, contradicted = {}, {}
    for row in rows:
        image_id = row["image_id"]
        if row["verdict"] == "open" and image_id not in gold_ids and voters:
            if all(own.has_seen(image_id) for own in voters.values()):
                unanswerable[image_id] = tuple(
                    name
                    for name, own in voters.items()
                    if (answer := own.answer("first", image_id)) is not None and answer.answer == "skip"
                )
        elif row["verdict"] == "disputed" and row["source"] == "adjudication":
            ruled = {name: own.vote("dispute", image_id) for name, own in standing.items()}
            said = {name: ruling.answer for name, ruling in ruled.items() if ruling is not None}
            if majority_ruling(said.values()) is None:
                contradicted[image_id] = tuple(said)
    return Standstill(unanswerable, contradicted)


def _named(images: Mapping[str, tuple[str, ...]]) -> str:
    named = [
        f"{image_id} by {', '.join(names)}" if names else image_id
        for image_id, names in list(images.items())[:_N_NAMED]
    ]
    return "; ".join(named) + ("; ..." if len(images) > _N_NAMED else "")
