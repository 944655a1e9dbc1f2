"""Embeddings on disk: one folder a model and tiling, shards of images chosen by a hash of the image id.

``embeddings/<store digest>/`` holds ``model.json``, ``shard-NNNN.parquet`` and ``unreadable.parquet``. An image's
shard depends on its id alone, so a run that was killed, resumed, or given more images later writes each row
where an undisturbed run would, and a shard is either whole or absent.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests import schema
from manifests.durable import write_json
from manifests.errors import InputError, StageMissingError, TableError
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace, read_parquet, write_parquet

_N_SHARDS = 256
"""Of Open Images' 125,436 test images a shard holds 490, minutes of work on a processor; of 9 million, 35,000."""

_ROTATIONS_KEY = b"rotations_deg"
_UNREADABLE_SCHEMA = pa.schema([schema.IMAGE_ID, pa.field("reason", pa.string())])


@dataclass(frozen=True)
class StoreKey:
    """What the vectors of a store have in common; another key is another folder.

    Attributes
    ----------
    source : str
        ``clip`` or ``features``.
    model, pretrained : str
        As given on the command line; of features, the model's folder and the set.
    encoder_digest : str
        Digest of weights and preprocessing.
    n_dimensions : int
        Length of an embedding.
    grid : int
        Tiles a side, 0 for the whole picture only.
    """

    source: str
    model: str
    pretrained: str
    encoder_digest: str
    n_dimensions: int
    grid: int

    @property
    def digest(self) -> str:
        """16 hex digits that name the store's folder."""
        text = f"{self.source} {self.encoder_digest} {self.n_dimensions} {self.grid}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EmbeddedImage:
    """One image's vectors: `embeddings` is (n_views, n_dimensions), unit length, in the order of `views`.

    `sha256` and `rotation_deg` say of which pixels: where they differ from the stored picture's, it is outdated.
    """

    image_id: str
    sha256: str
    rotation_deg: int
    views: tuple[str, ...]
    embeddings: npt.NDArray[np.float16]

    def is_of(self, picture: StoredPicture) -> bool:
        """Return whether these are the vectors of the picture as it is stored now."""
        return (self.sha256, self.rotation_deg) == (picture.sha256, picture.rotation_deg or 0)


class EmbeddingStore:
    """The folder of one model's embeddings in a workspace."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder = folder
        self.key = key

    @classmethod
    def for_key(cls, workspace: Workspace, key: StoreKey) -> "EmbeddingStore":
        """Return the store of `key`, made if it is not there yet."""
        folder = workspace.embeddings_dir / key.digest
        if not (folder / "model.json").exists():
            write_json(folder / "model.json", asdict(key))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "EmbeddingStore":
        """Return the store in `folder`."""
        try:
            content = json.loads((folder / "model.json").read_text())
            return cls(folder, StoreKey(**content))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TableError(
                f"{folder / 'model.json'}: not the description of an embedding store ({error})"
            ) from error

    @classmethod
    def choose(cls, workspace: Workspace, wanted: str | None) -> "EmbeddingStore":
        """Return the only store, or the one whose digest starts with `wanted` or whose model name holds it."""
        folders = sorted(path.parent for path in workspace.embeddings_dir.glob("*/model.json"))
        if not folders:
            raise StageMissingError(f"{workspace.root} holds no embeddings: run the stage 'embed' first")
        stores = [cls.open(folder) for folder in folders]
        chosen = [
            store
            for store in stores
            if wanted is None or store.key.digest.startswith(wanted) or wanted in store.key.model
        ]
        if len(chosen) == 1:
            return chosen[0]
        known = ", ".join(f"{store.key.digest} ({store.key.model})" for store in stores)
        raise InputError(f"--embeddings: expected the digest of one of {known}; found {wanted or 'none given'}")

    def shard_of(self, image_id: str) -> int:
        """Return the shard of an image, which depends on its id alone."""
        return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8]) % _N_SHARDS

    def read_shard(self, shard: int) -> dict[str, EmbeddedImage]:
        """Return the images of one shard by id; empty where it has not been written."""
        path = self._shard_path(shard)
        if not path.exists():
            return {}
        table = read_parquet(path)
        if not table.schema.equals(schema.embeddings_schema(self.key.n_dimensions)):
            raise TableError(f"{path}: not an embeddings shard of {self.key.n_dimensions} dimensions")
        rotations = json.loads((table.schema.metadata or {}).get(_ROTATIONS_KEY, b"{}"))
        vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        rows: dict[str, list[int]] = {}
        image_ids, views, digests = (table.column(name).to_pylist() for name in ("image_id", "view", "sha256"))
        for row, image_id in enumerate(image_ids):
            rows.setdefault(image_id, []).append(row)
        return {
            image_id: EmbeddedImage(
                image_id,
                digests[at[0]],
                rotations.get(image_id, 0),
                tuple(views[row] for row in at),
                vectors[at[0] : at[-1] + 1],
            )
            for image_id, at in rows.items()
        }

    def write_shard(self, shard: int, images: Mapping[str, EmbeddedImage]) -> None:
        """Write one shard, sorted by image id, in one step; one without an image is deleted."""
        if not images:
            self._shard_path(shard).unlink(missing_ok=True)
            return
        ordered = [images[image_id] for image_id in sorted(images)]
        vectors = np.concatenate([image.embeddings for image in ordered]).astype(np.float16)
        columns = {
            "image_id": [image.image_id for image in ordered for _ in image.views],
            "sha256": [image.sha256 for image in ordered for _ in image.views],
            "view": [view for image in ordered for view in image.views],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.key.n_dimensions),
        }
        rotations = {image.image_id: image.rotation_deg for image in ordered if image.rotation_deg}
        table = pa.table(columns, schema=schema.embeddings_schema(self.key.n_dimensions)).replace_schema_metadata(
            {_ROTATIONS_KEY: json.dumps(rotations, sort_keys=True)}
        )
        write_parquet(self._shard_path(shard), table)

    def shards(self) -> Iterator[dict[str, EmbeddedImage]]:
        """Yield the images of each shard that has been written."""
        for shard in range(_N_SHARDS):
            images = self.read_shard(shard)
            if images:
                yield images

    def paths(self) -> list[Path]:
        """Return the files of the shards that have been written."""
        return sorted(self.folder.glob("shard-*.parquet"))

    @property
    def _unreadable_path(self) -> Path:
        return self.folder / "unreadable.parquet"

    def write_unreadable(self, reasons: Mapping[str, str]) -> None:
        """Write why some images have no embedding."""
        rows = [{"image_id": image_id, "reason": reasons[image_id]} for image_id in sorted(reasons)]
        write_parquet(self._unreadable_path, pa.Table.from_pylist(rows, schema=_UNREADABLE_SCHEMA))

    def read_unreadable(self) -> dict[str, str]:
        """Return why some images have no embedding, by image id.

        Raises
        ------
        StageMissingError
            The stage `embed` has not come to its end for this store.
        """
        if not self._unreadable_path.exists():
            raise StageMissingError(
                f"{self.folder} is not complete: run the stage 'embed' again, it goes on where it stopped"
            )
        table = read_parquet(self._unreadable_path)
        if not table.schema.equals(_UNREADABLE_SCHEMA):
            raise TableError(f"{self._unreadable_path}: expected the columns image_id and reason")
        return dict(zip(*table.to_pydict().values(), strict=True))

    def _shard_path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:04d}.parquet"
