"""The stage `export`: a frozen manifest in the form that an evaluation loader reads."""

import contextlib
import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests import schema
from manifests.durable import replacing, sha256_of_file, write_text
from manifests.errors import InputError
from manifests.frozen import Manifest
from manifests.workspace import Workspace

FORMATS = ("openood",)
_ATTRIBUTION_COLUMNS = ("image_id", "title", "author", "license_url", "landing_url", "url")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export_manifest(
    manifest: Manifest, export_format: str, out_dir: Path, *, pictures_of: Workspace | None = None
) -> list[Path]:
    """Write `manifest` for a loader and return the files written, the folder of pictures last.

    ``openood``: ``benchmark_imglist/imagenet/<split>_<name>.txt`` with one line
    ``<name>/images/<image id>.jpg -1`` an image, as OpenOOD's ImglistDataset reads it, and ``attribution.csv``.

    Parameters
    ----------
    manifest : Manifest
        What to export.
    export_format : str
        One of `FORMATS`.
    out_dir : Path
        OpenOOD's ``data`` folder, or one to be copied there.
    pictures_of : Workspace, optional
        Put the pictures of this workspace at ``images_largescale/<name>/images/``, as hard links where possible.

    Raises
    ------
    InputError
        The format is unknown, or a picture is not at hand, or not the one that was frozen.
    """
    if export_format not in FORMATS:
        raise InputError(f"--format: expected {', '.join(FORMATS)}, found {export_format!r}")
    records = manifest.records.to_pylist()
    written = []
    for split in sorted({record["split"] for record in records}):
        lines = [
            f"{manifest.name}/images/{record['image_id']}.jpg {schema.OOD_LABEL}\n"
            for record in records
            if record["split"] == split
        ]
        path = out_dir / "benchmark_imglist" / "imagenet" / f"{split}_{manifest.name}.txt"
        write_text(path, "".join(lines))
        written.append(path)
    written.append(_write_attribution(out_dir / f"{manifest.name}_attribution.csv", records))
    if pictures_of is not None:
        written.append(_place_pictures(manifest, pictures_of, out_dir / "images_largescale"))
    return written


def _write_attribution(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_ATTRIBUTION_COLUMNS)
        writer.writerows([_inert(record[column]) for column in _ATTRIBUTION_COLUMNS] for record in records)
    return path


def _inert(cell: str | None) -> str:
    """Return a cell that no spreadsheet runs: Flickr titles are anybody's text."""
    if cell is None:
        return ""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _place_pictures(manifest: Manifest, workspace: Workspace, pictures_dir: Path) -> Path:
    folder = pictures_dir / manifest.name / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for record in manifest.records.select(["image_id", "sha256"]).to_pylist():
        image_id = record["image_id"]
        source = workspace.root / workspace.relative_image_path(image_id)
        target = folder / f"{image_id}.jpg"
        if not source.is_file():
            raise InputError(f"{source} is not there: run the stage 'download' for this manifest's images first")
        if record["sha256"] not in (None, sha256_of_file(source)):
            raise InputError(
                f"{source}: its bytes are not those that were frozen; delete it and run 'download' again"
            )
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.link(source, target)
        if not target.exists():
            # Another file system: a hard link is not possible there.
            shutil.copyfile(source, target)
    return folder
