"""Running a client as users run it, in a process of its own, with its time and its memory taken from outside."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_S = 0.2
_MAX_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class FinishedProcess:
    """A process that has ended.

    Attributes
    ----------
    exit_code : int
        Negative: the signal that killed it.
    started_at, ended_at : float
        `time.monotonic`, which all processes of a machine share.
    peak_mb : float
        Most memory, 10^6 bytes. Exact for a process by itself; of one with children, the most found when looking
        every 0.2 s, pages that they share counted once.
    errors : str
        The end of what it wrote to standard error.
    """

    exit_code: int
    started_at: float
    ended_at: float
    peak_mb: float
    errors: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> FinishedProcess:
    """Run `command` to its end, its output kept off the terminal, and return what it took."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started_at = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment
        )  # fmt: skip
        try:
            with _sampling_memory(process.pid) as samples:
                # Of `wait4`, as it alone tells the memory of one child.
                _, status, usage = os.wait4(process.pid, 0)
                ended_at = time.monotonic()
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        errors.seek(0)
        told = errors.read().decode(errors="replace")[-2000:]
    # A child's mark begins at what its parent had; where that is all there is to it, the samples are better.
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marked = usage.ru_maxrss * _MAX_RSS_UNIT_BYTES if usage.ru_maxrss > own_peak else 0
    return FinishedProcess(process.returncode, started_at, ended_at, max(marked, *samples) / 1e6, told)


@contextlib.contextmanager
def _sampling_memory(process_id: int) -> Iterator[list[int]]:
    """Yield a list that grows by the memory of a process and all below it, in bytes, every `_SAMPLE_S`."""
    samples = [0, 0]
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(_SAMPLE_S):
            samples.append(sum(map(_memory_bytes, _with_children(process_id))))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def _with_children(process_id: int) -> Iterator[int]:
    yield process_id
    for path in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in _text(path).split():
            yield from _with_children(int(child))


def _memory_bytes(process_id: int) -> int:
    """Return a process's memory, of what it shares with others its part; 0 when it is gone."""
    for line in _text(Path(f"/proc/{process_id}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the process has ended between two looks
