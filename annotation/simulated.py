"""Simulated annotators, for the embedded demo and for planning: real decision logs without any human.

Whatever they write says so: annotator ids begin with ``simulated-``, and the guideline is ``simulated``.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from annotation.decision_log import open_log
from annotation.decisions import MAX_CLASS_INDEX, Decision, standing_answers
from annotation.error_models import SimulatedAnnotator, Truth, draw_key
from annotation.gold import read_gold
from annotation.mask_use import MaskUse
from annotation.queues import open_queue
from annotation.review import ReviewItem, read_review
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace, tool_version

GUIDELINE = "simulated"

QUEUES = ("first", "audit")
"""The queues that a simulated annotator can be set to."""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""Fixed, so that a second run writes the same bytes; plainly not the time of any human work."""


@dataclass(frozen=True)
class SimulationSummary:
    """What the simulated annotators wrote in one run.

    Attributes
    ----------
    annotator_ids : tuple of str
        Who.
    n_by_answer : dict of str to int
        Answers over all of them.
    """

    annotator_ids: tuple[str, ...]
    n_by_answer: dict[str, int]


@dataclass(frozen=True)
class _Task:
    """One picture in one queue, with what the annotator is shown and what is true."""

    image_id: str
    queue: str
    shown_classes: tuple[int, ...]
    truth: Truth

    def decision(self, annotator: SimulatedAnnotator, seed: int, version: str) -> Decision:
        given = annotator.answer(self.image_id, self.truth, self.shown_classes, seed)
        key = draw_key(seed, annotator.annotator_id, self.image_id)
        # Any second of the year: the order of the log says what came first, not this.
        at = _EPOCH + timedelta(seconds=key % (365 * 24 * 3600))
        # One picture can stand in both queues; each answer needs an id of its own.
        ending = "" if self.queue == "first" else f"-{self.queue}"
        return Decision(
            decision_id=f"{GUIDELINE}-{key:064x}"[: len(GUIDELINE) + 33] + ending,
            image_id=self.image_id,
            answer=given.answer,
            class_index=given.class_index,
            shown_classes=self.shown_classes,
            queue=self.queue,
            seconds=given.seconds,
            guideline=GUIDELINE,
            tool_version=version,
            at=at.isoformat(timespec="milliseconds"),
            # No error model looks at a mask, so none is offered.
            masks=MaskUse("none"),
        )


def simulate_team(
    workspace: Workspace,
    truth_path: Path,
    team: Sequence[SimulatedAnnotator],
    *,
    seed: int = 0,
    with_gold: bool = False,
    queue: str = "first",
) -> SimulationSummary:
    """Let each of `team` answer every picture of a queue not answered yet, and return what was written.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    truth_path : Path
        CSV with the columns image_id, truth and class_index, and optionally kind; others are passed over.
    team : sequence of SimulatedAnnotator
        From `annotation.error_models.simulated_team`.
    seed : int
        Equal seeds give equal logs.
    with_gold : bool
        They answer the gold images too, in the queue ``gold``, with the same errors. Gold under review is answered
        in no other queue, as `annotation.queues` has it.
    queue : str
        ``first``, the pictures under review, or ``audit``, those of all audits. As with people, nobody audits a
        picture that they have answered before.

    Raises
    ------
    InputError
        The truth cannot be read, a picture of the queue is not in it, gold or audits are asked for and there are
        none, or `queue` is another.
    StageMissingError
        `screen` has not been run.
    """
    if queue not in QUEUES:
        raise InputError(f"--queue: expected {' or '.join(QUEUES)}, found {queue!r}")
    truths = _read_truths(truth_path)
    gold_tasks = _gold_tasks(workspace, truths) if with_gold else []
    n_by_answer: Counter[str] = Counter()
    for annotator in team:
        items = read_review(workspace) if queue == "first" else _audit_items(workspace, annotator.annotator_id)
        tasks = _tasks(workspace, items, queue, truths, truth_path) + gold_tasks
        n_by_answer.update(_answer_all(workspace, annotator, tasks, seed))
    return SimulationSummary(
        tuple(annotator.annotator_id for annotator in team), dict(sorted(n_by_answer.items()))
    )


