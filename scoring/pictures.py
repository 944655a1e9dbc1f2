"""Which pictures go through the classifier: those of a folder, or those that a workspace downloaded."""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from manifests.errors import InputError
from manifests.frozen import find_manifest
from manifests.image_ids import is_image_id, read_image_ids
from manifests.schema import DOWNLOADS
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace

_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files of a folder that pass for pictures, in any case; whether one can be read shows on reading."""


@dataclass(frozen=True)
class Picture:
    """One picture to extract features of.

    Attributes
    ----------
    image_id : str
        Its id.
    path : Path
        Its file.
    rotation_deg : int, optional
        Open Images' rotation, counterclockwise.
    class_index : int, optional
        Its class, None where unknown.
    """

    image_id: str
    path: Path
    rotation_deg: int | None = None
    class_index: int | None = None


@dataclass(frozen=True)
class PictureSource:
    """Pictures sorted by image id, and what was asked for and is not there.

    Attributes
    ----------
    pictures : tuple of Picture
        At least one.
    absent : mapping of str to str
        Image ids that were asked for and have no picture, each with the reason.
    manifest : mapping of str to str, optional
        ``name`` and ``content_sha256`` of the frozen manifest that the pictures are of, where they are of one.
    """

    pictures: tuple[Picture, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, str] | None = None


def pictures_in_folder(
    folder: Path,
    *,
    labels_path: Path | None = None,
    n_classes: int | None = None,
    image_ids: Collection[str] | None = None,
) -> PictureSource:
    """Return the pictures below `folder`, at any depth; the image id is the file name without its suffix.

    Hidden files and folders, and files without the suffix of a picture, are passed over.

    Parameters
    ----------
    folder : Path
        Searched recursively.
    labels_path : Path, optional
        CSV with the header ``file,class_index``; ``file`` is a path below `folder` or a bare name. Pictures that
        it does not name have no class.
    n_classes : int, optional
        Upper bound, exclusive, of a class index.
    image_ids : collection of str, optional
        Keep these alone; those without a picture become `PictureSource.absent`.

    Raises
    ------
    InputError
        There is no such folder, no picture in it, or none that was asked for; a file name is no image id; two
        pictures have one id; a line of the labels names no picture or holds no class (with file and line).
    """
    paths = _picture_paths(folder)
    classes = {} if labels_path is None else _read_labels(labels_path, folder, paths, n_classes)
    pictures = {
        image_id: Picture(image_id, path, class_index=classes.get(image_id)) for image_id, path in paths.items()
    }
    wanted = set(pictures) if image_ids is None else set(image_ids)
    absent = dict.fromkeys(sorted(wanted - pictures.keys()), "no picture of this id in the folder")
    return _source(pictures, wanted, absent, str(folder))


def pictures_of_workspace(workspace: Workspace, *, image_ids: Collection[str] | None = None) -> PictureSource:
    """Return the pictures that a workspace downloaded, each with its rotation.

    Parameters
    ----------
    workspace : Workspace
        With the tables of `candidates` and `download`.
    image_ids : collection of str, optional
        Keep these alone; those that were not downloaded become `PictureSource.absent`. All that were, where not
        given.

    Raises
    ------
    StageMissingError
        A table is not there, or no picture was downloaded.
    TableError
        A downloaded picture has no path.
    InputError
        No picture that was asked for was downloaded.
    """
    pictures = {
        image_id: Picture(image_id, stored.path, stored.rotation_deg)
        for image_id, stored in stored_pictures(workspace).items()
    }
    wanted = set(pictures) if image_ids is None else set(image_ids)
    downloads = workspace.read(DOWNLOADS).select(["image_id", "status"]).to_pydict()
    statuses = dict(zip(downloads["image_id"], downloads["status"], strict=True))
    absent = {
        image_id: f"download status {statuses[image_id]}" if image_id in statuses else "never downloaded"
        for image_id in sorted(wanted - pictures.keys())
    }
    return _source(pictures, wanted, absent, str(workspace.root))


def pictures_to_extract(
    workspace: Workspace,
    *,
    n_classes: int | None = None,
    images_dir: Path | None = None,
    labels_path: Path | None = None,
    image_ids_path: Path | None = None,
    manifest_name: str | None = None,
) -> PictureSource:
    """Return the pictures of a folder, or those that a workspace downloaded, as the command line asks for them.

    Parameters
    ----------
    workspace : Workspace
        With the downloads, where there is no `images_dir`, and with the manifest.
    n_classes : int, optional
        Upper bound, exclusive, of a class index; where it is not known yet, none is checked.
    images_dir, labels_path : Path, optional
        As `pictures_in_folder` takes them.
    image_ids_path : Path, optional
        List of ids to keep.
    manifest_name : str, optional
        Frozen manifest of the workspace whose images to keep.

    Raises
    ------
    InputError
        Labels without a folder; a list or manifest that is not there; and as the functions above.
    """
    if labels_path is not None and images_dir is None:
        raise InputError(f"--labels {labels_path}: expected --images, whose pictures it tells the classes of")
    wanted = None if image_ids_path is None else set(read_image_ids(image_ids_path))
    manifest = None if manifest_name is None else find_manifest(workspace.manifests_dir, manifest_name)
    if manifest is not None:
        of_manifest = set(manifest.records.column("image_id").to_pylist())
        wanted = of_manifest if wanted is None else wanted & of_manifest
    if images_dir is not None:
        source = pictures_in_folder(images_dir, labels_path=labels_path, n_classes=n_classes, image_ids=wanted)
    else:
        source = pictures_of_workspace(workspace, image_ids=wanted)
    if manifest is None:
        return source
    digest = manifest.header["content_sha256"]
    return replace(source, manifest={"name": manifest.folder.name, "content_sha256": digest})


def _source(
    pictures: Mapping[str, Picture], wanted: Collection[str], absent: Mapping[str, str], where: str
) -> PictureSource:
    kept = tuple(pictures[image_id] for image_id in sorted(wanted) if image_id in pictures)
    if not kept:
        raise InputError(f"{where}: none of the {len(wanted)} images asked for has a picture there")
    return PictureSource(kept, absent)


def _picture_paths(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of pictures")
    paths: dict[str, Path] = {}
    misnamed = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or path.suffix.lower() not in _PICTURE_SUFFIXES or not path.is_file():
            continue
        if not is_image_id(path.stem):
            misnamed.append(path)
        elif path.stem in paths:
            raise InputError(f"{path}: the image id {path.stem} is taken by {paths[path.stem]}; rename one")
        else:
            paths[path.stem] = path
    if misnamed:
        others = f", and {len(misnamed) - 1:,} more" if len(misnamed) > 1 else ""
        raise InputError(
            f"{misnamed[0]}: the name of a picture is its image id: expected 1 to 64 of A-Z, a-z, 0-9, '_' and "
            f"'-', found {misnamed[0].stem!r}; rename it{others}"
        )
    if not paths:
        raise InputError(f"{folder}: holds no picture ({', '.join(_PICTURE_SUFFIXES)})")
    return paths


def _read_labels(
    labels_path: Path, folder: Path, paths: Mapping[str, Path], n_classes: int | None
) -> dict[str, int]:
    try:
        with labels_path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{labels_path}: cannot be read as CSV ({error})") from error
    header = ",".join(rows[0]) if rows else ""
    if header != "file,class_index":
        raise InputError(f"{labels_path}, line 1: expected the header file,class_index, found {header!r}")
    image_id_of = {path.relative_to(folder).as_posix(): image_id for image_id, path in paths.items()}
    image_id_of |= {path.name: image_id for image_id, path in paths.items()}
    classes: dict[str, int] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        where = f"{labels_path}, line {number}"
        if len(row) != 2:
            raise InputError(f"{where}: expected 2 cells, found {len(row)}")
        if row[0] not in image_id_of:
            raise InputError(f"{where}: no picture {row[0]!r} in {folder}")
        image_id = image_id_of[row[0]]
        if image_id in classes:
            raise InputError(f"{where}: {row[0]} has a class already")
        classes[image_id] = _class_index(row[1], n_classes, where)
    return classes


def _class_index(cell: str, n_classes: int | None, where: str) -> int:
    text = cell.strip()
    is_number = text.isascii() and text.isdigit()
    if not is_number or (n_classes is not None and int(text) >= n_classes):
        bound = "a whole number from 0" if n_classes is None else f"a whole number from 0 to {n_classes - 1}"
        raise InputError(f"{where}: expected a class index, {bound}, found {cell!r}")
    return int(text)
