"""The stage `embed` beside its model alone, on pixels that are there, and beside reading alone."""

import itertools
import os
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from curation.bench.bodies import photo_body
from curation.bench.screen.report import Row, Section
from curation.bench.server import image_id_of
from curation.clip import untrained_model
from curation.embed import EmbedRules, clip_choice, embed_with
from curation.embedding_store import EmbeddingStore
from curation.encoding import Encoding
from curation.reading import ReadViews, read_ahead
from curation.store_key import StoreKey
from manifests import schema
from manifests.devices import seconds_now
from manifests.durable import sha256_of_file
from manifests.errors import OpenImageOError
from manifests.images import inspect_image
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

_MODEL = "ViT-B-32"


def embed_section(n_pictures: int, folder: Path, device: str) -> Section:
    """Return what embedding photographs with an untrained ViT-B-32 costs: speed does not hang on weights."""
    workspace = _workspace(n_pictures, folder / "workspace")
    pictures = list(stored_pictures(workspace).values())
    weights = folder / "untrained.safetensors"
    save_file(untrained_model(Path(_MODEL)).state_dict(), weights)
    rules = EmbedRules(n_workers=os.cpu_count() or 1)
    choice = clip_choice(_MODEL, str(weights), device)
    summary = embed_with(workspace, choice, rules)
    encoding = rules.encoding(choice.load())
    read, read_s = _read(encoding, pictures)
    n_views = sum(len(one.names) for one in read)
    size = f"{n_pictures:,} JPEGs, {n_views:,} views"
    return Section(
        f"Embedding: {_MODEL}, whole pictures and tiles, {summary.precision} on {summary.device}",
        (
            Row("ours: python cli.py embed, model loaded", size, summary.seconds, n_pictures),
            Row("limit: the model alone, pixels in memory", size, _model_s(encoding, read), n_pictures),
            Row("limit: reading alone: decode, cut, resize", size, read_s, n_pictures),
            Row("limit: decoding whole, one core", size, _decode_s(pictures), n_pictures),
        ),
        (
            f"Ours waited {summary.waits.decoding_s:.1f} s for reading and {summary.waits.model_s:.1f} s for the "
            "model, which share the cores where both run on them",
        ),
    )


def _workspace(n_pictures: int, root: Path) -> Workspace:
    """Return a workspace with photographs, as `candidates` and `download` leave it."""
    workspace, body = Workspace(root), photo_body()
    store = EmbeddingStore(root, StoreKey("clip", "", "", "", 0, 0))
    # All in one shard, as hundreds of a real set are: the last batch of a shard is not full.
    in_one_shard = (image_id for image_id in map(image_id_of, itertools.count()) if not store.shard_of(image_id))
    rows = []
    for image_id in itertools.islice(in_one_shard, n_pictures):
        path = workspace.relative_image_path(image_id)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body.content(image_id))
        width_px, height_px = inspect_image((root / path).read_bytes())
        rows.append({
            "image_id": image_id, "status": "ok", "sha256": sha256_of_file(root / path), "width_px": width_px,
            "height_px": height_px, "path": path, "attempts": 1, "url": "", "subset": "test",
        })  # fmt: skip
    for table in (schema.CANDIDATES, schema.DOWNLOADS):
        names = set(table.schema.names)
        workspace.write(table, [{name: value for name, value in row.items() if name in names} for row in rows])
    return workspace


def _read(encoding: Encoding, pictures: list[StoredPicture]) -> tuple[list[ReadViews], float]:
    started = time.perf_counter()
    results = list(read_ahead(encoding.reader, pictures, n_workers=encoding.n_workers, n_ahead=len(pictures)))
    seconds = time.perf_counter() - started
    read = [one for _, one in results if isinstance(one, ReadViews)]
    if len(read) < len(results):
        raise OpenImageOError("bench screen: a picture that it made itself could not be read")
    return read, seconds


def _model_s(encoding: Encoding, read: list[ReadViews]) -> float:
    batches = torch.cat([one.pixels for one in read]).split(encoding.batch_size)
    device = encoding.encoder.device
    with torch.inference_mode():
        encoding.encoder.encode(batches[0])
        started = seconds_now(device)
        for batch in batches:
            encoding.encoder.encode(batch)
        return seconds_now(device) - started


def _decode_s(pictures: list[StoredPicture]) -> float:
    started = time.perf_counter()
    for picture in pictures:
        with Image.open(picture.path) as image:
            image.load()
    return time.perf_counter() - started
