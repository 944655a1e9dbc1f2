"""Whether what a stage wrote is there, and still follows from its inputs, by its record in ``provenance/``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.durable import sha256_of_file
from manifests.workspace import Workspace


def json_of(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file, an empty one where there is none: its own stage says what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def record_of(workspace: Workspace, record_name: str) -> Mapping[str, Any]:
    """Return the record of the last run of a stage that was done, empty where there is none."""
    return json_of(workspace.root / "provenance" / f"{record_name}.json")


def is_current(workspace: Workspace, record_name: str) -> bool:
    """Return whether a stage was done and none of the files that it read has changed since.

    A file is read again only where its time of change is later than the record.
    """
    path = workspace.root / "provenance" / f"{record_name}.json"
    inputs = json_of(path).get("inputs")
    if inputs is None:
        return False
    recorded_at = path.stat().st_mtime_ns
    return all(_is_as_read(workspace.root / name, digest, recorded_at) for name, digest in inputs.items())


def _is_as_read(path: Path, digest: str, recorded_at: int) -> bool:
    try:
        return path.stat().st_mtime_ns <= recorded_at or sha256_of_file(path) == digest
    except OSError:
        # A list or an archive from elsewhere may be gone when it was read: what was made of it stands.
        return True


def changed_at(path: Path) -> int:
    """Return a file's time of change in nanoseconds, 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
