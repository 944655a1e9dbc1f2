"""The LMDB files of the ETRIS authors' tools, written by the letter of those, without the code that reads them."""

import json
import pickle
import struct

import lmdb
import pyarrow as pa

_KINDS = {int: "2", bytes: "4", str: "5", list: "10", dict: "11"}


def pyarrow_serialized(value):
    """Return what ``pyarrow.serialize(value).to_buffer()`` made of it until pyarrow 13."""
    batch = pa.RecordBatch.from_arrays([_union([value])], ["list"])
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return struct.pack("<4i", 0, 0, 0, 0) + stream.getvalue().to_pybytes()


def pickled(value):
    """Return what forks of their tool for a later pyarrow write."""
    return pickle.dumps(value, protocol=5)


def _union(values):
    by_kind = {"0": []}
    codes, offsets = [], []
    for value in values:
        of_kind = by_kind.setdefault(_KINDS[type(value)], [])
        codes.append(list(by_kind).index(_KINDS[type(value)]))
        offsets.append(len(of_kind))
        of_kind.append(value)
    children = [_child(kind, of_kind) for kind, of_kind in by_kind.items()]
    return pa.UnionArray.from_dense(
        pa.array(codes, pa.int8()), pa.array(offsets, pa.int32()), children, list(by_kind)
    )


def _child(kind, values):
    if kind in ("10", "11"):
        ends = [0]
        for value in values:
            ends.append(ends[-1] + len(value))
        if kind == "10":
            items = _union([item for value in values for item in value])
        else:
            parts = [_union([key for value in values for key in value])]
            parts.append(_union([item for value in values for item in value.values()]))
            items = pa.StructArray.from_arrays(parts, ["keys", "vals"])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items)
    return pa.array(values, {"0": pa.null(), "2": pa.int64(), "4": pa.binary(), "5": pa.string()}[kind])


def values_of(root, split, dataset="refcoco"):
    """Return what their tool puts in for a split of the layout in `root`, by key, in its order."""
    values = {}
    for place, item in enumerate(json.loads((root / "anns" / dataset / f"{split}.json").read_text())):
        values[str(place).encode()] = {
            "img": (root / "images" / "train2014" / item["img_name"]).read_bytes(),
            "mask": (root / "masks" / dataset / f"{item['segment_id']}.png").read_bytes(),
            "cat": item["cat"], "seg_id": item["segment_id"], "img_name": item["img_name"],
            "num_sents": item["sentences_num"], "sents": [sentence["sent"] for sentence in item["sentences"]],
        }  # fmt: skip
    return values | {b"__keys__": list(values), b"__len__": len(values)}


def write_lmdb(root, split, contents, dataset="refcoco"):
    """Write serialised values as a file in the place where their tools look for it, and return its path."""
    path = root / "lmdb" / dataset / f"{split}.lmdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    database = lmdb.open(str(path), subdir=False, map_size=1 << 28, meminit=False)
    with database, database.begin(write=True) as transaction:
        for key, content in contents.items():
            transaction.put(key, content)
    return path
