"""Evidence masks as `localize` would have written them, made up, of all classes shown beside all pictures."""

import random

import numpy as np
from PIL import Image

from manifests import schema
from manifests.masks import MaskedImage, MaskFacts, MaskStore, mask_facts, mask_of, mask_size
from manifests.wanted_masks import asked_names
from manifests.workspace import Workspace

_LOCALIZER = "made-up"
# As with the pictures: many names, few of them different.
_N_MASKS = 64
_BLOB_CELLS = (4, 3)


def make_masks(workspace: Workspace, seed: int) -> None:
    """Write one mask an image and shown class, and the table of them."""
    drawn = random.Random(seed)
    pictures = {row["image_id"]: row for row in workspace.read(schema.DOWNLOADS).to_pylist()}
    size_px = next((row["width_px"], row["height_px"]) for row in pictures.values())
    masks = [_mask(seed + number, size_px) for number in range(_N_MASKS)]
    known = [mask_facts(mask) for mask in masks]
    name_of = asked_names(workspace)
    store = MaskStore(workspace, _LOCALIZER)
    shards: dict[int, dict[str, MaskedImage]] = {}
    rows = []
    for screened in workspace.read(schema.SCREEN).to_pylist():
        image_id, sha256 = screened["image_id"], pictures[screened["image_id"]]["sha256"]
        chosen = {class_index: drawn.randrange(_N_MASKS) for class_index in screened["shown_classes"]}
        facts = {index: MaskFacts(name_of(index), *known[number]) for index, number in chosen.items()}
        image = MaskedImage(image_id, sha256, 0, facts, {index: masks[number] for index, number in chosen.items()})
        shards.setdefault(store.shard_of(image_id), {})[image_id] = image
        rows += [
            {
                "image_id": image_id,
                "class_index": class_index,
                "class_name": fact.class_name,
                "localizer": _LOCALIZER,
                "sha256": sha256,
                "rotation_deg": 0,
                "area_share": fact.area_share,
                "peak": fact.peak,
            }
            for class_index, fact in facts.items()
        ]
    for shard, images in shards.items():
        store.write_shard(shard, images)
    workspace.write(schema.LOCALIZED, rows)


def _mask(seed: int, size_px: tuple[int, int]) -> bytes:
    """Return soft blobs, whose PNG is as long as that of a heat map."""
    blobs = np.random.default_rng(seed).random(_BLOB_CELLS[::-1], dtype=np.float32)
    smooth = Image.fromarray(blobs).resize(mask_size(size_px), Image.Resampling.BICUBIC)
    return mask_of(np.asarray(smooth, dtype=np.float32).clip(0, 1), size_px)
