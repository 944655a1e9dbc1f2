"""`verify-manifest`: all that a frozen manifest states, compared with what is there; all problems at once."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.errors import InputError, OpenImageOError, StageMissingError, TableError, one_line
from manifests.frozen import (
    HEADER_FILE,
    SCHEMA_VERSION,
    Manifest,
    check_header,
    content_digest,
    counts_of,
    file_digests,
    ids_of_splits,
    read_header,
    read_part,
    record_lines,
)
from manifests.image_ids import is_image_id
from manifests.lineage import lineage_problems
from manifests.merkle import merkle_root
from manifests.official import official_statement
from manifests.selection import reason_counts
from manifests.tombstones import stated_tombstones
from manifests.verify_certificate import verify_certificate
from manifests.verify_logs import CheckLogs, verify_logs
from manifests.verify_pictures import Depth, picture_findings
from manifests.verify_report import Report
from manifests.workspace import Workspace

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class Against:
    """What a manifest is verified against besides itself.

    Attributes
    ----------
    images_dir : Path, optional
        Folder with its pictures and no others.
    workspace : Workspace, optional
        Where it was built: its logs, tombstones, and pictures, where `images_dir` is not given.
    depth : Depth
        How far to look into pictures.
    check_logs : callable, optional
        Reads the decision logs of the workspace by their own schema; their reader belongs to `annotation`.
    header_sha256 : str, optional
        What was published of the manifest: alone it shows a change by somebody who computed all digests again.
    """

    images_dir: Path | None = None
    workspace: Workspace | None = None
    depth: Depth = field(default_factory=Depth)
    check_logs: CheckLogs | None = None
    header_sha256: str | None = None


def verify_manifest(folder: Path, against: Against | None = None) -> Report:
    """Return a report on the manifest in `folder`; a problem is never raised, but listed there.

    Raises
    ------
    InputError
        `folder` is no folder or holds nothing of a manifest, or the folder of pictures is not there.
    """
    against = against or Against()
    if not (folder / HEADER_FILE).exists() and not (folder / schema.MANIFEST.file_name).exists():
        raise InputError(f"{folder}: holds no manifest; expected the folder of one version")
    if against.images_dir is not None and not against.images_dir.is_dir():
        raise InputError(f"--images {against.images_dir}: there is no such folder")
    report = Report(folder.resolve().name)
    header = _header(folder, against.header_sha256, report)
    records = _records(folder, header, report)
    _left_out(folder, header, records, report)
    extra = {path.name for path in folder.iterdir()}
    extra -= {HEADER_FILE, schema.MANIFEST.file_name, schema.LEFT_OUT.file_name}
    report.add("extra file", *sorted(extra))
    if header is not None and records is not None:
        manifest = Manifest(folder, header, records)
        _lineage(manifest, report)
        verify_certificate(manifest, against.workspace, report)
    if against.workspace is None:
        report.notes.append("logs, tombstones and audits were not looked at: --workspace DIR names theirs")
    else:
        verify_logs(against.workspace, header, records, against.check_logs, report)
    if records is not None:
        _pictures(records, against, report)
    return report


def _header(folder: Path, expected: str | None, report: Report) -> dict[str, Any] | None:
    try:
        header = read_header(folder)
    except OpenImageOError as error:
        report.add("header", one_line(error))
        return None
    if header.get("schema_version") != SCHEMA_VERSION:
        report.add("header", f"expected schema_version {SCHEMA_VERSION}, found {header.get('schema_version')!r}")
    try:
        check_header(header, HEADER_FILE)
    except TableError as error:
        report.add("header", one_line(error))
    stated = header.get("header_sha256")
    if expected is not None and stated != expected:
        report.add("header", f"its header_sha256 is {stated}, and not the expected {expected}")
    _files(folder, header, report)
    return header


def _files(folder: Path, header: Mapping[str, Any], report: Report) -> None:
    stated = header.get("files")
    if not isinstance(stated, dict):
        report.add("header", f"expected the digests of files, found {_short(stated)}")
        return
    found = file_digests(folder)
    for name in sorted(stated.keys() | found.keys()):
        if stated.get(name) != found.get(name):
            report.add("file", f"{name} does not hold the bytes that were frozen, whatever records it holds")


def _records(folder: Path, header: Mapping[str, Any] | None, report: Report) -> pa.Table | None:
    try:
        records = read_part(folder, schema.MANIFEST)
    except OpenImageOError as error:
        report.add("table", one_line(error))
        return None
    report.n_images = records.num_rows
    image_ids = records.column("image_id").to_pylist()
    if image_ids != sorted(image_ids):
        report.add("table", "the records are not sorted by image id")
    report.add("table", *(f"{one!r} is no image id" for one in image_ids if not is_image_id(one)))
    for image_id, digest in zip(image_ids, records.column("sha256").to_pylist(), strict=True):
        if digest is not None and not _SHA256.fullmatch(digest):
            report.add("table", f"{image_id}: {digest!r} is no sha256")
    if header is not None:
        lines = record_lines(records.to_pylist())
        found = {
            "content_sha256": content_digest(records.to_pylist()),
            "merkle_root": merkle_root(lines),
            "counts": counts_of(records),
        }
        _compare(found, header, "records", report)
        _official(header, records, report)
        _tombstones(header, image_ids, report)
    return records


def _tombstones(header: Mapping[str, Any], image_ids: Iterable[str], report: Report) -> None:
    try:
        retired = stated_tombstones(header, HEADER_FILE)
    except OpenImageOError as error:
        report.add("header", one_line(error))
        return
    for image_id in sorted(retired.keys() & image_ids):
        report.add("tombstone", f"{image_id} was retired before the manifest was frozen, yet is in it")


def _official(header: Mapping[str, Any], records: pa.Table, report: Report) -> None:
    stated = header.get("official")
    if stated is None:
        return
    publication = stated.get("publication") if isinstance(stated, dict) else stated
    try:
        found = {"official": official_statement(str(publication), ids_of_splits(records))}
        _compare(found, header, "records", report)
    except InputError as error:
        report.add("records", one_line(error))


def _left_out(folder: Path, header: Mapping[str, Any] | None, records: pa.Table | None, report: Report) -> None:
    try:
        left_out = read_part(folder, schema.LEFT_OUT)
    except OpenImageOError as error:
        report.add("table", one_line(error))
        return
    if header is not None:
        reasons = left_out.column("reason").to_pylist()
        found = {"left_out_sha256": content_digest(left_out.to_pylist()), "left_out": reason_counts(reasons)}
        _compare(found, header, schema.LEFT_OUT.file_name, report)
    if records is not None:
        both = {*left_out.column("image_id").to_pylist()} & {*records.column("image_id").to_pylist()}
        report.add("table", *(f"{one} is left out and a record too" for one in sorted(both)))


def _compare(found: Mapping[str, Any], header: Mapping[str, Any], what: str, report: Report) -> None:
    for word, value in found.items():
        if header.get(word) != value:
            kind = "digest" if isinstance(value, str) else "header"
            report.add(kind, f"{what}: {word} is {_short(value)}; manifest.json: {_short(header.get(word))}")


def _lineage(manifest: Manifest, report: Report) -> None:
    try:
        problems, notes = lineage_problems(manifest)
    except InputError as error:
        problems, notes = [one_line(error)], []
    report.add("version", *problems)
    report.notes += notes


def _pictures(records: pa.Table, against: Against, report: Report) -> None:
    if against.images_dir is not None:
        folder, others, place_of = against.images_dir, frozenset[str](), None
    elif against.workspace is not None:
        folder, others = against.workspace.root / "images", _downloaded(against.workspace)
        place_of = against.workspace.relative_image_path
    else:
        report.notes.append("pictures were not looked at: --images DIR or --workspace DIR names them")
        return
    rows = records.select(["image_id", "sha256", "width_px", "height_px"]).to_pylist()
    if against.images_dir is None:
        # A published list may be frozen without a single picture: the workspace need not have what it never had.
        n_all = len(rows)
        rows = [row for row in rows if row["sha256"] is not None or row["image_id"] in others]
        if len(rows) < n_all:
            report.notes.append(f"{n_all - len(rows):,} images were never downloaded here")
    for kind, text in picture_findings(rows, folder, against.depth, others=others, place_of=place_of):
        report.add(f"{kind} picture", text)
    if not (against.depth.reads_bytes or against.depth.decodes_all):
        report.notes.append("pictures were looked for, and not read: --deep compares their bytes")


def _downloaded(workspace: Workspace) -> frozenset[str]:
    try:
        downloads = workspace.read(schema.DOWNLOADS)
    except StageMissingError:
        return frozenset()
    rows = downloads.select(["image_id", "status"]).to_pylist()
    return frozenset(row["image_id"] for row in rows if row["status"] == "ok")


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if _SHA256.fullmatch(text) else text[:200]
