"""Open Images' files by name of release, fetched once into a cache that remembers each file's SHA-256."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from curation.fetch import FetchPolicy
from curation.fetch_file import fetch_file
from curation.metadata.image_table import SUBSETS
from curation.network.connections import ignored_proxy_notice
from manifests.durable import sha256_of_file, write_text
from manifests.errors import InputError
from manifests.work_plan import Fetch

BASE_URL = "https://storage.googleapis.com/openimages"
RELEASES = ("v3", "v7")
SOURCES = ("human", "machine")

_V7_IMAGES = {
    None: "2018_04/image_ids_and_rotation.csv",
    "train": "2018_04/image_ids_and_rotation.csv",
    "validation": "2018_04/validation/validation-images-with-rotation.csv",
    "test": "2018_04/test/test-images-with-rotation.csv",
}
# How files begin: gzip's mark; a header, or in class descriptions without one a MID.
_BEGINNINGS = {".gz": (b"\x1f\x8b",), ".csv": (b"ImageID,", b"LabelName,", b"/")}
_BOM = b"\xef\xbb\xbf"

# As https://storage.googleapis.com/openimages/web/download.html tells them, for plans alone.
_SIZES_BYTES = {
    "2017_11/images_2017_11.tar.gz": 990_000_000,
    "2017_11/annotations_human_2017_11.tar.gz": 137_000_000,
    "2017_11/annotations_machine_2017_11.tar.gz": 447_000_000,
    "2017_11/classes_2017_11.tar.gz": 295_000,
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
    policy : FetchPolicy
        How `base_url` may be asked.
    announce : callable
        Told what is fetched.
    is_read_only : bool
        For dry runs: take files that are there as they are, without a lock, a look at their digest, or a fetch.
    """

    folder: Path
    base_url: str
    policy: FetchPolicy
    announce: Callable[[str], None]
    is_read_only: bool = False

    def fetch(self, name: str) -> Path:
        """Return where the file lies, fetching it unless it is there.

        Its digest is recorded when it is first seen; from then on, a file of other bytes is refused, wherever it
        comes from. What does not begin as such a file, a sign-in page say, is refused before that.
        Two processes that want the same file fetch it once.

        Raises
        ------
        InputError
            The file cannot be fetched, or is not the one that was seen first.
        """
        path = self.folder / name
        if self.is_read_only:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f"{path.name}.lock")):
            if path.exists():
                if strange := _strange_beginning(path, name):
                    raise InputError(f"{path}: {strange}: delete it and {_record_path(path)} to fetch it again")
                self._believe(path, path)
                return path
            url = f"{self.base_url.rstrip('/')}/{name}"
            self.announce(f"fetching {url}")
            if notice := ignored_proxy_notice(self.policy):
                self.announce(notice)
            partial = path.with_name(f"{path.name}.partial")
            fetch_file(url, partial, self.policy)
            if strange := _strange_beginning(partial, name):
                partial.unlink()
                raise InputError(
                    f"{url}: {strange}: another page is served there: check --base-url, or download the file "
                    "yourself and name it by its path"
                )
            self._believe(partial, path)
            partial.replace(path)
        return path

    def fetches(self, names: Iterable[str]) -> list[Fetch]:
        """Return what `fetch` would ask for: those of the files that are not in the folder."""
        missing = [name for name in dict.fromkeys(names) if not (self.folder / name).exists()]
        return [
            Fetch(Path(name).name, f"{self.base_url.rstrip('/')}/{name}", 1, _SIZES_BYTES.get(name), True)
            for name in missing
        ]

    def _believe(self, found_path: Path, path: Path) -> None:
        """Record the digest of a file seen for the first time; refuse other bytes than were recorded."""
        record_path = _record_path(path)
        found = sha256_of_file(found_path)
        if not record_path.exists():
            write_text(record_path, f"{found}  {path.name}\n")
            return
        recorded = record_path.read_text("ascii", "replace").split()[:1]
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


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _strange_beginning(path: Path, name: str) -> str | None:
    """Return what is wrong with the beginning of a file that should be `name`, or None."""
    beginnings = _BEGINNINGS[Path(name).suffix]
    with path.open("rb") as stream:
        found = stream.read(60).removeprefix(_BOM)
    if found.startswith(beginnings):
        return None
    expected = " or ".join(repr(beginning)[1:] for beginning in beginnings)
    return f"expected a file that begins with {expected}, found {repr(found)[1:]}"


def cache_at(
    folder: Path | None,
    base_url: str | None,
    announce: Callable[[str], None],
    *,
    allow_private: bool = False,
    proxy: str | None = None,
    is_read_only: bool = False,
) -> ReleaseCache:
    """Return a cache in `folder` of the files at `base_url`; by default the user's, of the official ones.

    Raises
    ------
    InputError
        `base_url` is no URL, or carries a user name, a query or a fragment.
    """
    found_url = base_url or BASE_URL
    policy = FetchPolicy(allow_private=allow_private, proxy=proxy).allowing(found_url)
    return ReleaseCache(folder or default_cache_folder(), found_url, policy, announce, is_read_only)


def fetch_label_files(
    cache: ReleaseCache, release: str, subsets: Sequence[str], sources: Sequence[str]
) -> tuple[list[Path], list[Path], Path]:
    """Return where human labels, machine labels and class descriptions lie, fetched where they must be.

    Raises
    ------
    InputError
        A word is unknown, or a file cannot be fetched or is not the one that was seen first.
    """
    found = {
        source: [cache.fetch(name) for name in names]
        for source, names in label_file_names(release, subsets, sources).items()
    }
    return found.get("human", []), found.get("machine", []), cache.fetch(class_names_file(release))


def label_file_names(release: str, subsets: Sequence[str], sources: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the files with labels of some subsets, by source; of all sources where none is named.

    Raises
    ------
    InputError
        A word is unknown.
    """
    for source in sources:
        if source not in SOURCES:
            raise InputError(f"--source: expected one of {', '.join(SOURCES)}, found {source!r}")
    return {source: label_files(release, source, subsets) for source in SOURCES if source in (sources or SOURCES)}
