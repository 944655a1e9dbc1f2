"""The stage `embed`: unit vectors of every downloaded picture and its tiles, by a model or from features."""

import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curation.embedding_store import EmbeddedImage
from curation.encoder import Encoder
from curation.encoding import Encoding, Waits, chosen_precision
from curation.engine.engine import Engine
from curation.feature_source import FeatureSource
from curation.reading import ViewReader
from curation.store_key import StoreKey, lasting_name
from curation.store_run import Embedded, EmbedGroups, EmbedSummary, StoreRun
from curation.views import DEFAULT_GRID
from manifests.allocator import keep_freed_memory
from manifests.errors import InputError, ModelError
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.tiles import FULL
from manifests.workspace import Workspace


@dataclass(frozen=True)
class EmbedRules:
    """How pictures are embedded.

    Attributes
    ----------
    grid : int
        Tiles along the shorter side besides the whole picture; 0 for none.
    precision : str
        As `curation.encoding.chosen_precision` takes it.
    is_fast : bool
        Decode JPEGs at reduced size.
    batch_size : int
        Views in one call of the model.
    n_workers : int
        Threads, or processes where they are many, that read ahead of the model.

    Raises
    ------
    InputError
        A value is out of range.
    """

    grid: int = DEFAULT_GRID
    precision: str = "auto"
    is_fast: bool = False
    batch_size: int = 64
    n_workers: int = 2

    def __post_init__(self) -> None:
        for flag, value, least in (
            ("--tiles", self.grid, 0),
            ("--batch-size", self.batch_size, 1),
            ("--workers", self.n_workers, 1),
        ):
            if value < least:
                raise InputError(f"{flag}: expected {least} or more, found {value}")

    def encoding(self, encoder: Encoder) -> Encoding:
        """Return how pictures go through `encoder` by these rules.

        Raises
        ------
        InputError
            There is no such precision.
        """
        reader = ViewReader(encoder.pixels, encoder.input_px, self.grid, self.is_fast)
        precision = chosen_precision(self.precision, encoder.device)
        return Encoding(encoder, reader, self.batch_size, self.n_workers, precision)


@dataclass(frozen=True)
class ModelChoice:
    """Which model to embed with.

    Attributes
    ----------
    model, pretrained : str
        As given on the command line; they go into the store, for `screen` to load the model again.
    load : callable
        Loads it; called once the workspace has been looked at, as it takes seconds. Can be pickled, for a machine
        that loads it again.
    settings : mapping
        What else it is loaded with, JSON values.
    """

    model: str
    pretrained: str
    load: Callable[[], Encoder]
    settings: Mapping[str, Any] = field(default_factory=dict)


def clip_choice(model: str, pretrained: str | None, device: str = "auto") -> ModelChoice:
    """Return the choice of a CLIP model; arguments as `curation.clip.load_encoder` takes them."""
    return ModelChoice(model, pretrained or "", partial(_load_clip, model, pretrained, device))


def _load_clip(model: str, pretrained: str | None, device: str) -> Encoder:
    from curation.clip import load_encoder

    return load_encoder(model, pretrained, device)


