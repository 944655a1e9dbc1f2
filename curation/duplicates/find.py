"""Duplicates among the downloaded pictures: proposed by hash or embedding, decided by laying one over the other.

Two pictures are linked if their bytes are equal, or if they are proposed as a pair and agree (`alignment`). Groups
are the connected components of the links: of A~B and B~C all three are one group, even if A and C do not agree.
"""

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.duplicates.alignment import fits
from curation.duplicates.cosine import close_blocks, device_of
from curation.duplicates.fingerprints import FileToRead, Fingerprints, FingerprintStore
from curation.duplicates.groups import Groups, representatives
from curation.duplicates.hamming import near_pairs
from curation.duplicates.hashing import MIRROR_BITS, hashes_of, window_hashes
from curation.duplicates.rules import DuplicateRules
from curation.embedding_store import EmbeddingStore
from curation.engine.engine import Engine
from manifests import schema
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.tiles import FULL
from manifests.workspace import Workspace

_PAIRS_A_BATCH = 512

Pairs = npt.NDArray[np.int64]


def fingerprint_store(workspace: Workspace) -> FingerprintStore:
    """Return where a workspace keeps the fingerprints of its own pictures."""
    return FingerprintStore(workspace.fingerprints_dir)


def find_duplicates(
    workspace: Workspace,
    rules: DuplicateRules,
    *,
    store: EmbeddingStore | None = None,
    device: str = "auto",
    n_workers: int = 2,
    engine: Engine | None = None,
    unusable: Collection[str] = (),
) -> dict[str, str]:
    """Write ``duplicates.parquet`` and return, for every duplicate, the image id of its representative.

    Pictures that cannot be read are in no group. To be called within a stage, as it takes no lock.

    Parameters
    ----------
    workspace : Workspace
        With ``downloads.parquet``.
    rules : DuplicateRules
        What a duplicate is.
    store : EmbeddingStore, optional
        Its vectors propose further pairs; without it, hashes alone do.
    device : str
        Where vectors are compared.
    n_workers, engine
        As `FingerprintStore.update` takes them.
    unusable : collection of str
        Pictures that are dropped for another reason, and so stand for no other.
    """
    if store is not None:
        check_comparing(store, device)
    pictures = stored_pictures(workspace)
    fingerprints_on_disk = fingerprint_store(workspace)
    fingerprints_on_disk.update(map(FileToRead.of_picture, pictures.values()), engine, n_workers=n_workers)
    prints = fingerprints_on_disk.read()
    vectors = None if store is None else full_vectors(store, pictures, prints.names)
    groups = Groups(len(prints.names))
    groups.join_equal(prints.digests)
    for proposed in _proposed(prints, vectors, rules, store, device):
        _link(groups, proposed, prints, rules)
    n_bytes = dict(
        zip(*workspace.read(schema.DOWNLOADS).select(["image_id", "size_bytes"]).to_pydict().values(), strict=True)
    )
    own = [pictures[name] for name in prints.names]
    kept_of = representatives(
        groups.members(),
        prints.names,
        [picture.width_px * picture.height_px for picture in own],
        [n_bytes[name] or 0 for name in prints.names],
        unusable,
    )
    workspace.write(schema.DUPLICATES, _rows(kept_of, prints, vectors))
    return {prints.names[place]: prints.names[kept] for place, kept in kept_of.items()}


def mark_duplicates(
    workspace: Workspace,
    rules: DuplicateRules,
    *,
    embeddings: str | None = None,
    device: str = "auto",
    n_workers: int = 2,
    engine: Engine | None = None,
) -> dict[str, int]:
    """Run `find_duplicates` as a stage of its own, and return counts.

    Parameters
    ----------
    workspace, rules, device, n_workers, engine
        As `find_duplicates` takes them.
    embeddings : str, optional
        Which embeddings, where the workspace holds several; by default the first, or none where there are none.
    """
    store = chosen_store(workspace, embeddings)
    arguments = {"rules": dataclasses.asdict(rules), "embeddings": store.key.digest if store else None}
    inputs = [workspace.path_of(schema.DOWNLOADS), *(store.paths() if store else [])]
    with workspace.stage("duplicates", arguments, inputs) as record:
        kept_of = find_duplicates(workspace, rules, store=store, device=device, n_workers=n_workers, engine=engine)
        record.counts = {"duplicates": len(kept_of), "groups": len(set(kept_of.values()))}
        return record.counts


def check_comparing(store: EmbeddingStore, device: str) -> None:
    """Refuse a store that is not complete, and a device that is not here, before pictures are read for hours.

    Raises
    ------
    StageMissingError
        The stage `embed` has not come to its end for this store.
    InputError
        The device is unknown, or not here.
    """
    store.read_unreadable()
    device_of(device)


def chosen_store(workspace: Workspace, wanted: str | None) -> EmbeddingStore | None:
    """Return the store that `wanted` names, or else the first, which `screen` takes too, or None without any."""
    if wanted is None and not any(workspace.embeddings_dir.glob("*/model.json")):
        return None
    return EmbeddingStore.find(workspace, [wanted] if wanted else [])[0]


