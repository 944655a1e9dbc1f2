"""What auditors said of a sample: only fresh eyes count, and the worst answer to an image stands.

An ``in`` that was taken back stands too: else a report that names a defect would ask for its undo. What is taken
back before the next answer was a slip, and is stated alone.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from annotation.ballots import Ballots
from annotation.decisions import Decision
from annotation.gold import GoldEntry
from annotation.standing import Standing
from annotation.statistics.agreement import Estimate, krippendorff_alpha, raw_agreement
from annotation.statistics.answer_matrix import answer_matrix
from annotation.verdicts import ConsensusRule
from manifests import schema
from manifests.chained_log import GENESIS, LogHead
from manifests.errors import TableError

QUEUE = "audit"

_WORST_FIRST = ("in", "difficult", "out")


@dataclass(frozen=True)
class AuditAnswers:
    """The answers that count.

    Attributes
    ----------
    by_auditor : dict of str to dict
        Auditor to image to answer, without ``skip``; an ``in`` that was taken back later is there.
    n_not_fresh : int
        Answers of annotators who had answered the image in another queue, or before the audit was planned, as for
        an earlier one; they do not count.
    undone : tuple of str
        Images of the sample of which an auditor took an answer back, sorted.
    gold_in, gold_in_found : int
        Answers of these auditors to gold images that show a class of ImageNet, and those of them that say so.
    """

    by_auditor: dict[str, dict[str, Decision]]
    n_not_fresh: int
    undone: tuple[str, ...]
    gold_in: int
    gold_in_found: int

    @property
    def said(self) -> dict[str, list[str]]:
        """All answers to each image that has one, by image id."""
        found: dict[str, list[str]] = {}
        for given in self.by_auditor.values():
            for image_id, decision in given.items():
                found.setdefault(image_id, []).append(decision.answer)
        return dict(sorted(found.items()))

    @property
    def words(self) -> dict[str, str]:
        """The worst answer to each image that has one: ``in``, then ``difficult``, then ``out``.

        One auditor who sees an object is enough: the others may have missed it. The bound can only be too high
        by that.
        """
        return {one: next(word for word in _WORST_FIRST if word in said) for one, said in self.said.items()}

    @property
    def n_answers(self) -> dict[str, int]:
        """How many answers each auditor gave, those with any."""
        return {name: len(given) for name, given in self.by_auditor.items() if given}

    @property
    def masks_opened(self) -> list[str]:
        """The images answered with evidence masks opened, sorted: no audit offers any, but a log may say so."""
        answers = (item for given in self.by_auditor.values() for item in given.items())
        return sorted({image_id for image_id, decision in answers if decision.has_opened_masks})

    def agreement(self) -> dict[str, Estimate]:
        """Return raw agreement and Krippendorff's alpha over the images that two auditors or more answered."""
        codes = answer_matrix(self.by_auditor).answers
        return {"agreement": raw_agreement(codes), "Krippendorff's alpha": krippendorff_alpha(codes)}


def audit_answers(
    ballots: Ballots,
    sample: Collection[str],
    rule: ConsensusRule,
    gold: Mapping[str, GoldEntry],
    planned_at: Mapping[str, LogHead],
) -> AuditAnswers:
    """Return what counts of the answers to `sample` in the queue ``audit``.

    Parameters
    ----------
    ballots : Ballots
        All decisions.
    sample : collection of str
        The images audited.
    rule : ConsensusRule
        Whose `set_aside` are left out.
    gold : mapping
        Gold images by id.
    planned_at : mapping
        How far each log went when the audit was planned.

    Raises
    ------
    TableError
        A log does not go on from where it was when the audit was planned.
    """
    drawn = set(sample)
    by_auditor: dict[str, dict[str, Decision]] = {}
    n_not_fresh = 0
    undone: set[str] = set()
    in_gold: Counter[bool] = Counter()
    for name, n_before in _lines_before(ballots, planned_at).items():
        if name in rule.set_aside:
            continue
        standing, since = ballots.standing[name], ballots.logs[name].decisions[n_before:]
        before = {said.image_id for said in ballots.logs[name].decisions[:n_before]}
        given = _given(standing, since, drawn)
        fresh = {
            one: said for one, said in given.items() if one not in before and not _seen_elsewhere(standing, one)
        }
        n_not_fresh += len(given) - len(fresh)
        undone |= {one.image_id for one in since if one.queue == QUEUE and one.answer == "undo"} & drawn
        by_auditor[name] = fresh
        if fresh:
            known = ((gold[one], said) for one, said in standing.votes("gold").items() if one in gold)
            in_gold.update(said.answer == "in" for entry, said in known if entry.answer == "in")
    return AuditAnswers(by_auditor, n_not_fresh, tuple(sorted(undone)), in_gold.total(), in_gold[True])


def _given(standing: Standing, since: Sequence[Decision], drawn: Collection[str]) -> dict[str, Decision]:
    """Return what one auditor says of the images drawn; an ``in`` since the plan stands before all else."""
    calls = {said.image_id: said for said in _calls_in(since)}
    return {one: said for one, said in (standing.votes(QUEUE) | calls).items() if one in drawn}


def _seen_elsewhere(standing: Standing, image_id: str) -> bool:
    return any(standing.answer(queue, image_id) for queue in schema.QUEUES if queue != QUEUE)


def called_in(ballots: Ballots, rule: ConsensusRule) -> frozenset[str]:
    """Return the images that anybody who is not set aside ever called in-distribution in any audit."""
    return frozenset(
        said.image_id
        for name, log in ballots.logs.items()
        if name not in rule.set_aside
        for said in _calls_in(log.decisions)
    )


def _calls_in(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Yield the answers ``in`` of audits, but for slips: what the very next line takes back."""
    for place, said in enumerate(decisions):
        if said.queue == QUEUE and said.answer == "in":
            after = decisions[place + 1] if place + 1 < len(decisions) else None
            is_slip = after and (after.answer, after.image_id, after.queue) == ("undo", said.image_id, QUEUE)
            if not is_slip:
                yield said


def _lines_before(ballots: Ballots, planned_at: Mapping[str, LogHead]) -> dict[str, int]:
    """Return how many lines each log had when the audit was planned."""
    for name, head in planned_at.items():
        found = ballots.logs[name].hash_of(head.n_lines) if name in ballots.logs else None
        if head.n_lines and found != head.last_sha256:
            raise TableError(
                f"the log of {name}: does not go on from the {head.n_lines} lines that it had when the audit was "
                "planned"
            )
    return {name: planned_at.get(name, LogHead(0, GENESIS)).n_lines for name in ballots.logs}
