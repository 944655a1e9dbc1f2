"""Checking and storing in processes of their own, so that the threads that fetch do not wait for them.

Python runs one thread of a process at a time: with all of it in one process, two cores were busy for two thirds of
the time. Here this process keeps the network, the log and the table, and hands each body over in memory that all
share: a fixed number of slots, so that memory depends on no picture. The memory has no name and goes with the last
process; a process goes when its socket closes, by whatever cause.
"""

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from curation.picture_store import PictureStore
from curation.placeholders import KNOWN_DIGESTS
from manifests.errors import OpenImageOError
from manifests.process_edge import held_back
from manifests.workspace import Workspace

LEAST_PICTURES = 300
"""Fewer are stored before processes that start in 0.1 s have paid."""

_MOST_PROCESSES = 8
"""Light pictures keep two busy for each process that fetches, photographs of 1024 px about seven."""

_SLOTS_A_PROCESS = 4
"""One in work, one waiting, and two on their way here or back, so that nobody waits for another to wake up."""

_SLOT_BYTES = 8 << 20
"""Open Images' copies have 287 kB on average, originals some MB; memory is taken only where bytes have lain.
A larger body is stored in this process."""

_GRACE_S = 5.0
"""How long a picture in work may take to its end when there are no more; the slowest decode takes about 2 s."""

_KEEPS_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""Settings of glibc: a body and its pixels lie where those before lay, instead of in pages zeroed anew, which took
0.7 ms a picture. Blocks over 32 MiB, and what is free over 64 MiB, still go back at once. Elsewhere unread."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_FOLDER_OF_PACKAGES = Path(__file__).resolve().parent.parent

Row = dict[str, Any]


@contextlib.contextmanager
def picture_processes(
    workspace: Workspace, store: PictureStore, n_pictures: int
) -> Iterator["PictureProcesses | None"]:
    """Yield a process a core that check and store pictures; None where `store` alone does as well.

    That is for few pictures, on one core, where memory without a name cannot be had (but on Linux), and where the
    system starts no further process.

    Parameters
    ----------
    workspace : Workspace
        Whose pictures.
    store : PictureStore
        Stores in this process what is too large for a slot.
    n_pictures : int
        How many there may be.
    """
    n_processes = min(_n_cores(), _MOST_PROCESSES)
    is_of_use = n_pictures >= LEAST_PICTURES and n_processes > 1 and hasattr(os, "memfd_create")
    with contextlib.ExitStack() as opened:
        processes = None
        if is_of_use:
            # Too many processes or files, or none as large as the memory: all works in this process as well.
            with contextlib.suppress(OSError):
                processes = _started(workspace, store, n_processes)
        if processes is not None:
            opened.callback(processes.close)
        yield processes


def _started(workspace: Workspace, store: PictureStore, n_processes: int) -> "PictureProcesses":
    n_bytes = n_processes * _SLOTS_A_PROCESS * _SLOT_BYTES
    settings = {"root": str(workspace.root), "known_digests": dict(KNOWN_DIGESTS), "parent": os.getpid()}
    with contextlib.ExitStack() as opened:
        descriptor = os.memfd_create("pictures")
        opened.callback(os.close, descriptor)
        os.ftruncate(descriptor, n_bytes)
        memory = mmap.mmap(descriptor, n_bytes)
        processes = PictureProcesses(workspace, store, memory)
        with contextlib.ExitStack() as failed:
            failed.callback(processes.close)
            for _ in range(n_processes):
                with held_back():
                    processes.start_one(descriptor, settings)
            failed.pop_all()
    return processes


