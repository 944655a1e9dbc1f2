"""The progress of a stage: a bar where standard error is a terminal, and a note in the workspace for `status`.

The note, ``.progress.json``, is written every few seconds while the stage holds the workspace, and deleted at its
end; one that is left is of a process that was killed.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

NOTE_NAME = ".progress.json"

BYTE = "byte"
"""The unit that a terminal is told in thousands and millions."""

_SECONDS_A_NOTE = 2.0

# Of the stage that runs in this process; a stack, as a workspace may be compared with another that is held too.
_held_roots: list[Path] = []

# The outermost first.
_open_bars: list["ProgressBar"] = []


@contextlib.contextmanager
def noting_progress(root: Path) -> Iterator[None]:
    """Let the bars of the block leave their note in the workspace at `root`, and delete it at the end."""
    _held_roots.append(root)
    try:
        yield
    finally:
        _held_roots.remove(root)
        (root / NOTE_NAME).unlink(missing_ok=True)


def say(line: str) -> None:
    """Print a line on standard error, above the bars that stand there."""
    if _open_bars:
        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def _note_the_whole() -> None:
    """Leave the note of the outermost bar: what is done within it takes time, which its own rate must tell."""
    if _held_roots and _open_bars:
        _open_bars[0]._note(_held_roots[-1])


class ProgressBar:
    """How far one loop of a stage is; shows rate, time left and failures. A bar within another goes at its end.

    Parameters
    ----------
    total : int, optional
        Of this many, where that is known.
    desc : str
        What is done.
    unit : str
        What is counted.
    initial : int
        How many were done before.
    """

    def __init__(self, total: int | None, desc: str, *, unit: str = "img", initial: int = 0) -> None:
        self._bar = tqdm(
            total=total, initial=initial, desc=desc, unit="B" if unit == BYTE else unit, unit_scale=unit == BYTE,
            leave=None, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._desc, self._unit, self._total = desc, unit, total
        self._initial = self._n_done = initial
        self._n_failed = 0
        self._started, self._noted_at = time.time(), 0.0

    def __enter__(self) -> Self:
        _open_bars.append(self)
        # What is to be done is known before the first of it is done, which may take minutes.
        _note_the_whole()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open_bars.remove(self)
        self._bar.close()

    def describe(self, desc: str) -> None:
        """Say what is done now, as of which epoch the steps are."""
        self._desc = desc
        self._bar.set_description(desc)

    def update(self, n: int = 1, *, n_failed: int = 0) -> None:
        """Count `n` more, `n_failed` of them without a result."""
        self._n_done += n
        self._n_failed += n_failed
        if n_failed and not self._bar.disable:
            self._bar.set_postfix({"failed": self._n_failed}, refresh=False)
        self._bar.update(n)
        if time.monotonic() - self._noted_at > _SECONDS_A_NOTE:
            self._noted_at = time.monotonic()
            _note_the_whole()

    def _note(self, root: Path) -> None:
        """Write the note in one step, but not through to the disk: it is of use only while this process lives."""
        content = {
            "what": self._desc, "unit": self._unit, "n_done": self._n_done, "n_total": self._total,
            "n_failed": self._n_failed, "n_before": self._initial, "started": self._started, "at": time.time(),
        }  # fmt: skip
        temporary = root / f".{NOTE_NAME}.{os.getpid()}.tmp"
        # A full disk stops the stage where it writes what counts, with a message that says so.
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(content))
            temporary.replace(root / NOTE_NAME)
