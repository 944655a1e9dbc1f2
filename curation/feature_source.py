"""A classifier's features and head as `scoring` wrote them, read as image embeddings and class prototypes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from manifests.durable import sha256_of_file
from manifests.errors import InputError
from manifests.schema import features_schema
from manifests.workspace import read_parquet


def read_head_rows(features_dir: Path) -> npt.NDArray[np.float32]:
    """Return a head's rows made unit, (n_classes, n_features): the classifier's class prototypes."""
    path = features_dir / "head.safetensors"
    try:
        weight = load_file(path)["weight"].astype(np.float32)
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: not a head with a weight ({error}); extract-features writes one") from error
    if weight.ndim != 2 or not np.isfinite(weight).all():
        raise InputError(f"{path}: expected a finite weight (n_classes, n_features), found shape {weight.shape}")
    norms = np.linalg.norm(weight, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"{path}: class {int(np.argmin(norms))} has a zero weight row, so no direction")
    rows: npt.NDArray[np.float32] = weight / norms
    return rows


@dataclass(frozen=True)
class FeatureSource:
    """One feature set by image id; `digest` is that of head and features, so that no two sets are mixed."""

    digest: str
    n_features: int
    _features: dict[str, npt.NDArray[np.float32]]

    @classmethod
    def read(cls, features_dir: Path, feature_set: str) -> "FeatureSource":
        """Return the set ``<features_dir>/<feature_set>.parquet`` with its head's digest."""
        path = features_dir / f"{feature_set}.parquet"
        if not path.is_file():
            raise InputError(f"{path} is not there: run 'extract-features --set {feature_set}' first")
        n_features = read_head_rows(features_dir).shape[1]
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
        files = (features_dir / "head.safetensors", path)
        digest = hashlib.sha256(" ".join(sha256_of_file(file) for file in files).encode()).hexdigest()[:16]
        return cls(digest, n_features, dict(zip(image_ids, values, strict=True)))

    def unit_features(self, image_id: str) -> npt.NDArray[np.float16] | None:
        """Return an image's features at unit length, or None where the set lacks them or they are all zero."""
        features = self._features.get(image_id)
        norm = 0.0 if features is None else float(np.linalg.norm(features))
        return None if features is None or not norm else (features / norm).astype(np.float16)
