"""Simulated annotators, for the embedded demo and for planning: real decision logs without any human.

Whatever they write says so: annotator ids ``simulated-1``, ``simulated-2``, ... and the guideline ``simulated``.
"""

import csv
import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from annotation.decision_log import open_log
from annotation.decisions import MAX_CLASS_INDEX, Decision, standing_answers
from annotation.judging import QUEUE
from annotation.review import ReviewItem, read_review
from manifests.errors import InputError
from manifests.workspace import Workspace, tool_version

GUIDELINE = "simulated"

CORNER_FACTOR = 3.0
"""How many times likelier a small object in a corner is missed. An assumption, not a measurement."""

FALSE_IN_FACTOR = 0.25
"""How much rarer than a miss an object is seen that is not there. An assumption, not a measurement."""

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""Fixed, so that a second run writes the same bytes; plainly not the time of any human work."""

_TRUTHS_CLEAR = ("in", "out")


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
class _Truth:
    truth: str
    class_index: int | None
    is_corner: bool


@dataclass(frozen=True)
class _ErrorModel:
    error_rate: float
    difficult_rate: float
    seed: int

    def decide(self, item: ReviewItem, truth: _Truth, annotator_id: str) -> Decision:
        """Return the annotator's decision, which depends on nothing but seed, annotator and picture."""
        key = hashlib.sha256(f"{self.seed}/{annotator_id}/{item.image_id}".encode()).hexdigest()
        draws = random.Random(int(key, 16))
        answer, class_index = self._answer(item, truth, draws)
        seconds = round(1 + 4 * draws.random(), 3)
        # Any second of the year: the order of the log says what came first, not this.
        at = _EPOCH + timedelta(seconds=draws.randrange(365 * 24 * 3600))
        return Decision(
            decision_id=f"{GUIDELINE}-{key[:32]}",
            image_id=item.image_id,
            answer=answer,
            class_index=class_index,
            shown_classes=item.shown_classes,
            queue=QUEUE,
            seconds=seconds,
            guideline=GUIDELINE,
            tool_version=tool_version(),
            at=at.isoformat(timespec="milliseconds"),
        )

    def _answer(self, item: ReviewItem, truth: _Truth, draws: random.Random) -> tuple[str, int | None]:
        # All draws are made whatever the answer, so that two error models differ only where they decide so.
        hesitates, errs = draws.random() < self.difficult_rate, draws.random()
        guess = draws.choice(item.shown_classes) if item.shown_classes else None
        if hesitates or truth.truth not in _TRUTHS_CLEAR:
            return "difficult", None
        if truth.truth == "out":
            sees_in = guess is not None and errs < self.error_rate * FALSE_IN_FACTOR
            return ("in", guess) if sees_in else ("out", None)
        misses = errs < min(1.0, self.error_rate * (CORNER_FACTOR if truth.is_corner else 1.0))
        if misses or truth.class_index not in item.shown_classes:
            return "out", None
        return "in", truth.class_index


def simulate(
    workspace: Workspace,
    truth_path: Path,
    *,
    n_annotators: int = 2,
    error_rate: float = 0.05,
    difficult_rate: float = 0.02,
    seed: int = 0,
) -> SimulationSummary:
    """Answer every picture under review not answered yet, and return what was written.

    The error model, for each annotator and picture by itself:

    - With `difficult_rate` the answer is ``difficult``; so it is for a truth other than ``in`` and ``out``.
    - A true ``in`` is missed, and answered ``out``, with `error_rate`, and `CORNER_FACTOR` times as often where
      the truth's ``kind`` is ``corner`` (a small object).
    - A true ``in`` whose class is **not among the shown classes** is answered ``out``: the annotator cannot name
      what is not offered. That is the published set's own failure, and why it matters which classes are shown.
    - A true ``out`` is answered ``in``, with one of the shown classes, with `FALSE_IN_FACTOR` times `error_rate`.

    The rates are assumptions. Errors are independent; colluding annotators are not simulated.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    truth_path : Path
        CSV with the columns image_id, truth and class_index, and optionally kind; others are passed over.
    n_annotators : int
        At least 1.
    error_rate, difficult_rate : float
        In [0, 1].
    seed : int
        Equal seeds give equal logs.

    Raises
    ------
    InputError
        A rate is no rate, the truth cannot be read, or a picture under review is not in it.
    StageMissingError
        `screen` has not been run.
    """
    _check_rates(n_annotators, error_rate=error_rate, difficult_rate=difficult_rate)
    model = _ErrorModel(error_rate, difficult_rate, seed)
    truths = _read_truths(truth_path)
    items = read_review(workspace)
    absent = sorted(item.image_id for item in items if item.image_id not in truths)
    if absent:
        raise InputError(
            f"{truth_path}: expected every picture under review, {len(absent)} are missing, first {absent[0]}"
        )
    annotators = tuple(f"simulated-{number}" for number in range(1, n_annotators + 1))
    n_by_answer: Counter[str] = Counter()
    for annotator_id in annotators:
        n_by_answer.update(_answer_all(workspace, annotator_id, items, truths, model))
    return SimulationSummary(annotators, dict(sorted(n_by_answer.items())))


def _answer_all(
    workspace: Workspace,
    annotator_id: str,
    items: Sequence[ReviewItem],
    truths: dict[str, _Truth],
    model: _ErrorModel,
) -> list[str]:
    with open_log(workspace, annotator_id) as log:
        answered = standing_answers(log.decisions)
        decisions = [
            model.decide(item, truths[item.image_id], annotator_id)
            for item in items
            if item.image_id not in answered
        ]
        log.append_all(decisions)
    return [decision.answer for decision in decisions]


def _read_truths(truth_path: Path) -> dict[str, _Truth]:
    truths: dict[str, _Truth] = {}
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


def _truth(row: dict[str, str | None], where: str) -> _Truth:
    text = row["class_index"] or ""
    is_class = text.isascii() and text.isdigit() and int(text) <= MAX_CLASS_INDEX
    if not row["truth"] or (row["truth"] == "in" and not is_class):
        raise InputError(
            f"{where}: expected a truth, and a class index with 'in'; found {row['truth']!r} and {text!r}"
        )
    return _Truth(row["truth"], int(text) if is_class else None, row.get("kind") == "corner")


def _check_rates(n_annotators: int, **rates: float) -> None:
    if n_annotators < 1:
        raise InputError(f"n_annotators: expected 1 or more, found {n_annotators}")
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise InputError(f"{name}: expected a share in [0, 1], found {rate}")
