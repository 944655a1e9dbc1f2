"""The pictures that arrived: what every stage that opens them needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests import schema
from manifests.errors import StageMissingError, TableError
from manifests.workspace import Workspace

_COLUMNS = ["image_id", "status", "path", "sha256", "width_px", "height_px"]


@dataclass(frozen=True)
class StoredPicture:
    """One downloaded picture.

    Attributes
    ----------
    image_id, sha256 : str
        Its id, and the digest of its bytes.
    path : Path
        Its file.
    width_px, height_px : int
        Upright by EXIF, before `rotation_deg`.
    rotation_deg : int or None
        Open Images' rotation, counterclockwise, where known.
    """

    image_id: str
    sha256: str
    path: Path
    width_px: int
    height_px: int
    rotation_deg: int | None

    @property
    def pixels(self) -> tuple[str, int]:
        """Digest and rotation: where both are as they were, the picture shows what it did."""
        return self.sha256, self.rotation_deg or 0


def still_unreadable(
    found: Mapping[str, tuple[str, str]], pictures: Mapping[str, StoredPicture]
) -> dict[str, tuple[str, str]]:
    """Return of `found`, sha256 and reason by image id, what was found of `pictures` as they are stored now."""
    return {k: v for k, v in found.items() if k in pictures and pictures[k].sha256 == v[0]}


def stored_pictures(workspace: Workspace) -> dict[str, StoredPicture]:
    """Return the downloaded pictures by image id, sorted by it.

    Raises
    ------
    StageMissingError
        `candidates` or `download` has not been run, or not since the other changed, or no picture arrived.
    TableError
        A picture that arrived has another path than its id gives.
    """
    candidates = workspace.read(schema.CANDIDATES).select(["image_id", "rotation_deg"]).to_pydict()
    rotations = dict(zip(candidates["image_id"], candidates["rotation_deg"], strict=True))
    where = workspace.path_of(schema.DOWNLOADS)
    pictures = {}
    for row in workspace.read(schema.DOWNLOADS).select(_COLUMNS).to_pylist():
        if row["status"] != "ok":
            continue
        image_id = row["image_id"]
        if row["path"] != workspace.relative_image_path(image_id):
            raise TableError(f"{where}: image {image_id} has the status ok and the path {row['path']!r}")
        if image_id not in rotations:
            raise StageMissingError(
                f"{where} holds images that are no longer candidates ({image_id}): run the stage 'download' again"
            )
        pictures[image_id] = StoredPicture(
            image_id, row["sha256"], workspace.root / row["path"], row["width_px"], row["height_px"],
            rotations[image_id],
        )  # fmt: skip
    if not pictures:
        raise StageMissingError(f"{workspace.root} holds no downloaded picture: run the stage 'download' first")
    return pictures
