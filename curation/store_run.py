"""One run of `embed` over the shards of a store: what is missing, made and written, shard by shard."""

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from curation.embedding_store import EmbeddedImage, EmbeddingStore
from curation.encoding import Waits
from curation.store_key import StoreKey
from manifests import schema
from manifests.stage_progress import ProgressBar
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

Embedded = Generator[EmbeddedImage | tuple[str, str], None, None]
"""One result a picture, in order: its vectors, or its id and why it has none."""

EmbedGroups = Callable[[Sequence[Sequence[StoredPicture]]], Embedded]
"""Embeds the pictures of each group, which are those of one shard that it lacks."""


class HasHead(Protocol):
    """What the vectors come from, as far as the store keeps it."""

    def save_head(self, folder: Path) -> None:
        """Write ``head.safetensors`` into the folder of a store, where there is a head."""
        ...


@dataclass(frozen=True)
class EmbedSummary:
    """What a run of `embed` did.

    Attributes
    ----------
    digest : str
        Of the store.
    device, precision : str
        Where the model ran, and what in.
    n_new, n_kept, n_unreadable : int
        Images embedded, there already, and without an embedding.
    seconds : float
        From the first picture to the last shard on disk.
    waits : Waits
        What of these the stage waited for pictures to be decoded, and for the model.
    """

    digest: str
    device: str
    precision: str
    n_new: int
    n_kept: int
    n_unreadable: int
    seconds: float
    waits: Waits

    @property
    def images_per_s(self) -> float:
        """New images a second."""
        return self.n_new / self.seconds if self.seconds else 0.0


def embed_summary(summary: EmbedSummary) -> str:
    """Return in one line what a run did, how fast, and what it waited for."""
    told = [f"{summary.n_new:,} new"]
    if summary.n_new:
        told[0] += f" at {summary.images_per_s:.1f} images/s on {summary.device} in {summary.precision}"
        waits = summary.waits
        if waits.decoding_s or waits.model_s:
            told[0] += f" (of {summary.seconds:.1f} s, {waits.decoding_s:.1f} waiting for decoding and "
            told[0] += f"{waits.model_s:.1f} for the model)"
    told += [f"{summary.n_kept:,} there already", f"{summary.n_unreadable:,} unreadable"]
    return f"embed: {', '.join(told)}; store {summary.digest}"


@dataclass(frozen=True)
class StoreRun:
    """One run over the pictures of a workspace, into one store."""

    workspace: Workspace
    key: StoreKey
    device: str
    waits: Waits

    def fill(
        self, embed_groups: EmbedGroups, model: HasHead, further_arguments: Mapping[str, int]
    ) -> EmbedSummary:
        """Write each shard that lacks a picture or holds an outdated one, and the list of unreadable ones."""
        key = self.key
        arguments = {
            "model": key.model, "pretrained": key.pretrained, "settings": dict(key.settings), "tiles": key.grid,
            "precision": key.precision, "decoding": key.decoding, "device": self.device, **further_arguments,
        }  # fmt: skip
        inputs = [self.workspace.path_of(schema.CANDIDATES), self.workspace.path_of(schema.DOWNLOADS)]
        record_as = f"embed.{key.digest}"
        with self.workspace.stage("embed", arguments, inputs, record_as=record_as) as record:
            pictures = list(stored_pictures(self.workspace).values())
            store = EmbeddingStore.for_key(self.workspace, key)
            model.save_head(store.folder)
            started = time.monotonic()
            missing = pictures_missing(store, pictures)
            n_new, unreadable = _fill_shards(store, missing, embed_groups, len(pictures))
            store.write_unreadable(unreadable)
            seconds = time.monotonic() - started
            n_kept = len(pictures) - n_new - len(unreadable)
            record.counts = {"embedded": n_new + n_kept, "unreadable": len(unreadable)}
            record.details = {"digest": key.digest, "n_dimensions": key.n_dimensions}
        return EmbedSummary(
            key.digest, self.device, key.precision, n_new, n_kept, len(unreadable), seconds, self.waits
        )


def pictures_missing(store: EmbeddingStore, pictures: Sequence[StoredPicture]) -> dict[int, list[StoredPicture]]:
    """Return, by shard and in its order, the pictures that a store lacks or holds in another state."""
    shards: dict[int, list[StoredPicture]] = {}
    for picture in pictures:
        shards.setdefault(store.shard_of(picture.image_id), []).append(picture)
    missing = {}
    for shard, wanted in sorted(shards.items()):
        stored = store.pictures_in(shard)
        lacking = [p for p in wanted if stored.get(p.image_id) != p.pixels]
        if lacking:
            missing[shard] = lacking
    return missing


def _fill_shards(
    store: EmbeddingStore,
    missing: Mapping[int, Sequence[StoredPicture]],
    embed_groups: EmbedGroups,
    n_pictures: int,
) -> tuple[int, dict[str, tuple[str, str]]]:
    """Write the shards with something missing; return how many images are new, and why others are not."""
    unreadable: dict[str, tuple[str, str]] = {}
    n_new = 0
    n_missing = sum(map(len, missing.values()))
    progress = ProgressBar(n_pictures, "embed", initial=n_pictures - n_missing)
    # Closed, and with it its workers, whatever ends this: Ctrl-C must not leave them at work.
    with progress as bar, contextlib.closing(embed_groups(list(missing.values()))) as results:
        for shard, lacking in missing.items():
            new: dict[str, EmbeddedImage] = {}
            for picture, result in zip(lacking, islice(results, len(lacking)), strict=True):
                bar.update(n_failed=int(not isinstance(result, EmbeddedImage)))
                if isinstance(result, EmbeddedImage):
                    new[result.image_id] = result
                else:
                    unreadable[picture.image_id] = (picture.sha256, result[1])
            stored = {k: v for k, v in store.read_shard(shard).items() if k not in unreadable}
            store.write_shard(shard, stored | new)
            n_new += len(new)
    return n_new, unreadable