def embed_with(
    workspace: Workspace,
    choice: ModelChoice,
    rules: EmbedRules,
    *,
    engine: Engine | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> EmbedSummary:
    """Embed every downloaded picture that the store lacks.

    Parameters
    ----------
    workspace : Workspace
        With ``downloads.parquet``.
    choice : ModelChoice
        Which model.
    rules : EmbedRules
        How.
    engine : Engine, optional
        Embed the shards of the store on its machines, which load the model too; what they wait for is not told.
    announce : callable
        Told in one line where the model runs, before the work starts.

    Raises
    ------
    ModelError
        The model or its weights cannot be had.
    InputError
        There is no such device or precision.
    """
    # Before the model, which takes seconds; the stage itself reads them again, under the lock.
    stored_pictures(workspace)
    keep_freed_memory()
    encoding = rules.encoding(choice.load())
    encoder, precision = encoding.encoder, encoding.precision
    announce(
        f"embed: {encoder.name} on {encoder.device} in {precision}, {rules.grid} tiles along the shorter side"
    )
    key = StoreKey(
        encoder.source, lasting_name(choice.model), lasting_name(choice.pretrained), encoder.digest,
        encoder.n_dimensions, rules.grid, precision=precision,
        decoding="fast" if rules.is_fast else "exact", settings=choice.settings,
    )  # fmt: skip
    embed_groups: EmbedGroups = partial(embedded_images, encoding)
    if engine is not None:
        embed_groups = partial(_embedded_on, engine, choice, replace(rules, precision=precision), encoder)
    run = StoreRun(workspace, key, str(encoder.device), encoding.waits)
    return run.fill(embed_groups, encoder, {"batch_size": rules.batch_size})


def embedded_images(encoding: Encoding, groups: Sequence[Sequence[StoredPicture]]) -> Embedded:
    """Yield, in order, the vectors of each picture of each group, or its id and why it has none."""
    for picture, views in encoding.run(groups):
        if isinstance(views, str):
            yield picture.image_id, views
        else:
            yield EmbeddedImage(
                picture.image_id, picture.sha256, picture.rotation_deg or 0, views.names, views.embeddings,
                views.norms,
            )  # fmt: skip


def _embedded_on(
    engine: Engine,
    choice: ModelChoice,
    rules: EmbedRules,
    encoder: Encoder,
    groups: Sequence[Sequence[StoredPicture]],
) -> Embedded:
    """Yield what `embedded_images` does, each group a shard on the machines of `engine`."""
    embed_group = partial(_embedded_group, pickle.dumps((choice, rules)), encoder.digest)
    n_gpus = int(encoder.device.type == "cuda")
    # As many threads as this process has, since products are summed, and rounded, in one part a thread.
    for results in engine.map(embed_group, groups, n_cores=torch.get_num_threads(), n_gpus=n_gpus):
        yield from results


def _embedded_group(
    made_by: bytes, digest: str, group: Sequence[StoredPicture]
) -> list[EmbeddedImage | tuple[str, str]]:
    encoding = _encoding(made_by)
    if encoding.encoder.digest != digest:
        raise ModelError(
            f"--engine: a machine loads {encoding.encoder.name} with the digest {encoding.encoder.digest}, "
            f"expected {digest}: give all machines the same weights"
        )
    return list(embedded_images(encoding, [group]))


@functools.lru_cache(maxsize=1)
def _encoding(made_by: bytes) -> Encoding:
    """Return the model of this process, loaded once for all of its shards."""
    choice, rules = pickle.loads(made_by)
    encoding: Encoding = rules.encoding(choice.load())
    return encoding


def embed_from_features(workspace: Workspace, features_dir: Path, feature_set: str) -> EmbedSummary:
    """Take features that are there already as embeddings: unit length, whole picture only.

    For features that were extracted on another machine, and for vectors of a model that neither open_clip nor
    timm has: any folder of a head and a set will do. The head's rows play the part of class prototypes.

    Raises
    ------
    InputError
        The features, or their head, are not there or do not fit.
    """
    source = FeatureSource.read(features_dir, feature_set)
    key = StoreKey("features", lasting_name(str(features_dir)), feature_set, source.digest, source.n_features, 0)

    def embed_groups(groups: Sequence[Sequence[StoredPicture]]) -> Embedded:
        for picture in (picture for group in groups for picture in group):
            vector = source.unit_features(picture.image_id)
            if isinstance(vector, str):
                yield picture.image_id, vector
            else:
                yield EmbeddedImage(picture.image_id, picture.sha256, picture.rotation_deg or 0, (FULL,), *vector)

    return StoreRun(workspace, key, "cpu", Waits()).fill(embed_groups, source, {})
