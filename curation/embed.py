"""The stage `embed`: unit vectors of every downloaded picture and its tiles, by a CLIP model or from features."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from curation.clip import ClipEncoder, load_encoder
from curation.embedding_store import EmbeddedImage, EmbeddingStore, StoreKey
from curation.feature_source import FeatureSource
from curation.views import FULL, cut_views, view_names
from manifests import schema
from manifests.ahead import prepared_ahead
from manifests.errors import InputError, UnreadableImageError
from manifests.images import read_image
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

_BATCHES_AHEAD = 2
"""Decoded pictures that wait for the model, in batches; more would only cost memory."""


@dataclass(frozen=True)
class EmbedSummary:
    """What a run of `embed` did: the store's digest, device, images new, already there and unreadable."""

    digest: str
    device: str
    n_new: int
    n_kept: int
    n_unreadable: int
    images_per_s: float


def embed_pictures(
    workspace: Workspace, model: str, pretrained: str | None, *, grid: int = 2, batch_size: int = 64,
    device: str = "auto", n_workers: int = 2, announce: Callable[[str], None] = lambda line: None,
) -> EmbedSummary:  # fmt: skip
    """Embed every downloaded picture that the store lacks, with a CLIP model.

    Parameters
    ----------
    workspace : Workspace
        With ``downloads.parquet``.
    model, pretrained : str
        As `curation.clip.load_encoder` takes them.
    grid : int
        Tiles a side besides the whole picture; 0 for none.
    batch_size : int
        Views in one call of the model.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    n_workers : int
        Threads that decode and resize ahead of the model.
    announce : callable
        Told in one line where the model runs, before the work starts.

    Raises
    ------
    ModelError
        The model or its weights cannot be had.
    InputError
        `grid`, `batch_size`, `n_workers` or `device` is not what it should be.
    """
    for flag, value, least in (
        ("--tiles", grid, 0),
        ("--batch-size", batch_size, 1),
        ("--workers", n_workers, 1),
    ):
        if value < least:
            raise InputError(f"{flag}: expected {least} or more, found {value}")
    # Before the model, which takes seconds; the stage itself reads them again, under the lock.
    stored_pictures(workspace)
    encoder = load_encoder(model, pretrained, device)
    announce(f"embed: {encoder.name} on {encoder.device}, {len(view_names(grid))} views a picture")
    key = StoreKey("clip", _lasting(model), _lasting(pretrained or ""), encoder.digest, encoder.n_dimensions, grid)

    def embed_shard(wanted: Sequence[StoredPicture]) -> Iterator[EmbeddedImage | tuple[str, str]]:
        def view_inputs(picture: StoredPicture) -> torch.Tensor | str:
            return _view_inputs(encoder, picture, grid)

        n_ahead = _BATCHES_AHEAD * _pictures_a_batch(batch_size, grid)
        inputs = prepared_ahead(view_inputs, wanted, n_workers=n_workers, n_ahead=n_ahead)
        yield from _encoded(encoder, inputs, grid, batch_size)

    return _fill_store(workspace, key, embed_shard, str(encoder.device), {"batch_size": batch_size})


def embed_from_features(workspace: Workspace, features_dir: Path, feature_set: str) -> EmbedSummary:
    """Take the features of a classifier as embeddings: unit length, whole picture only.

    Where no CLIP model can be had, a classifier's penultimate features and its head's rows play the parts of
    image embeddings and class prototypes; their cosine is MaxCosine of DML (Zhang & Xiang, CVPR 2023).

    Raises
    ------
    InputError
        The features, or their head, are not there or do not fit.
    """
    source = FeatureSource.read(features_dir, feature_set)
    key = StoreKey("features", _lasting(str(features_dir)), feature_set, source.digest, source.n_features, 0)

    def embed_shard(wanted: Sequence[StoredPicture]) -> Iterator[EmbeddedImage | tuple[str, str]]:
        for picture in wanted:
            vector = source.unit_features(picture.image_id)
            if vector is None:
                yield picture.image_id, f"no features in the set {feature_set}"
            else:
                yield EmbeddedImage(
                    picture.image_id, picture.sha256, picture.rotation_deg or 0, (FULL,), vector[None]
                )

    return _fill_store(workspace, key, embed_shard, "cpu", {})


