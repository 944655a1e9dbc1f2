"""Pickles of plain values, read without running code from them, and without what a hostile one costs.

A pickle is a program for a small machine with a stack and a memory. Python's own reader calls whatever function it
names. And where it can name none, it can still make room for billions of values, or put one tuple into the next a
million times over: as the key of a dict that is hashed by a function that calls itself, and so ends the process,
or, where each holds the one before it twice, never. So the program is looked through first, and then run by a
machine that knows no names but those it is given.

What a value costs is known when it is put into another, as nothing may be put into it from then on. Python writes
no pickle that does, but of values that hold themselves: these are refused.
"""

import io
import pickle
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from manifests.errors import one_line

_MOST_COSTS = 1 << 22
"""Of a program: one for each step, and one for each value that it puts into another, counted as often as it does.
Of what is read the most has CIFAR-100's file for training, with 50,000 names and 100,000 labels: 2.4 million where
Python 3 writes it in protocol 2, with a call for each name."""

_MOST_LAYERS = 64
"""Of values in values: what the toolkit reads has six; Arrow has the same limit."""

_MOST_SLOW_KEYS = 1 << 13
"""Of dicts and sets, but for words and small numbers: others can be chosen so that each is compared with all
before it. Torch before 1.7 named the state of each weight by a large number."""

_SMALL = 1 << 20
"""Numbers below it find their places in a dict with few collisions, whichever are chosen."""

_WORD_BYTES = 1 << 12
"""A word counts as one value for each of these, as equal ones are compared to their ends."""

# What the machine of a pickle lets out when its program is damaged or refused.
DAMAGE_ERRORS = (
    EOFError, ImportError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, MemoryError,
    RecursionError,
)  # fmt: skip

_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_RECALLS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_FILLS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
"""Put values into one that is there, and leave that on the stack."""

