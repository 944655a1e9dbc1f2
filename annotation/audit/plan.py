"""Planning an audit: a blind sample, drawn from a frozen set, and the rule by which it will be read.

The seed follows from the set and from how many audits its images had before: nobody names one.

The plan, ``audits/<audit>.json``, never changes. The table beside it holds the images drawn so far, which are
those of the first looks in the order of the draw; what the next look needs is drawn only when it is needed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from annotation.ballots import Ballots, read_ballots
from manifests import schema
from manifests.audit_design import Goal, audit_design, audit_seed
from manifests.audit_history import images_of, overlapping_audits
from manifests.certificate import Design, Look
from manifests.chained_log import LogHead
from manifests.draws import drawn_number
from manifests.durable import write_json
from manifests.errors import InputError, TableError
from manifests.frozen import Manifest, find_manifest, read_manifest
from manifests.workspace import Workspace, checked_name


@dataclass(frozen=True)
class AuditPlan:
    """One audit as it was planned.

    Attributes
    ----------
    audit : str
        Its name.
    manifest, content_sha256 : str
        Folder of the frozen set, and the digest of its records.
    n_images : int
        Images of the set.
    goal : Goal
        What it is to show.
    earlier : tuple of str
        The audits that were planned before of sets that share an image with this one, sorted.
    logs : dict of str to LogHead
        How far each annotator's log went: whatever was answered up to there was not answered for this audit.
    seed : int
        Of the draw; it follows from the set's digest and the number of earlier audits.
    looks : tuple of Look
        When it is read; they follow from the goal, `n_images` and the number of earlier audits.
    """

    audit: str
    manifest: str
    content_sha256: str
    n_images: int
    goal: Goal
    earlier: tuple[str, ...]
    logs: dict[str, LogHead]
    seed: int
    looks: tuple[Look, ...]

    @property
    def design(self) -> Design:
        """The looks with what they bound."""
        return audit_design(self.goal, self.n_images, len(self.earlier))

    def sample(self, image_ids: Sequence[str]) -> list[str]:
        """Return the images of all looks in the order drawn, a simple random sample of `image_ids`.

        The digest of the set goes into the draw: the same seed draws afresh from its next version.
        """
        purpose = f"audit {self.content_sha256}"
        return sorted(image_ids, key=lambda one: (drawn_number(purpose, one, self.seed), one))[
            : self.looks[-1].n_images
        ]


def plan_audit(workspace: Workspace, manifest: str | None, goal: Goal, *, audit: str | None = None) -> AuditPlan:
    """Store the plan of an audit and its first sample, and return the plan; the same one again changes nothing.

    Parameters
    ----------
    workspace : Workspace
        With the frozen set.
    manifest : str, optional
        Its folder, ``<name>-<X.Y.Z>``; may be left out where there is only one.
    goal : Goal
        What to show.
    audit : str, optional
        Name of the audit; that of the folder where it is not given.

    Raises
    ------
    InputError
        A number or name is not what it should be, or an audit of this name was planned otherwise.
    TableError
        A log is damaged, or an earlier audit is named whose plan is gone.
    """
    frozen = find_manifest(workspace.manifests_dir, manifest)
    name = checked_name(audit or frozen.folder.name, "--name")
    path = plan_path(workspace, name)
    arguments = {"audit": name, "manifest": frozen.folder.name, "goal": asdict(goal)}
    with workspace.stage("audit", arguments, record_as=f"audit.{name}") as record:
        # Planned in the stage, as the number of earlier audits has to stand still.
        plan = read_plan(workspace, name) if path.exists() else _new_plan(workspace, name, frozen, goal)
        record.seed = plan.seed
        content = frozen.header["content_sha256"]
        if (plan.manifest, plan.content_sha256, plan.goal) != (frozen.folder.name, content, goal):
            raise InputError(
                f"{path}: this audit was planned with other arguments, and a plan never changes: give another "
                "--name"
            )
        if not path.exists():
            write_json(path, asdict(plan))
        if not workspace.has(schema.audit_table(name)):
            draw_look(workspace, plan, frozen, 0)
        record.counts = {"drawn": workspace.read(schema.audit_table(name)).num_rows}
    return plan


def _new_plan(workspace: Workspace, name: str, frozen: Manifest, goal: Goal) -> AuditPlan:
    earlier = tuple(overlapping_audits(workspace, images_of(frozen.records)))
    n_images, content = frozen.records.num_rows, frozen.header["content_sha256"]
    looks = audit_design(goal, n_images, len(earlier)).looks
    logs = log_heads(read_ballots(workspace))
    seed = audit_seed(content, len(earlier))
    return AuditPlan(name, frozen.folder.name, content, n_images, goal, earlier, logs, seed, looks)


def log_heads(ballots: Ballots) -> dict[str, LogHead]:
    """Return how far each annotator's log goes."""
    return {name: LogHead(len(log.decisions), log.last_hash) for name, log in ballots.logs.items()}


