"""The bound on the agreement, chosen on pairs of which somebody has said whether they are the same photograph."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.duplicates.rules import told_agreements
from curation.duplicates.thumbnails import Thumbnails, thumbnail_of_bytes
from manifests.errors import InputError, UnreadableImageError
from manifests.proportions import counted_share
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

COLUMNS = ("image_id", "other", "is_same")


@dataclass(frozen=True)
class BoundFigures:
    """What a bound does: `n_linked` pairs reach it, `n_right` of these and `n_same` of all are the same."""

    least_agreement: float
    n_linked: int
    n_right: int
    n_same: int

    @property
    def precision(self) -> float:
        """Share of the linked pairs that are the same; 1 where none is linked."""
        return self.n_right / self.n_linked if self.n_linked else 1.0

    @property
    def recall(self) -> float:
        """Share of the same pairs that are linked."""
        return self.n_right / self.n_same


def figures_of_bounds(agreement: npt.NDArray[np.float32], is_same: npt.NDArray[np.bool_]) -> list[BoundFigures]:
    """Return the figures of every bound that tells labelled pairs apart, rising: each agreement that occurs."""
    bounds = np.unique(agreement[agreement >= 0])
    return [
        BoundFigures(
            float(bound), int((agreement >= bound).sum()), int((is_same & (agreement >= bound)).sum()),
            int(is_same.sum()),
        )
        for bound in bounds
    ]  # fmt: skip


def choose_bound(figures: Sequence[BoundFigures], least_precision: float) -> BoundFigures:
    """Return the lowest bound from which on every higher one keeps the precision asked for: the highest recall.

    It lies in the middle between the lowest pair that it links and the next lower one, so that further pairs are
    told apart as well as these; where there is none, at the former.

    Raises
    ------
    InputError
        `least_precision` is not in (0, 1], or no bound reaches that precision.
    """
    _check_precision(least_precision)
    chosen = None
    for place, one in reversed(list(enumerate(figures))):
        if one.precision < least_precision:
            break
        below = figures[place - 1].least_agreement if place else one.least_agreement
        chosen = replace(one, least_agreement=(below + one.least_agreement) / 2)
    if chosen is None:
        raise InputError(
            f"--least-precision {least_precision}: no bound on the agreement reaches it on these pairs"
        )
    return chosen


def _check_precision(least_precision: float) -> None:
    if not 0 < least_precision <= 1:
        raise InputError(f"--least-precision: expected more than 0 to 1, found {least_precision}")


def bound_of_pairs(workspace: Workspace, path: Path, least_precision: float) -> tuple[float, str]:
    """Return the bound chosen on labelled pairs, and precision and recall of it and others as a table to print.

    Parameters
    ----------
    workspace : Workspace
        With the pictures.
    path : Path
        CSV with the header ``image_id,other,is_same``: a candidate; another one, or a picture file, relative to
        the list's folder; ``1`` or ``0``.
    least_precision : float
        As `choose_bound` takes it.

    Raises
    ------
    InputError
        A row is not such a pair, a picture cannot be read, all pairs have the same answer, or no bound will do.
    """
    _check_precision(least_precision)
    pictures, rows = stored_pictures(workspace), _rows(path)
    for number, row in enumerate(rows, start=2):
        if row["image_id"] not in pictures:
            raise InputError(f"{path}, line {number}: {row['image_id']!r} is no downloaded picture")
        if row["is_same"] not in ("0", "1"):
            raise InputError(f"{path}, line {number}: is_same: expected 0 or 1, found {row['is_same']!r}")
    is_same = np.array([row["is_same"] == "1" for row in rows], bool)
    if is_same.all() or not is_same.any():
        raise InputError(f"{path}: expected pairs that are the same and pairs that are not")
    firsts, seconds = [], []
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        firsts.append(_thumbnail(pictures[row["image_id"]], where))
        seconds.append(_thumbnail(pictures.get(row["other"]) or path.parent / row["other"], where))
    figures = figures_of_bounds(
        told_agreements(Thumbnails.from_bytes(firsts), Thumbnails.from_bytes(seconds), 0.0), is_same
    )
    chosen = choose_bound(figures, least_precision)
    return chosen.least_agreement, bounds_table(figures, chosen)


def bounds_table(figures: Sequence[BoundFigures], chosen: BoundFigures) -> str:
    """Return precision and recall at round bounds, and the chosen one, as a table to print."""
    lines = ["agreement  precision  recall  linked"]
    for bound in (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9):
        at = next((one for one in figures if one.least_agreement >= bound), None)
        if at is not None:
            lines.append(f"{bound:9.2f} {at.precision:10.4f} {at.recall:7.4f} {at.n_linked:7,}")
    lines += [
        f"chosen: {chosen.least_agreement:.4f}; on the pairs that it was chosen on",
        f"  precision: {counted_share(chosen.n_right, chosen.n_linked)}",
        f"  recall: {counted_share(chosen.n_right, chosen.n_same)}",
    ]
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(f"{path}: expected the columns {','.join(COLUMNS)}, found {reader.fieldnames}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as labelled pairs ({error})") from error


def _thumbnail(source: StoredPicture | Path, where: str) -> bytes:
    path, rotation_deg = (source, None) if isinstance(source, Path) else (source.path, source.rotation_deg)
    try:
        return thumbnail_of_bytes(path.read_bytes(), rotation_deg)
    except UnreadableImageError as error:
        raise InputError(f"{where}: {path}: {error.reason}") from error
    except OSError as error:
        raise InputError(f"{where}: {path}: cannot be read ({error.strerror})") from error
