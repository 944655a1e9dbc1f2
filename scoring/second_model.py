"""Two models of the same images: the sets of one, with what a method of two models takes of the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from manifests.errors import FeatureError
from scoring.feature_sets import FeatureBatch, FeatureSet, open_feature_set
from scoring.heads import Head, read_head
from scoring.lineage import lineage_of, model_name_of


@dataclass(frozen=True, eq=False)
class PairedFeatureSet(FeatureSet):
    """A set of the first model whose batches carry the norms of the second model's features.

    Attributes
    ----------
    second_norm : Tensor
        float64, (n_images,), in the order of the set: 8 bytes an image are all that is kept of the second set.
    """

    second_norm: torch.Tensor

    def __iter__(self) -> Iterator[FeatureBatch]:
        first = 0
        for batch in super().__iter__():
            after = first + len(batch.image_ids)
            yield replace(batch, second_norm=self.second_norm[first:after])
            first = after


def paired(first: FeatureSet, second: FeatureSet) -> PairedFeatureSet:
    """Return `first` with the norms of the features in `second`, joined by image id whatever the two orders.

    Raises
    ------
    FeatureError
        The two do not hold the same images, or the same class of one where both know it; or as reading a set.
    """
    row_in_second = _rows(first, second)
    _check_classes(first, second, second.class_index().take(row_in_second))
    norms = [torch.linalg.vector_norm(batch.features, dim=1, dtype=torch.float64) for batch in second]
    second_norm = torch.cat(norms)[torch.from_numpy(row_in_second.to_numpy().copy())]
    return PairedFeatureSet(first.path, first.n_features, first.image_ids, first.chunk_rows, second_norm)


def _rows(first: FeatureSet, second: FeatureSet) -> pa.Array:
    """Return the row in `second` of each image of `first`."""
    first_ids, second_ids = first.image_ids.combine_chunks(), second.image_ids.combine_chunks()
    row_in_second = pc.index_in(first_ids, value_set=second_ids)
    only_first = first_ids.filter(row_in_second.is_null())
    only_second = second_ids.filter(pc.invert(pc.is_in(second_ids, value_set=first_ids)))
    if len(only_first) or len(only_second):
        told = [
            f"{len(images)} only in {one.path} ({images[0].as_py()} among them)"
            for one, images in ((first, only_first), (second, only_second))
            if len(images)
        ]
        raise FeatureError(f"the two models do not have the same images of {first.name}: {', '.join(told)}")
    return row_in_second


def _check_classes(first: FeatureSet, second: FeatureSet, second_classes: pa.ChunkedArray) -> None:
    first_classes = first.class_index()
    differs = pc.fill_null(pc.not_equal(first_classes, second_classes), False)
    if pc.any(differs).as_py():
        row = pc.index(differs, True).as_py()
        raise FeatureError(
            f"image {first.image_ids[row].as_py()} is of class {first_classes[row].as_py()} in {first.path} and "
            f"of class {second_classes[row].as_py()} in {second.path}: not of the same classes"
        )


@dataclass(frozen=True, eq=False)
class SecondModel:
    """A folder of features of the second model; made by `read_second_model`.

    Attributes
    ----------
    features_dir : Path
        Where its sets are.
    head : Head
        Of the second model, on the CPU.
    model : mapping
        What tells the model, as `scoring.lineage.lineage_of` gives it.
    warnings : tuple of str
        That the two are one model or stand in the wrong order, which their figures do not tell.
    """

    features_dir: Path
    head: Head
    model: Mapping[str, Any]
    warnings: tuple[str, ...]

    def paired(self, first: FeatureSet, chunk_rows: int | None = None) -> PairedFeatureSet:
        """Return a set of the first model with what the second says of its images; raises as `paired`."""
        return paired(first, open_feature_set(self.features_dir, first.name, self.head, chunk_rows))


def read_second_model(
    features_dir: Path,
    first_dir: Path,
    first_head: Head,
    first_lineage: Mapping[str, Any],
    set_names: Sequence[str],
) -> SecondModel:
    """Return the second model after checking that its sets can stand beside those of the first, in `first_dir`.

    Raises
    ------
    FeatureError
        Its head is missing, damaged or of another number of classes; its sets are of another manifest, or of
        pictures that ODIN moved.
    """
    head = read_head(features_dir)
    if head.n_classes != first_head.n_classes:
        raise FeatureError(
            f"{features_dir}: the second model has {head.n_classes} classes, the first {first_head.n_classes}: "
            f"not of the same classes"
        )
    lineage = lineage_of(features_dir, head, set_names)
    if lineage["model"]["odin"] is not None:
        raise FeatureError(f"{features_dir}: holds features of pictures that ODIN moved; score those as they are")
    for name in set_names:
        one, other = first_lineage["manifests"][name], lineage["manifests"][name]
        if one and other and one != other:
            raise FeatureError(
                f"{features_dir}: {name} is of manifest {other['name']}, of the first model it is of {one['name']}"
            )
    names = model_name_of(first_dir, set_names), model_name_of(features_dir, set_names)
    is_same = first_lineage["model"] == lineage["model"]
    return SecondModel(features_dir, head, lineage["model"], _doubts(*names, is_same=is_same))


def _doubts(first: str | None, second: str | None, *, is_same: bool) -> tuple[str, ...]:
    """Return what the names that `train-dml` gives, the loss and the network, tell against a pair."""
    if is_same or (first is not None and first == second):
        told = "" if first is None else f", {first}"
        return (f"dml_plus is of one model twice{told}: --features is to be of MCF, --second-features of MNC",)
    if _loss(first) == "mnc" or _loss(second) == "mcf":
        return (
            f"dml_plus takes MCF as the first model and MNC as the second; here they are {first or 'unnamed'} and "
            f"{second or 'unnamed'}: swap --features and --second-features",
        )
    return ()


def _loss(name: str | None) -> str:
    return (name or "").partition(" ")[0]
