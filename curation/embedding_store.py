"""Embeddings on disk: one folder a model and tiling, shards of images chosen by a hash of the image id.

``embeddings/<store digest>/`` holds ``model.json``, ``shard-NNNN.parquet`` and ``unreadable.parquet``, of a
classifier ``head.safetensors``, and the class prototypes that `curation.prototypes` keeps there. An image's shard
depends on its id alone, so a run that was killed, resumed, or given more images later writes each row where an
undisturbed run would, and a shard is either whole or absent.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file

from curation.store_key import KEY_FILE_NAME, StoreKey, read_key
from manifests import schema
from manifests.durable import delete, write_json
from manifests.errors import InputError, StageMissingError, TableError, one_line
from manifests.image_ids import shard_of
from manifests.parquet import read_written_as, write_parquet
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace

_N_SHARDS = 256
"""Of Open Images' 125,436 test images a shard holds 490, minutes of work on a processor; of 9 million, 35,000."""

HEAD_FILE_NAME = "head.safetensors"
_RERUN = "run 'embed' again"

_ROTATIONS_KEY = b"rotations_deg"
_UNREADABLE_SCHEMA = pa.schema(
    [schema.IMAGE_ID, pa.field("sha256", pa.string(), nullable=False), pa.field("reason", pa.string())]
)


@dataclass(frozen=True)
class EmbeddedImage:
    """One image's vectors.

    Attributes
    ----------
    image_id : str
        Its id.
    sha256, rotation_deg : str, int
        Of which pixels: where they differ from the stored picture's, the vectors are outdated.
    views : tuple of str
        Names, the whole picture first; how many there are depends on the picture's shape.
    embeddings : ndarray of float16, (n_views, n_dimensions)
        Unit length, in the order of `views`.
    norms : ndarray of float32, (n_views,), or None
        Of a classifier or of features: the lengths before. ``norms * embeddings @ W.T + b`` are the logits.
    """

    image_id: str
    sha256: str
    rotation_deg: int
    views: tuple[str, ...]
    embeddings: npt.NDArray[np.float16]
    norms: npt.NDArray[np.float32] | None = None

    def is_of(self, picture: StoredPicture) -> bool:
        """Return whether these are the vectors of the picture as it is stored now."""
        return (self.sha256, self.rotation_deg) == picture.pixels