@dataclass(frozen=True)
class FullVectors:
    """Unit vectors (n, n_dimensions) of whole pictures, and the place of each among the fingerprints, rising."""

    places: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


def full_vectors(store: EmbeddingStore, pictures: dict[str, StoredPicture], names: list[str]) -> FullVectors:
    """Return the vectors of those of `names` that a store holds as they are now.

    Raises
    ------
    StageMissingError
        The stage `embed` has not come to its end for this store.
    """
    store.read_unreadable()
    shards = sorted({store.shard_of(name) for name in names})
    wanted = set(names)
    found: dict[str, npt.NDArray[np.float32]] = {}
    for shard in shards:
        images = store.read_shard(shard)
        for name in images.keys() & wanted:
            if images[name].is_of(pictures[name]):
                found[name] = images[name].embeddings[images[name].views.index(FULL)].astype(np.float32)
    places = [place for place, name in enumerate(names) if name in found]
    if not places:
        return FullVectors(np.empty(0, np.int64), np.empty((0, store.key.n_dimensions), np.float32))
    vectors = np.stack([found[names[place]] for place in places])
    # float16 storage leaves lengths of 1 +- 5e-4, which the bound on the cosine should not feel.
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return FullVectors(np.array(places), np.divide(vectors, lengths, out=vectors, where=lengths > 0))


def _proposed(
    prints: Fingerprints,
    vectors: FullVectors | None,
    rules: DuplicateRules,
    store: EmbeddingStore | None,
    device: str,
) -> Iterator[Pairs]:
    hashes = window_hashes(prints.thumbnails.brightness)
    windows = hashes if rules.looks_for_crops(len(hashes)) else hashes[:, :1]
    yield from near_pairs(windows, hashes[:, 0].copy(), rules.bits_of(len(hashes)), is_mirrored=True, is_self=True)
    if vectors is not None and store is not None:
        for pairs in close_blocks(vectors.vectors, None, rules.similarity_of(store, len(hashes)), device=device):
            yield vectors.places[pairs]


def _link(groups: Groups, proposed: Pairs, prints: Fingerprints, rules: DuplicateRules) -> None:
    """Join the proposed pairs that agree; those already in one group need no look, as components stay the same."""
    pairs = np.unique(np.sort(proposed, axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    for start in range(0, len(pairs), _PAIRS_A_BATCH):
        batch = pairs[start : start + _PAIRS_A_BATCH]
        batch = batch[groups.are_apart(batch)]
        linked = rules.are_linked(prints.thumbnails[batch[:, 0]], prints.thumbnails[batch[:, 1]])
        groups.join(batch[linked])


def _rows(kept_of: dict[int, int], prints: Fingerprints, vectors: FullVectors | None) -> list[dict[str, Any]]:
    """Return a row a duplicate, with what it and its representative have in common."""
    pairs = np.array(sorted(kept_of.items()), np.int64).reshape(-1, 2)
    common = compared((prints, prints), pairs, (vectors, vectors) if vectors is not None else None)
    return [
        {"image_id": prints.names[place], "duplicate_of": prints.names[kept], **dataclasses.asdict(one)}
        for (place, kept), one in zip(pairs.tolist(), common, strict=True)
    ]


@dataclass(frozen=True)
class Common:
    """What two pictures have in common.

    Attributes
    ----------
    kind : str
        ``bytes`` where they are equal, else ``pixels``.
    bits : int
        In how many bits their hashes differ, of one or of its mirror image, whichever is less.
    similarity : float or None
        Cosine of their embeddings, where both have one.
    agreement : float
        As `curation.duplicates.alignment.Fits` has it.
    """

    kind: str
    bits: int
    similarity: float | None
    agreement: float


def compared(
    prints: tuple[Fingerprints, Fingerprints], pairs: Pairs, vectors: tuple[FullVectors, FullVectors] | None
) -> list[Common]:
    """Return what the pictures of each pair (n_pairs, 2) have in common; places are into the first and second."""
    first, second = prints
    if not len(pairs):
        return []
    own, other = first.thumbnails[pairs[:, 0]], second.thumbnails[pairs[:, 1]]
    agreement = fits(own, other).agreement
    hashes = hashes_of(own.brightness) ^ hashes_of(other.brightness)
    bits = np.minimum(np.bitwise_count(hashes), np.bitwise_count(hashes ^ np.uint64(MIRROR_BITS)))
    rows = [] if vectors is None else [dict(zip(one.places.tolist(), one.vectors, strict=True)) for one in vectors]
    common = []
    for number, (place, other_place) in enumerate(pairs.tolist()):
        has_both = bool(rows) and place in rows[0] and other_place in rows[1]
        similarity = round(float(rows[0][place] @ rows[1][other_place]), 4) if has_both else None
        kind = "bytes" if first.digests[place] == second.digests[other_place] else "pixels"
        common.append(Common(kind, int(bits[number]), similarity, float(agreement[number])))
    return common
