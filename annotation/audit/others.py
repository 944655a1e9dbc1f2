"""What other audits of the same images found: one that fails must not vanish behind one that does not."""

from dataclasses import dataclass
from typing import Any

from annotation.audit.answers import QUEUE, called_in
from annotation.audit.plan import AuditPlan, audit_names, read_plan
from annotation.ballots import Ballots
from annotation.verdicts import ConsensusRule
from manifests import schema
from manifests.audit_history import images_of, overlapping_audits
from manifests.errors import TableError
from manifests.frozen import Manifest
from manifests.tombstones import read_tombstones
from manifests.workspace import Workspace


@dataclass(frozen=True)
class OtherAudits:
    """The other audits of sets that share an image with the audited one.

    Attributes
    ----------
    stated : list of dict
        Name, audited set, confidence, images drawn and defects of each, as the certificate states them.
    known_defects : frozenset of str
        Images of the audited set that anybody called in-distribution in any audit, but for those retired since.
    """

    stated: list[dict[str, Any]]
    known_defects: frozenset[str]


def other_audits(
    workspace: Workspace, plan: AuditPlan, frozen: Manifest, ballots: Ballots, rule: ConsensusRule
) -> OtherAudits:
    """Return the other audits of the images of an audited set.

    Raises
    ------
    TableError
        A plan that something names is gone, or the logs hold answers to an audit of which nothing else is left.
    """
    drawn = {name: _drawn(workspace, name) for name in audit_names(workspace)}
    _check_all_drawn(workspace, drawn, ballots)
    defects = called_in(ballots, rule)
    stated = []
    for name in overlapping_audits(workspace, images_of(frozen.records)):
        if name != plan.audit:
            other = read_plan(workspace, name)
            stated.append({
                "audit": name,
                "manifest": other.manifest,
                "content_sha256": other.content_sha256,
                "confidence": other.design.confidence,
                "n_drawn": len(drawn[name]),
                "defects": sorted(defects & drawn[name]),
            })  # fmt: skip
    return OtherAudits(stated, (defects & frozen.image_ids) - read_tombstones(workspace).keys())


def _drawn(workspace: Workspace, audit: str) -> frozenset[str]:
    table = schema.audit_table(audit)
    # A plan without its sample is one that was killed: the same command draws it.
    return frozenset(workspace.read(table).column("image_id").to_pylist() if workspace.has(table) else ())


def _check_all_drawn(workspace: Workspace, drawn: dict[str, frozenset[str]], ballots: Ballots) -> None:
    known = frozenset().union(*drawn.values())
    for name, log in ballots.logs.items():
        for said in log.decisions:
            if said.queue == QUEUE and said.image_id not in known:
                raise TableError(
                    f"the log of {name}: answers {said.image_id} in an audit, but no audit in "
                    f"{workspace.audits_dir} drew it: a plan or its sample is gone; bring it back"
                )
