"""Open Images' files by name of release, fetched once into a cache that remembers each file's SHA-256."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from curation.fetch_file import fetch_file
from curation.metadata.image_table import SUBSETS
from manifests.durable import sha256_of_file, write_text
from manifests.errors import InputError

BASE_URL = "https://storage.googleapis.com/openimages"
RELEASES = ("v3", "v7")
SOURCES = ("human", "machine")

_V7_IMAGES = {
    None: "2018_04/image_ids_and_rotation.csv",
    "train": "2018_04/image_ids_and_rotation.csv",
    "validation": "2018_04/validation/validation-images-with-rotation.csv",
    "test": "2018_04/test/test-images-with-rotation.csv",
}
_V7_SUBSETS = {"train": "train", "validation": "val", "test": "test"}


def _check(release: str, subset: str | None) -> None:
    if release not in RELEASES:
        raise InputError(f"--release: expected {' or '.join(RELEASES)}, found {release!r}")
    if subset is not None and subset not in SUBSETS:
        raise InputError(f"--subset: expected one of {', '.join(SUBSETS)}, found {subset!r}")


def metadata_file(release: str, subset: str | None = None) -> str:
    """Return the name, below the base address, of the smallest file with the images of a subset, or of all.

    Raises
    ------
    InputError
        The release or the subset is unknown.
    """
    _check(release, subset)
    return "2017_11/images_2017_11.tar.gz" if release == "v3" else _V7_IMAGES[subset]


def label_files(release: str, source: str, subsets: Sequence[str]) -> list[str]:
    """Return the names of the files with the ``human`` or ``machine`` labels of some subsets.

    Raises
    ------
    InputError
        The release or a subset is unknown.
    """
    for subset in subsets:
        _check(release, subset)
    _check(release, None)
    if release == "v3":
        return [f"2017_11/annotations_{source}_2017_11.tar.gz"]
    return [f"v7/oidv7-{_V7_SUBSETS[subset]}-annotations-{source}-imagelabels.csv" for subset in subsets]


def class_names_file(release: str) -> str:
    """Return the name of the file with the class descriptions.

    Raises
    ------
    InputError
        The release is unknown.
    """
    _check(release, None)
    return "2017_11/classes_2017_11.tar.gz" if release == "v3" else "v7/oidv7-class-descriptions.csv"


def default_cache_folder() -> Path:
    """Return where fetched files lie: ``openimage-o-toolkit`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openimage-o-toolkit"


@dataclass(frozen=True)
class ReleaseCache:
    """A folder of fetched files, each beside ``<name>.sha256``, which ``sha256sum --check`` reads too.

    Attributes
    ----------
    folder : Path
        Made when the first file comes.
    base_url : str
        Where Open Images' files lie, or a mirror laid out as it.
    announce : callable
        Told what is fetched.
    """

    folder: Path
    base_url: str
    announce: Callable[[str], None]

    def fetch(self, name: str) -> Path:
        """Return where the file lies, fetching it unless it is there.

        Its digest is recorded when it is first seen; from then on, a file of other bytes is refused, wherever it
        comes from. Two processes that want the same file fetch it once.

        Raises
        ------
        InputError
            The file cannot be fetched, or is not the one that was seen first.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f"{path.name}.lock")):
            if path.exists():
                self._believe(path, path)
                return path
            url = f"{self.base_url.rstrip('/')}/{name}"
            self.announce(f"fetching {url}")
            partial = path.with_name(f"{path.name}.partial")
            fetch_file(url, partial)
            self._believe(partial, path)
            partial.replace(path)
        return path

    def _believe(self, found_path: Path, path: Path) -> None:
        """Record the digest of a file seen for the first time; refuse other bytes than were recorded."""
        record_path = path.with_name(f"{path.name}.sha256")
        found = sha256_of_file(found_path)
        if not record_path.exists():
            write_text(record_path, f"{found}  {path.name}\n")
            return
        recorded = record_path.read_text(encoding="utf-8").split()[:1]
        if recorded == [found]:
            return
        if found_path == path:
            action = f"delete {path} to fetch it again"
        else:
            found_path.unlink()
            action = f"if the publisher changed it, delete {record_path} to accept the new file"
        raise InputError(
            f"{path}: expected the file first seen, sha256 {''.join(recorded) or 'unreadable'}, found {found}; "
            f"{action}"
        )


def cache_at(folder: Path | None, base_url: str | None, announce: Callable[[str], None]) -> ReleaseCache:
    """Return a cache in `folder` of the files at `base_url`; by default the user's, of the official ones."""
    return ReleaseCache(folder or default_cache_folder(), base_url or BASE_URL, announce)


def fetch_label_files(
    cache: ReleaseCache, release: str, subsets: Sequence[str], sources: Sequence[str]
) -> tuple[list[Path], list[Path], Path]:
    """Return where human labels, machine labels and class descriptions lie, fetched where they must be.

    Raises
    ------
    InputError
        A word is unknown, or a file cannot be fetched or is not the one that was seen first.
    """
    for source in sources:
        if source not in SOURCES:
            raise InputError(f"--source: expected one of {', '.join(SOURCES)}, found {source!r}")
    found = {
        source: [cache.fetch(name) for name in label_files(release, source, subsets)]
        for source in SOURCES
        if source in (sources or SOURCES)
    }
    return found.get("human", []), found.get("machine", []), cache.fetch(class_names_file(release))
