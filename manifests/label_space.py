"""The in-distribution label space of a workspace: which classes there are, and what people call them."""

import csv
from dataclasses import dataclass
from pathlib import Path

from manifests.durable import replacing
from manifests.errors import InputError

_COLUMNS = ["class_index", "name", "wnid"]


@dataclass(frozen=True)
class ClassName:
    """One in-distribution class: its index (the head's row), its name, its WordNet id where known."""

    class_index: int
    name: str
    wnid: str = ""


def read_label_space(path: Path) -> list[ClassName]:
    """Return the classes of a CSV with the columns class_index, name and, if known, wnid.

    Raises
    ------
    InputError
        The file cannot be read, a cell is malformed, or the indices are not 0, 1, 2, ... in order.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if not reader.fieldnames or not {"class_index", "name"} <= set(reader.fieldnames):
                raise InputError(
                    f"{path}, line 1: expected the columns class_index,name[,wnid], found {reader.fieldnames}"
                )
            classes: list[ClassName] = []
            for row in reader:
                if row["class_index"] != str(len(classes)) or not row["name"]:
                    raise InputError(
                        f"{path}, line {reader.line_num}: expected class_index {len(classes)} and a name, "
                        f"found {row['class_index']!r} and {row['name']!r}"
                    )
                classes.append(ClassName(len(classes), row["name"], row.get("wnid") or ""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV of classes ({error})") from error
    if len(classes) < 2:
        raise InputError(f"{path}: expected at least two classes, found {len(classes)}")
    return classes


def write_label_space(path: Path, classes: list[ClassName]) -> None:
    """Write `classes` so that `read_label_space` reads them back."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([known.class_index, known.name, known.wnid] for known in classes)
