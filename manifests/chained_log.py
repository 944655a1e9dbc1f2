"""Logs of JSON lines in which every line carries the SHA-256 of the line before it.

A line that was altered, removed or moved shows at the line after it. What the chain alone cannot show is a change
to the last line, or lines cut off the end: whoever keeps a `LogHead` of the log sees that too.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.strict_json import strict_json

GENESIS = "0" * 64
"""What stands as `previous` in the first line of a log."""


@dataclass(frozen=True)
class LogHead:
    """How far a log went at some time: lines, and the SHA-256 of the last one (`GENESIS` where there was none)."""

    n_lines: int
    last_sha256: str


@dataclass(frozen=True)
class Chain:
    """What a log holds.

    Attributes
    ----------
    rows : list of dict
        The lines up to the first bad one, each without `previous`.
    hashes : list of str
        Their SHA-256, as the line after each carries it.
    problem : str or None
        Which line is the first bad one, and why.
    n_torn_bytes : int
        What stands after the last line end: a line that a killed process was writing, or no line at all.
    """

    rows: list[dict[str, Any]]
    hashes: list[str]
    problem: str | None = None
    n_torn_bytes: int = 0

    @property
    def head(self) -> LogHead:
        """How far the log goes."""
        return LogHead(len(self.hashes), self.hashes[-1] if self.hashes else GENESIS)

    def departs_from(self, head: LogHead) -> str | None:
        """Return how the log differs from one that was appended to since `head`; None where it does not."""
        if head.n_lines > len(self.hashes):
            return None if self.problem else f"{len(self.hashes)} lines; there were {head.n_lines}"
        if head.n_lines and self.hashes[head.n_lines - 1] != head.last_sha256:
            return f"line {head.n_lines} is not the one that was there, or one before it has changed"
        return None


def chain_of(path: Path) -> Chain:
    """Return the log in `path` as far as its chain holds; empty where there is no file.

    A last line without its end is one that a killed process was writing: nobody has been told that it is there.
    """
    rows: list[dict[str, Any]] = []
    hashes: list[str] = []
    content = path.read_bytes() if path.exists() else b""
    *lines, torn = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = strict_json(line)
            previous = row.pop("previous")
        except (ValueError, KeyError, AttributeError, TypeError):
            return Chain(rows, hashes, f"line {number} is no JSON object with 'previous', each name once")
        expected = hashes[-1] if hashes else GENESIS
        if previous != expected:
            return Chain(rows, hashes, f"line {number}: the line before it was changed, removed or moved")
        rows.append(row)
        hashes.append(hash_of_line(line))
    return Chain(rows, hashes, n_torn_bytes=len(torn))


def hash_of_line(line: bytes) -> str:
    """Return the SHA-256 of a line without its end, as the next line carries it."""
    return hashlib.sha256(line).hexdigest()


def chained_line(row: dict[str, Any], head: LogHead) -> bytes:
    """Return `row` as the line that follows `head`, with its line end."""
    text = json.dumps(row | {"previous": head.last_sha256}, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"
