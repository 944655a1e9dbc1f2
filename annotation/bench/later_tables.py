"""What the stages after the screen would have written, made up, so that no field of the curator is empty."""

import json
import random

import numpy as np
import pyarrow as pa

from manifests import schema
from manifests.parquet import write_parquet
from manifests.workspace import Workspace

N_DIMENSIONS = 512
"""As CLIP ViT-B/32 has."""

_STORE = "made-up"
_N_LABELS = 4
_GOLD_EVERY = 40
_SHARD_ROWS = 10_000


def make_later_tables(workspace: Workspace, seed: int) -> None:
    """Write labels, quality, duplicates, gold, verdicts and embeddings for all downloaded pictures."""
    drawn = random.Random(seed)
    downloads = workspace.read(schema.DOWNLOADS)
    ids = downloads.column("image_id").to_pylist()
    workspace.write(schema.LABELS, [_label(image_id, place) for image_id in ids for place in range(_N_LABELS)])
    workspace.write(schema.QUALITY, [_quality(image_id, drawn) for image_id in ids])
    workspace.write(
        schema.DUPLICATES,
        [
            {
                "image_id": copy,
                "duplicate_of": first,
                "kind": "pixels",
                "bits": 3,
                "similarity": 0.97,
                "agreement": 1.0,
            }
            for first, copy in zip(ids[::50], ids[1::50], strict=False)
        ],
    )
    workspace.write(
        schema.GOLD,
        [
            {"image_id": image_id, "answer": "out", "class_index": None, "note": None}
            for image_id in ids[::_GOLD_EVERY]
        ],
    )
    words = ("out", "in", "difficult", "disputed")
    votes = {"source": "consensus", "n_out": 2, "n_in": 0, "n_difficult": 0, "class_index": None}
    workspace.write(
        schema.VERDICTS, [votes | {"image_id": image_id, "verdict": drawn.choice(words)} for image_id in ids]
    )
    _write_embeddings(workspace, downloads.select(["image_id", "sha256"]), seed)


def _label(image_id: str, place: int) -> dict[str, object]:
    source = schema.LABEL_SOURCES[place % 2]
    number = int(image_id, 16) % 97 + place
    name = {"label_mid": f"/m/{number}", "label_name": f"made-up thing {number}", "wnid": None}
    return name | {"image_id": image_id, "source": source, "confidence": 1.0}


def _quality(image_id: str, drawn: random.Random) -> dict[str, object]:
    flags: dict[str, object] = {f"is_{check}": drawn.random() < 0.02 for check in schema.QUALITY_CHECKS}
    scores: dict[str, object] = {f"{check}_score": 0.5 for check in schema.QUALITY_CHECKS}
    return {"image_id": image_id, "sha256": "0" * 64} | flags | scores


def _write_embeddings(workspace: Workspace, pictures: pa.Table, seed: int) -> None:
    folder = workspace.embeddings_dir / _STORE
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"source": "clip", "model": "made-up"}))
    drawn = np.random.default_rng(seed)
    centres = drawn.normal(size=(10, N_DIMENSIONS))
    for number, start in enumerate(range(0, pictures.num_rows, _SHARD_ROWS)):
        part = pictures.slice(start, _SHARD_ROWS)
        vectors = centres[drawn.integers(0, 10, part.num_rows)] + drawn.normal(size=(part.num_rows, N_DIMENSIONS))
        unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        columns = {
            "image_id": part.column("image_id"),
            "sha256": part.column("sha256"),
            "view": ["full"] * part.num_rows,
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), N_DIMENSIONS),
            "norm": pa.nulls(part.num_rows, pa.float32()),
        }
        table = pa.table(columns, schema=schema.embeddings_schema(N_DIMENSIONS))
        write_parquet(folder / f"shard-{number:04d}.parquet", table)
