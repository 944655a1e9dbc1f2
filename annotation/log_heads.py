"""What `consensus` has read of each log, and whether the logs still begin with it."""

from collections.abc import Mapping
from typing import Any

from annotation.log_reader import LogReader
from manifests.workspace import Workspace


def log_heads(logs: Mapping[str, LogReader]) -> dict[str, dict[str, Any]]:
    """Return the part of a record that says which part of each log was read.

    A log may grow while it is read. With the count it is plain how far it was read, and with the hash a change to
    its last line shows, which the chain alone cannot tell.
    """
    return {
        "decisions_read": {name: len(log.decisions) for name, log in logs.items()},
        "last_hashes": {name: log.last_hash for name, log in logs.items()},
    }


def recorded_heads(workspace: Workspace) -> dict[str, tuple[int, str]]:
    """Return by annotator how many lines the last `consensus` has read, and the hash of the last of them.

    Raises
    ------
    TableError
        The record is damaged.
    """
    details = workspace.read_record("consensus", "details")
    last_hashes = details.get("last_hashes", {})
    n_read = details.get("decisions_read", {})
    return {name: (n_read[name], last_hash) for name, last_hash in last_hashes.items() if n_read.get(name)}


def change_of(log: LogReader, head: tuple[int, str] | None) -> str | None:
    """Return in words how a log no longer begins with what `consensus` has read of it, or None."""
    if head is None:
        return None
    n_expected, expected = head
    found = log.hash_of(n_expected)
    if found == expected:
        return None
    return (
        f"{log.path}, line {n_expected}: the last 'consensus' read {n_expected} lines that ended in the hash "
        f"{expected}, found {found or f'{len(log.decisions)} lines'}"
    )
