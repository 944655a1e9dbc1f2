"""The review set: the pictures that annotators see, in the order of risk, read from the workspace."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests import schema
from manifests.errors import TableError, UnreadableImageError
from manifests.images import upright_size
from manifests.label_space import ClassName, read_label_space
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

_COLUMNS = [
    "image_id",
    "risk",
    "is_control",
    "shown_classes",
    "shown_similarities",
    "shown_sources",
    "shown_views",
]


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
        Upright by EXIF, as downloaded.
    rotation_deg : int
        Open Images' rotation, counterclockwise; 0 where there is none.
    risk : float
        Its place in the queue, riskiest first, in [0, 1]: how likely it is to hold an in-distribution object. A
        control image, whose risk is above that of all others, stands at one of theirs, the same for everybody.
    shown_classes : tuple of int
        The most similar classes, most similar first.
    shown_similarities : tuple of float
        The cosine similarity of each.
    shown_sources : tuple of str or None
        Who proposed each; None where the table does not say.
    shown_views : tuple of str or None
        The view of the picture that raised each, see `manifests.tiles`; None as above.
    """

    image_id: str
    path: Path
    width_px: int
    height_px: int
    rotation_deg: int
    risk: float
    shown_classes: tuple[int, ...]
    shown_similarities: tuple[float, ...]
    shown_sources: tuple[str | None, ...]
    shown_views: tuple[str | None, ...]

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """Width and height as an annotator sees them, by the policy of `manifests.images`.

        Open Images' rotation stands in the place of the EXIF orientation, by which the stored size is upright:
        which side is which then shows in the file alone. It is opened only for the few that are turned.
        """
        if not self.rotation_deg:
            return self.width_px, self.height_px
        try:
            return upright_size(self.path, self.rotation_deg)
        except UnreadableImageError:
            # It cannot be shown either, and the panel says so.
            is_on_its_side = self.rotation_deg % 180 == 90
            return (self.height_px, self.width_px) if is_on_its_side else (self.width_px, self.height_px)


def review_image_ids(workspace: Workspace) -> list[str]:
    """Return the ids of all pictures that the screen left for review, sorted."""
    screened = workspace.read(schema.SCREEN).select(["image_id", "status"])
    return sorted(screened.filter(pc.equal(screened.column("status"), "review")).column("image_id").to_pylist())


def review_pictures(workspace: Workspace) -> dict[str, StoredPicture]:
    """Return all downloaded pictures by id, with absolute paths; errors as of `stored_pictures`."""
    # Resolved once, and not for each picture.
    return stored_pictures(Workspace(workspace.root.resolve()))


def read_review(workspace: Workspace, pictures: Mapping[str, StoredPicture] | None = None) -> list[ReviewItem]:
    """Return the review set, riskiest first, ties by image_id.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    pictures : mapping of str to StoredPicture, optional
        Of `review_pictures`, where they have been read before.

    Raises
    ------
    StageMissingError
        `screen` or `download` has not been run.
    TableError
        A picture under review has no file, no risk, or no shown classes.
    """
    where = str(workspace.path_of(schema.SCREEN))
    rows = _review_rows(workspace)
    pictures = review_pictures(workspace) if pictures is None else pictures
    items = [_item(f"{where}: {row['image_id']} is under review but", row, pictures) for row in rows]
    return sorted(items, key=lambda item: (-item.risk, item.image_id))


def read_items(
    workspace: Workspace, image_ids: Iterable[str], pictures: Mapping[str, StoredPicture] | None = None
) -> list[ReviewItem]:
    """Return the given pictures, in the order given, whether they are under review or not; `pictures` as above.

    One that the screen does not know is shown beside no classes, with a risk of 0.

    Raises
    ------
    StageMissingError
        `screen` or `download` has not been run.
    TableError
        A picture has no file.
    """
    where = str(workspace.path_of(schema.SCREEN))
    wanted = list(dict.fromkeys(image_ids))
    known = {row["image_id"]: row for row in _screen_rows(workspace, set(wanted))}
    pictures = review_pictures(workspace) if pictures is None else pictures
    unknown = {"risk": 0.0, "shown_classes": [], "shown_similarities": []}
    return [
        _item(
            f"{where}: {image_id} is to be shown but",
            unknown | _without_empty(known.get(image_id)) | {"image_id": image_id},
            pictures,
        )
        for image_id in wanted
    ]


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
    screened = workspace.read(schema.SCREEN)
    return _rows(screened.filter(pc.equal(screened.column("status"), "review")), _queue_risks(screened))


def _screen_rows(workspace: Workspace, image_ids: set[str]) -> list[dict[str, Any]]:
    screened = workspace.read(schema.SCREEN)
    wanted = pc.is_in(screened.column("image_id"), pa.array(sorted(image_ids), pa.string()))
    return _rows(screened.filter(wanted), _queue_risks(screened))


def _rows(screened: pa.Table, queue_risks: Sequence[float]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = screened.select(_COLUMNS).to_pylist()
    for row in rows:
        if row["is_control"] and queue_risks:
            row["risk"] = queue_risks[_drawn(row["image_id"], len(queue_risks))]
    return rows


def _queue_risks(screened: pa.Table) -> list[float]:
    """Return the risks of what is under review for itself, sorted: among these a control image hides."""
    is_own = pc.and_(pc.equal(screened.column("status"), "review"), pc.invert(screened.column("is_control")))
    return sorted(screened.filter(is_own).column("risk").drop_null().to_pylist())


def _drawn(image_id: str, n_places: int) -> int:
    """Return a place of `n_places`, by the image's id alone."""
    return int.from_bytes(hashlib.sha256(f"hidden {image_id}".encode()).digest()[:8]) * n_places >> 64


def _without_empty(row: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (row or {}).items() if value is not None}


def _item(where: str, row: Mapping[str, Any], pictures: Mapping[str, StoredPicture]) -> ReviewItem:
    stored = pictures.get(row["image_id"])
    if stored is None:
        raise TableError(f"{where} has no picture in {schema.DOWNLOADS.file_name}")
    if row["risk"] is None or row["shown_classes"] is None or row["shown_similarities"] is None:
        raise TableError(f"{where} has no risk, shown_classes or shown_similarities")
    n_shown = len(row["shown_classes"])
    for name in ("shown_similarities", "shown_sources", "shown_views"):
        if row.get(name) is not None and len(row[name]) != n_shown:
            raise TableError(f"{where} has {n_shown} shown_classes and {len(row[name])} {name}")
    return ReviewItem(
        image_id=stored.image_id,
        path=stored.path,
        width_px=stored.width_px,
        height_px=stored.height_px,
        rotation_deg=stored.rotation_deg or 0,
        risk=row["risk"],
        shown_classes=tuple(row["shown_classes"]),
        shown_similarities=tuple(row["shown_similarities"]),
        shown_sources=tuple(row.get("shown_sources") or (None,) * n_shown),
        shown_views=tuple(row.get("shown_views") or (None,) * n_shown),
    )
