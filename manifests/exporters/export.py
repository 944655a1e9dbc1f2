"""The stage `export`: a frozen manifest in the form that an evaluation loader reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from manifests import schema
from manifests.errors import InputError
from manifests.exporters.attribution import write_attribution
from manifests.exporters.croissant import write_croissant
from manifests.exporters.exported_folder import seal, whole_folder
from manifests.exporters.exported_set import ExportedSet, Publication
from manifests.exporters.facts import annotation_facts
from manifests.exporters.fiftyone_folder import write_fiftyone
from manifests.exporters.huggingface import write_huggingface
from manifests.exporters.image_folder import write_image_folder
from manifests.exporters.openood import write_openood
from manifests.exporters.pytorch_ood_lists import write_pytorch_ood
from manifests.exporters.record_tables import write_csv_table, write_torch_folder
from manifests.exporters.webdataset_shards import write_webdataset
from manifests.frozen import Manifest
from manifests.tombstones import active_records, read_tombstones
from manifests.workspace import Workspace, tool_version

EXPORTS_DIR = "exports"
"""Where exports go in a workspace, and the only folder of it that they may go to."""

Writer = Callable[[ExportedSet, Path], Mapping[str, str]]
"""Writes a format into an empty folder; returns the SHA-256 of files that it knows, by relative path."""


@dataclass(frozen=True)
class ExportFormat:
    """How one format is written, and whether it is nothing without the pictures."""

    write: Writer
    needs_pictures: bool = False


FORMATS: Mapping[str, ExportFormat] = {
    "openood": ExportFormat(write_openood),
    "pytorch-ood": ExportFormat(write_pytorch_ood),
    "torch": ExportFormat(write_torch_folder, needs_pictures=True),
    "torchvision": ExportFormat(write_image_folder, needs_pictures=True),
    "huggingface": ExportFormat(write_huggingface, needs_pictures=True),
    "webdataset": ExportFormat(write_webdataset, needs_pictures=True),
    "croissant": ExportFormat(write_croissant),
    "fiftyone": ExportFormat(write_fiftyone, needs_pictures=True),
    "csv": ExportFormat(write_csv_table),
}


def checked_format(name: str) -> ExportFormat:
    """Return the format of this name; InputError where there is none."""
    if name not in FORMATS:
        raise InputError(f"--format: expected {', '.join(FORMATS)}, found {name!r}")
    return FORMATS[name]


def checked_out_dir(workspace: Workspace, out_dir: Path) -> Path:
    """Return a folder for exports.

    Raises
    ------
    InputError
        It lies among the workspace's own files: a stage would take an export there for its own.
    """
    root, place = workspace.root.resolve(), out_dir.resolve()
    if place.is_relative_to(root) and not place.is_relative_to(root / EXPORTS_DIR):
        raise InputError(
            f"--out {out_dir}: in a workspace exports go to {EXPORTS_DIR}/ alone; give a folder there or elsewhere"
        )
    return out_dir


def exported_set(
    workspace: Workspace, manifest: Manifest, *, publication: Publication | None = None
) -> ExportedSet:
    """Return the images of a manifest that are not retired, with what the workspace knows of them.

    Raises
    ------
    InputError
        Every image is retired.
    TableError
        A log is not the one that the manifest was frozen with.
    """
    active = active_records(manifest, read_tombstones(workspace))
    if not active.num_rows:
        raise InputError(f"{manifest.folder.name}: every image is retired; there is nothing to export")
    rotations = {}
    if workspace.has(schema.CANDIDATES):
        known = workspace.read(schema.CANDIDATES).select(["image_id", "rotation_deg"]).to_pydict()
        rotations = dict(zip(known["image_id"], known["rotation_deg"], strict=True))
    records = [{**row, "rotation_deg": rotations.get(row["image_id"])} for row in active.to_pylist()]
    image_ids = frozenset(record["image_id"] for record in records)
    return ExportedSet(
        manifest.header,
        records,
        n_retired=manifest.records.num_rows - len(records),
        pictures={one: workspace.root / workspace.relative_image_path(one) for one in image_ids},
        facts=annotation_facts(workspace, manifest.header, image_ids),
        publication=publication or Publication(),
    )


def export_manifest(export: ExportedSet, format_name: str, out_dir: Path, *, pictures: bool = False) -> Path:
    """Write a set for a loader into the folder ``<out_dir>/<format>`` and return that folder.

    It is there whole or not at all, and takes the place of an earlier export. With it go ``ATTRIBUTION.csv``,
    ``ATTRIBUTION.html``, ``export.json`` (what was exported) and ``SHA256SUMS``.

    Parameters
    ----------
    export : ExportedSet
        What to export.
    format_name : str
        One of `FORMATS`.
    out_dir : Path
        Folder of the formats' folders.
    pictures : bool
        Export the pictures too, as hard links where possible; formats that need them do so by themselves.

    Raises
    ------
    InputError
        The format is unknown, a picture is not at hand or not the one that was frozen, or the folder holds files
        that no export wrote.
    """
    chosen = checked_format(format_name)
    has_pictures = pictures or chosen.needs_pictures
    written = export if has_pictures else replace(export, pictures=None)
    folder = out_dir / format_name
    with whole_folder(folder) as temporary:
        known = chosen.write(written, temporary)
        write_attribution(written, temporary)
        header = {
            "format": format_name,
            "manifest": {key: export.header[key] for key in ("name", "version", "content_sha256")},
            "images": len(export.records),
            "retired_left_out": export.n_retired,
            "pictures": has_pictures,
            "tool_version": tool_version(),
        }
        seal(temporary, header, known)
    return folder
