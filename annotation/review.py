"""The review set: the pictures that annotators see, in the order of risk, read from the workspace."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests import schema
from manifests.errors import TableError
from manifests.label_space import ClassName, read_label_space
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace


@dataclass(frozen=True)
class ReviewItem:
    """One picture to answer, with all that an annotator may know of it.

    Whether it is a control image is not among that: controls are judged unmarked.

    Attributes
    ----------
    image_id : str
        Its id.
    path : Path
        The picture, absolute.
    width_px, height_px : int
        As downloaded.
    rotation_deg : int
        Open Images' rotation, counterclockwise; 0 where there is none.
    risk : float
        How likely it is to hold an in-distribution object, in [0, 1].
    shown_classes : tuple of int
        The most similar classes, most similar first.
    shown_similarities : tuple of float
        The cosine similarity of each.
    """

    image_id: str
    path: Path
    width_px: int
    height_px: int
    rotation_deg: int
    risk: float
    shown_classes: tuple[int, ...]
    shown_similarities: tuple[float, ...]


def review_image_ids(workspace: Workspace) -> list[str]:
    """Return the ids of all pictures that the screen left for review, sorted."""
    return sorted(row["image_id"] for row in _review_rows(workspace))


def read_review(workspace: Workspace) -> list[ReviewItem]:
    """Return the review set, riskiest first, ties by image_id.

    Raises
    ------
    StageMissingError
        `screen` or `download` has not been run.
    TableError
        A picture under review has no file, no risk, or no shown classes.
    """
    where = str(workspace.path_of(schema.SCREEN))
    rows = _review_rows(workspace)
    pictures = stored_pictures(workspace)
    items = [_item(f"{where}: {row['image_id']} is under review but", row, pictures) for row in rows]
    return sorted(items, key=lambda item: (-item.risk, item.image_id))


def read_class_names(workspace: Workspace) -> dict[int, ClassName]:
    """Return the classes by class index from the file that `screen` writes; empty when it is not there.

    Raises
    ------
    InputError
        The file is damaged; the message names the line.
    """
    path = workspace.classes_path
    return {known.class_index: known for known in read_label_space(path)} if path.exists() else {}


def _review_rows(workspace: Workspace) -> list[dict[str, Any]]:
    return [row for row in workspace.read(schema.SCREEN).to_pylist() if row["status"] == "review"]


def _item(where: str, row: Mapping[str, Any], pictures: Mapping[str, StoredPicture]) -> ReviewItem:
    stored = pictures.get(row["image_id"])
    if stored is None:
        raise TableError(f"{where} has no picture in {schema.DOWNLOADS.file_name}")
    if row["risk"] is None or row["shown_classes"] is None or row["shown_similarities"] is None:
        raise TableError(f"{where} has no risk, shown_classes or shown_similarities")
    if len(row["shown_classes"]) != len(row["shown_similarities"]):
        raise TableError(
            f"{where} has {len(row['shown_classes'])} shown_classes and {len(row['shown_similarities'])} "
            "shown_similarities"
        )
    return ReviewItem(
        image_id=stored.image_id,
        path=stored.path.resolve(),
        width_px=stored.width_px,
        height_px=stored.height_px,
        rotation_deg=stored.rotation_deg or 0,
        risk=row["risk"],
        shown_classes=tuple(row["shown_classes"]),
        shown_similarities=tuple(row["shown_similarities"]),
    )