def _audit_items(workspace: Workspace, annotator_id: str) -> list[ReviewItem]:
    """Return the pictures of all audits that this annotator has not answered, in the order of their queue."""
    if not any(workspace.audits_dir.glob("*.parquet")):
        raise InputError("--queue audit: there is no audit here: run 'audit plan' first")
    queue = open_queue(workspace, annotator_id, "audit", gold_share=0.0)
    return queue.upcoming(queue.n_left)


def _tasks(
    workspace: Workspace, items: Sequence[ReviewItem], queue: str, truths: Mapping[str, Truth], truth_path: Path
) -> list[_Task]:
    absent = sorted(item.image_id for item in items if item.image_id not in truths)
    if absent:
        raise InputError(
            f"{truth_path}: expected every picture under review, {len(absent)} are missing, first {absent[0]}"
        )
    gold = read_gold(workspace)
    return [
        _Task(item.image_id, queue, item.shown_classes, truths[item.image_id])
        for item in items
        if item.image_id not in gold
    ]


def _gold_tasks(workspace: Workspace, truths: Mapping[str, Truth]) -> list[_Task]:
    """Return the gold images as tasks; the answer is gold's, whether the object is small the truth table's."""
    gold = read_gold(workspace)
    if not gold:
        raise InputError("--gold: there are no gold images here: add some with 'gold --add FILE' first")
    screened = workspace.read(schema.SCREEN)
    shown = dict(zip(*(screened.column(name).to_pylist() for name in ("image_id", "shown_classes")), strict=True))
    tasks = []
    for image_id, entry in gold.items():
        known = truths.get(image_id)
        classes = tuple(shown.get(image_id) or ())
        class_index = entry.class_index
        if entry.answer == "in" and class_index is None:
            # Gold that takes any class: the truth table's, or one that is shown.
            class_index = known.class_index if known and known.class_index is not None else min(classes, default=0)
        truth = Truth(entry.answer, class_index, known is not None and known.is_corner)
        # A gold image that was never screened has no shown classes: then its own is found by search.
        tasks.append(_Task(image_id, "gold", classes or (() if class_index is None else (class_index,)), truth))
    return tasks


def _answer_all(
    workspace: Workspace, annotator: SimulatedAnnotator, tasks: Sequence[_Task], seed: int
) -> list[str]:
    version = tool_version()
    with open_log(workspace, annotator.annotator_id) as log:
        answered = {
            queue: standing_answers(decision for decision in log.decisions if decision.queue == queue)
            for queue in (*QUEUES, "gold")
        }
        decisions = [
            task.decision(annotator, seed, version) for task in tasks if task.image_id not in answered[task.queue]
        ]
        log.append_all(decisions)
    return [decision.answer for decision in decisions]


def _read_truths(truth_path: Path) -> dict[str, Truth]:
    truths: dict[str, Truth] = {}
    try:
        with truth_path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = {"image_id", "truth", "class_index"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{truth_path}: the columns {sorted(missing)} are missing")
            for row in reader:
                where = f"{truth_path}, line {reader.line_num}"
                if row["image_id"] in truths:
                    raise InputError(f"{where}: {row['image_id']} stands twice")
                truths[row["image_id"]] = _truth(row, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{truth_path}: cannot be read as a truth table ({error})") from error
    return truths


def _truth(row: dict[str, str | None], where: str) -> Truth:
    text = row["class_index"] or ""
    is_class = text.isascii() and text.isdigit() and int(text) <= MAX_CLASS_INDEX
    if not row["truth"] or (row["truth"] == "in" and not is_class):
        raise InputError(
            f"{where}: expected a truth, and a class index with 'in'; found {row['truth']!r} and {text!r}"
        )
    return Truth(row["truth"], int(text) if is_class else None, row.get("kind") == "corner")
