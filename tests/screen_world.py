"""Small workspaces for the tests of screening: pictures, and stores whose vectors a test chooses."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from curation.embedding_store import EmbeddedImage, EmbeddingStore
from curation.screening.sources import open_sources
from curation.store_key import StoreKey
from manifests import schema
from manifests.label_space import ClassName, write_label_space
from manifests.stored_pictures import stored_pictures
from manifests.tiles import FULL
from manifests.workspace import Workspace

TILE = "tile_2_0_0"


def noise_jpeg(seed: int) -> bytes:
    """Return a picture unlike every other: no two are near-duplicates."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(stream, "JPEG")
    return stream.getvalue()


def add_store(workspace, vectors, *, source="clip", head=None, unreadable=(), name="net"):
    """Write a store of unit vectors: `vectors` maps an image id to (n_views, d), the whole first."""
    n_dimensions = len(next(iter(vectors.values()))[0])
    key = StoreKey(source, name, "", f"digest of {name}", n_dimensions, 2)
    store = EmbeddingStore.for_key(workspace, key)
    pictures = stored_pictures(workspace)
    shards: dict[int, dict[str, EmbeddedImage]] = {}
    for image_id, rows in vectors.items():
        rows = np.asarray(rows, np.float32)
        norms = np.linalg.norm(rows, axis=1)
        views = (FULL, *(f"tile_2_0_{place}" for place in range(len(rows) - 1)))
        shards.setdefault(store.shard_of(image_id), {})[image_id] = EmbeddedImage(
            image_id, pictures[image_id].sha256, 0, views, (rows / norms[:, None]).astype(np.float16),
            norms if source == "classifier" else None,
        )  # fmt: skip
    for shard, images in shards.items():
        store.write_shard(shard, images)
    if head is not None:
        weight, bias = (np.asarray(values, np.float32) for values in head)
        save_file({"weight": weight, "bias": bias}, store.folder / "head.safetensors")
    store.write_unreadable({k: (pictures[k].sha256, "the file is empty") for k in unreadable})
    return store


def sources_of(workspace, prototypes, classes=None):
    """Return what `open_sources` does, with the same prototypes for every store."""
    rows = np.asarray(prototypes, np.float32)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    known = classes or [ClassName(index, f"class {index}") for index in range(len(rows))]
    return open_sources(workspace, prototypes_of=lambda store: (known, rows))


def screened(workspace: Workspace) -> dict[str, dict]:
    return {row["image_id"]: row for row in workspace.read(schema.SCREEN).to_pylist()}


def classes_csv(folder: Path, names=("cat", "dog", "sea", "tree")) -> Path:
    write_label_space(folder / "names.csv", [ClassName(index, name) for index, name in enumerate(names)])
    return folder / "names.csv"