class PictureProcesses:
    """Processes that check and store pictures; may be used by several threads for different images.

    Parameters
    ----------
    workspace : Workspace
        Whose pictures.
    store : PictureStore
        Stores in this process what is too large for a slot.
    memory : mmap.mmap
        The slots of all processes that are started; closed with them.
    """

    def __init__(self, workspace: Workspace, store: PictureStore, memory: mmap.mmap) -> None:
        self._workspace, self._store, self._memory = workspace, store, memory
        self._processes: list[_Process] = []
        self._free: SimpleQueue[int] = SimpleQueue()

    def start_one(self, descriptor: int, settings: dict[str, Any]) -> None:
        """Start a process, which adds its slots to those that are free."""
        first = len(self._processes) * _SLOTS_A_PROCESS
        self._processes.append(_Process(descriptor, settings, self._free))
        for slot in range(first, first + _SLOTS_A_PROCESS):
            self._free.put(slot)

    def take(self, image_id: str, content: bytes, row: Row) -> Row | Future[Row | None]:
        """Return `row` with what `PictureStore.take` would find; mostly as a Future, which the answer brings.

        Waits while all slots are taken.

        Raises
        ------
        OpenImageOError
            Every process was ended from outside; the Future of a picture in work has it too.
        OSError
            The picture cannot be written; nothing of it is left.
        """
        if len(content) > _SLOT_BYTES:
            return row | self._store.take(image_id, content)
        slot = self._free.get()
        offset = slot * _SLOT_BYTES
        self._memory[offset : offset + len(content)] = content
        request = {
            "slot": slot, "offset": offset, "n_bytes": len(content),
            "path": self._workspace.relative_image_path(image_id),
        }  # fmt: skip
        return min(self._processes, key=_Process.n_in_work).hand_over(request, row)

    def close(self) -> None:
        """End all processes; a thread that still waits for a slot then fails, and writes to nothing."""
        for process in self._processes:
            process.say_end()
        for process in self._processes:
            process.wait()
        self._memory.close()


class _Process:
    """One process, the pictures that it has in work, and a thread that takes its answers.

    Parameters
    ----------
    descriptor : int
        Memory with the slots.
    settings : dict
        What it needs to know beforehand.
    free : SimpleQueue of int
        Where a slot goes when its answer is here.
    """

    def __init__(self, descriptor: int, settings: dict[str, Any], free: SimpleQueue[int]) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._in_work: dict[int, tuple[Future[Row | None], Row, str]] = {}
        self._ended: OpenImageOError | None = None
        self._socket, its_end = socket.socketpair()
        try:
            with its_end:
                self._process = _start(descriptor, its_end)
            self._socket.sendall(json.dumps(settings).encode() + b"\n")
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def n_in_work(self) -> float:
        """Return how many pictures it has; infinitely many where it has ended."""
        return float("inf") if self._ended is not None else len(self._in_work)

    def hand_over(self, request: dict[str, Any], row: Row) -> Future[Row | None]:
        """Return the row to come of a picture whose bytes lie in their slot."""
        future: Future[Row | None] = Future()
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            if self._ended is not None:
                self._free.put(request["slot"])
                raise self._ended
            self._in_work[request["slot"]] = (future, row, row["image_id"])
            # It has ended, then: whoever takes the answers tells what was in work.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(line)
        return future

    def say_end(self) -> None:
        """Tell the process that there are no more pictures."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self) -> None:
        """Wait for the end of the process; one that does not come to it is killed."""
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._socket.close()

    def _collect(self) -> None:
        with contextlib.suppress(ConnectionResetError), self._socket.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    self._finish(json.loads(line))
        self._fail_rest()

    def _finish(self, answer: dict[str, Any]) -> None:
        with self._lock:
            future, row, _ = self._in_work.pop(answer["slot"])
        self._free.put(answer["slot"])
        if "error" in answer:
            future.set_exception(OSError(*answer["error"]))
        else:
            future.set_result(row | answer["found"])

    def _fail_rest(self) -> None:
        """Give up what was in work when the process ended."""
        exit_code = self._process.wait()
        with self._lock:
            in_work = dict(self._in_work)
            self._in_work.clear()
            # The first is the one that it was at: they are done in their order.
            what = next((f"the picture of {image_id}" for _, _, image_id in in_work.values()), "no picture")
            self._ended = OpenImageOError(
                f"a process that checks pictures was ended from outside with {what} in work (exit code "
                f"{exit_code}), by a lack of memory for one; what was done is saved: run the same command again"
            )
        for slot, (future, _, _) in in_work.items():
            self._free.put(slot)
            future.set_exception(self._ended)


def _start(descriptor: int, its_end: socket.socket) -> "subprocess.Popen[bytes]":
    paths = [str(_FOLDER_OF_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: what lies in the folder where the user stands is no module of ours.
    command = [sys.executable, "-P", "-m", "curation.picture_worker", str(descriptor)]
    # What is blocked is inherited: a Ctrl-C, which the terminal sends to all, is the affair of the first alone.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        return subprocess.Popen(
            command, stdin=its_end.fileno(), stdout=subprocess.DEVNULL, pass_fds=[descriptor],
            env={**_KEEPS_FREED_MEMORY, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