class EmbeddingStore:
    """The folder of one model's embeddings in a workspace."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder = folder
        self.key = key

    @classmethod
    def for_key(cls, workspace: Workspace, key: StoreKey) -> "EmbeddingStore":
        """Return the store of `key`, made if it is not there yet."""
        folder = workspace.embeddings_dir / key.digest
        if not (folder / KEY_FILE_NAME).exists():
            write_json(folder / KEY_FILE_NAME, asdict(key))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "EmbeddingStore":
        """Return the store in `folder`."""
        return cls(folder, read_key(folder / KEY_FILE_NAME))

    @classmethod
    def choose(cls, workspace: Workspace, wanted: str | None) -> "EmbeddingStore":
        """Return the only store, or the one that `wanted` names, as `find` takes it."""
        stores = cls.find(workspace, [] if wanted is None else [wanted])
        if len(stores) == 1:
            return stores[0]
        raise InputError(f"--embeddings: expected the digest of one of {_told(stores)}; found none given")

    @classmethod
    def find(cls, workspace: Workspace, wanted: Sequence[str] = ()) -> "list[EmbeddingStore]":
        """Return the stores named in `wanted`, in this order, or else all, sorted by digest.

        Parameters
        ----------
        workspace : Workspace
            With embeddings.
        wanted : sequence of str
            Each the start of one store's digest, or a part of one store's model name.

        Raises
        ------
        StageMissingError
            The workspace holds no embeddings.
        InputError
            A name fits no store, or several, or one that is named already.
        """
        folders = sorted(path.parent for path in workspace.embeddings_dir.glob(f"*/{KEY_FILE_NAME}"))
        if not folders:
            raise StageMissingError(f"{workspace.root} holds no embeddings: run the stage 'embed' first")
        stores = [cls.open(folder) for folder in folders]
        chosen: list[EmbeddingStore] = []
        for name in wanted:
            fitting = [s for s in stores if s.key.digest.startswith(name) or name in s.key.model]
            if len(fitting) != 1 or fitting[0] in chosen:
                raise InputError(f"--embeddings: expected the digest of one of {_told(stores)}; found {name}")
            chosen += fitting
        return chosen or stores

    def shard_of(self, image_id: str) -> int:
        """Return the shard of an image, which depends on its id alone."""
        return shard_of(image_id, _N_SHARDS)

    def read_shard(self, shard: int) -> dict[str, EmbeddedImage]:
        """Return the images of one shard by id; empty where it has not been written."""
        path = self._shard_path(shard)
        if not path.exists():
            return {}
        table = read_written_as(path, schema.embeddings_schema(self.key.n_dimensions), rerun=_RERUN)
        rotations = _rotations(table.schema)
        vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        norms = None if table.column("norm").null_count else table.column("norm").to_numpy()
        image_ids, views, digests = (table.column(name).to_pylist() for name in ("image_id", "view", "sha256"))
        images = {}
        for image_id, of_image in itertools.groupby(range(table.num_rows), key=image_ids.__getitem__):
            rows = list(of_image)
            own = slice(rows[0], rows[-1] + 1)
            images[image_id] = EmbeddedImage(
                image_id, digests[rows[0]], rotations.get(image_id, 0), tuple(views[own]), vectors[own],
                None if norms is None else norms[own],
            )  # fmt: skip
        return images

    def pictures_in(self, shard: int) -> dict[str, tuple[str, int]]:
        """Return sha256 and rotation of the images of one shard by id, without reading their vectors."""
        path = self._shard_path(shard)
        if not path.exists():
            return {}
        form = schema.embeddings_schema(self.key.n_dimensions)
        table = read_written_as(path, form, rerun=_RERUN, columns=["image_id", "sha256"])
        rotations = _rotations(table.schema)
        ids_and_digests = zip(*table.to_pydict().values(), strict=True)
        return {image_id: (sha256, rotations.get(image_id, 0)) for image_id, sha256 in ids_and_digests}

    def write_shard(self, shard: int, images: Mapping[str, EmbeddedImage]) -> None:
        """Write one shard, sorted by image id, in one step; one without an image is deleted."""
        if not images:
            delete(self._shard_path(shard))
            return
        ordered = [images[image_id] for image_id in sorted(images)]
        vectors = np.concatenate([image.embeddings for image in ordered]).astype(np.float16)
        norms = [[None] * len(image.views) if image.norms is None else image.norms.tolist() for image in ordered]
        columns = {
            "image_id": [image.image_id for image in ordered for _ in image.views],
            "sha256": [image.sha256 for image in ordered for _ in image.views],
            "view": [view for image in ordered for view in image.views],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.key.n_dimensions),
            "norm": list(itertools.chain.from_iterable(norms)),
        }
        rotations = {image.image_id: image.rotation_deg for image in ordered if image.rotation_deg}
        table = pa.table(columns, schema=schema.embeddings_schema(self.key.n_dimensions)).replace_schema_metadata(
            {_ROTATIONS_KEY: json.dumps(rotations, sort_keys=True)}
        )
        write_parquet(self._shard_path(shard), table)

    def read_head(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Return weight (n_classes, n_dimensions) and bias (n_classes,) of a classifier's store, None of CLIP's.

        Raises
        ------
        TableError
            The file is missing or damaged.
        """
        if self.key.source == "clip":
            return None
        path = self.folder / HEAD_FILE_NAME
        try:
            tensors = load_file(path)
            return tensors["weight"], tensors["bias"]
        except (OSError, SafetensorError, KeyError) as error:
            raise TableError(
                f"{path}: not the head of a classifier ({one_line(error)}): run 'embed' again"
            ) from error

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

    def write_unreadable(self, found: Mapping[str, tuple[str, str]]) -> None:
        """Write of some images, by id, the sha256 and why they have no embedding."""
        rows = [
            {"image_id": image_id, "sha256": sha256, "reason": reason}
            for image_id, (sha256, reason) in sorted(found.items())
        ]
        write_parquet(self._unreadable_path, pa.Table.from_pylist(rows, schema=_UNREADABLE_SCHEMA))

    def read_unreadable(self) -> dict[str, tuple[str, str]]:
        """Return, by image id, the sha256 of images that have no embedding, and why.

        Raises
        ------
        StageMissingError
            The stage `embed` has not come to its end for this store.
        """
        if not self._unreadable_path.exists():
            raise StageMissingError(
                f"{self.folder} is not complete: run the stage 'embed' again, it goes on where it stopped"
            )
        table = read_written_as(self._unreadable_path, _UNREADABLE_SCHEMA, rerun=_RERUN)
        return {
            image_id: (sha256, reason)
            for image_id, sha256, reason in zip(*table.to_pydict().values(), strict=True)
        }

    def _shard_path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:04d}.parquet"


def _rotations(shard_schema: pa.Schema) -> dict[str, int]:
    return dict(json.loads((shard_schema.metadata or {}).get(_ROTATIONS_KEY, b"{}")))


def _told(stores: "Sequence[EmbeddingStore]") -> str:
    return ", ".join(f"{store.key.digest} ({store.key.model})" for store in stores)
