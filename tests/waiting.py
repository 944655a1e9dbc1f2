"""Waits for other processes and threads that fail where what is waited for never comes, and do not hang."""

import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")

# No bound of how fast anything is: what takes this long on the slowest machine hangs.
HANGS_S = 120.0


def wait_until(
    condition: Callable[[], Found],
    process: subprocess.Popen[Any] | None = None,
    *,
    seconds: float = HANGS_S,
    gap_s: float = 0.005,
) -> Found:
    """Return what `condition` returns as soon as it is true; fail when `process` ends, or `seconds` pass, before.

    A `process` that is waited for in vain is killed: no later test meets it.
    """
    deadline = time.monotonic() + seconds
    while True:
        # Before the look: what became true just before the end of the process counts.
        has_ended = process is not None and process.poll() is not None
        is_late = time.monotonic() > deadline
        if found := condition():
            return found
        if has_ended or is_late:
            raise AssertionError(_what_went_wrong(process, has_ended=has_ended, seconds=seconds))
        time.sleep(gap_s)


def _what_went_wrong(process: subprocess.Popen[Any] | None, *, has_ended: bool, seconds: float) -> str:
    if process is None:
        return f"this did not come about within {seconds:g} s"
    process.kill()
    try:
        _, said = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        said = "(a process that it started holds its standard error open)"
    what = f"ended before, with exit code {process.returncode}" if has_ended else f"hung for {seconds:g} s"
    return f"the process {what}; it said: {said!r}"


class StandardError:
    """What a process says there, read to its end by a thread: a full pipe that nobody reads stops a process.

    Parameters
    ----------
    process : subprocess.Popen
        Started with ``stderr=subprocess.PIPE, text=True``; its `stderr` is this object's from now on.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._process, self._pipe = process, process.stderr
        # `communicate` would read what the thread is to read.
        process.stderr = None
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, name="standard error", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self._lines.append(line)

    @property
    def text(self) -> str:
        """All that was said so far; after the end of the process, all."""
        if self._process.poll() is not None:
            self._reader.join(HANGS_S)
        return "".join(self._lines)

    def wait_for(self, words: str) -> str:
        """Return what was said up to now, as soon as a line holds `words`; fail when the process ends before."""
        try:
            wait_until(lambda: any(words in line for line in list(self._lines)), self._process, gap_s=0.02)
        except AssertionError as error:
            raise AssertionError(f"never said {words!r}: {error}: {self.text}") from None
        return self.text
