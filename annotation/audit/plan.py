"""Planning an audit: a blind sample, drawn by seed from a frozen set, and the rule by which it will be read.

The plan, ``audits/<audit>.json``, never changes. The table beside it holds the images drawn so far, which are
those of the first looks in the order of the draw; what the next look needs is drawn only when it is needed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from manifests import schema
from manifests.certificate import Design, Look, sequential_design
from manifests.draws import drawn_number
from manifests.durable import write_json
from manifests.errors import InputError, TableError
from manifests.frozen import Manifest, find_manifest, read_manifest
from manifests.workspace import Workspace, checked_name


@dataclass(frozen=True)
class Goal:
    """What an audit is to show: a share of defects of at most `bound`, at `confidence`.

    `max_defects` of the sample are allowed at the last of `n_looks` looks; one look is a sample of fixed size.
    """

    bound: float = 0.01
    confidence: float = 0.95
    max_defects: int = 0
    n_looks: int = 1


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
    seed : int
        Of the draw.
    looks : tuple of Look
        When it is read; they follow from the goal and from `n_images`.
    """

    audit: str
    manifest: str
    content_sha256: str
    n_images: int
    goal: Goal
    seed: int
    looks: tuple[Look, ...]

    @property
    def design(self) -> Design:
        """The looks with what they bound."""
        return Design(self.goal.bound, self.goal.confidence, self.looks)

    def sample(self, image_ids: Sequence[str]) -> list[str]:
        """Return the images of all looks in the order drawn, a simple random sample of `image_ids`.

        The digest of the set goes into the draw: the same seed draws afresh from its next version.
        """
        purpose = f"audit {self.content_sha256}"
        return sorted(image_ids, key=lambda one: (drawn_number(purpose, one, self.seed), one))[
            : self.looks[-1].n_images
        ]


def plan_audit(
    workspace: Workspace, manifest: str | None, goal: Goal, *, seed: int = 0, audit: str | None = None
) -> AuditPlan:
    """Store the plan of an audit and its first sample, and return the plan; the same one again changes nothing.

    Parameters
    ----------
    workspace : Workspace
        With the frozen set.
    manifest : str, optional
        Its folder, ``<name>-<X.Y.Z>``; may be left out where there is only one.
    goal : Goal
        What to show.
    seed : int
        Of the draw. It should be fixed before anybody knows what it draws.
    audit : str, optional
        Name of the audit; that of the folder where it is not given.

    Raises
    ------
    InputError
        A number or name is not what it should be, or an audit of this name was planned otherwise.
    """
    frozen = find_manifest(workspace.manifests_dir, manifest)
    name = checked_name(audit or frozen.folder.name, "--name")
    n_images = frozen.records.num_rows
    plan = AuditPlan(
        name, frozen.folder.name, frozen.header["content_sha256"], n_images, goal, seed, _looks(goal, n_images)
    )
    path = plan_path(workspace, name)
    with workspace.stage("audit", asdict(plan), record_as=f"audit.{name}") as record:
        record.seed = seed
        if not path.exists():
            write_json(path, asdict(plan))
        elif read_plan(workspace, name) != plan:
            raise InputError(
                f"{path}: this audit was planned with other arguments, and a plan never changes: give another "
                "--name"
            )
        if not workspace.has(schema.audit_table(name)):
            draw_look(workspace, plan, frozen, 0)
        record.counts = {"drawn": workspace.read(schema.audit_table(name)).num_rows}
    return plan


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
        The file is no plan, or its looks do not follow from its goal.
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
        plan = AuditPlan(**{**row, "goal": Goal(**row["goal"]), "looks": looks})
        expected = _looks(plan.goal, plan.n_images)
    except (ValueError, KeyError, TypeError, InputError) as error:
        raise TableError(f"{path}: not the plan of an audit ({error})") from error
    if plan.audit != audit or plan.looks != expected:
        raise TableError(f"{path}: was changed: its looks or its name are not those of its goal")
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


def _looks(goal: Goal, n_images: int) -> tuple[Look, ...]:
    """Return the looks; of a set no larger than one of them all is audited there, and its share is known."""
    looks = sequential_design(goal.bound, goal.confidence, goal.max_defects, goal.n_looks).looks
    within = tuple(look for look in looks if look.n_images < n_images)
    if len(within) == len(looks):
        return looks
    whole = math.floor(goal.bound * n_images)
    # 0.29 * 100 is below 29.
    most = whole + 1 if (whole + 1) / n_images <= goal.bound else whole
    return (*within, Look(n_images, most))


def _strata(frozen: Manifest) -> dict[str, str | None]:
    ids, strata = (frozen.records.column(name).to_pylist() for name in ("image_id", "strata"))
    return dict(zip(ids, strata, strict=True))
