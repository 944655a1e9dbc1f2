"""Versions of a set: what changed from one to the next, and which number says so.

The rule, as Croissant states it: the same records written anew are a patch; records only added, a minor version;
a record removed, changed or moved to another split, a major one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from manifests.errors import InputError

_VERSION_PATTERN = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)
KINDS = ("major", "minor", "patch")
_MOST_NAMED = 3


class Version(NamedTuple):
    """X.Y.Z; versions compare as numbers."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def kind_after(self, previous: "Version") -> str:
        """Return which part is the first to differ from a lower version: ``major``, ``minor`` or ``patch``."""
        return next(kind for kind, mine, theirs in zip(KINDS, self, previous, strict=True) if mine != theirs)

    def raised(self, kind: str) -> "Version":
        """Return the next version of this kind."""
        place = KINDS.index(kind)
        return Version(*(n + (i == place) if i <= place else 0 for i, n in enumerate(self)))


FIRST_VERSION = Version(1, 0, 0)


def parse_version(text: str) -> Version:
    """Return the version that `text` writes.

    Raises
    ------
    InputError
        It is not X.Y.Z in digits without leading zeros.
    """
    match = _VERSION_PATTERN.fullmatch(text)
    if match is None:
        raise InputError(f"--version: expected X.Y.Z such as 1.0.0, found {text!r}")
    return Version(*map(int, match.groups()))


def versions_in(manifests_dir: Path, name: str) -> list[Version]:
    """Return the versions of a set that lie in a folder of manifests, lowest first."""
    versions = []
    for path in manifests_dir.glob("*/manifest.json"):
        set_name, _, text = path.parent.name.rpartition("-")
        if set_name == name and _VERSION_PATTERN.fullmatch(text):
            versions.append(parse_version(text))
    return sorted(versions)


@dataclass(frozen=True)
class RecordChanges:
    """The image ids, sorted, that one version adds, removes, moves to another split, or changes otherwise."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Which kind of version these changes make."""
        if self.removed or self.moved or self.changed:
            return "major"
        return "minor" if self.added else "patch"

    @property
    def counts(self) -> dict[str, int]:
        """How many ids each part has."""
        return {word: len(image_ids) for word, image_ids in vars(self).items()}

    def __str__(self) -> str:
        parts = [f"{len(ids):,} {word} ({_first(ids)})" for word, ids in vars(self).items() if ids]
        return ", ".join(parts) or "the records are the same"


def record_changes(before: pa.Table, after: pa.Table) -> RecordChanges:
    """Return what makes one version's records into the next one's; a record both moved and changed is moved."""
    old, new = _by_id(before), _by_id(after)
    kept = sorted(old.keys() & new.keys())
    moved = [image_id for image_id in kept if old[image_id]["split"] != new[image_id]["split"]]
    was_moved = set(moved)
    return RecordChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        moved=tuple(moved),
        changed=tuple(one for one in kept if one not in was_moved and old[one] != new[one]),
    )


def check_bump(name: str, version: Version, previous: Version, changes: RecordChanges) -> None:
    """Refuse a version whose number says something else than what changed since the previous one.

    Raises
    ------
    InputError
        Naming what changed, the first ids of each part, and the version that says so.
    """
    found = version.kind_after(previous)
    if found != changes.kind:
        raise InputError(
            f"--version {version} is a {found} version after {name}-{previous}, but its changes make a "
            f"{changes.kind} one: {changes}; give --version {previous.raised(changes.kind)}, or auto"
        )


def _by_id(records: pa.Table) -> dict[str, dict[str, Any]]:
    return {record["image_id"]: record for record in records.to_pylist()}


def _first(image_ids: Iterable[str]) -> str:
    ids = list(image_ids)
    return ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
