"""Files of `torch.save`, looked through before torch reads them.

Torch's own reader of weights and plain values runs no foreign code, but hashes what it is given, and calls
functions of its own with it. Which programs it runs is decided here as torch decides it; where torch and Python's
zipfile could find different ones in a file, it is refused.
"""

import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from manifests.errors import one_line
from manifests.plain_pickle import DAMAGE_ERRORS, check_pickle, check_programs

TORCH_DAMAGE_ERRORS = (*DAMAGE_ERRORS, pickle.UnpicklingError, OSError, RuntimeError, AssertionError, struct.error)
"""What `check_torch_pickle` and torch's reader let out of a file that is damaged, or calls a function wrongly."""

_ZIP_BEGINS = b"PK\x03\x04"
_N_BEFORE_ZIP = 5
"""Programs of a file of torch before 1.6: a magic number, a version, the machine, the value, the tensors' keys."""

_END, _END_BEGINS = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_BEGINS = struct.Struct("<4sLQL"), b"PK\x06\x07"
_LARGE_END = struct.Struct("<4sQ2H2L4Q")
_IN_LARGE_END = 0xFFFFFFFF
"""In place of an offset that stands in the record for large archives."""


def check_torch_pickle(path: Path) -> None:
    """Refuse a file of `torch.save` of which `check_pickle` refuses a program.

    Parameters
    ----------
    path : Path
        A zip archive with programs, or, as torch wrote until 1.6, programs one after the other.

    Raises
    ------
    pickle.UnpicklingError
        As `check_pickle`; or the file is both forms, or an archive that torch would not write.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            # Torch looks at these bytes alone: what follows programs may still be a whole archive.
            is_archive = file.read(len(_ZIP_BEGINS)) == _ZIP_BEGINS
            if is_archive:
                for content in _stored_programs(file):
                    check_pickle(content)
            elif zipfile.is_zipfile(file):
                raise pickle.UnpicklingError("begins as programs and ends as a zip archive")
            else:
                file.seek(0)
                check_programs(file, _N_BEFORE_ZIP)
        except (zipfile.BadZipFile, RuntimeError, struct.error, *DAMAGE_ERRORS) as error:
            raise pickle.UnpicklingError(one_line(error)) from error


def _stored_programs(file: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        if set(_directory_offsets(file)) != {archive.start_dir}:
            raise pickle.UnpicklingError("the archive does not end with its directory, as torch's do")
        for entry in archive.infolist():
            # Torch finds its program whatever the case of its name.
            if entry.filename.lower().endswith(".pkl"):
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise pickle.UnpicklingError(f"{entry.filename} is packed, as torch does not do")
                yield archive.read(entry)


def _directory_offsets(file: IO[bytes]) -> Iterator[int]:
    """Yield where the directory begins, by each of the records that say so, which have to end the file."""
    end_place = file.seek(-_END.size, 2)
    begins, *_, offset, n_comment_bytes = _END.unpack(file.read(_END.size))
    if begins != _END_BEGINS or n_comment_bytes:
        raise zipfile.BadZipFile("the archive does not end with its last record")
    if offset != _IN_LARGE_END:
        yield offset
    locator_place = end_place - _LOCATOR.size
    file.seek(max(locator_place, 0))
    begins, _, large_end_place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if begins != _LOCATOR_BEGINS:
        return
    # Python's zipfile reads the record that lies before, torch the one that is named.
    if large_end_place != locator_place - _LARGE_END.size:
        raise zipfile.BadZipFile("the record for large archives is not where it is said to be")
    file.seek(large_end_place)
    yield _LARGE_END.unpack(file.read(_LARGE_END.size))[-1]