_MAKES = frozenset({"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "LIST", "DICT", "FROZENSET"})
_CALLS = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"})
_ROOM_COSTS = dict.fromkeys(_MAKES | _CALLS, 8)
"""What such a step makes takes up to 216 bytes, where a number takes 28."""

_PAIRED_KEYS, _KEYS = frozenset({"SETITEM", "SETITEMS", "DICT"}), frozenset({"ADDITEMS", "FROZENSET"})
_MODULES_THAT_HASH = ("", "builtins", "__builtin__", "collections")
"""Whose functions may make a dict or set of what they are given; the first where the module is not known."""

_MODULES_OF_TENSORS = ("torch._utils", "torch._tensor")
"""What these make is hashed by its address, whatever is in it."""


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
    except DAMAGE_ERRORS as error:
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

    What the functions cost that it calls is not looked at, but for the dicts and sets that they may make.

    Raises
    ------
    pickle.UnpicklingError
        It is damaged, or does; the message says how.
    """
    check_programs(io.BytesIO(content), 1)


def check_programs(stream: IO[bytes], n_programs: int) -> None:
    """Do as `check_pickle` for so many programs, one after the other.

    Raises
    ------
    pickle.UnpicklingError
        As `check_pickle`.
    """
    try:
        for _ in range(n_programs):
            _Costs().of_program(stream)
    except DAMAGE_ERRORS as error:
        raise pickle.UnpicklingError(one_line(error)) from error


@dataclass(slots=True)
class _Cost:
    """Of a value.

    Attributes
    ----------
    layers : int
        Of values in it.
    n_values : int
        It and the values in it, counted as often as they are met.
    n_slow : int
        Of these, how many are no words and no small numbers.
    is_whole : bool
        Nothing may be put into it: it is in another value, or none that could hold one.
    module : str
        Of a function or class; empty where it is not known.
    """

    layers: int = 0
    n_values: int = 1
    n_slow: int = 0
    is_whole: bool = True
    module: str = ""


_SMALLEST = _Cost()


class _Costs:
    """The machine with costs in place of values."""

    def __init__(self) -> None:
        self._stack: list[_Cost] = []
        self._below_marks: list[list[_Cost]] = []
        self._memory: dict[int, _Cost] = {}
        self._n_costs = 0
        self._n_slow_keys = 0

    def of_program(self, stream: IO[bytes]) -> None:
        """Go through a program, up to its end, and raise where it costs too much."""
        for step, argument, _ in pickletools.genops(stream):
            self._charge(_ROOM_COSTS.get(step.name, 1))
            if step.name in _STORES:
                place = len(self._memory) if step.name == "MEMOIZE" else int(argument or 0)
                # The machine makes room up to there.
                if place > _MOST_COSTS:
                    raise pickle.UnpicklingError(f"asks for room for {place:,} values")
                self._memory[place] = self._stack[-1]
            elif step.name in _RECALLS:
                self._stack.append(self._memory[int(argument or 0)])
            elif step.name == "DUP":
                self._stack.append(self._stack[-1])
            elif step.name == "MARK":
                self._below_marks.append(self._stack)
                self._stack = []
            elif not step.stack_before and step.stack_after:
                self._stack.append(_cost_alone(step, argument))
            else:
                self._run(step)

    def _charge(self, n_costs: int) -> None:
        self._n_costs += n_costs
        if self._n_costs > _MOST_COSTS:
            raise pickle.UnpicklingError(f"takes more than {_MOST_COSTS:,} steps and values put into others")

    def _run(self, step: pickletools.OpcodeInfo) -> None:
        taken = self._take(step)
        if not step.stack_after and step.name != "STOP":
            return
        filled = taken.pop(0) if step.name in _FILLS else _Cost(is_whole=False)
        for one in taken:
            one.is_whole = True
        if filled.is_whole:
            raise pickle.UnpicklingError(
                "puts a value into a word or number, or into one that is itself in another"
            )
        n_values, n_slow = sum(one.n_values for one in taken), sum(one.n_slow for one in taken)
        self._charge(n_values)
        self._n_slow_keys += sum(one.n_slow for one in _keys_of(step, taken))
        if self._n_slow_keys > _MOST_SLOW_KEYS:
            raise pickle.UnpicklingError(f"has more than {_MOST_SLOW_KEYS:,} keys beside words and small numbers")
        filled.layers = max(filled.layers, 1 + max((one.layers for one in taken), default=-1))
        if filled.layers > _MOST_LAYERS:
            raise pickle.UnpicklingError(f"puts values into one another, more than {_MOST_LAYERS} deep")
        filled.n_values += n_values
        is_tensor = step.name in _CALLS and bool(taken) and taken[0].module in _MODULES_OF_TENSORS
        filled.n_slow = 1 if is_tensor else max(filled.n_slow, 1) + n_slow
        self._stack += [filled] * len(step.stack_after)

    def _take(self, step: pickletools.OpcodeInfo) -> list[_Cost]:
        """Take from the stack what a step takes, with all down to the last mark where it takes that."""
        n_wanted, above = len(step.stack_before), list[_Cost]()
        if pickletools.markobject in step.stack_before:
            above, self._stack = self._stack, self._below_marks.pop()
            n_wanted = step.stack_before.index(pickletools.markobject)
        if n_wanted > len(self._stack):
            raise ValueError(f"{step.name} takes more than there is")
        first = len(self._stack) - n_wanted
        below = self._stack[first:]
        del self._stack[first:]
        return below + above


def _cost_alone(step: pickletools.OpcodeInfo, argument: Any) -> _Cost:
    """Return the cost of a value that is made of nothing on the stack."""
    if step.name in _MAKES:
        return _Cost(is_whole=False)
    if step.name == "GLOBAL":
        return _Cost(module=argument.partition(" ")[0])
    if isinstance(argument, str | bytes | bytearray) and len(argument) >= _WORD_BYTES:
        return _Cost(n_values=1 + len(argument) // _WORD_BYTES)
    if isinstance(argument, float) or (isinstance(argument, int) and abs(argument) >= _SMALL):
        # To hash a number takes time by its length, each time.
        n_words = argument.bit_length() // 64 if isinstance(argument, int) else 0
        return _Cost(n_values=1 + n_words, n_slow=1)
    return _SMALLEST


def _keys_of(step: pickletools.OpcodeInfo, taken: list[_Cost]) -> list[_Cost]:
    """Return what a step may hash, of what it takes but for what it fills."""
    if step.name in _PAIRED_KEYS:
        return taken[::2]
    if step.name in _KEYS or (step.name in _CALLS and taken and taken[0].module in _MODULES_THAT_HASH):
        return taken
    return []
