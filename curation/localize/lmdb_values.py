"""Values of the LMDB files that the authors' tools write, in both serialisations that are found.

The authors' tool writes ``pyarrow.serialize(value)``, which pyarrow 14 has dropped: four counts, then a stream of
Arrow with one row of one union, whose children are named by the numbers of the kinds of value. Streams and unions
are still Arrow's, so that this needs nothing of what was dropped. Forks of the tool for a later pyarrow write
pickles. Neither way runs code: what is not plain is refused.
"""

import pickle
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from manifests.errors import InputError, one_line
from manifests.plain_pickle import load_plain_pickle

# `PythonType` of Arrow 11, cpp/src/arrow/python/serialize.cc.
_NONE, _BOOL, _INT, _BYTES, _TEXT, _LIST, _DICT = 0, 1, 2, 4, 5, 10, 11
_COUNTS = struct.Struct("<4i")
"""Of dense tensors, sparse tensors, arrays and buffers that follow the stream."""

# What pyarrow lets out of a damaged stream, and what the union lets out that is not built as theirs is.
_DAMAGE_ERRORS = (
    pa.ArrowException, OSError, ValueError, MemoryError, struct.error, LookupError, TypeError, AttributeError,
    NotImplementedError,
)  # fmt: skip


def read_value(content: bytes) -> Any:
    """Return the dict, list or number that was serialised.

    Raises
    ------
    InputError
        It is neither serialisation, damaged, or holds more than plain values; the message does not say where.
    """
    if content[:1] == pickle.PROTO:
        try:
            return load_plain_pickle(content)
        except pickle.UnpicklingError as error:
            raise InputError(f"cannot be read as a pickle ({one_line(error)})") from error
    try:
        return _of_pyarrow(content)
    except _DAMAGE_ERRORS as error:
        raise InputError(
            f"expected a pickle or what pyarrow.serialize wrote, found neither ({one_line(error)})"
        ) from error


def _of_pyarrow(content: bytes) -> Any:
    if any(_COUNTS.unpack_from(content)):
        raise ValueError("it holds arrays")
    with pa.ipc.open_stream(pa.py_buffer(content)[_COUNTS.size :]) as stream:
        rows = next(iter(stream), None)
    if rows is None:
        raise ValueError("no rows")
    # Arrow reads offsets as they are: a damaged one would lead anywhere.
    rows.validate(full=True)
    if rows.num_rows != 1 or rows.num_columns != 1 or not pa.types.is_union(rows.column(0).type):
        raise ValueError("not one row of one union")
    return _plain(rows.column(0)[0])


def _plain(scalar: pa.UnionScalar) -> Any:
    kind = int(scalar.type.field(scalar.type_code).name)
    read = _READERS.get(kind)
    if read is None:
        raise ValueError(f"a value of kind {kind}")
    return read(scalar.value)


def _list_of(scalar: pa.ListScalar) -> list[Any]:
    return [_plain(one) for one in scalar.values]


def _dict_of(scalar: pa.ListScalar) -> dict[str, Any]:
    names, values = scalar.values.field("keys"), scalar.values.field("vals")
    return {str(name): _plain(value) for name, value in zip(map(_plain, names), values, strict=True)}


def _scalar_of(scalar: pa.Scalar) -> Any:
    return scalar.as_py()


_READERS: dict[int, Callable[[Any], Any]] = {
    **dict.fromkeys((_BOOL, _INT, _BYTES, _TEXT), _scalar_of),
    _NONE: lambda scalar: None,
    _LIST: _list_of,
    _DICT: _dict_of,
}
