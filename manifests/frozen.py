"""A frozen manifest on disk: its folder, its bytes, its digests, and reading it back."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schema
from manifests.durable import replacing, sha256_of_file, write_json
from manifests.errors import InputError, TableError, one_line
from manifests.merkle import merkle_root
from manifests.parquet import read_parquet
from manifests.strict_json import strict_json
from manifests.versions import parse_version
from manifests.workspace import checked_name

SCHEMA_VERSION = 3
HEADER_FILE = "manifest.json"
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Manifest:
    """A frozen set: `records` follows `schema.MANIFEST`, sorted by image id; `header` is ``manifest.json``."""

    folder: Path
    header: dict[str, Any]
    records: pa.Table

    @property
    def name(self) -> str:
        """The set's name, without its version."""
        return str(self.header["name"])

    @property
    def image_ids(self) -> frozenset[str]:
        """The ids of all its images, retired ones too."""
        return frozenset(self.records.column("image_id").to_pylist())


def record_lines(records: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return each record as one line of canonical JSON: the entries of the Merkle tree."""
    return [_ENCODER.encode(record).encode() + b"\n" for record in records]


def content_digest(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 over the records as canonical JSON lines: the set's identity, whatever file holds it."""
    return hashlib.sha256(b"".join(record_lines(records))).hexdigest()


def header_digest(header: Mapping[str, Any]) -> str:
    """Return the SHA-256 over a header as canonical JSON, but for the place where it stands itself."""
    rest = {key: value for key, value in header.items() if key != "header_sha256"}
    return hashlib.sha256(_ENCODER.encode(rest).encode()).hexdigest()


def check_header(header: Mapping[str, Any], where: str) -> None:
    """Refuse a header that is not as it was frozen: TableError names `where`."""
    if header.get("header_sha256") != header_digest(header):
        raise TableError(f"{where}: is not as it was frozen: its header_sha256 does not fit")


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each table's file, of those that are there.

    The digests of records do not cover all bytes: not the statistics in the footer, which filters believe.
    """
    paths = (folder / spec.file_name for spec in (schema.LEFT_OUT, schema.MANIFEST))
    return {path.name: sha256_of_file(path) for path in paths if path.is_file()}


def manifest_folder(manifests_dir: Path, name: str, version: str) -> Path:
    """Return the folder of one version.

    Raises
    ------
    InputError
        `name` cannot be a folder's name, or `version` is not X.Y.Z.
    """
    return manifests_dir / f"{checked_name(name, '--name')}-{parse_version(version)}"


def frozen_folders(manifests_dir: Path) -> list[Path]:
    """Return the folders of all frozen versions, by name; one without a header is a build that was killed."""
    return sorted(path.parent for path in manifests_dir.glob(f"*/{HEADER_FILE}"))


def record_table(records: list[dict[str, Any]], where: str) -> pa.Table:
    """Return records as the checked table of a manifest, sorted by image id."""
    table = pa.Table.from_pylist(records, schema=schema.MANIFEST.schema).sort_by("image_id")
    return schema.MANIFEST.check(table, where)


def counts_of(records: pa.Table) -> dict[str, int]:
    """Return how many images a manifest has, how many with licence and digest, and how many in each split."""
    counts = {
        "images": records.num_rows,
        "with_licence": records.num_rows - records.column("license_url").null_count,
        "with_sha256": records.num_rows - records.column("sha256").null_count,
    }
    splits = Counter(records.column("split").to_pylist())
    return counts | {f"split_{split}": n for split, n in sorted(splits.items())}


def ids_of_splits(records: pa.Table) -> dict[str, list[str]]:
    """Return the image ids of each split."""
    found: dict[str, list[str]] = {}
    for split, image_id in zip(*(records.column(word).to_pylist() for word in ("split", "image_id")), strict=True):
        found.setdefault(split, []).append(image_id)
    return found


def freeze(folder: Path, header: dict[str, Any], records: pa.Table, left_out: pa.Table) -> Manifest:
    """Write a manifest, or find that the same one is there already.

    Parameters
    ----------
    folder : Path
        ``<name>-<version>``.
    header : dict
        What ``manifest.json`` says, but for digests.
    records, left_out : pyarrow.Table
        By `schema.MANIFEST` and `schema.LEFT_OUT`, sorted by image id.

    Raises
    ------
    InputError
        The folder holds this version with other records: a frozen version never changes.
    """
    lines = record_lines(records.to_pylist())
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    if (folder / HEADER_FILE).exists():
        return _unchanged(read_manifest(folder), header, digest, records.num_rows)
    for spec, table in ((schema.LEFT_OUT, left_out), (schema.MANIFEST, records)):
        with replacing(folder / spec.file_name) as temporary:
            # Without compression, as compressed bytes differ between versions of a compressor.
            pq.write_table(table, temporary, compression="none", row_group_size=schema.ROW_GROUP_ROWS)
    whole = header | {
        "content_sha256": digest,
        "merkle_root": merkle_root(lines),
        "left_out_sha256": content_digest(left_out.to_pylist()),
        "files": file_digests(folder),
        "schema_version": SCHEMA_VERSION,
    }
    # The header comes last: a folder without one is a build that was killed.
    whole["header_sha256"] = header_digest(whole)
    write_json(folder / HEADER_FILE, whole)
    return Manifest(folder, whole, records)


def _unchanged(frozen: Manifest, header: Mapping[str, Any], digest: str, n_records: int) -> Manifest:
    """Return a manifest that was frozen before, untouched, if it would come out the same now."""
    found = frozen.header["content_sha256"]
    if found != digest:
        raise InputError(
            f"{frozen.folder.name} is frozen with {frozen.records.num_rows} other records "
            f"(digest {found[:12]}, now {n_records} with {digest[:12]}): give a higher --version, or auto"
        )
    if not has_same_sources(frozen, header):
        raise InputError(
            f"{frozen.folder.name} is frozen with these records from other inputs or flags: "
            "give a higher patch --version, or auto"
        )
    return frozen


def has_same_sources(frozen: Manifest, header: Mapping[str, Any]) -> bool:
    """Return whether a frozen manifest follows from the same inputs by the same rules as `header` says."""
    return all(frozen.header.get(part) == header[part] for part in ("inputs", "rules", "certificate"))


def read_header(folder: Path) -> dict[str, Any]:
    """Return ``manifest.json`` of a folder.

    Raises
    ------
    InputError
        There is no manifest.
    TableError
        The header is damaged, or that of another folder.
    """
    path = folder / HEADER_FILE
    if not path.is_file():
        raise InputError(f"{folder}: holds no manifest.json; build-manifest makes one")
    try:
        header: dict[str, Any] = strict_json(path.read_text(encoding="utf-8"))
        named = f"{header['name']}-{header['version']}"
        if not isinstance(header["content_sha256"], str):
            raise TypeError("content_sha256 is no text")
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: not a manifest header ({error})") from error
    # A relative path such as "." has no name of its own.
    if folder.resolve().name != named:
        raise TableError(f"{path}: says {named}, but lies in {folder.resolve().name}")
    return header


def read_part(folder: Path, spec: schema.TableSpec) -> pa.Table:
    """Return one of the tables of a manifest's folder, checked against its schema alone.

    Raises
    ------
    TableError
        The table is damaged, or is not one of `spec`.
    """
    path = folder / spec.file_name
    table = spec.check(read_parquet(path), str(path))
    try:
        # Reading alone does not notice texts that are no UTF-8.
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise TableError(f"{path}: {one_line(error)}") from error
    return table


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder` after comparing header and records with their digests.

    Raises
    ------
    InputError
        There is no manifest.
    TableError
        Header or records are damaged, or are not those that were frozen.
    """
    header = read_header(folder)
    check_header(header, str(folder / HEADER_FILE))
    records = read_part(folder, schema.MANIFEST)
    expected, found = header["content_sha256"], content_digest(records.to_pylist())
    if found != expected:
        path = folder / schema.MANIFEST.file_name
        raise TableError(f"{path}: expected the records with digest {expected[:12]}, found {found[:12]}")
    return Manifest(folder, header, records)


def find_manifest(manifests_dir: Path, name: str | None) -> Manifest:
    """Return the workspace's only manifest, or the one in the folder `name` (``<name>-<X.Y.Z>``).

    Raises
    ------
    InputError
        There is none, none of that name, or several and no name is given.
    """
    names = [folder.name for folder in frozen_folders(manifests_dir)]
    if not names:
        raise InputError(f"{manifests_dir} holds no manifest: run the stage 'build-manifest' first")
    if name is None and len(names) > 1:
        raise InputError(f"--manifest: expected one of {', '.join(names)}")
    if name is not None and name not in names:
        raise InputError(f"--manifest {name}: expected one of {', '.join(names)}")
    return read_manifest(manifests_dir / (name or names[0]))
