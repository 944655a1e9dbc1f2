"""Scoring feature sets: every set is read once for all methods."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from manifests.durable import replacing
from manifests.errors import FeatureError
from manifests.stage_progress import ProgressBar
from scoring.feature_sets import FeatureBatch, FeatureSet
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs

ScoresOfSet: TypeAlias = dict[str, NDArray[np.float64]]


class MethodFailedError(FeatureError):
    """A method cannot score an image; `method` is its name and `reason` says why."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(f"{method}: {reason}")
        self.method = method
        self.reason = reason


@dataclass(frozen=True)
class ScoredSets:
    """What scoring gave.

    Attributes
    ----------
    scores : mapping of set to ScoresOfSet
        Each method's array in the order of the set's images.
    failed : mapping of method name to str
        The reason, for those that cannot score an image; they have no scores of any set.
    """

    scores: Mapping[str, ScoresOfSet]
    failed: Mapping[str, str]


def score_sets(
    sets: Sequence[FeatureSet],
    head: Head,
    scorers: Mapping[str, Scorer],
    required: Collection[str] | None = None,
) -> ScoredSets:
    """Return the scores of all images of `sets`, each of which is read once.

    Parameters
    ----------
    sets : sequence of FeatureSet
        What to score.
    head : Head
        Of the classifier.
    scorers : mapping of str to Scorer
        Fitted methods by name.
    required : collection of str, optional
        Methods that have to score all images; the others go on without one that cannot. All by default.

    Raises
    ------
    FeatureError
        A set cannot be read.
    MethodFailedError
        A required method, or the last one left, refuses an image or gives it a score that is NaN or infinite.
    """
    going = dict(scorers)
    failed: dict[str, str] = {}
    collected: dict[str, ScoresOfSet] = {}
    n_images = sum(feature_set.n_images for feature_set in sets)
    with ProgressBar(n_images, "score") as progress:
        for feature_set in sets:
            # One array a method, not one a chunk: small arrays that stay would settle in the holes that large ones
            # leave, where those then find no room (1 GB more at 2,048 features).
            of_set = {name: np.empty(feature_set.n_images) for name in going}
            n_scored = 0
            for batches in _blocks(feature_set, max((one.prefers_rows for one in going.values()), default=1)):
                n_block = sum(len(batch.image_ids) for batch in batches)
                scores, reasons = _block_scores(feature_set.path, batches, head, going)
                for name, reason in reasons.items():
                    del going[name]
                    failed[name] = reason
                    if not going or required is None or name in required:
                        raise MethodFailedError(name, reason)
                for name, values in scores.items():
                    of_set[name][n_scored : n_scored + n_block] = values
                n_scored += n_block
                progress.update(n_block)
            collected[feature_set.name] = of_set
    scores_of_going = {name: {method: of_set[method] for method in going} for name, of_set in collected.items()}
    return ScoredSets(scores_of_going, failed)


def write_score_table(path: Path, sets: Sequence[FeatureSet], scores: Mapping[str, ScoresOfSet]) -> None:
    """Write the scores of `sets` to one Parquet file, which appears whole or not at all.

    Columns: image_id, set, and one float64 ``ood_score`` a method, by its name.
    """
    schema = pa.schema(
        [pa.field("image_id", pa.string(), nullable=False), pa.field("set", pa.string(), nullable=False)]
        + [pa.field(name, pa.float64(), nullable=False) for name in scores[sets[0].name]]
    )
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        for feature_set in sets:
            of_set = scores[feature_set.name]
            set_column = pa.repeat(feature_set.name, feature_set.n_images)
            columns = [feature_set.image_ids.cast(pa.string()), set_column, *map(pa.array, of_set.values())]
            file.write_table(pa.Table.from_arrays(columns, schema=schema))


def _block_scores(
    path: Path, batches: Sequence[FeatureBatch], head: Head, scorers: Mapping[str, Scorer]
) -> tuple[ScoresOfSet, dict[str, str]]:
    """Return the scores of consecutive images by method, float64 (n,), and why other methods have none.

    A method that reads the training images again for every call (KNN) is called with many chunks at once.
    """
    bulky = {name: scorer for name, scorer in scorers.items() if scorer.prefers_rows}
    light = {name: scorer for name, scorer in scorers.items() if name not in bulky}
    reasons: dict[str, str] = {}
    parts = [_scores(light, batch.outputs(head), reasons) for batch in batches]
    scores = {name: torch.cat([part[name] for part in parts]).numpy() for name in light if name not in reasons}
    if bulky:
        # Of one model, all of them.
        features = torch.cat([batch.features for batch in batches])
        together = _scores(bulky, Outputs(head, features.to(head.device)), reasons)
        scores |= {name: values.numpy() for name, values in together.items()}
    for name, values in scores.items():
        is_finite = np.isfinite(values)
        if not is_finite.all():
            image_ids = pa.concat_arrays([batch.image_ids for batch in batches])
            image_id = image_ids[int(is_finite.argmin())].as_py()
            reasons[name] = f"gives image {image_id} of {path} no finite score"
    return {name: values for name, values in scores.items() if name not in reasons}, reasons


def _blocks(feature_set: FeatureSet, block_rows: int) -> Iterator[list[FeatureBatch]]:
    waiting: list[FeatureBatch] = []
    for batch in feature_set:
        waiting.append(batch)
        if sum(len(one.image_ids) for one in waiting) >= block_rows:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _scores(scorers: Mapping[str, Scorer], outputs: Outputs, reasons: dict[str, str]) -> dict[str, torch.Tensor]:
    """Return the scores of the methods that have some; `reasons` takes in why the others have none."""
    scores = {}
    for name, scorer in scorers.items():
        if name in reasons:
            continue
        try:
            scores[name] = scorer.ood_score(outputs).cpu()
        except FeatureError as error:
            reasons[name] = str(error)
    return scores
