"""Referring sets in the LMDB files that the authors' tools make of their layout: all of a split in one file.

``ROOT/lmdb/DATASET/SPLIT.lmdb`` holds under ``__keys__`` the keys of all examples in the order of the annotations,
under ``__len__`` their number, and under each key ``img`` and ``mask``, the bytes of both files, ``seg_id``,
``img_name``, ``sents``, ``num_sents`` and ``cat``. `curation.localize.lmdb_values` reads the values.

LMDB's own library takes a file for what it should be, and a damaged one may end the process. So each is walked
through first, by the library's verifier, which is Python: of RefCOCO's largest split it takes a second.
"""

import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from curation.localize.lmdb_values import read_value
from manifests.errors import InputError, ToolMissingError, one_line

if TYPE_CHECKING:
    import lmdb

_KINDS = {"img": bytes, "mask": bytes, "seg_id": int, "img_name": str, "sents": list, "num_sents": int}
_MOST = 1 << 63
"""Numbers are below it, as all are that pyarrow.serialize writes."""


@dataclass(frozen=True)
class LmdbField:
    """The bytes of one field of a value.

    Attributes
    ----------
    split : LmdbSplit
        The file.
    key : bytes
        Of the value.
    field : str
        ``img`` or ``mask``.
    """

    split: "LmdbSplit"
    key: bytes
    field: str

    def read(self) -> bytes:
        """Return them.

        Raises
        ------
        InputError
            The file has changed so that it can no longer be read.
        """
        return bytes(self.split.entry(self.key)[self.field])

    def __str__(self) -> str:
        return f"{self.split.path}, {self.field} of {self.key.decode('ascii', 'replace')}"


class LmdbSplit:
    """A split in one file, open for as long as something refers to it.

    Attributes
    ----------
    path : Path
        The file.
    """

    # The library opens a file once in a process.
    _open: ClassVar["weakref.WeakValueDictionary[tuple[int, int], LmdbSplit]"] = weakref.WeakValueDictionary()
    _opening: ClassVar = threading.Lock()

    def __init__(self, path: Path, environment: "lmdb.Environment") -> None:
        self.path = path
        self._environment = environment

    @classmethod
    def opened(cls, path: Path) -> "LmdbSplit":
        """Return the split in the file, or in the folder with a ``data.mdb``, `path`.

        Raises
        ------
        InputError
            There is none, or it is damaged.
        ToolMissingError
            The package lmdb is not installed.
        """
        file = path / "data.mdb" if path.is_dir() else path
        try:
            found = file.stat()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        with cls._opening:
            split = cls._open.get((found.st_dev, found.st_ino))
            if split is None:
                split = cls(path, _environment(file))
                cls._open[found.st_dev, found.st_ino] = split
        return split

    def entries(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield key and annotation of each example, the latter as it is in the JSON of the layout.

        Raises
        ------
        InputError
            One is not there, or not what it should be.
        """
        for key in self._keys():
            value = self.entry(key)
            sentences = [{"sent": phrase} for phrase in value["sents"]]
            yield key, {"segment_id": value["seg_id"], "img_name": value["img_name"], "sentences": sentences}

    def entry(self, key: bytes) -> dict[str, Any]:
        """Return the value of an example.

        Raises
        ------
        InputError
            It is not there, or not what it should be.
        """
        value = self._value(key)
        if not isinstance(value, dict):
            raise InputError(f"{self._where(key)}: expected a dict, found {type(value).__name__}")
        for name, kind in _KINDS.items():
            if not _is(value.get(name), kind):
                raise InputError(
                    f"{self._where(key)}: {name}: expected {kind.__name__}, found {_told(value.get(name))}"
                )
        strange = next((type(phrase) for phrase in value["sents"] if not isinstance(phrase, str)), None)
        if strange is not None:
            raise InputError(f"{self._where(key)}: sents: expected words, found a list with {strange.__name__}")
        if len(value["sents"]) != value["num_sents"]:
            raise InputError(
                f"{self._where(key)}: num_sents is {value['num_sents']}, and there are {len(value['sents'])} sents"
            )
        return value

    def _keys(self) -> list[bytes]:
        keys, n_keys = self._value(b"__keys__"), self._value(b"__len__")
        if not isinstance(keys, list) or not keys or not all(isinstance(key, bytes) for key in keys):
            raise InputError(f"{self.path}: __keys__: expected a list of keys with at least one")
        if not _is(n_keys, int) or n_keys != len(keys):
            raise InputError(f"{self.path}: __len__ is {_told(n_keys)}, and there are {len(keys):,} keys")
        return keys

    def _value(self, key: bytes) -> Any:
        import lmdb

        try:
            with self._environment.begin() as transaction:
                content = transaction.get(key)
        except lmdb.Error as error:
            raise InputError(f"{self._where(key)}: cannot be read ({one_line(error)})") from error
        if content is None:
            raise InputError(f"{self._where(key)}: it is not there")
        try:
            return read_value(bytes(content))
        except InputError as error:
            raise InputError(f"{self._where(key)}: {error}") from error

    def _where(self, key: bytes) -> str:
        return f"{self.path}, {key.decode('ascii', 'replace')}"


def _is(value: Any, kind: type) -> bool:
    """Return whether a value is of a kind: truth values are no numbers."""
    return type(value) is kind and (not isinstance(value, int) or -_MOST <= value < _MOST)


def _told(value: Any) -> str:
    """Return a number in digits, and of anything else, which may be of any size, the name of its type."""
    if _is(value, int):
        return str(value)
    return "a number beyond 64 bits" if type(value) is int else type(value).__name__


def _environment(file: Path) -> "lmdb.Environment":
    try:
        import lmdb
        from lmdb import verify
    except ImportError as error:
        raise ToolMissingError(
            f"{file}: the package lmdb is needed: pip install 'openimage-o-toolkit[lmdb]', or give the layout "
            "that the file was made of"
        ) from error
    try:
        problems = verify.verify(str(file), subdir=False)
        if problems:
            raise InputError(f"{file}: damaged: {problems[0]} ({len(problems):,} findings)")
        # Without a lock file: who reads data may not be allowed to write beside it.
        environment = lmdb.open(str(file), subdir=False, readonly=True, lock=False, readahead=False)
    except (verify.VerifyError, lmdb.Error, OSError) as error:
        raise InputError(f"{file}: cannot be read as an LMDB file ({one_line(error)})") from error
    # The verifier looks at the first page of a long value alone.
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if file.stat().st_size < expected:
        environment.close()
        raise InputError(f"{file}: damaged: expected {expected:,} bytes or more, found {file.stat().st_size:,}")
    return environment
