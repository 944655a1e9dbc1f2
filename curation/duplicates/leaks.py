"""Candidates that are also in another data set: its pictures in a folder or a workspace, or a list of its ids."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.duplicates.cosine import close_blocks
from curation.duplicates.find import (
    FullVectors,
    Pairs,
    check_comparing,
    chosen_store,
    compared,
    fingerprint_store,
    full_vectors,
)
from curation.duplicates.fingerprints import FileToRead, Fingerprints, FingerprintStore
from curation.duplicates.hamming import near_pairs
from curation.duplicates.hashing import window_hashes
from curation.duplicates.rules import DuplicateRules
from curation.embedding_store import EmbeddingStore
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.image_ids import read_image_ids
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})


@dataclass(frozen=True)
class OtherSets:
    """What candidates are compared with.

    Attributes
    ----------
    folders : sequence of Path
        Pictures at any depth; a workspace stands for the pictures that it downloaded, and for their embeddings.
    lists : sequence of Path
        Lists of image ids, for sets that take their pictures from Open Images too.
    """

    folders: Sequence[Path] = ()
    lists: Sequence[Path] = ()


def find_leaks(
    workspace: Workspace,
    others: OtherSets,
    rules: DuplicateRules,
    *,
    embeddings: str | None = None,
    device: str = "auto",
    n_workers: int = 2,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Write ``leaks.parquet``, a row for every pair of a candidate and another set's picture, and return counts.

    What an earlier run found in sets that are not named now is kept, and counted.

    Parameters
    ----------
    workspace : Workspace
        With downloads; its embeddings are used against workspaces embedded with the same model.
    others : OtherSets
        What to compare with. What is read of a folder is kept in the workspace: a rerun reads what has changed.
    rules : DuplicateRules
        What pair is proposed, and what is a leak.
    embeddings : str, optional
        Which embeddings, where the workspace holds several; by default the only ones, or none.
    device : str
        Where embeddings are compared.
    n_workers : int
        Processes that read pictures.
    announce : callable
        Told in one line what each set is and how it was compared.

    Raises
    ------
    InputError
        A folder holds no picture, or is the workspace's own; a list cannot be read; or a set that is not named now
        was compared with other pictures than those that are here.
    StageMissingError
        Downloads are missing, or a set is a workspace without a picture.
    """
    check_sets(workspace, others)
    arguments = {
        "against": [str(folder) for folder in others.folders], "lists": [str(path) for path in others.lists],
        "rules": dataclasses.asdict(rules),
    }  # fmt: skip
    inputs = [workspace.path_of(schema.DOWNLOADS), *others.lists]
    with workspace.stage("leaks", arguments, inputs) as record:
        earlier_sets, rows = _earlier(workspace, others)
        search = _Search.among(workspace, rules, embeddings, device, n_workers)
        rows += [row for path in others.lists for row in search.listed(path)]
        for folder in others.folders:
            rows += search.found_in(folder, announce)
        workspace.write(schema.LEAKS, rows)
        record.details = {"sets": sorted({*earlier_sets, *map(str, (*others.folders, *others.lists))})}
        record.counts = {
            **dict.fromkeys(schema.LEAKS.words["kind"], 0),
            **Counter(str(row["kind"]) for row in rows),
            "leaked": len({row["image_id"] for row in rows}),
        }
        return record.counts


def check_sets(workspace: Workspace, others: OtherSets) -> None:
    """Refuse what `find_leaks`, which calls this, has not to read the candidates for: they may take hours."""
    if not others.folders and not others.lists:
        raise InputError("leaks: expected --against FOLDER or --against-list FILE")
    for folder in others.folders:
        _check_folder(folder, workspace.root)
        if next(_files_of(folder)[1], None) is None:
            raise InputError(f"--against {folder}: holds no picture that can be read")
    for path in others.lists:
        read_image_ids(path)


