"""The section of checks: rounds of inspection over what was agreed, and audits of what was frozen."""

from annotation.audit.answers import audit_answers
from annotation.audit.plan import AuditPlan, audit_names, audited_sample, read_plan
from annotation.inspection import results_of
from annotation.report.team import Team
from annotation.rounds import Round, StratumResult, read_rounds
from manifests.certified import read_certificate
from manifests.errors import InputError, TableError
from manifests.report.own_pictures import own_pictures
from manifests.report.parts import Card, Gallery, Part, Section, Table, Text
from manifests.workspace import Workspace

KEY, TITLE = "checks", "Inspections and audits"
_MOST_CARDS = 60


def checks_section(team: Team) -> Section:
    """Return the section: each round by stratum, each audit with what it found; missing where there is neither."""
    rounds = read_rounds(team.workspace)
    plans = [read_plan(team.workspace, name) for name in audit_names(team.workspace)]
    steps = []
    if not rounds:
        steps.append("No round of inspection has been drawn: `python cli.py inspect --sample N`.")
    if not plans:
        steps.append("No frozen set has been audited: `python cli.py audit plan`.")
    if len(steps) == 2:
        return Section(KEY, TITLE, missing=" ".join(steps))
    # With one of the two there, the section has something: what else could be done stands back.
    parts: list[Part] = [Text(step, is_quiet=True) for step in steps]
    parts += [_round_table(drawn, results_of(team.workspace, drawn, team.ballots)) for drawn in rounds]
    if plans:
        parts.append(_audit_table(team, plans))
        parts += _with_masks(team.workspace, plans)
        parts += _defects(team.workspace, plans)
    return Section(KEY, TITLE, parts)


def _round_table(drawn: Round, results: list[StratumResult]) -> Table:
    rows = []
    for result in results:
        found = result.defects
        rate = f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})" if found.n_all else "-"
        state = "failed: sent back" if result.has_failed else "passed" if result.is_complete else "open"
        rows.append((
            result.stratum.name, f"{len(result.stratum.n_votes):,}", f"{result.n_sample:,}", f"{found.n_all:,}",
            f"{found.n_hits:,}", rate, state,
        ))  # fmt: skip
    header = ("stratum", "images", "drawn", "inspected", "defects", "rate (95 % interval)", "")
    caption = (
        f"Inspection round {drawn.number}: agreed images, judged once more. A stratum fails above "
        f"{drawn.max_defects:.1%} of its sample; then each of its images needs one vote more."
    )
    return Table(header, rows, caption, frozenset({1, 2, 3, 4, 5}))


def _audit_table(team: Team, plans: list[AuditPlan]) -> Table:
    header = ("audit", "of", "images", "drawn", "answered", "in", "difficult", "state")
    caption = (
        "Audits: blind samples of a frozen set, by fresh eyes. What an open audit has found so far certifies "
        "nothing, and must not reach its auditors."
    )
    return Table(header, [_audit_row(team, plan) for plan in plans], caption, frozenset({2, 3, 4, 5, 6}))


def _audit_row(team: Team, plan: AuditPlan) -> tuple[str, ...]:
    head = (plan.audit, plan.manifest, f"{plan.n_images:,}")
    try:
        _, place, stratum_of = audited_sample(team.workspace, plan)
        words = list(audit_answers(team.ballots, stratum_of, team.rule, team.gold, plan.logs).words.values())
    except TableError:
        raise
    except InputError as error:
        # The set was changed or removed since: the plan still counts, and is told.
        return (*head, "-", "-", "-", "-", str(error))
    counts = (len(stratum_of), len(words), words.count("in"), words.count("difficult"))
    return (*head, *(f"{n:,}" for n in counts), _audit_state(team.workspace, plan, place))


def _audit_state(workspace: Workspace, plan: AuditPlan, place: int) -> str:
    path = workspace.certificates_dir / f"{plan.audit}.json"
    if not path.exists():
        return f"open, look {place + 1} of {len(plan.looks)}; `audit report` reads it"
    certificate = read_certificate(path)
    word = "certified" if certificate["is_certified"] else "not certified"
    return f"{word}: at most {certificate['upper_bound']:.4%} at {100 * certificate['confidence']:.4g} %"


def _with_masks(workspace: Workspace, plans: list[AuditPlan]) -> list[Text]:
    """Return what logs say of evidence masks opened in audits that have ended; audits themselves offer none."""
    paths = [workspace.certificates_dir / f"{plan.audit}.json" for plan in plans]
    opened = {path.stem: read_certificate(path).get("masks_opened", []) for path in paths if path.exists()}
    return [
        Text(
            f"Audit {audit}: images answered with evidence masks opened, which audits do not offer: "
            f"{len(image_ids):,}."
        )
        for audit, image_ids in opened.items()
        if image_ids
    ]


def _defects(workspace: Workspace, plans: list[AuditPlan]) -> list[Gallery]:
    """Return the defects that ended audits name: nobody is blind to these any more."""
    paths = [workspace.certificates_dir / f"{plan.audit}.json" for plan in plans]
    found = [(path.stem, one) for path in paths if path.exists() for one in read_certificate(path)["defects"]]
    if not found:
        return []
    shown = found[:_MOST_CARDS]
    pictures = own_pictures(workspace, [image_id for _, image_id in shown])
    cards = [Card([pictures[image_id]], [image_id, f"audit {audit}"]) for audit, image_id in shown]
    caption = f"{len(cards):,} of {len(found):,} images of frozen sets that an auditor called in-distribution."
    return [Gallery("Defects that audits found", cards, caption)]