def _lasting(name_or_path: str) -> str:
    """Return an existing file or folder by its absolute path, as `screen` may run in another folder."""
    path = Path(name_or_path)
    return str(path.resolve()) if name_or_path and path.exists() else name_or_path


def _fill_store(
    workspace: Workspace,
    key: StoreKey,
    embed_shard: Callable[[Sequence[StoredPicture]], Iterator[EmbeddedImage | tuple[str, str]]],
    device: str,
    further_arguments: Mapping[str, int],
) -> EmbedSummary:
    """Write each shard that lacks a wanted picture or holds an outdated one, and the list of unreadable ones."""
    arguments = {"model": key.model, "pretrained": key.pretrained, "tiles": key.grid, "device": device}
    inputs = [workspace.path_of(schema.CANDIDATES), workspace.path_of(schema.DOWNLOADS)]
    record_as = f"embed.{key.digest}"
    with workspace.stage("embed", {**arguments, **further_arguments}, inputs, record_as=record_as) as record:
        pictures = list(stored_pictures(workspace).values())
        store = EmbeddingStore.for_key(workspace, key)
        shards: dict[int, list[StoredPicture]] = {}
        for picture in pictures:
            shards.setdefault(store.shard_of(picture.image_id), []).append(picture)
        unreadable: dict[str, str] = {}
        n_new = 0
        started = time.monotonic()
        with tqdm(total=len(pictures), desc="embed", unit="img", disable=not sys.stderr.isatty()) as bar:
            for shard, wanted in sorted(shards.items()):
                stored = store.read_shard(shard)
                missing = [p for p in wanted if p.image_id not in stored or not stored[p.image_id].is_of(p)]
                bar.update(len(wanted) - len(missing))
                if not missing:
                    continue
                for result in embed_shard(missing):
                    bar.update()
                    if isinstance(result, EmbeddedImage):
                        stored[result.image_id] = result
                        n_new += 1
                    else:
                        unreadable[result[0]] = result[1]
                        stored.pop(result[0], None)
                store.write_shard(shard, stored)
        store.write_unreadable(unreadable)
        n_kept = len(pictures) - n_new - len(unreadable)
        record.counts = {"embedded": n_new + n_kept, "unreadable": len(unreadable)}
        record.details = {"digest": key.digest, "n_dimensions": key.n_dimensions}
    seconds = time.monotonic() - started
    return EmbedSummary(key.digest, device, n_new, n_kept, len(unreadable), n_new / seconds if seconds else 0.0)


def _pictures_a_batch(batch_size: int, grid: int) -> int:
    return max(1, batch_size // len(view_names(grid)))


def _view_inputs(encoder: ClipEncoder, picture: StoredPicture, grid: int) -> torch.Tensor | str:
    """Return the model's inputs of one picture's views, (n_views, 3, height, width), or why there are none."""
    try:
        image = read_image(picture.path, picture.rotation_deg)
    except UnreadableImageError as error:
        return error.reason
    return torch.stack([encoder.preprocess(view) for view in cut_views(image, grid)])


def _encoded(
    encoder: ClipEncoder,
    pictures: Iterator[tuple[StoredPicture, torch.Tensor | str]],
    grid: int,
    batch_size: int,
) -> Iterator[EmbeddedImage | tuple[str, str]]:
    """Encode views in batches of whole pictures, in order, so that a shard's batches are the same on every run."""
    views = tuple(view_names(grid))
    pictures_a_batch = _pictures_a_batch(batch_size, grid)
    batch: list[tuple[StoredPicture, torch.Tensor]] = []

    def encode() -> Iterator[EmbeddedImage]:
        vectors = encoder.encode_inputs(torch.cat([inputs for _, inputs in batch])).astype(np.float16)
        for (picture, _), own in zip(batch, vectors.reshape(len(batch), len(views), -1), strict=True):
            yield EmbeddedImage(picture.image_id, picture.sha256, picture.rotation_deg or 0, views, own)

    for picture, inputs in pictures:
        if isinstance(inputs, str):
            yield picture.image_id, inputs
            continue
        batch.append((picture, inputs))
        if len(batch) == pictures_a_batch:
            yield from encode()
            batch = []
    if batch:
        yield from encode()
