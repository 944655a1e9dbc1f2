"""Reading an audit: the defects found, what share of them remains possible, and the certificate.

The certificate follows from the plan, the frozen set and the answers alone: a second report writes the same bytes.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from annotation.audit.answers import AuditAnswers, audit_answers
from annotation.audit.others import OtherAudits, other_audits
from annotation.audit.plan import AuditPlan, audited_sample, draw_look, read_plan
from annotation.ballots import read_ballots
from annotation.consensus import recorded_rule
from annotation.gold import read_gold
from annotation.statistics.agreement import Estimate
from manifests.audit_design import bounds_of, confidence_of_all, rounded_up
from manifests.audit_history import answers_digest
from manifests.certificate import Design
from manifests.durable import delete, write_json
from manifests.workspace import Workspace


@dataclass(frozen=True)
class AuditReport:
    """What an audit has come to.

    Attributes
    ----------
    plan : AuditPlan
        As planned.
    place : int
        Of the look up to which images are drawn, from 0.
    words : dict of str to str
        The worst answer to each image that counts.
    waiting : tuple of str
        Images drawn without an answer.
    n_without_fresh_eyes : int
        Of those, the ones that everybody with a log here has seen before: they need somebody new.
    answers : AuditAnswers
        What counts.
    agreement : dict of str to Estimate
        Between auditors.
    certificate : dict or None
        None before the audit has ended.
    n_drawn_on : int
        Images of the next look that this report has drawn, as the look before left the question open.
    """

    plan: AuditPlan
    place: int
    words: dict[str, str]
    waiting: tuple[str, ...]
    n_without_fresh_eyes: int
    answers: AuditAnswers
    agreement: dict[str, Estimate]
    certificate: dict[str, Any] | None
    n_drawn_on: int


def report_audit(workspace: Workspace, audit: str | None = None) -> AuditReport:
    """Read an audit; write its certificate where it has ended, and draw the next look where that is needed.

    A certificate that is there and no longer follows from the answers is removed.

    Parameters
    ----------
    workspace : Workspace
        With the plan, the frozen set and the logs.
    audit : str, optional
        Its name; may be left out where there is only one.

    Raises
    ------
    InputError
        There is no such audit, or the audited set has changed since.
    TableError
        A log is damaged, or plan or sample are not as they were drawn.
    """
    plan = read_plan(workspace, audit)
    with workspace.stage("audit", {"report": plan.audit}, record_as=f"audit.{plan.audit}.report") as record:
        frozen, place, stratum_of = audited_sample(workspace, plan)
        rule = recorded_rule(workspace)
        ballots = read_ballots(workspace)
        answers = audit_answers(ballots, stratum_of, rule, read_gold(workspace), plan.logs)
        others = other_audits(workspace, plan, frozen, ballots, rule)
        words = answers.words
        waiting = tuple(one for one in sorted(stratum_of) if one not in words)
        counted = Counter(words.values())
        has_ended = not waiting and plan.design.has_ended(place, counted["in"])
        path = workspace.certificates_dir / f"{plan.audit}.json"
        certificate, n_drawn_on = None, 0
        if has_ended:
            certificate = _certificate(plan, place, words, stratum_of, others)
            certificate |= _circumstances(answers, rule.set_aside)
            certificate["answers_sha256"] = answers_digest(workspace, frozen.image_ids)
            write_json(path, certificate)
        else:
            delete(path)
        if not (waiting or has_ended):
            draw_look(workspace, plan, frozen, place + 1)
            n_drawn_on = plan.looks[place + 1].n_images - len(stratum_of)
        record.counts = {"drawn": len(stratum_of), "answered": len(words), "defects": counted["in"]}
    eyes = [standing for name, standing in ballots.standing.items() if name not in rule.set_aside]
    n_without = sum(all(standing.has_seen(one) for standing in eyes) for one in waiting) if eyes else 0
    return AuditReport(
        plan, place, words, waiting, n_without, answers, answers.agreement(), certificate, n_drawn_on,
    )  # fmt: skip


def stratum_counts(
    words: dict[str, str], stratum_of: dict[str, str | None], design: Design
) -> dict[str, dict[str, Any]]:
    """Return for each stratum its images audited, its defects, and a bound.

    The bounds are for exploring: each holds for itself, and that all of them hold at once is less sure.
    """
    counts: dict[str, Counter[str]] = {}
    for image_id, word in words.items():
        counts.setdefault(stratum_of[image_id] or "all", Counter())[word] += 1
    return {
        stratum: {
            "n_sample": found.total(),
            "n_defects": found["in"],
            "n_difficult": found["difficult"],
            "upper_bound": rounded_up(design.any_time_bound(found["in"], found.total())),
        }
        for stratum, found in sorted(counts.items())
    }


def _certificate(
    plan: AuditPlan, place: int, words: dict[str, str], stratum_of: dict[str, str | None], others: OtherAudits
) -> dict[str, Any]:
    """Return what was planned, what was found, and what that bounds."""
    design = plan.design
    counted = Counter(words.values())
    found = {"n_sample": len(words), "n_defects": counted["in"], "n_difficult": counted["difficult"]}
    defects = sorted(one for one, word in words.items() if word == "in")
    known = sorted(others.known_defects - set(defects))
    confidences = [design.confidence, *(one["confidence"] for one in others.stated)]
    return {
        "audit": plan.audit,
        "manifest": plan.manifest,
        "content_sha256": plan.content_sha256,
        "n_images": plan.n_images,
        "goal": asdict(plan.goal),
        "n_earlier": len(plan.earlier),
        "seed": plan.seed,
        "bound": design.bound,
        "confidence": design.confidence,
        "confidence_of_all": confidence_of_all(confidences),
        "looks": [asdict(look) for look in design.looks],
        "n_looks_taken": place + 1,
        **found,
        "defects": defects,
        "difficult": sorted(one for one, word in words.items() if word == "difficult"),
        "known_defects": known,
        **bounds_of(design, place, plan.n_images, found),
        # A bound holds whatever else is known; but nobody should read of a set as certified with a defect in it
        # that an audit has shown and nobody has retired.
        "is_certified": design.is_certified(place, found["n_defects"]) and not known,
        "strata": stratum_counts(words, stratum_of, design),
        "other_audits": others.stated,
    }


def _circumstances(answers: AuditAnswers, set_aside: tuple[str, ...]) -> dict[str, Any]:
    """Return who audited, how well they did on gold, and what else a reader of the certificate has to know."""
    several = [set(said) for said in answers.said.values() if len(said) > 1]
    return {
        "n_auditors": len(answers.n_answers),
        "n_answers": sum(answers.n_answers.values()),
        "n_answered_by_several": len(several),
        "n_disagreed": sum(len(said) > 1 for said in several),
        "n_not_fresh": answers.n_not_fresh,
        "n_undone": len(answers.undone),
        "undone": list(answers.undone),
        "n_gold_in": answers.gold_in,
        "n_gold_in_found": answers.gold_in_found,
        "set_aside": sorted(set_aside),
        # Only where there are any: a certificate from before masks were recorded stays the same, byte for byte.
        **({"masks_opened": answers.masks_opened} if answers.masks_opened else {}),
    }
