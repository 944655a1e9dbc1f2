"""Which files this process writes: noted for the command's report, and in a dry run led elsewhere.

`manifests.durable.replacing`, through which every table and record goes, asks here for each file; what changes a
file in its place, or deletes it, asks by `changeable`. What is linked, or stored by other processes (pictures), is
not seen here: commands that do so plan in a dry run.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path


def _itself(path: Path) -> Path:
    return path


class WriteWatch:
    """What was written while this watch was the innermost one.

    Parameters
    ----------
    destination : callable
        Returns for a path where its file is written instead; itself by default.
    own_copy : callable
        Returns for a path where its file is changed instead; itself by default.

    Attributes
    ----------
    paths : dict of Path to None
        Files written, in order, each once; hidden ones, which are no result, are left out.
    """

    def __init__(
        self, destination: Callable[[Path], Path] = _itself, own_copy: Callable[[Path], Path] = _itself
    ) -> None:
        self.destination = destination
        self.own_copy = own_copy
        self.paths: dict[Path, None] = {}


# A stack, as the demo runs commands within its own. Of the process and not of a thread: threads write too.
_watches: list[WriteWatch] = []


@contextlib.contextmanager
def watching(watch: WriteWatch) -> Iterator[WriteWatch]:
    """Let `watch` see what is written until the block ends."""
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.pop()


def destination_of(path: Path) -> Path:
    """Return where a file that is meant for `path` is written: there, or in a dry run elsewhere."""
    return _watches[-1].destination(path) if _watches else path


def changeable(path: Path) -> Path:
    """Return where a file is appended to, cut, locked or deleted: there, or in a dry run a copy of it."""
    return _watches[-1].own_copy(path) if _watches else path


def is_led_elsewhere() -> bool:
    """Return whether what is written now goes elsewhere, as in a dry run."""
    return bool(_watches) and _watches[-1].destination is not _itself


def note_written(path: Path) -> None:
    """Tell the innermost watch of a file that is in its place."""
    if _watches and not path.name.startswith("."):
        _watches[-1].paths[path] = None
