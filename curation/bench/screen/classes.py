"""Embeddings against class prototypes, as `screen` compares them, beside the bare product."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from curation.bench.screen.report import Row, Section
from curation.bench.screen.vectors import N_DIMENSIONS, product_rate
from curation.embedding_store import EmbeddedImage, EmbeddingStore
from curation.screening.evidence import compare
from curation.screening.sources import ClassSource
from curation.store_key import StoreKey
from manifests.tiles import FULL
from manifests.workspace import Workspace

_N_CLASSES = 1000
_GOAL_S = 5


def class_section(vectors: npt.NDArray[np.float16], folder: Path, seed: int) -> Section:
    """Return what comparing `vectors`, in a store below `folder`, with 1,000 prototypes costs."""
    store = _stored(vectors, folder)
    prototypes = np.random.default_rng(seed).standard_normal((_N_CLASSES, N_DIMENSIONS), np.float32)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    source = ClassSource("clip", store, prototypes, None)
    read_s = compare_s = 0.0
    n_compared = 0
    started = time.perf_counter()
    for images in store.shards():
        read_at = time.perf_counter()
        read_s += read_at - started
        n_compared += sum(len(evidence.image_ids) for evidence in compare(source, images, {}))
        started = time.perf_counter()
        compare_s += started - read_at
    cpu = torch.device("cpu")
    bare_s = 2 * len(vectors) * _N_CLASSES * N_DIMENSIONS / product_rate(cpu, _N_CLASSES)
    size = f"{len(vectors):,} x {N_DIMENSIONS}"
    return Section(
        f"Classes: embeddings against {_N_CLASSES:,} prototypes",
        (
            Row("ours: ten best classes and numbers for the risk", size, compare_s, n_compared),
            Row("ours: reading the store before it", size, read_s, n_compared),
            Row("limit: the bare float32 product", size, bare_s, n_compared),
        ),
        (f"Goal of the first at 125,436 on two cores: {_GOAL_S} s",),
        {"goal_s": _GOAL_S},
    )


def _stored(vectors: npt.NDArray[np.float16], folder: Path) -> EmbeddingStore:
    key = StoreKey("clip", "made up", "", "0" * 16, vectors.shape[1], 0)
    store = EmbeddingStore.for_key(Workspace(folder), key)
    shards: dict[int, dict[str, EmbeddedImage]] = {}
    for index, vector in enumerate(vectors):
        image_id = f"{index:016x}"
        image = EmbeddedImage(image_id, "0" * 64, 0, (FULL,), vector[None])
        shards.setdefault(store.shard_of(image_id), {})[image_id] = image
    for shard, images in shards.items():
        store.write_shard(shard, images)
    return store
