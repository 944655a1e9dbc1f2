"""A shadow of a workspace for dry runs: the stage itself runs there, and no byte of the workspace changes.

The shadow is a folder of symbolic links to what lies in the workspace's own folder, subfolders as one link each.
All writing asks first (`manifests.writes`), and makes what it needs its own: the folder of a new file becomes a
folder of links, and a log that is appended to a copy. So a shadow costs what the stage writes, and not what the
workspace holds; and what a dry run prints was computed by the stage, and not guessed by another function.
"""

import contextlib
import errno
import filecmp
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError
from manifests.writes import WriteWatch

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OUTSIDE = ".outside"


@dataclass(frozen=True)
class FileChange:
    """What a run would do to one file.

    Attributes
    ----------
    path : Path
        The file.
    change : str
        ``new``, ``replaced``, ``same`` (written again with the same bytes) or ``deleted``.
    size_bytes : int
        Of the new content; 0 where it is deleted.
    """

    path: Path
    change: str
    size_bytes: int


class Shadow:
    """A folder that looks like the workspace at `real_root`; made by `shadow_of`."""

    def __init__(self, real_root: Path, root: Path) -> None:
        self.real_root = real_root
        self.root = root
        self._outside: dict[Path, Path] = {}
        self._linked: dict[Path, list[str]] = {}
        # Several threads of a stage may write.
        self._lock = threading.Lock()
        if real_root.is_dir():
            self._link_content(real_root, root, root)

    def place_of(self, path: Path) -> Path:
        """Return where the shadow has a path of the workspace; other paths are returned as they are."""
        absolute, real_root = _absolute(path), _absolute(self.real_root)
        return self.root / absolute.relative_to(real_root) if absolute.is_relative_to(real_root) else path

    def destination(self, path: Path) -> Path:
        """Return where a file meant for `path` is written: in the shadow, wherever `path` is."""
        absolute = _absolute(self.place_of(path))
        with self._lock:
            if not absolute.is_relative_to(self.root):
                number = len(self._outside)
                return self._outside.setdefault(absolute, self.root / _OUTSIDE / str(number) / path.name)
            for parent in reversed(absolute.parents):
                if parent.is_relative_to(self.root) and parent.is_symlink() and parent.is_dir():
                    self._make_own(parent)
        return absolute

    def own_copy(self, path: Path) -> Path:
        """Return where the file at `path` can be changed: a copy of it in the shadow."""
        place = self.destination(path)
        source = place if place.is_symlink() else path
        # Of a file elsewhere there is no copy yet; one of the shadow's own is changed where it is.
        if source.is_file() and (place.is_symlink() or not place.exists()):
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.with_name(f".{place.name}.copy")
            shutil.copyfile(source, temporary)
            temporary.replace(place)
        return place

    def told(self, text: str) -> str:
        """Return a text with the paths of the workspace in place of those of its shadow."""
        for path, place in self._outside.items():
            text = text.replace(str(place), str(path))
        return text.replace(str(self.root), str(self.real_root))

    def changes(self) -> list[FileChange]:
        """Return what was written or deleted here, by path: what the same run would do to the workspace."""
        places = {place: path for path, place in self._outside.items() if place.exists()}
        for folder, folder_names, names in os.walk(self.root):
            folder_names[:] = [name for name in folder_names if not name.startswith(".")]
            for place in (Path(folder, name) for name in names if not name.startswith(".")):
                if not place.is_symlink():
                    places[place] = self.real_root / place.relative_to(self.root)
        found = [FileChange(path, *_change(path, place)) for place, path in places.items()]
        # A log is copied when it is opened, whether or not anything is appended to it.
        found = [one for one in found if not (one.change == "same" and one.path.suffix == ".jsonl")]
        return sorted(found + self._deleted(), key=lambda change: change.path)

    def _deleted(self) -> list[FileChange]:
        return [
            FileChange(self.real_root / (folder / name).relative_to(self.root), "deleted", 0)
            for folder, names in self._linked.items()
            for name in names
            if not os.path.lexists(folder / name)
        ]

    def _make_own(self, place: Path) -> None:
        """Turn a link to a folder into a folder of links."""
        own = place.with_name(f".{place.name}.own")
        own.mkdir()
        self._link_content(place, own, place)
        place.unlink()
        own.rename(place)

    def _link_content(self, source: Path, target: Path, told_as: Path) -> None:
        """Link in `target` what lies in `source`; hidden files there belong to running processes."""
        names = [name for name in os.listdir(source) if not name.startswith(".")]  # noqa: PTH208
        for name in names:
            (target / name).symlink_to((source / name).resolve())
        self._linked[told_as] = names


def _absolute(path: Path) -> Path:
    """Return an absolute path without following links, as all files of the shadow are such."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _change(path: Path, place: Path) -> tuple[str, int]:
    size_bytes = place.stat().st_size
    if not path.exists():
        return "new", size_bytes
    return "same" if filecmp.cmp(path, place, shallow=False) else "replaced", size_bytes


@contextlib.contextmanager
def shadow_of(real_root: Path) -> Iterator[Shadow]:
    """Yield the shadow of the workspace at `real_root`, which need not be there; deleted when the block ends.

    Raises
    ------
    InputError
        There is no room for what the block writes, all of which goes into the shadow.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="openimage-o-dry-run-") as scratch:
            root = Path(scratch).resolve() / "workspace"
            root.mkdir()
            yield Shadow(real_root, root)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise InputError(
            f"the dry run needs room in {tempfile.gettempdir()} for what the run would write "
            f"({error.strerror}): make some, or name another folder in TMPDIR"
        ) from error


def watch_of(shadow: Shadow) -> WriteWatch:
    """Return the watch that leads all writing into `shadow`."""
    return WriteWatch(shadow.destination, shadow.own_copy)
