"""What an audit was to show, the looks and the seed that follow, and the bounds that follow from what it found.

Whoever makes a certificate and whoever checks one computes it here, from the same few numbers.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.certificate import Design, Look, finite_bound, sequential_design

_PLACES = 1_000_000


@dataclass(frozen=True)
class Goal:
    """What an audit is to show: a share of defects of at most `bound`, at `confidence`.

    `max_defects` of the sample are allowed at the last of `n_looks` looks; one look is a sample of fixed size.
    """

    bound: float = 0.01
    confidence: float = 0.95
    max_defects: int = 0
    n_looks: int = 1


def audit_design(goal: Goal, n_images: int, n_earlier: int) -> Design:
    """Return the looks of an audit; of a set no larger than one of them all is audited there.

    After `n_earlier` audits of the same images it may err with 1 - `confidence` halved as often: so however many
    audits somebody makes until one certifies, the chance that any of them errs stays below twice that.

    Raises
    ------
    InputError
        A number of the goal is out of range.
    """
    confidence = goal.confidence if n_earlier == 0 else 1 - (1 - goal.confidence) / 2**n_earlier
    design = sequential_design(goal.bound, confidence, goal.max_defects, goal.n_looks)
    within = tuple(look for look in design.looks if look.n_images < n_images)
    if len(within) == len(design.looks):
        return design
    whole = math.floor(goal.bound * n_images)
    # 0.29 * 100 is below 29.
    most = whole + 1 if (whole + 1) / n_images <= goal.bound else whole
    return Design(goal.bound, confidence, (*within, Look(n_images, most)))


def audit_seed(content_sha256: str, n_earlier: int) -> int:
    """Return the seed of an audit, which follows from the set and from the number of audits before.

    Nobody can draw twice from one set. Whoever freezes it can look at the draw before a plan is recorded, and
    freeze another set instead: ``docs/stages/audit.md`` says what a reader who distrusts that may ask for.
    """
    # 48 bits are whole numbers in every reader of JSON.
    return int(hashlib.sha256(f"{content_sha256}/{n_earlier}".encode()).hexdigest()[:12], 16)


def confidence_of_all(confidences: list[float]) -> float:
    """Return the confidence that several bounds hold at once, whatever they have to do with each other."""
    return max(0.0, round(1 - math.fsum(1 - one for one in confidences), 9))


def rounded_up(share: float) -> float:
    """Return a share with six decimals, rounded up: a bound stays one, and is the same number on every machine."""
    return min(1.0, math.ceil(share * _PLACES) / _PLACES)


def bounds_of(design: Design, place: int, n_images: int, found: Mapping[str, int]) -> dict[str, Any]:
    """Return what a walk that ended at the look at `place` bounds, by the names of the certificate.

    Parameters
    ----------
    design : Design
        Of the audit.
    place : int
        Of the look, from 0.
    n_images : int
        Images of the set.
    found : mapping
        `n_sample`, `n_defects` and `n_difficult`.
    """
    n_sample, n_defects = found["n_sample"], found["n_defects"]
    n_worst = n_defects + found["n_difficult"]
    is_whole = n_sample == n_images
    # Of a set that was audited whole nothing is left to chance.
    upper = n_defects / n_sample if is_whole else design.upper_bound(place, n_defects)
    with_difficult = n_worst / n_sample if is_whole else design.any_time_bound(n_worst, n_sample)
    error = (1 - design.confidence) / len(design.looks)
    return {
        "upper_bound": rounded_up(upper),
        "upper_bound_with_difficult": rounded_up(with_difficult),
        "n_defects_possible": finite_bound(n_defects, n_sample, n_images, 1 - error),
    }
