"""Gold images: pictures whose answer is known beforehand, by which annotators are trained and measured."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation.decisions import MAX_NOTE_CHARS
from annotation.review import read_class_names, read_items
from manifests import schema
from manifests.errors import InputError
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace

_COLUMNS = ("image_id", "answer", "class_index", "note")


@dataclass(frozen=True)
class GoldEntry:
    """The known answer for one image; `class_index` only with ``in``, and None where several would be right."""

    image_id: str
    answer: str
    class_index: int | None
    note: str


def read_gold(workspace: Workspace) -> dict[str, GoldEntry]:
    """Return the gold images by id, sorted by it; empty where there are none."""
    if not workspace.has(schema.GOLD):
        return {}
    return {
        row["image_id"]: GoldEntry(row["image_id"], row["answer"], row["class_index"], row["note"] or "")
        for row in workspace.read(schema.GOLD).to_pylist()
    }


def add_gold(workspace: Workspace, path: Path) -> dict[str, int]:
    """Add the entries of a CSV to ``gold.parquet`` and return counts: added, known, and all by answer.

    Parameters
    ----------
    workspace : Workspace
        Downloaded.
    path : Path
        CSV with the columns image_id and answer (``in``, ``out`` or ``difficult``) and, if wanted, class_index
        (with ``in``) and note. An entry that is there already changes nothing.

    Raises
    ------
    InputError
        The file cannot be read, an image has no stored picture, a class is not in the label space, or an entry
        says something else than one before; nothing is added then.
    """
    with workspace.stage("gold", {"add": path.name}, [path]) as record:
        known = read_gold(workspace)
        pictures, classes = stored_pictures(workspace), read_class_names(workspace)
        gold = dict(known)
        for where, entry in _read_entries(path):
            if entry.image_id not in pictures:
                raise InputError(f"{where}: image {entry.image_id} has no stored picture in this workspace")
            if entry.class_index is not None and entry.class_index not in classes:
                raise InputError(f"{where}: class {entry.class_index} is not in {workspace.classes_path}")
            if gold.setdefault(entry.image_id, entry) != entry:
                raise InputError(
                    f"{where}: {entry.image_id} is {_said(entry)} here, but gold already as "
                    f"{_said(gold[entry.image_id])}; one of the two must go"
                )
        if gold != known:
            workspace.write(schema.GOLD, [_row(entry) for entry in gold.values()])
        answers = [entry.answer for entry in gold.values()]
        record.counts = {"added": len(gold) - len(known), "all": len(gold)} | {
            answer: answers.count(answer) for answer in schema.GOLD_ANSWERS
        }
    return record.counts


def gold_without_classes(workspace: Workspace) -> list[str]:
    """Return the gold images, sorted, for which the screen has no shown classes, which tells them."""
    gold = read_gold(workspace)
    if not gold or not workspace.has(schema.SCREEN):
        return []
    return [item.image_id for item in read_items(workspace, gold) if not item.shown_classes]


def _read_entries(path: Path) -> list[tuple[str, GoldEntry]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            found = set(reader.fieldnames or ())
            if not {"image_id", "answer"} <= found <= set(_COLUMNS):
                raise InputError(
                    f"{path}, line 1: expected the columns {','.join(_COLUMNS)}, found {sorted(found)}"
                )
            return [(f"{path}, line {reader.line_num}", _entry(row, path, reader.line_num)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV of gold images ({error})") from error


def _entry(row: Mapping[str, Any], path: Path, line: int) -> GoldEntry:
    answer, text, note = row["answer"], row.get("class_index") or "", row.get("note") or ""
    is_class = text.isascii() and text.isdigit()
    if answer not in schema.GOLD_ANSWERS or (text and not (is_class and answer == "in")):
        raise InputError(
            f"{path}, line {line}: expected an answer of {schema.GOLD_ANSWERS}, and a class index only with 'in'; "
            f"found {answer!r} and {text!r}"
        )
    if len(note) > MAX_NOTE_CHARS or None in row:
        raise InputError(f"{path}, line {line}: the note is too long, or there are more cells than columns")
    return GoldEntry(row["image_id"], answer, int(text) if text else None, note)


def _said(entry: GoldEntry) -> str:
    said = entry.answer if entry.class_index is None else f"{entry.answer} of class {entry.class_index}"
    return f"{said} ({entry.note})" if entry.note else said


def _row(entry: GoldEntry) -> dict[str, Any]:
    return {
        "image_id": entry.image_id,
        "answer": entry.answer,
        "class_index": entry.class_index,
        "note": entry.note or None,
    }