def draw_look(workspace: Workspace, plan: AuditPlan, frozen: Manifest, place: int) -> None:
    """Write the images of all looks up to the one at `place` for the annotators."""
    strata = _strata(frozen)
    drawn = plan.sample(sorted(strata))[: plan.looks[place].n_images]
    rows = [{"image_id": one, "audit": plan.audit, "stratum": strata[one]} for one in drawn]
    workspace.write(schema.audit_table(plan.audit), rows)


def plan_path(workspace: Workspace, audit: str) -> Path:
    """Return where a plan lies."""
    return workspace.audits_dir / f"{audit}.json"


def audit_names(workspace: Workspace) -> list[str]:
    """Return the names of all audits planned, sorted."""
    return sorted(path.stem for path in workspace.audits_dir.glob("*.json"))


def read_plan(workspace: Workspace, audit: str | None) -> AuditPlan:
    """Return a plan by its name, or the only one.

    Raises
    ------
    InputError
        There is none of that name, none at all, or several.
    TableError
        The file is no plan, or its looks or its seed do not follow from it.
    """
    names = audit_names(workspace)
    if audit is None and len(names) == 1:
        audit = names[0]
    if audit is None or audit not in names:
        given = "" if audit is None else f" {audit}"
        raise InputError(f"--name{given}: expected an audit that was planned; here: {', '.join(names) or 'none'}")
    path = plan_path(workspace, audit)
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        looks = tuple(Look(**look) for look in row["looks"])
        logs = {name: LogHead(**head) for name, head in row["logs"].items()}
        parts = {"goal": Goal(**row["goal"]), "earlier": tuple(row["earlier"]), "logs": logs, "looks": looks}
        plan = AuditPlan(**{**row, **parts})
        expected = (audit, audit_seed(plan.content_sha256, len(plan.earlier)), plan.design.looks)
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise TableError(f"{path}: not the plan of an audit ({error})") from error
    if (plan.audit, plan.seed, plan.looks) != expected:
        raise TableError(f"{path}: was changed: its looks, its seed or its name are not those of its goal")
    return plan


def audited_sample(workspace: Workspace, plan: AuditPlan) -> tuple[Manifest, int, dict[str, str | None]]:
    """Return the audited set, the place of the look that is drawn, and the stratum of each image drawn.

    Raises
    ------
    InputError
        The set is not the one that the plan was made for.
    TableError
        The images in the table are not those that the seed draws.
    """
    folder = workspace.manifests_dir / plan.manifest
    frozen = read_manifest(folder)
    if (frozen.header["content_sha256"], frozen.records.num_rows) != (plan.content_sha256, plan.n_images):
        raise InputError(
            f"{folder}: has the digest {frozen.header['content_sha256'][:12]}, but the audit {plan.audit} was "
            f"drawn from {plan.content_sha256[:12]}: the set has changed since"
        )
    table = schema.audit_table(plan.audit)
    rows = {row["image_id"]: (row["audit"], row["stratum"]) for row in workspace.read(table).to_pylist()}
    strata = _strata(frozen)
    for place, look in enumerate(plan.looks):
        drawn = plan.sample(sorted(strata))[: look.n_images]
        if rows == {one: (plan.audit, strata[one]) for one in drawn}:
            return frozen, place, {one: strata[one] for one in drawn}
    raise TableError(
        f"{workspace.path_of(table)}: holds {len(rows):,} images that are not those drawn by seed {plan.seed}"
    )


def _strata(frozen: Manifest) -> dict[str, str | None]:
    ids, strata = (frozen.records.column(name).to_pylist() for name in ("image_id", "strata"))
    return dict(zip(ids, strata, strict=True))