def leaked_images(workspace: Workspace) -> set[str]:
    """Return the candidates that ``leaks.parquet`` names; none where `leaks` has not been run.

    Raises
    ------
    StageMissingError
        `leaks` was run on other pictures than those that are here now.
    """
    if not workspace.has(schema.LEAKS):
        return set()
    if _is_outdated(workspace):
        raise StageMissingError(
            f"{workspace.path_of(schema.LEAKS)} was made before the pictures changed: run the stage 'leaks' again"
        )
    return set(workspace.read(schema.LEAKS).column("image_id").to_pylist())


def _is_outdated(workspace: Workspace) -> bool:
    """Return whether the pictures have changed since `leaks` was run; a table without a record is not."""
    now = workspace.input_digests([workspace.path_of(schema.DOWNLOADS)])
    return not now.items() <= (workspace.read_record("leaks", "inputs") or now).items()


def _earlier(workspace: Workspace, others: OtherSets) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the sets that an earlier run compared and that are not named now, and what it found in them."""
    if not workspace.has(schema.LEAKS):
        return [], []
    named = {path.resolve() for path in (*others.folders, *others.lists)}
    rows = [row for row in workspace.read(schema.LEAKS).to_pylist() if Path(row["against"]).resolve() not in named]
    sets = [*workspace.read_record("leaks", "details").get("sets", ()), *(row["against"] for row in rows)]
    left = sorted({one for one in sets if Path(one).resolve() not in named})
    if left and _is_outdated(workspace):
        raise InputError(
            f"leaks: {left[0]} was compared before the pictures changed: name it again too, or delete "
            f"{workspace.path_of(schema.LEAKS)}"
        )
    return left, rows


def _check_folder(folder: Path, own_root: Path) -> None:
    """Refuse what is no folder, and one in which candidates would be found to be themselves."""
    if not folder.is_dir():
        raise InputError(f"--against {folder}: expected a folder of pictures, or a workspace")
    place, own = folder.resolve(), own_root.resolve()
    if place == own:
        raise InputError(f"--against {folder}: is the workspace itself; 'duplicates' compares its pictures")
    if place.is_relative_to(own):
        raise InputError(f"--against {folder}: lies in the workspace, whose own pictures would be found")
    if own.is_relative_to(place) and not Workspace(folder).has(schema.DOWNLOADS):
        raise InputError(f"--against {folder}: holds the workspace, whose own pictures would be found")


@dataclass(frozen=True)
class _Search:
    """The candidates, and how they are compared."""

    workspace: Workspace
    prints: Fingerprints
    hashes: npt.NDArray[np.uint64]
    image_ids: frozenset[str]
    store: EmbeddingStore | None
    vectors: FullVectors | None
    rules: DuplicateRules
    device: str
    n_workers: int

    @classmethod
    def among(
        cls, workspace: Workspace, rules: DuplicateRules, embeddings: str | None, device: str, n_workers: int
    ) -> "_Search":
        store = chosen_store(workspace, embeddings)
        if store is not None:
            check_comparing(store, device)
        pictures = stored_pictures(workspace)
        own = fingerprint_store(workspace)
        own.update(map(FileToRead.of_picture, pictures.values()), n_workers=n_workers)
        prints = own.read()
        vectors = None if store is None else full_vectors(store, pictures, prints.names)
        hashes = window_hashes(prints.thumbnails.brightness)
        return cls(workspace, prints, hashes, frozenset(pictures), store, vectors, rules, device, n_workers)

    def listed(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield a row for every candidate whose id stands in a list."""
        for image_id in sorted(self.image_ids.intersection(read_image_ids(path))):
            yield {"image_id": image_id, "against": str(path), "other": image_id, "kind": "id"}

    def found_in(self, folder: Path, announce: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield a row for every pair with a picture of a folder, of which one shard at a time is held."""
        pictures, files = _files_of(folder)
        store = _same_model(Workspace(folder), self.store) if pictures else None
        if store is not None:
            check_comparing(store, self.device)
        kept = FingerprintStore(self.workspace.fingerprints_dir / "against" / _digest_of(folder))
        counts = kept.update(files, n_workers=self.n_workers)
        n_others = counts["new"] + counts["kept"]
        if not n_others:
            raise InputError(f"--against {folder}: holds no picture that can be read")
        announce(
            f"leaks: {folder}: {counts['new']:,} pictures read, {counts['kept']:,} known, "
            f"{counts['unreadable']:,} unreadable; compared by hashes{f' and {store.key.model}' if store else ''}"
        )
        n_most = max(n_others, len(self.prints.names))
        rules = dataclasses.replace(
            self.rules,
            most_bits=self.rules.bits_of(n_most),
            has_crops=self.rules.looks_for_crops(n_most),
            least_similarity=None if self.store is None else self.rules.similarity_of(self.store, n_most),
        )
        for others in kept.shards():
            vectors = full_vectors(store, pictures, others.names) if store else None
            pairs = self._linked(others, vectors, rules)
            both = None if self.vectors is None or vectors is None else (self.vectors, vectors)
            common = compared((self.prints, others), pairs, both)
            for (own, other), one in zip(pairs.tolist(), common, strict=True):
                names = {"image_id": self.prints.names[own], "against": str(folder), "other": others.names[other]}
                yield names | dataclasses.asdict(one)

    def _linked(self, others: Fingerprints, vectors: FullVectors | None, rules: DuplicateRules) -> Pairs:
        """Return the pairs (candidate, other) that are equal in bytes, or proposed and linked, sorted."""
        of_digest: dict[str, list[int]] = {}
        for place, digest in enumerate(self.prints.digests):
            of_digest.setdefault(digest, []).append(place)
        equal = [(own, other) for other, digest in enumerate(others.digests) for own in of_digest.get(digest, ())]
        parts = [np.array(equal, np.int64).reshape(-1, 2)]
        for proposed in self._proposed(others, vectors, rules):
            pairs = np.unique(proposed, axis=0)
            first, second = self.prints.thumbnails[pairs[:, 0]], others.thumbnails[pairs[:, 1]]
            parts.append(pairs[rules.are_linked(first, second)])
        return np.unique(np.concatenate(parts), axis=0)

    def _proposed(
        self, others: Fingerprints, vectors: FullVectors | None, rules: DuplicateRules
    ) -> Iterator[Pairs]:
        own, other = self.hashes, window_hashes(others.thumbnails.brightness)
        has_crops, bits = rules.looks_for_crops(len(own)), rules.bits_of(len(own))
        n_windows = own.shape[1] if has_crops else 1
        yield from near_pairs(own[:, :n_windows], other[:, 0].copy(), bits, is_mirrored=True)
        if has_crops:
            for pairs in near_pairs(other[:, 1:], own[:, 0].copy(), bits, is_mirrored=True):
                yield pairs[:, ::-1]
        if vectors is not None and self.vectors is not None and self.store is not None:
            bound = rules.similarity_of(self.store, len(own))
            for pairs in close_blocks(self.vectors.vectors, vectors.vectors, bound, device=self.device):
                yield np.stack([self.vectors.places[pairs[:, 0]], vectors.places[pairs[:, 1]]], axis=1)


def _files_of(folder: Path) -> tuple[dict[str, StoredPicture], Iterator[FileToRead]]:
    """Return a workspace's pictures by id, none of a plain folder, and the files to compare with."""
    other = Workspace(folder)
    if other.has(schema.DOWNLOADS):
        pictures = stored_pictures(other)
        return pictures, map(FileToRead.of_picture, pictures.values())
    return {}, _pictures_below(folder)


def _pictures_below(folder: Path) -> Iterator[FileToRead]:
    for place, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in _SUFFIXES:
                yield FileToRead.in_folder(folder, Path(place) / name)


def _same_model(other: Workspace, store: EmbeddingStore | None) -> EmbeddingStore | None:
    """Return the embeddings of another workspace that are in the same space as ours, where there are any."""
    if store is None or not (other.embeddings_dir / store.key.digest / "model.json").exists():
        return None
    return EmbeddingStore.open(other.embeddings_dir / store.key.digest)


def _digest_of(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
