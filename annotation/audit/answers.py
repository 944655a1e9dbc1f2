"""What auditors said of a sample: only fresh eyes count, and the worst answer to an image stands."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from annotation.ballots import Ballots
from annotation.decisions import Decision
from annotation.gold import GoldEntry
from annotation.statistics.agreement import Estimate, krippendorff_alpha, raw_agreement
from annotation.statistics.answer_matrix import answer_matrix
from annotation.verdicts import ConsensusRule
from manifests import schema

QUEUE = "audit"

_WORST_FIRST = ("in", "difficult", "out")


@dataclass(frozen=True)
class AuditAnswers:
    """The answers that count.

    Attributes
    ----------
    by_auditor : dict of str to dict
        Auditor to image to answer, without ``skip``.
    n_not_fresh : int
        Answers of annotators who had answered the image in another queue; they do not count.
    gold_in, gold_in_found : int
        Answers of these auditors to gold images that show a class of ImageNet, and those of them that say so.
    """

    by_auditor: dict[str, dict[str, Decision]]
    n_not_fresh: int
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

    def agreement(self) -> dict[str, Estimate]:
        """Return raw agreement and Krippendorff's alpha over the images that two auditors or more answered."""
        codes = answer_matrix(self.by_auditor).answers
        return {"agreement": raw_agreement(codes), "Krippendorff's alpha": krippendorff_alpha(codes)}


def audit_answers(
    ballots: Ballots, sample: Collection[str], rule: ConsensusRule, gold: Mapping[str, GoldEntry]
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
    """
    drawn = set(sample)
    by_auditor: dict[str, dict[str, Decision]] = {}
    n_not_fresh = 0
    in_gold: Counter[bool] = Counter()
    for name, standing in ballots.standing.items():
        if name in rule.set_aside:
            continue
        given = {one: said for one, said in standing.votes(QUEUE).items() if one in drawn}
        others = [queue for queue in schema.QUEUES if queue != QUEUE]
        fresh = {
            one: said for one, said in given.items() if not any(standing.answer(queue, one) for queue in others)
        }
        n_not_fresh += len(given) - len(fresh)
        by_auditor[name] = fresh
        if fresh:
            known = ((gold[one], said) for one, said in standing.votes("gold").items() if one in gold)
            in_gold.update(said.answer == "in" for entry, said in known if entry.answer == "in")
    return AuditAnswers(by_auditor, n_not_fresh, in_gold.total(), in_gold[True])
