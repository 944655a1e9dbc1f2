"""An export's folder: there whole or not at all, checkable by `sha256sum -c`, and never somebody else's.

It is written under a temporary name beside its place and renamed once. Its `SHA256SUMS` names every file; with
`export.json` it tells an export, which a later one may replace, from a folder that must not be touched.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manifests.durable import sha256_of_file, write_json, write_text
from manifests.errors import InputError
from manifests.workspace import DISTRIBUTION_NAME

SUMS_NAME = "SHA256SUMS"
HEADER_NAME = "export.json"
_NEW, _OLD = "new", "old"
_WRITTEN_BY = f"{DISTRIBUTION_NAME} export"


@contextlib.contextmanager
def whole_folder(out_dir: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `out_dir` on success and is deleted on failure.

    Two renames replace an export that is there; after a kill between them the next run puts the old one back.

    Raises
    ------
    InputError
        `out_dir` is no folder, or holds files that no export wrote.
    """
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out_dir.parent}: cannot be made or written ({error.strerror})") from error
    _clear_left_overs(out_dir)
    _check_ours(out_dir)
    temporary = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.{_NEW}")
    temporary.mkdir()
    try:
        yield temporary
        _take_place(temporary, out_dir)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def seal(folder: Path, header: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Write `export.json` and `SHA256SUMS`, the last files of an export.

    Parameters
    ----------
    folder : Path
        With every other file in place.
    header : mapping
        What was exported, JSON values.
    known : mapping of str to str
        SHA-256 by relative path of files that need not be read again.
    """
    write_json(folder / HEADER_NAME, {"written_by": _WRITTEN_BY, **header})
    names = sorted(_relative_names(folder))
    lines = [f"{known.get(name) or sha256_of_file(folder / name)}  {name}\n" for name in names]
    write_text(folder / SUMS_NAME, "".join(lines))


def _check_ours(out_dir: Path) -> None:
    """Refuse a place whose files would be lost by writing an export there."""
    if out_dir.is_symlink() or (out_dir.exists() and not out_dir.is_dir()):
        raise InputError(f"{out_dir}: expected a folder or nothing there, found a link or a file")
    found = set(_relative_names(out_dir))
    if not found:
        return
    foreign = found - _sealed_names(out_dir)
    if foreign:
        raise InputError(
            f"{out_dir} holds {len(foreign)} files that no export wrote ({min(foreign)}): "
            "move them away, or give another --out"
        )


def _sealed_names(folder: Path) -> set[str]:
    """Return the names of the files that an export wrote into `folder`; none where no export is there."""
    try:
        header = json.loads((folder / HEADER_NAME).read_text(encoding="utf-8"))
        sums = (folder / SUMS_NAME).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    if not isinstance(header, dict) or header.get("written_by") != _WRITTEN_BY:
        return set()
    return {line.partition("  ")[2] for line in sums.splitlines()} | {SUMS_NAME}


def _relative_names(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield (Path(place) / name).relative_to(folder).as_posix()


def _take_place(temporary: Path, out_dir: Path) -> None:
    """Rename `temporary` to `out_dir` and delete what was there; where that fails, what was there stays."""
    if not out_dir.exists():
        temporary.rename(out_dir)
        return
    replaced = temporary.with_suffix(f".{_OLD}")
    out_dir.rename(replaced)
    try:
        temporary.rename(out_dir)
    except OSError:
        replaced.rename(out_dir)
        raise
    shutil.rmtree(replaced)


def _clear_left_overs(out_dir: Path) -> None:
    """Clear what killed exports to the same place left beside it; one that still runs keeps its own."""
    pattern = re.compile(rf"\.{re.escape(out_dir.name)}\.(\d+)\.({_NEW}|{_OLD})")
    for path in sorted(out_dir.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        # A container gives each run the same process number: then it is this run's, and nobody writes there.
        if match is None or (int(match[1]) != os.getpid() and _is_alive(int(match[1]))):
            continue
        if match[2] == _OLD and not out_dir.exists():
            path.rename(out_dir)
        else:
            shutil.rmtree(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
