"""A shadow of a workspace for dry runs: the stage itself runs there, and no byte of the workspace changes.

The shadow is a folder of symbolic links to the workspace's files. All tables are written beside their place and
renamed over it, which replaces the link and leaves the file behind it alone; logs are appended to, so that the
shadow has copies of them. The large folders that only fetching and exporting write to are linked as a whole, and
the stages that write there plan instead of running. So what a dry run prints was computed by the stage, and not
guessed by another function.
"""

import contextlib
import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.writes import WriteWatch

_LINKED_WHOLE = frozenset({"images", "quarantine", "exports"})
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

    def place_of(self, path: Path) -> Path:
        """Return where the shadow has a path of the workspace; other paths are returned as they are."""
        absolute, real_root = _absolute(path), _absolute(self.real_root)
        return self.root / absolute.relative_to(real_root) if absolute.is_relative_to(real_root) else path

    def destination(self, path: Path) -> Path:
        """Return where a file meant for `path` is written: in the shadow, wherever `path` is."""
        absolute = _absolute(self.place_of(path))
        if absolute.is_relative_to(self.root):
            return absolute
        return self._outside.setdefault(absolute, self.root / _OUTSIDE / str(len(self._outside)) / path.name)

    def told(self, text: str) -> str:
        """Return a text with the paths of the workspace in place of those of its shadow."""
        for path, place in self._outside.items():
            text = text.replace(str(place), str(path))
        return text.replace(str(self.root), str(self.real_root))

    def changes(self) -> list[FileChange]:
        """Return what was written or deleted here, by path: what the same run would do to the workspace."""
        found = [FileChange(path, *_change(path, place)) for path, place in self._outside.items()]
        for folder, _, names in os.walk(self.root):
            if Path(folder).is_relative_to(self.root / _OUTSIDE):
                continue
            for place in (Path(folder, name) for name in names):
                path = self.real_root / place.relative_to(self.root)
                if not place.is_symlink() and not place.name.startswith("."):
                    change = _change(path, place)
                    # A log is a copy here whether anything was appended to it or not.
                    if not (change[0] == "same" and place.suffix == ".jsonl"):
                        found.append(FileChange(path, *change))
        return sorted(found + self._deleted(), key=lambda change: change.path)

    def _deleted(self) -> list[FileChange]:
        return [
            FileChange(path, "deleted", 0)
            for path in _files(self.real_root)
            if not os.path.lexists(self.root / path.relative_to(self.real_root))
        ]


def _absolute(path: Path) -> Path:
    """Return an absolute path without following links, as all files of the shadow are such."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _change(path: Path, place: Path) -> tuple[str, int]:
    size_bytes = place.stat().st_size
    if not path.exists():
        return "new", size_bytes
    return "same" if filecmp.cmp(path, place, shallow=False) else "replaced", size_bytes


def _files(root: Path) -> Iterator[Path]:
    """Yield the files of a workspace that its shadow holds one by one; hidden ones belong to running processes."""
    # Through links too: the embeddings of a large workspace may lie on another disk.
    for folder, folder_names, names in os.walk(root, followlinks=True):
        if Path(folder) == root:
            folder_names[:] = [name for name in folder_names if name not in _LINKED_WHOLE]
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


@contextlib.contextmanager
def shadow_of(real_root: Path) -> Iterator[Shadow]:
    """Yield the shadow of the workspace at `real_root`, which need not be there; deleted when the block ends."""
    with tempfile.TemporaryDirectory(prefix="openimage-o-dry-run-") as scratch:
        root = Path(scratch).resolve() / "workspace"
        root.mkdir()
        for name in _LINKED_WHOLE:
            if (real_root / name).is_dir():
                (root / name).symlink_to((real_root / name).resolve())
        for path in _files(real_root):
            place = root / path.relative_to(real_root)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".jsonl":
                shutil.copyfile(path, place)
            else:
                place.symlink_to(path.resolve())
        yield Shadow(real_root, root)


def watch_of(shadow: Shadow) -> WriteWatch:
    """Return the watch that leads all writing into `shadow`."""
    return WriteWatch(shadow.destination)
