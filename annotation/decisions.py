"""Decisions: what one annotator answered for one picture, and the check that every stored one must pass."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from annotation.mask_use import STATES, MaskUse, mask_use_from_row
from manifests.errors import InputError
from manifests.image_ids import is_image_id
from manifests.schema import ANSWERS, QUEUES
from manifests.workspace import checked_name

MAX_CLASS_INDEX = 2**15 - 1
"""Class indices are int16 in every table of the workspace."""

MAX_NOTE_CHARS = 2000

_DECISION_ID_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Decision:
    """One answer of one annotator.

    Attributes
    ----------
    decision_id : str
        Made by whoever asks, before the answer is sent, so that a repeated request is known as such.
    image_id : str
        The picture answered.
    answer : str
        One of `manifests.schema.ANSWERS`; ``undo`` takes back the latest standing answer for this image.
    class_index : int or None
        The class seen, with the answer ``in`` only.
    shown_classes : tuple of int
        The classes that stood beside the picture, in the order shown.
    queue : str
        One of `manifests.schema.QUEUES`.
    seconds : float
        From picture on screen to answer.
    guideline : str
        Name and version of the instructions followed.
    tool_version : str
        Version of this toolkit.
    at : str
        Time of the answer, ISO 8601 in UTC.
    note : str
        What the annotator wrote about it, at most `MAX_NOTE_CHARS` characters.
    masks : MaskUse or None
        Whether evidence masks had been opened over the picture; None where that was not recorded, as in logs older
        than this field, and with ``undo``, which is no answer.
    """

    decision_id: str
    image_id: str
    answer: str
    class_index: int | None
    shown_classes: tuple[int, ...]
    queue: str
    seconds: float
    guideline: str
    tool_version: str
    at: str
    note: str = ""
    masks: MaskUse | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise InputError(f"decision: {problem}")

    @property
    def has_opened_masks(self) -> bool:
        """Whether it says that evidence masks had been opened over the picture."""
        return self.masks is not None and self.masks.state == "opened"

    def to_row(self) -> dict[str, Any]:
        """Return the decision as JSON values.

        An empty `note` and `masks` that were not recorded are left out, as in logs older than these.
        """
        row = {name: getattr(self, name) for name in DECISION_FIELDS} | {"shown_classes": list(self.shown_classes)}
        if not self.note:
            del row["note"]
        if self.masks is None:
            del row["masks"]
        else:
            row["masks"] = self.masks.to_row()
        return row

    def says_the_same(self, other: "Decision") -> bool:
        """Return whether both give one answer for one image; times may differ, as a request may be repeated."""
        return all(getattr(self, name) == getattr(other, name) for name in _SAID)


_SAID = ("image_id", "answer", "class_index", "note")

DECISION_FIELDS = tuple(field.name for field in fields(Decision))

_KNOWN_FIELDS = frozenset(DECISION_FIELDS)
_REQUIRED_FIELDS = _KNOWN_FIELDS - {"note", "masks"}


def decision_from_row(row: Mapping[str, Any]) -> Decision:
    """Return the decision in a log's row.

    Raises
    ------
    InputError
        A field is missing, unknown, or not of its type or vocabulary.
    """
    if not _REQUIRED_FIELDS <= row.keys() <= _KNOWN_FIELDS:
        missing, unknown = sorted(_REQUIRED_FIELDS - row.keys()), sorted(row.keys() - _KNOWN_FIELDS)
        raise InputError(f"decision: missing fields {missing}, unknown fields {unknown}")
    if not isinstance(row["shown_classes"], list):
        raise InputError(f"decision: shown_classes should be a list, is {row['shown_classes']!r}")
    parts: dict[str, Any] = {**row, "shown_classes": tuple(row["shown_classes"])}
    if "masks" in row:
        parts["masks"] = mask_use_from_row(row["masks"])
    return Decision(**parts)


def checked_annotator_id(annotator_id: str) -> str:
    """Return `annotator_id` if it can name a log.

    Raises
    ------
    InputError
        It could not be a file's name.
    """
    return checked_name(annotator_id, "annotator")


def utc_now() -> str:
    """Return the time as decisions carry it, ISO 8601 in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def standing_answers(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Return what one annotator's answers come to: image_id to the latest answer not taken back.

    Parameters
    ----------
    decisions : iterable of Decision
        One annotator's decisions in the order given. A decision_id met again changes nothing.

    Returns
    -------
    dict of str to Decision
        In the order in which the standing answers were given, the latest last. Includes ``skip``.
    """
    seen: set[str] = set()
    stacks: dict[str, list[tuple[int, Decision]]] = {}
    for position, decision in enumerate(decisions):
        if decision.decision_id in seen:
            continue
        seen.add(decision.decision_id)
        stack = stacks.setdefault(decision.image_id, [])
        if decision.answer != "undo":
            stack.append((position, decision))
        elif stack:
            stack.pop()
    latest = sorted((stack[-1] for stack in stacks.values() if stack), key=lambda entry: entry[0])
    return {decision.image_id: decision for _, decision in latest}


def _problem(decision: Decision) -> str | None:
    """Return what is wrong with the fields of `decision`, or None."""
    for name, expected, is_right in _CHECKS:
        if not is_right(decision):
            return f"{name} should be {expected}, is {getattr(decision, name)!r}"
    return None


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_class_index(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_CLASS_INDEX


def _is_class_index_of(decision: Decision) -> bool:
    if decision.answer == "in":
        return _is_class_index(decision.class_index)
    return decision.class_index is None


def _are_distinct_classes(values: tuple[Any, ...]) -> bool:
    # As a whole: logs are read anew whenever a queue is opened, and this is most of what a line costs.
    if not set(map(type, values)) <= {int} or len(set(values)) != len(values):
        return False
    return not values or (_is_class_index(min(values)) and _is_class_index(max(values)))


def _is_duration(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100


def _is_note(value: object) -> bool:
    # A browser may send half of a surrogate pair, which is no text in UTF-8.
    if value == "":
        return True
    return isinstance(value, str) and len(value) <= MAX_NOTE_CHARS and not re.search("[\ud800-\udfff]", value)


def _are_masks_of(decision: Decision) -> bool:
    if decision.masks is None:
        return True
    return decision.answer != "undo" and decision.masks.is_valid(decision.shown_classes)


def _is_utc_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False


_CHECKS: tuple[tuple[str, str, Callable[[Decision], bool]], ...] = (
    ("decision_id", "1 to 100 of A-Z a-z 0-9 _ . -", lambda one: _matches(_DECISION_ID_PATTERN, one.decision_id)),
    ("image_id", "an image id", lambda one: isinstance(one.image_id, str) and is_image_id(one.image_id)),
    ("answer", f"one of {ANSWERS}", lambda one: one.answer in ANSWERS),
    ("queue", f"one of {QUEUES}", lambda one: one.queue in QUEUES),
    ("class_index", "a class with the answer 'in', null with any other", _is_class_index_of),
    ("shown_classes", "distinct class indices", lambda one: _are_distinct_classes(one.shown_classes)),
    ("seconds", "a finite number, zero or more", lambda one: _is_duration(one.seconds)),
    ("guideline", "a name", lambda one: _is_name(one.guideline)),
    ("tool_version", "a version", lambda one: _is_name(one.tool_version)),
    ("at", "an ISO 8601 time in UTC", lambda one: _is_utc_time(one.at)),
    ("note", f"text of at most {MAX_NOTE_CHARS} characters", lambda one: _is_note(one.note)),
    ("masks", f"one of {STATES} with classes that are shown, and none with 'undo'", _are_masks_of),
)
