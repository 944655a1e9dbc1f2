"""Pickles of plain values, read without running code from them, and without what a hostile one costs.

A pickle is a program for a small machine with a stack and a memory. Python's own reader calls whatever function it
names. And where it can name none, it can still make room for billions of values, or put one tuple into the next a
million times over: as the key of a dict that is hashed by a function that calls itself, and so ends the process,
or, where each holds the one before it twice, never. So the program is looked through first, and then run by a
machine that knows no names but those it is given.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from manifests.errors import one_line

_MOST_VALUES = 1 << 22
"""Which a program may remember, and which it may put into others, counted as often as it does. Of what is read the
largest is CIFAR-100's file for training, which remembers about as many as it has pictures, 50,000."""

_MOST_LAYERS = 64
"""Of values in values: what the toolkit reads has six; Arrow has the same limit."""

# What the machine of a pickle lets out when its program is damaged or refused.
_DAMAGE_ERRORS = (
    EOFError, ImportError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, MemoryError,
    RecursionError,
)  # fmt: skip

_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_RECALLS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_FILLS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
"""Put values into one that is there, and leave that on the stack."""

_Cost = tuple[int, int]
"""Layers of a value, and the values in it, counted as often as they are met."""

_N_BEFORE_ZIP = 5
"""Programs of a file of torch before 1.6: a magic number, a version, the machine, the value, the tensors' keys."""


def load_plain_pickle(
    content: bytes, stand_ins: Mapping[tuple[str, str], Any] | None = None, *, encoding: str = "ASCII"
) -> Any:
    """Return the value of a pickle of dicts, lists, tuples, numbers, words and bytes.

    Parameters
    ----------
    content : bytes
        The pickle.
    stand_ins : mapping, optional
        By module and name, what the program gets when it asks for that; anything else is refused before it exists.
    encoding : str
        Of the words of Python 2, ``bytes`` to leave them as they are.

    Raises
    ------
    pickle.UnpicklingError
        The program is damaged, asks for a name that it is not given, or is refused by `check_pickle`.
    """
    check_pickle(content)
    try:
        return _Machine(content, stand_ins or {}, encoding).load()
    except _DAMAGE_ERRORS as error:
        raise pickle.UnpicklingError(one_line(error)) from error


class _Machine(pickle.Unpickler):
    """Runs a program that can ask for stand-ins alone."""

    def __init__(self, content: bytes, stand_ins: Mapping[tuple[str, str], Any], encoding: str) -> None:
        super().__init__(io.BytesIO(content), encoding=encoding)
        self._stand_ins = stand_ins

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for what the pickle asks for by name."""
        stand_in = self._stand_ins.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no plain value")
        return stand_in


def check_pickle(content: bytes) -> None:
    """Refuse a program that takes stack, memory or time out of all proportion to its length; run nothing.

    Raises
    ------
    pickle.UnpicklingError
        It is damaged, or does; the message says how.
    """
    _check_programs(io.BytesIO(content), 1)


def check_torch_pickle(path: Path) -> None:
    """Refuse a file of `torch.save` of which `check_pickle` refuses a program.

    Torch's own reader of weights and plain values runs no foreign code, but hashes what it is given.

    Parameters
    ----------
    path : Path
        A zip archive with programs, or, as torch wrote until 1.6, programs one after the other.

    Raises
    ------
    pickle.UnpicklingError
        As `check_pickle`.
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):
                for content in _stored_programs(file):
                    check_pickle(content)
            else:
                file.seek(0)
                _check_programs(file, _N_BEFORE_ZIP)
        except (zipfile.BadZipFile, RuntimeError, *_DAMAGE_ERRORS) as error:
            raise pickle.UnpicklingError(one_line(error)) from error


def _stored_programs(file: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".pkl"):
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise pickle.UnpicklingError(f"{entry.filename} is packed, as torch does not do")
                yield archive.read(entry)


def _check_programs(stream: IO[bytes], n_programs: int) -> None:
    try:
        for _ in range(n_programs):
            _Costs().of_program(stream)
    except _DAMAGE_ERRORS as error:
        raise pickle.UnpicklingError(one_line(error)) from error


class _Costs:
    """The machine with costs in place of values."""

    def __init__(self) -> None:
        self._stack: list[_Cost] = []
        self._below_marks: list[list[_Cost]] = []
        self._memory: dict[int, _Cost] = {}
        self._n_values = 0

    def of_program(self, stream: IO[bytes]) -> None:
        """Go through a program, up to its end, and raise where it costs too much."""
        for step, argument, _ in pickletools.genops(stream):
            if step.name in _STORES:
                place = len(self._memory) if step.name == "MEMOIZE" else int(argument or 0)
                # The machine makes room up to there.
                if place > _MOST_VALUES:
                    raise pickle.UnpicklingError(f"asks for room for {place:,} values")
                self._memory[place] = self._stack[-1]
            elif step.name in _RECALLS:
                self._stack.append(self._memory[int(argument or 0)])
            elif step.name == "MARK":
                self._below_marks.append(self._stack)
                self._stack = []
            elif not step.stack_before and step.stack_after:
                # To hash a number takes time by its length, each time.
                n_words = argument.bit_length() // 64 if isinstance(argument, int) else 0
                self._stack.append((0, 1 + n_words))
            else:
                self._run(step)

    def _run(self, step: pickletools.OpcodeInfo) -> None:
        taken = self._take(step)
        filled = taken.pop(0) if step.name in _FILLS else (0, 1)
        n_values = sum(n for _, n in taken)
        layers = 1 + max((layers for layers, _ in taken), default=-1)
        self._n_values += n_values
        if self._n_values > _MOST_VALUES:
            raise pickle.UnpicklingError(f"puts more than {_MOST_VALUES:,} values into others")
        if layers > _MOST_LAYERS:
            raise pickle.UnpicklingError(f"puts values into one another, more than {_MOST_LAYERS} deep")
        self._stack += [(max(filled[0], layers), filled[1] + n_values)] * len(step.stack_after)

    def _take(self, step: pickletools.OpcodeInfo) -> list[_Cost]:
        """Take from the stack what a step takes, with all down to the last mark where it takes that."""
        n_wanted, above = len(step.stack_before), []
        if pickletools.markobject in step.stack_before:
            above, self._stack = self._stack, self._below_marks.pop()
            n_wanted = step.stack_before.index(pickletools.markobject)
        if n_wanted > len(self._stack):
            raise ValueError(f"{step.name} takes more than there is")
        first = len(self._stack) - n_wanted
        below = self._stack[first:]
        del self._stack[first:]
        return below + above
