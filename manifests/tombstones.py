"""The stage `retire`: images that were withdrawn after they had been frozen, each with its reason.

A tombstone stands for the image, in whatever set of the workspace: exports leave it out at once, and so does every
later build. A version that holds it stays as it was frozen. The log is chained as the annotators' are.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests.chained_log import Chain, chain_of, chained_line
from manifests.durable import cut_torn_tail
from manifests.errors import InputError, TableError
from manifests.frozen import Manifest, frozen_folders, read_manifest
from manifests.image_ids import is_image_id
from manifests.workspace import Workspace
from manifests.writes import changeable, note_written


@dataclass(frozen=True)
class Tombstone:
    """One withdrawn image: why, in which frozen version it was found, and when (UTC, ISO 8601)."""

    image_id: str
    reason: str
    manifest: str
    at: str


Tombstones = Mapping[str, Tombstone]
"""By image id."""


def read_tombstones(workspace: Workspace) -> dict[str, Tombstone]:
    """Return the withdrawn images of a workspace by image id; none where there is no log.

    Raises
    ------
    TableError
        The log is damaged; the message names the first bad line.
    """
    return _tombstones(workspace, chain_of(workspace.tombstones_path))


def stated_tombstones(header: Mapping[str, Any], where: str) -> dict[str, Tombstone]:
    """Return the tombstones that a manifest's header states, by image id; TableError names `where`."""
    stated = header.get("tombstones")
    if not isinstance(stated, list) or not all(isinstance(row, dict) for row in stated):
        raise TableError(f"{where}: expected a list of tombstones, found {str(stated)[:80]}")
    return {stone.image_id: stone for stone in (_parsed(row, where) for row in stated)}


def active_records(manifest: Manifest, tombstones: Tombstones) -> pa.Table:
    """Return the records of a manifest without those of withdrawn images, in the same order."""
    retired = pa.array(sorted(tombstones), pa.string())
    return manifest.records.filter(pc.invert(pc.is_in(manifest.records.column("image_id"), value_set=retired)))


def retire(workspace: Workspace, image_id: str, reason: str, *, manifest: str | None = None) -> Tombstone:
    """Put up a tombstone and return it once it is on disk; the same one again changes nothing.

    Parameters
    ----------
    workspace : Workspace
        Whose frozen sets hold the image.
    image_id : str
        The image.
    reason : str
        One line; it is published with every later version.
    manifest : str, optional
        The folder of the version that holds it; without it, the first by name that does.

    Raises
    ------
    InputError
        No frozen version holds the image, it is retired for another reason, or the reason is empty.
    TableError
        The log is damaged.
    """
    wanted = " ".join(reason.split())
    if not wanted:
        raise InputError("--reason: expected why the image is withdrawn; it is published with later versions")
    with workspace.stage("retire", {"image_id": image_id, "reason": wanted, "manifest": manifest}) as record:
        cut_torn_tail(workspace.tombstones_path)
        chain = chain_of(workspace.tombstones_path)
        known = _tombstones(workspace, chain)
        record.counts = {"tombstones": len(known)}
        if image_id in known:
            if known[image_id].reason != wanted:
                raise InputError(f"image {image_id} is retired already: {known[image_id].reason}")
            return known[image_id]
        found_in = _holder(workspace, image_id, manifest)
        tombstone = Tombstone(image_id, wanted, found_in, datetime.now(UTC).isoformat(timespec="seconds"))
        _append(workspace, chained_line(vars(tombstone), chain.head))
        record.counts = {"tombstones": len(known) + 1}
    return tombstone


def _append(workspace: Workspace, line: bytes) -> None:
    with changeable(workspace.tombstones_path).open("ab") as stream:
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
    note_written(workspace.tombstones_path)


def _holder(workspace: Workspace, image_id: str, manifest: str | None) -> str:
    """Return the folder name of the version that holds the image."""
    names = [folder.name for folder in frozen_folders(workspace.manifests_dir)]
    if manifest is not None and manifest not in names:
        raise InputError(f"--manifest {manifest}: expected one of {', '.join(names) or 'none'}")
    for name in names if manifest is None else [manifest]:
        if image_id in read_manifest(workspace.manifests_dir / name).image_ids:
            return name
    where = manifest or f"any manifest of {workspace.manifests_dir}"
    raise InputError(f"image {image_id!r} is not in {where}: only what was frozen can be retired")


def _tombstones(workspace: Workspace, chain: Chain) -> dict[str, Tombstone]:
    path = workspace.tombstones_path
    if chain.problem:
        raise TableError(f"{path}: {chain.problem}")
    found: dict[str, Tombstone] = {}
    for number, row in enumerate(chain.rows, start=1):
        tombstone = _parsed(row, f"{path}, line {number}")
        if tombstone.image_id in found:
            raise TableError(f"{path}, line {number}: image {tombstone.image_id} stands in an earlier line too")
        found[tombstone.image_id] = tombstone
    return found


def _parsed(row: Mapping[str, Any], where: str) -> Tombstone:
    fields = Tombstone.__annotations__
    if row.keys() != fields.keys() or not all(isinstance(value, str) for value in row.values()):
        raise TableError(f"{where}: expected the texts {', '.join(fields)}, found {sorted(row)}")
    if not is_image_id(row["image_id"]):
        raise TableError(f"{where}: expected an image id, found {row['image_id']!r}")
    return Tombstone(**row)
