"""`verify-manifest`: all that a frozen manifest states, compared with what is there; all problems at once."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.build_inputs import head_of
from manifests.chained_log import chain_of
from manifests.errors import InputError, OpenImageOError, StageMissingError, one_line
from manifests.frozen import (
    HEADER_FILE,
    SCHEMA_VERSION,
    Manifest,
    content_digest,
    counts_of,
    header_digest,
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
from manifests.tombstones import read_tombstones, stated_tombstones
from manifests.verify_pictures import Depth, picture_findings
from manifests.verify_report import Report
from manifests.workspace import Workspace

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LOG_NAME = re.compile(r"tombstones\.jsonl|decisions/[A-Za-z0-9][A-Za-z0-9_.-]*\.jsonl", re.ASCII)

CheckLogs = Callable[[Workspace], Iterable[str]]
"""Returns what is wrong with a workspace's decision logs, a line a problem."""


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
    """

    images_dir: Path | None = None
    workspace: Workspace | None = None
    depth: Depth = field(default_factory=Depth)
    check_logs: CheckLogs | None = None


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
    header = _header(folder, report)
    records = _records(folder, header, report)
    _left_out(folder, header, records, report)
    extra = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    extra -= {HEADER_FILE, schema.MANIFEST.file_name, schema.LEFT_OUT.file_name}
    report.add("extra file", *sorted(extra))
    if header is not None and records is not None:
        _lineage(Manifest(folder, header, records), report)
    if against.workspace is not None:
        _logs(against.workspace, header, records, against.check_logs, report)
    if records is not None:
        _pictures(records, against, report)
    return report


def _header(folder: Path, report: Report) -> dict[str, Any] | None:
    try:
        header = read_header(folder)
    except OpenImageOError as error:
        report.add("header", one_line(error))
        return None
    if header.get("schema_version") != SCHEMA_VERSION:
        report.add("header", f"expected schema_version {SCHEMA_VERSION}, found {header.get('schema_version')!r}")
    if header.get("header_sha256") != header_digest(header):
        report.add("header", "manifest.json is not as it was frozen: its header_sha256 does not fit")
    return header


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


def _logs(
    workspace: Workspace,
    header: Mapping[str, Any] | None,
    records: pa.Table | None,
    check_logs: CheckLogs | None,
    report: Report,
) -> None:
    """Compare the logs with how far they went when the manifest was frozen; later lines may have come."""
    if check_logs is not None:
        report.add("log", *check_logs(workspace))
    heads = {} if header is None else header.get("logs")
    if not isinstance(heads, dict):
        report.add("header", f"expected the heads of logs, found {_short(heads)}")
        heads = {}
    for name, stated in sorted(heads.items()):
        if not _LOG_NAME.fullmatch(name):
            report.add("header", f"{name!r} is no log of a workspace")
            continue
        chain = chain_of(workspace.root / name)
        try:
            departed = chain.departs_from(head_of(stated, f"{HEADER_FILE}, logs, {name}"))
        except OpenImageOError as error:
            report.add("header", one_line(error))
            continue
        # The logs' own reader has named the bad line of a decision log already.
        if chain.problem and (check_logs is None or name == workspace.tombstones_path.name):
            report.add("log", f"{name}: {chain.problem}")
        if departed:
            report.add("log", f"{name}: since the manifest was frozen, it has changed: {departed}")
    try:
        tombstones = read_tombstones(workspace)
    except OpenImageOError as error:
        report.add("log", one_line(error))
        return
    if records is not None:
        report.n_retired = len(tombstones.keys() & records.column("image_id").to_pylist())


def _pictures(records: pa.Table, against: Against, report: Report) -> None:
    if against.images_dir is not None:
        folder, others = against.images_dir, frozenset[str]()
    elif against.workspace is not None:
        folder, others = against.workspace.root / "images", _downloaded(against.workspace)
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
    for kind, text in picture_findings(rows, folder, against.depth, others=others):
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
