"""Whether what a stage wrote is there, and still follows from its inputs, by its record in ``provenance/``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.durable import sha256_of_file
from manifests.workspace import Workspace

_MOST_READ_BYTES = 32_000_000
"""Of all inputs of a record that are newer than it: a tenth of a second."""


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

    This is asked after every command, so it may not take long: a file is looked at only where its time of change
    is later than the record, as in a copied workspace. Then its size tells and, of as much as is read in a moment,
    its bytes. What is larger and has the size that it had is taken for what it was: a stage looks itself.
    """
    path = workspace.root / "provenance" / f"{record_name}.json"
    record = json_of(path)
    if "inputs" not in record:
        return False
    recorded_at, sizes, n_read = path.stat().st_mtime_ns, record.get("input_sizes", {}), 0
    for name, digest in record["inputs"].items():
        try:
            found = (workspace.root / name).stat()
            if found.st_mtime_ns <= recorded_at:
                continue
            if sizes.get(name, found.st_size) != found.st_size:
                return False
            n_read += found.st_size
            if n_read <= _MOST_READ_BYTES and sha256_of_file(workspace.root / name) != digest:
                return False
        except OSError:
            # A list or an archive from elsewhere may be gone when it was read: what was made of it stands.
            continue
    return True


def changed_at(path: Path) -> int:
    """Return a file's time of change in nanoseconds, 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
