"""A frozen manifest on disk: its folder, its bytes, its digest, and reading it back."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schema
from manifests.durable import replacing, write_json
from manifests.errors import InputError, TableError
from manifests.parquet import read_parquet
from manifests.workspace import checked_name

SCHEMA_VERSION = 1
_VERSION_PATTERN = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


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


def content_digest(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 over the records as canonical JSON lines: the set's identity, whatever file holds it."""
    digest = hashlib.sha256()
    for record in records:
        line = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def manifest_folder(manifests_dir: Path, name: str, version: str) -> Path:
    """Return the folder of one version.

    Raises
    ------
    InputError
        `name` cannot be a folder's name, or `version` is not X.Y.Z.
    """
    if not _VERSION_PATTERN.fullmatch(version):
        raise InputError(f"--version: expected X.Y.Z such as 1.0.0, found {version!r}")
    return manifests_dir / f"{checked_name(name, '--name')}-{version}"


def freeze(folder: Path, header: dict[str, Any], records: list[dict[str, Any]]) -> Manifest:
    """Write a manifest, or find that the same one is there already.

    Raises
    ------
    InputError
        The folder holds this version with other records: a frozen version never changes.
    """
    table = pa.Table.from_pylist(records, schema=schema.MANIFEST.schema).sort_by("image_id")
    table = schema.MANIFEST.check(table, str(folder / schema.MANIFEST.file_name))
    digest = content_digest(table.to_pylist())
    if (folder / "manifest.json").exists():
        return _unchanged(read_manifest(folder), header, digest, len(records))
    with replacing(folder / schema.MANIFEST.file_name) as temporary:
        # Without compression, as compressed bytes differ between versions of a compressor.
        pq.write_table(table, temporary, compression="none", row_group_size=schema.ROW_GROUP_ROWS)
    # The header comes last: a folder without one is a build that was killed.
    write_json(folder / "manifest.json", header | {"content_sha256": digest, "schema_version": SCHEMA_VERSION})
    return read_manifest(folder)


def _unchanged(frozen: Manifest, header: Mapping[str, Any], digest: str, n_records: int) -> Manifest:
    """Return a manifest that was frozen before, untouched, if it would come out the same now."""
    found = frozen.header["content_sha256"]
    if found != digest:
        raise InputError(
            f"{frozen.folder.name} is frozen with {frozen.records.num_rows} other records "
            f"(digest {found[:12]}, now {n_records} with {digest[:12]}): give a higher --version"
        )
    if frozen.header["inputs"] != header["inputs"]:
        raise InputError(
            f"{frozen.folder.name} is frozen with these records from other inputs: give a higher patch --version"
        )
    return frozen


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder` after comparing its records with its digest.

    Raises
    ------
    InputError
        There is no manifest.
    TableError
        Header or records are damaged, or the records are not those that were frozen.
    """
    header_path = folder / "manifest.json"
    if not header_path.is_file():
        raise InputError(f"{folder}: holds no manifest.json; build-manifest makes one")
    try:
        header = json.loads(header_path.read_text(encoding="utf-8"))
        expected = header["content_sha256"]
        is_of_folder = folder.name == f"{header['name']}-{header['version']}"
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{header_path}: not a manifest header ({error})") from error
    if not is_of_folder:
        raise TableError(f"{header_path}: says {header['name']}-{header['version']}, but lies in {folder.name}")
    path = folder / schema.MANIFEST.file_name
    records = schema.MANIFEST.check(read_parquet(path), str(path))
    found = content_digest(records.to_pylist())
    if found != expected:
        raise TableError(f"{path}: expected the records with digest {expected[:12]}, found {found[:12]}")
    return Manifest(folder, header, records)


def find_manifest(manifests_dir: Path, name: str | None) -> Manifest:
    """Return the workspace's only manifest, or the one in the folder `name` (``<name>-<X.Y.Z>``).

    Raises
    ------
    InputError
        There is none, none of that name, or several and no name is given.
    """
    names = sorted(path.parent.name for path in manifests_dir.glob("*/manifest.json"))
    if not names:
        raise InputError(f"{manifests_dir} holds no manifest: run the stage 'build-manifest' first")
    if name is None and len(names) > 1:
        raise InputError(f"--manifest: expected one of {', '.join(names)}")
    if name is not None and name not in names:
        raise InputError(f"--manifest {name}: expected one of {', '.join(names)}")
    return read_manifest(manifests_dir / (name or names[0]))
