"""The Merkle tree over a manifest's records, as RFC 6962, section 2.1 builds it over the entries of a log.

Its root stands for all records in their order. That one record is among them can be shown with its neighbours'
hashes alone, about fifteen for OpenImage-O, without the other records.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

# Leaves and nodes are hashed apart, so that no node can be passed off as a record (RFC 6962, section 2.1).
_LEAF, _NODE = b"\x00", b"\x01"


@dataclass(frozen=True)
class InclusionProof:
    """That a record is the one at `index` of `n_records`.

    Attributes
    ----------
    index, n_records : int
        Where it stands, counted from 0, and of how many.
    path : tuple of str
        The hashes to join it with, from the leaf up, as hex digits.
    """

    index: int
    n_records: int
    path: tuple[str, ...]


def merkle_root(entries: Sequence[bytes]) -> str:
    """Return the root over `entries` as 64 hex digits; of none, the SHA-256 of nothing."""
    level = [_leaf(entry) for entry in entries]
    while len(level) > 1:
        level = _level_above(level)
    return level[0].hex() if level else hashlib.sha256().hexdigest()


def inclusion_proof(entries: Sequence[bytes], index: int) -> InclusionProof:
    """Return the proof for the entry at `index`; IndexError where there is none."""
    if not 0 <= index < len(entries):
        raise IndexError(index)
    level = [_leaf(entry) for entry in entries]
    path, position = [], index
    while len(level) > 1:
        neighbour = position ^ 1
        if neighbour < len(level):
            path.append(level[neighbour].hex())
        level = _level_above(level)
        position //= 2
    return InclusionProof(index, len(entries), tuple(path))


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    above = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    # Going up alone gives the tree that RFC 6962 states by parting at the largest power of two.
    return [*above, level[-1]] if len(level) % 2 else above


def _leaf(entry: bytes) -> bytes:
    return hashlib.sha256(_LEAF + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
