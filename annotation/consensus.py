"""The consensus stage: what all answers of a workspace come to, one verdict an image."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from annotation.ballots import Ballots, read_ballots
from annotation.decision_log import annotator_ids, log_path
from annotation.decisions import Decision
from annotation.gold import read_gold
from annotation.log_heads import change_of, log_heads, recorded_heads
from annotation.log_reader import LogReader
from annotation.review import review_image_ids
from annotation.rounds import read_rounds, round_paths, round_results, votes_needed
from annotation.standstill import Standstill, standstill
from annotation.statistics.mask_figures import MaskFigures, mask_figures
from annotation.verdicts import ConsensusRule, n_votes_of, verdict_rows
from manifests import schema
from manifests.errors import InputError, TableError
from manifests.workspace import Workspace

INDEPENDENT_QUEUE = "first"
"""Only in this queue do annotators vote, each blind to the others."""


@dataclass(frozen=True)
class ConsensusSummary:
    """What one run of the stage found.

    Attributes
    ----------
    rule : ConsensusRule
        By which.
    n_by_verdict : dict of str to int
        Images by verdict, in the order of `manifests.schema.VERDICT_WORDS`, without those of `n_gold`.
    n_gold : int
        Gold images under review: they are asked as gold, wait for no vote, and are ``open`` in the table.
    n_by_source : dict of str to int
        Images with a verdict, or in dispute, by `manifests.schema.VERDICT_SOURCES`.
    n_annotators : int
        Annotators with at least one vote that counts.
    n_sent_back : int
        Open images that had votes enough until their stratum failed a round of inspection.
    n_answers_outside : int
        Votes on images that are not under review; kept in the logs, used in no verdict.
    image_ids_outside : tuple of str
        Those images, sorted.
    standstill : Standstill
        Images that go no further with the people there are.
    accepted_changes : tuple of str
        How logs no longer begin with what the last run has read, in words.
    masks : tuple of MaskFigures
        The votes on what is under review, with evidence masks opened beside the others; empty where nobody opened
        any.
    """

    rule: ConsensusRule
    n_by_verdict: dict[str, int]
    n_gold: int
    n_by_source: dict[str, int]
    n_annotators: int
    n_sent_back: int
    n_answers_outside: int
    image_ids_outside: tuple[str, ...]
    standstill: Standstill
    accepted_changes: tuple[str, ...]
    masks: tuple[MaskFigures, ...]


def run_consensus(
    workspace: Workspace, rule: ConsensusRule | None = None, *, accept_changed_logs: bool = False
) -> ConsensusSummary:
    """Write ``verdicts.parquet`` from all decision logs and rounds of inspection of the workspace.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    rule : ConsensusRule, optional
        By default that of the last run. It is kept in the stage's record: queues go by it until the next run.
    accept_changed_logs : bool
        Go on although what the last run has read of a log is no longer there; the record says so.

    Raises
    ------
    StageMissingError
        `screen` has not been run.
    InputError
        An annotator to set aside has no log here, or a log no longer begins with what the last run has read.
    TableError
        A decision log is damaged; the message names file and line.
    WorkspaceLockedError
        Another process is at work here.
    """
    rule = recorded_rule(workspace) if rule is None else rule
    annotators = annotator_ids(workspace)
    unknown = sorted(set(rule.set_aside) - set(annotators))
    if unknown:
        raise InputError(f"set aside: {unknown[0]!r} has no log here; there are {', '.join(annotators) or 'none'}")
    arguments = asdict(rule) | {"set_aside": sorted(rule.set_aside)}
    log_paths = [log_path(workspace, annotator_id) for annotator_id in annotators]
    inputs = [workspace.path_of(schema.SCREEN), *log_paths, *round_paths(workspace)]
    with workspace.stage("consensus", arguments, inputs) as record:
        image_ids = review_image_ids(workspace)
        ballots = read_ballots(workspace)
        changes = _changed_logs(workspace, ballots)
        if changes and not accept_changed_logs:
            raise InputError(
                f"{'; '.join(changes)}. Verdicts from it would hide that: bring the logs back, or go on with "
                "--accept-changed-logs, which is recorded"
            )
        needed = needed_by_rounds(workspace, ballots, rule, image_ids)
        rows = current_verdicts(image_ids, ballots, rule, needed)
        workspace.write(schema.VERDICTS, rows)
        summary = _summary(workspace, rows, ballots, rule, changes)
        record.counts = {f"verdict_{verdict}": n for verdict, n in summary.n_by_verdict.items()} | {
            "gold_under_review": summary.n_gold,
            "answers_outside_review": summary.n_answers_outside,
            "decisions_of_other_queues": sum(
                decision.queue != INDEPENDENT_QUEUE for log in ballots.logs.values() for decision in log.decisions
            ),
            **{f"votes_masks_{one.state.replace(' ', '_')}": one.answers.total() for one in summary.masks},
        }
        record.details = log_heads(ballots.logs) | {
            "images_outside_review": list(summary.image_ids_outside),
            "accepted_changes": list(changes),
        }
    return summary


def _changed_logs(workspace: Workspace, ballots: Ballots) -> tuple[str, ...]:
    """Return in words how logs no longer begin with what the last run has read, one that is gone among them."""
    problems = (
        change_of(ballots.logs.get(name) or LogReader(log_path(workspace, name)), head)
        for name, head in sorted(recorded_heads(workspace).items())
    )
    return tuple(problem for problem in problems if problem is not None)


def recorded_rule(workspace: Workspace) -> ConsensusRule:
    """Return the rule of the last run of the stage, or the default one.

    Raises
    ------
    TableError
        The record is damaged.
    """
    arguments = workspace.read_record("consensus", "arguments")
    try:
        return ConsensusRule(
            arguments.get("n_votes", ConsensusRule.n_votes),
            arguments.get("majority", ConsensusRule.majority),
            tuple(arguments.get("set_aside", ())),
        )
    except TypeError as error:
        raise TableError(f"the record of 'consensus' holds no rule ({error})") from error


def current_verdicts(
    image_ids: Iterable[str], ballots: Ballots, rule: ConsensusRule, needed: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the verdict rows that the decisions come to now."""
    return verdict_rows(
        image_ids,
        ballots.votes(INDEPENDENT_QUEUE),
        rule,
        inspections=ballots.votes("inspection"),
        rulings=ballots.votes("dispute"),
        n_needed=needed,
    )


