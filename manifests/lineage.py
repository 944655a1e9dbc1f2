"""Which version a set gets next, what it says of the one before, and whether versions side by side agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.errors import InputError, OpenImageOError, one_line
from manifests.frozen import (
    HEADER_FILE,
    Manifest,
    check_header,
    has_same_sources,
    header_digest,
    manifest_folder,
    read_header,
    read_manifest,
)
from manifests.tombstones import stated_tombstones
from manifests.versions import (
    FIRST_VERSION,
    Version,
    check_bump,
    parse_version,
    record_changes,
    versions_in,
)

AUTO = "auto"
"""Instead of a version: the one that follows from what changed."""


def versioned(manifests_dir: Path, header: dict[str, Any], wanted: str, records: pa.Table) -> dict[str, Any]:
    """Return the header with its version, and with what changed since the highest lower one.

    Raises
    ------
    InputError
        The version says something else than what changed, or a tombstone of the version before it is gone.
    TableError
        A version before it is not as it was frozen.
    """
    name = header["name"]
    known = versions_in(manifests_dir, name)
    version = _next_version(manifests_dir, header, records) if wanted == AUTO else parse_version(wanted)
    lower = [one for one in known if one < version]
    for before in [one for one in known if one <= version][-1:]:
        _check_tombstones(manifest_folder(manifests_dir, name, str(before)), header)
    whole = header | {"version": str(version), "previous": None}
    if version in known or not lower:
        # Frozen already: it is compared with what it was frozen from. Or the first: it may have any number.
        return whole
    previous = read_manifest(manifest_folder(manifests_dir, name, str(lower[-1])))
    changes = record_changes(previous.records, records)
    check_bump(name, version, lower[-1], changes)
    whole["previous"] = {
        "version": str(lower[-1]),
        "content_sha256": previous.header["content_sha256"],
        "header_sha256": header_digest(previous.header),
        "kind": changes.kind,
        "changes": changes.counts,
    }
    return whole


def _check_tombstones(folder: Path, header: Mapping[str, Any]) -> None:
    """Refuse to build without the tombstones that a version states: what was withdrawn would come back."""
    before = read_header(folder)
    check_header(before, str(folder / HEADER_FILE))
    if lost := _lost_tombstones(before, header):
        raise InputError(
            f"{folder.name} states tombstones of {len(lost)} images that tombstones.jsonl does not hold "
            f"({lost[0]}): put back the log that it was frozen with"
        )


def _lost_tombstones(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the images whose tombstone in one header is not in that of a later version, sorted."""
    old, new = (stated_tombstones(header, HEADER_FILE) for header in (before, after))
    return sorted(image_id for image_id, stone in old.items() if new.get(image_id) != stone)


def _next_version(manifests_dir: Path, header: Mapping[str, Any], records: pa.Table) -> Version:
    """Return the version that follows from what changed since the highest one; that itself if nothing did."""
    known = versions_in(manifests_dir, header["name"])
    if not known:
        return FIRST_VERSION
    latest = read_manifest(manifest_folder(manifests_dir, header["name"], str(known[-1])))
    changes = record_changes(latest.records, records)
    if latest.records.equals(records) and has_same_sources(latest, header):
        return known[-1]
    return known[-1].raised(changes.kind)


def lineage_problems(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return what is wrong between a version and those beside it, and what could not be compared.

    A version states the digests of the one before it. So a version that was changed, digests and all, shows as
    soon as the next one lies beside it.

    Raises
    ------
    InputError
        The version, or the one that it follows, is not X.Y.Z.
    """
    problems, notes = [], []
    manifests_dir = manifest.folder.resolve().parent
    stated = manifest.header.get("previous")
    if isinstance(stated, dict):
        folder = manifests_dir / f"{manifest.name}-{parse_version(str(stated.get('version')))}"
        if folder.is_dir():
            problems += _against_previous(manifest, stated, folder)
        else:
            notes.append(
                f"{folder.name}, the version before, does not lie beside it: what changed was not compared"
            )
    elif stated is not None:
        problems.append("manifest.json: 'previous' is no object")
    version = parse_version(str(manifest.header["version"]))
    for later in versions_in(manifests_dir, manifest.name):
        if later > version:
            problems += _against_next(manifest, manifests_dir / f"{manifest.name}-{later}")
    return problems, notes


def _against_previous(manifest: Manifest, stated: Mapping[str, Any], folder: Path) -> list[str]:
    try:
        previous = read_manifest(folder)
        lost = _lost_tombstones(previous.header, manifest.header)
    except OpenImageOError as error:
        return [f"the version before cannot be read: {one_line(error)}"]
    problems = _digest_problems(stated, previous.header, f"it follows {folder.name}, but that one's")
    problems += [f"{one}: its tombstone in {folder.name} is gone" for one in lost]
    changes = record_changes(previous.records, manifest.records)
    if not problems and (changes.kind, changes.counts) != (stated.get("kind"), stated.get("changes")):
        problems.append(f"it says that {stated.get('changes')} changed since {folder.name}; found: {changes}")
    lower, version = (parse_version(str(one.header["version"])) for one in (previous, manifest))
    if version <= lower or version.kind_after(lower) != changes.kind:
        problems.append(f"what changed since {folder.name} makes a {changes.kind} version: {changes}")
    return problems


def _against_next(manifest: Manifest, folder: Path) -> list[str]:
    try:
        later = read_header(folder)
        check_header(later, str(folder / HEADER_FILE))
    except OpenImageOError as error:
        return [f"a later version cannot be read: {one_line(error)}"]
    stated = later.get("previous")
    if not isinstance(stated, dict) or stated.get("version") != manifest.header["version"]:
        return []
    return _digest_problems(stated, manifest.header, f"{folder.name} follows it, but its")


def _digest_problems(stated: Mapping[str, Any], header: Mapping[str, Any], where: str) -> list[str]:
    found = {"content_sha256": header.get("content_sha256"), "header_sha256": header_digest(header)}
    return [
        f"{where} {word} was {str(stated.get(word))[:12]} then and is {str(digest)[:12]} now"
        for word, digest in found.items()
        if stated.get(word) != digest
    ]
