"""What the decision logs say of a frozen set, read as far as they went when it was frozen."""

from collections.abc import Collection, Mapping
from typing import Any

from manifests.build_inputs import head_of
from manifests.chained_log import chain_of
from manifests.errors import TableError
from manifests.exporters.exported_set import AnnotationFacts
from manifests.workspace import Workspace

_DECISIONS = "decisions/"
# Audits measure the set and are not what it was made by.
_AUDIT_QUEUE = "audit"


def annotation_facts(
    workspace: Workspace, header: Mapping[str, Any], image_ids: Collection[str]
) -> AnnotationFacts:
    """Return who answered what of these images before they were frozen; nothing for a published list.

    Answers given later change nothing: the same manifest is always described in the same words.

    Raises
    ------
    TableError
        A log is not the one that the manifest was frozen with, continued.
    """
    standing = []
    for name, stated in sorted(header.get("logs", {}).items()):
        if not name.startswith(_DECISIONS):
            continue
        path = workspace.root / name
        chain, head = chain_of(path), head_of(stated, f"manifest.json, logs, {name}")
        broken = chain.problem if len(chain.rows) < head.n_lines else None
        if problem := broken or chain.departs_from(head):
            raise TableError(f"{path}: not the log that the manifest was frozen with ({problem})")
        standing.append(_standing_answers(chain.rows[: head.n_lines], image_ids))
    answers = [row for of_annotator in standing for row in of_annotator]
    if not answers:
        return AnnotationFacts()
    days = sorted(str(row["at"])[:10] for row in answers)
    return AnnotationFacts(
        n_annotators=sum(bool(of_annotator) for of_annotator in standing),
        n_answers=len(answers),
        first_day=days[0],
        last_day=days[-1],
        guidelines=tuple(sorted({str(row["guideline"]) for row in answers})),
        tool_versions=tuple(sorted({str(row["tool_version"]) for row in answers})),
    )


def _standing_answers(rows: list[dict[str, Any]], image_ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the last answer to each image that was not taken back."""
    given: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["image_id"] not in image_ids or row["queue"] == _AUDIT_QUEUE:
            continue
        of_image = given.setdefault(row["image_id"], [])
        if row["answer"] != "undo":
            of_image.append(row)
        elif of_image:
            of_image.pop()
    return [of_image[-1] for of_image in given.values() if of_image and of_image[-1]["answer"] != "skip"]
