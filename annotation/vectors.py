"""The embeddings of whole pictures, read from a workspace: what similarity search and the map are made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from manifests.errors import InputError, TableError, one_line
from manifests.parquet import read_parquet
from manifests.stored_pictures import StoredPicture
from manifests.tiles import FULL
from manifests.workspace import Workspace


@dataclass(frozen=True)
class VectorStore:
    """A folder of embeddings, ``embeddings/<digest>``, as `embed` writes it.

    Attributes
    ----------
    folder : Path
        With the shards.
    model : str
        Whose vectors they are.
    """

    folder: Path
    model: str

    @property
    def paths(self) -> list[Path]:
        """All shards, by name."""
        return sorted(self.folder.glob("shard-*.parquet"))

    def read(self, pictures: Mapping[str, StoredPicture]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vector of each whole picture by image id; of a picture that has changed since, none.

        Raises
        ------
        TableError
            A shard is damaged.
        """
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        for path in self.paths:
            table = read_parquet(path, ["image_id", "sha256", "view", "embedding"])
            whole = table.filter(pc.equal(table.column("view"), FULL))
            rows = whole.column("embedding").combine_chunks().flatten().to_numpy()
            digests = zip(whole.column("image_id").to_pylist(), whole.column("sha256").to_pylist(), strict=True)
            for (image_id, sha256), vector in zip(
                digests, rows.reshape(whole.num_rows, -1).astype(np.float32), strict=True
            ):
                if image_id in pictures and pictures[image_id].sha256 == sha256:
                    vectors[image_id] = vector
        return vectors


def find_vectors(workspace: Workspace, wanted: str | None = None) -> VectorStore | None:
    """Return the store that `wanted` names, or else the only one of CLIP, or of any model; None where none is.

    Parameters
    ----------
    workspace : Workspace
        With or without embeddings.
    wanted : str, optional
        The start of one store's digest, or a part of one model's name.

    Raises
    ------
    InputError
        `wanted` fits none or several stores, or none is wanted and there are several to choose from.
    TableError
        The description of a store is damaged.
    """
    sources = {path.parent: _source(path) for path in sorted(workspace.embeddings_dir.glob("*/model.json"))}
    stores = [VectorStore(folder, model) for folder, (_, model) in sources.items()]
    if wanted is not None:
        fitting = [store for store in stores if store.folder.name.startswith(wanted) or wanted in store.model]
    else:
        fitting = [store for store in stores if sources[store.folder][0] == "clip"] or stores
    if len(fitting) == 1:
        return fitting[0]
    if wanted is None and not fitting:
        return None
    told = ", ".join(f"{store.folder.name} ({store.model})" for store in stores) or "none"
    raise InputError(
        f"--embeddings: expected the digest or model of one of: {told}; found {wanted or 'none given'}"
    )


def _source(path: Path) -> tuple[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["source"]), str(content["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: not the description of an embedding store ({one_line(error)})") from error
