"""One process at a time in a folder: a lock that names its holder, and that ends with it however it ends."""

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

from manifests.durable import write_json
from manifests.errors import WorkspaceLockedError

HOLDER_NAME = ".lock-holder.json"
_LOCK_NAME = ".lock"


@contextlib.contextmanager
def held(
    folder: Path, stage_name: str, *, option: str, announce_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a folder for the block.

    Parameters
    ----------
    folder : Path
        Is there.
    stage_name : str
        What others are told of the holder.
    option : str
        The option by which the user may give another folder.
    announce_wait : callable, optional
        Where another process holds it, this is told who, and its end is waited for.

    Raises
    ------
    WorkspaceLockedError
        Another process holds it, and there is no `announce_wait`.
    """
    holder_path = folder / HOLDER_NAME
    lock = filelock.FileLock(folder / _LOCK_NAME)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        in_use = f"{folder} is in use by {_holder(holder_path)}"
        if announce_wait is None:
            raise WorkspaceLockedError(f"{in_use}: wait for its end, or use another {option}") from None
        announce_wait(f"{in_use}: waiting for its end")
        lock.acquire()
    try:
        write_json(
            holder_path,
            {
                "process": os.getpid(),
                "host": platform.node(),
                "stage": stage_name,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        yield
    finally:
        holder_path.unlink(missing_ok=True)
        lock.release()


def _holder(holder_path: Path) -> str:
    try:
        holder = json.loads(holder_path.read_text())
        return f"process {holder['process']} on {holder['host']} ({holder['stage']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
