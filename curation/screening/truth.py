"""Labelled pictures: which of them hold an in-distribution object, as people know it."""

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError

TRUTH_WORDS = ("in", "out")
"""Rows of any other word, such as ``mixed`` or ``difficult``, are counted and left alone."""


@dataclass(frozen=True)
class LabelledPicture:
    """One picture: whether it is in distribution, and the class it shows, None where that is not known."""

    image_id: str
    is_in: bool
    class_index: int | None = None


@dataclass(frozen=True)
class Truth:
    """Labelled pictures by image id, and how many rows had another word."""

    pictures: dict[str, LabelledPicture]
    n_other_words: Counter[str]


def read_truth(path: Path) -> Truth:
    """Return the pictures of a CSV with the columns image_id, truth and, if known, class_index.

    Raises
    ------
    InputError
        The file cannot be read, a cell is malformed, or an image stands in it twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if not {"image_id", "truth"} <= set(reader.fieldnames or ()):
                raise InputError(
                    f"--labelled {path}, line 1: expected the columns image_id,truth[,class_index], "
                    f"found {reader.fieldnames}"
                )
            pictures: dict[str, LabelledPicture] = {}
            others: Counter[str] = Counter()
            for row in reader:
                where = f"--labelled {path}, line {reader.line_num}"
                if row["truth"] not in TRUTH_WORDS:
                    others[row["truth"] or "no word"] += 1
                elif row["image_id"] in pictures:
                    raise InputError(f"{where}: {row['image_id']} stands in more than one row")
                else:
                    pictures[row["image_id"]] = _labelled(row, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--labelled {path}: cannot be read as a CSV of labelled pictures ({error})") from error
    return Truth(pictures, others)


def is_held_out(name: str, seed: int) -> bool:
    """Return whether a picture falls into the half that figures are taken on, by the seed and a name alone.

    The name is the image id; of copies of one photograph, that of one of them, so that all are in one half.
    """
    return _drawn("split", name, seed) >= 128


def fold_of(name: str, seed: int, n_folds: int) -> int:
    """Return one of `n_folds` parts of the other half, by the same; it says nothing of the half itself."""
    return _drawn("fold", name, seed) * n_folds // 256


def _drawn(what: str, name: str, seed: int) -> int:
    return hashlib.sha256(f"{what} {seed} {name}".encode()).digest()[0]


def _labelled(row: dict[str, str], where: str) -> LabelledPicture:
    cell = row.get("class_index") or ""
    if not row["image_id"] or not (cell == "" or cell.isdecimal()):
        raise InputError(
            f"{where}: expected an image_id and a class_index or none, found {row['image_id']!r} and {cell!r}"
        )
    return LabelledPicture(row["image_id"], row["truth"] == "in", int(cell) if cell else None)