def needed_by_rounds(
    workspace: Workspace, ballots: Ballots, rule: ConsensusRule, image_ids: Iterable[str]
) -> dict[str, int]:
    """Return the votes that images need after failed rounds of inspection; others are not among them."""
    under_review = set(image_ids)
    answers = {
        "inspections": counted_votes(ballots, rule, "inspection"),
        "rulings": counted_votes(ballots, rule, "dispute"),
    }
    return votes_needed(
        result for drawn in read_rounds(workspace) for result in round_results(drawn, under_review, **answers)
    )


def counted_votes(ballots: Ballots, rule: ConsensusRule, queue: str) -> dict[str, dict[str, Decision]]:
    """Return annotator to image to standing answer of one queue, without ``skip`` and those who are set aside."""
    return {name: given for name, given in ballots.votes(queue).items() if name not in rule.set_aside}


def under_review_only(
    votes: Mapping[str, Mapping[str, Decision]], image_ids: Collection[str]
) -> dict[str, dict[str, Decision]]:
    """Return the votes of `counted_votes` without those on images that are not, or no longer, under review."""
    return {
        name: {image_id: decision for image_id, decision in given.items() if image_id in image_ids}
        for name, given in votes.items()
    }


def _summary(
    workspace: Workspace,
    rows: list[dict[str, Any]],
    ballots: Ballots,
    rule: ConsensusRule,
    changes: tuple[str, ...],
) -> ConsensusSummary:
    answers = counted_votes(ballots, rule, INDEPENDENT_QUEUE)
    gold_ids = read_gold(workspace).keys()
    waiting = [row for row in rows if row["verdict"] != "open" or row["image_id"] not in gold_ids]
    n_by_verdict = Counter(row["verdict"] for row in waiting)
    n_by_source = Counter(row["source"] for row in rows if row["verdict"] != "open")
    under_review = {row["image_id"] for row in rows}
    outside = [image_id for given in answers.values() for image_id in given if image_id not in under_review]
    return ConsensusSummary(
        rule=rule,
        n_by_verdict={verdict: n_by_verdict[verdict] for verdict in schema.VERDICT_WORDS},
        n_gold=len(rows) - len(waiting),
        n_by_source={source: n_by_source[source] for source in schema.VERDICT_SOURCES},
        n_annotators=sum(bool(given) for given in answers.values()),
        n_sent_back=sum(row["verdict"] == "open" and n_votes_of(row) >= rule.n_votes for row in waiting),
        n_answers_outside=len(outside),
        image_ids_outside=tuple(sorted(set(outside))),
        standstill=standstill(rows, ballots, rule, gold_ids),
        accepted_changes=changes,
        masks=mask_figures(under_review_only(answers, under_review)),
    )
