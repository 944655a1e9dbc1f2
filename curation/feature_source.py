"""A classifier's features and head as `extract-features` or others wrote them, read as embeddings."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from curation.embedding_store import HEAD_FILE_NAME
from manifests.durable import sha256_of_file, write_bytes
from manifests.errors import InputError
from manifests.parquet import read_parquet
from manifests.schema import features_schema

_FURTHEST_LENGTH = 1e30
"""Of features, or one over it: beyond, products with a head's weights leave what float32 holds."""


@dataclass(frozen=True)
class FeatureSource:
    """One feature set by image id; `digest` is that of head and features, so that no two sets are mixed."""

    digest: str
    n_features: int
    _head_path: Path
    _features: dict[str, npt.NDArray[np.float32]]

    @classmethod
    def read(cls, features_dir: Path, feature_set: str) -> "FeatureSource":
        """Return the set ``<features_dir>/<feature_set>.parquet`` with its head's digest.

        Raises
        ------
        InputError
            Set or head are not there, do not fit each other, or hold NaN or infinity.
        """
        path, head_path = features_dir / f"{feature_set}.parquet", features_dir / HEAD_FILE_NAME
        if not path.is_file():
            raise InputError(f"{path} is not there: run 'extract-features --set {feature_set}' first")
        n_features = _n_features(head_path)
        table = read_parquet(path)
        expected = features_schema(n_features)
        if table.schema.names != expected.names or table.schema.types != expected.types:
            raise InputError(f"{path}: expected {n_features} float32 features an image, as its head takes")
        image_ids = table.column("image_id").to_pylist()
        values = table.column("features").combine_chunks().flatten().to_numpy().reshape(len(image_ids), -1)
        if len(set(image_ids)) < len(image_ids) or table.column("features").null_count:
            raise InputError(f"{path}: an image stands in more than one row, or has no features")
        if not np.isfinite(values).all():
            bad = image_ids[int(np.argmin(np.isfinite(values).all(axis=1)))]
            raise InputError(f"{path}: image {bad} has a NaN or infinite feature")
        digests = " ".join(sha256_of_file(file) for file in (head_path, path))
        digest = hashlib.sha256(digests.encode()).hexdigest()[:16]
        return cls(digest, n_features, head_path, dict(zip(image_ids, values, strict=True)))

    def unit_features(self, image_id: str) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]] | str:
        """Return an image's features at unit length, (1, n_features), and their length, (1,), or why not."""
        if image_id not in self._features:
            return "no features in the set"
        # float64: the squares of float32 may be more, or less, than it holds.
        features = self._features[image_id].astype(np.float64)
        length = np.linalg.norm(features)
        if not length:
            return "all features are zero"
        if not 1 / _FURTHEST_LENGTH <= length <= _FURTHEST_LENGTH:
            return f"the length of the features, {length:.3g}, is out of what logits can be computed of"
        return (features / length).astype(np.float16)[None], np.array([length], np.float32)

    def save_head(self, folder: Path) -> None:
        """Copy the head into the folder of a store."""
        write_bytes(folder / HEAD_FILE_NAME, self._head_path.read_bytes())


def _n_features(head_path: Path) -> int:
    try:
        head = load_file(head_path)
        weight, bias = head["weight"], head["bias"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"{head_path}: not a head with weight and bias ({error}); extract-features writes one"
        ) from error
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InputError(
            f"{head_path}: expected weight (n_classes, n_features) and bias (n_classes,), found {weight.shape} "
            f"and {bias.shape}"
        )
    return int(weight.shape[1])
