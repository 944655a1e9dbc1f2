"""Consensus: what the independent answers of all annotators come to, one verdict an image."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from annotation.decision_log import annotator_ids, log_path, read_decisions
from annotation.decisions import Decision, standing_answers
from annotation.review import review_image_ids
from manifests import schema
from manifests.workspace import Workspace

MIN_ANSWERS = 2
"""At least two annotators must have answered, as in the ViM paper, section 5."""

INDEPENDENT_QUEUE = "first"
"""Only in this queue do annotators answer blind; rulings, inspections and audits are not votes."""


@dataclass(frozen=True)
class ConsensusSummary:
    """What one run of the stage found.

    Attributes
    ----------
    n_by_verdict : dict of str to int
        Images by verdict, in the order of `manifests.schema.VERDICT_WORDS`.
    n_annotators : int
        Annotators with at least one standing answer.
    n_answers_outside : int
        Standing answers on images that are not under review; kept in the logs, used in no verdict.
    image_ids_outside : tuple of str
        Those images, sorted.
    """

    n_by_verdict: dict[str, int]
    n_annotators: int
    n_answers_outside: int
    image_ids_outside: tuple[str, ...]


def verdict_rows(
    image_ids: Iterable[str], answers_by_annotator: Mapping[str, Mapping[str, Decision]]
) -> list[dict[str, Any]]:
    """Return one row of `manifests.schema.VERDICTS` for each image, whatever the order of annotators.

    ``skip`` counts as no answer. Of the rest: fewer than two are ``open``; all ``out`` is ``out``; all ``in`` is
    ``in``, with the class where all name the same; all ``difficult`` is ``difficult``; anything else is
    ``disputed``.

    Parameters
    ----------
    image_ids : iterable of str
        The images under review.
    answers_by_annotator : mapping of str to mapping of str to Decision
        Annotator to image to standing answer.
    """
    return [
        _verdict_row(
            image_id,
            [
                answers[image_id]
                for answers in answers_by_annotator.values()
                if image_id in answers and answers[image_id].answer != "skip"
            ],
        )
        for image_id in sorted(image_ids)
    ]


def run_consensus(workspace: Workspace) -> ConsensusSummary:
    """Write ``verdicts.parquet`` from all decision logs of the workspace.

    Raises
    ------
    StageMissingError
        `screen` has not been run.
    TableError
        A decision log is damaged; the message names file and line.
    WorkspaceLockedError
        Another process is at work here.
    """
    annotators = annotator_ids(workspace)
    log_paths = [log_path(workspace, annotator_id) for annotator_id in annotators]
    inputs = [workspace.path_of(schema.SCREEN), *log_paths]
    with workspace.stage("consensus", {"min_answers": MIN_ANSWERS}, inputs) as record:
        image_ids = review_image_ids(workspace)
        decisions = {
            annotator_id: read_decisions(path) for annotator_id, path in zip(annotators, log_paths, strict=True)
        }
        answers = {annotator_id: _independent(given) for annotator_id, given in decisions.items()}
        rows = verdict_rows(image_ids, answers)
        workspace.write(schema.VERDICTS, rows)
        summary = _summary(image_ids, rows, answers)
        record.counts = {f"verdict_{verdict}": n for verdict, n in summary.n_by_verdict.items()} | {
            "answers_outside_review": summary.n_answers_outside,
            "decisions_of_other_queues": sum(
                decision.queue != INDEPENDENT_QUEUE for given in decisions.values() for decision in given
            ),
        }
        record.details = {
            # A log may grow while this runs; with the count it is plain which part of it was read.
            "decisions_read": {annotator_id: len(given) for annotator_id, given in decisions.items()},
            "images_outside_review": list(summary.image_ids_outside),
        }
    return summary


def _independent(decisions: Iterable[Decision]) -> dict[str, Decision]:
    return standing_answers(decision for decision in decisions if decision.queue == INDEPENDENT_QUEUE)


def _verdict_row(image_id: str, given: list[Decision]) -> dict[str, Any]:
    n_by_answer = Counter(decision.answer for decision in given)
    verdict = _verdict(n_by_answer)
    classes = {decision.class_index for decision in given}
    return {
        "image_id": image_id,
        "verdict": verdict,
        "source": "consensus",
        "n_out": n_by_answer["out"],
        "n_in": n_by_answer["in"],
        "n_difficult": n_by_answer["difficult"],
        "class_index": classes.pop() if verdict == "in" and len(classes) == 1 else None,
    }


def _verdict(n_by_answer: Counter[str]) -> str:
    if n_by_answer.total() < MIN_ANSWERS:
        return "open"
    if len(n_by_answer) > 1:
        return "disputed"
    return next(iter(n_by_answer))


def _summary(
    image_ids: list[str], rows: list[dict[str, Any]], answers: Mapping[str, Mapping[str, Decision]]
) -> ConsensusSummary:
    n_by_verdict = Counter(row["verdict"] for row in rows)
    under_review = set(image_ids)
    outside = [image_id for given in answers.values() for image_id in given if image_id not in under_review]
    return ConsensusSummary(
        n_by_verdict={verdict: n_by_verdict[verdict] for verdict in schema.VERDICT_WORDS},
        n_annotators=sum(bool(given) for given in answers.values()),
        n_answers_outside=len(outside),
        image_ids_outside=tuple(sorted(set(outside))),
    )
