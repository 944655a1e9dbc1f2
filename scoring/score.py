"""The stage `score`: a folder of features in, scores of every image and figures of every method out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from manifests.devices import device_name
from manifests.durable import replacing, write_text
from manifests.errors import FeatureError, InputError
from scoring.feature_sets import CHUNK_ROWS, FeatureBatch, FeatureSet, open_feature_set
from scoring.heads import Head, read_head
from scoring.methods.contract import Scorer, Training
from scoring.methods.table import METHOD_NAMES, Method, methods_named
from scoring.methods.vim import ViM
from scoring.metrics import METRIC_NAMES, Metrics, measure

SCORES_FILE_NAME = "scores.parquet"
RESULTS_FILE_NAME = "results.csv"

ScoresOfSet: TypeAlias = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ScoreResult:
    """What `score` found.

    Attributes
    ----------
    methods : tuple of Method
        In the order of the table of methods.
    ood_sets : tuple of str
        In the order given.
    figures : dict of (method name, OOD set) to Metrics
        Fractions.
    n_images : dict of str to int
        Images of each set that was read, ``train`` included where a method needed it.
    dim, alpha : int and float, optional
        D of the principal space and alpha of ViM, where they were fitted.
    warnings : tuple of str
        What a reader of the figures has to know, one sentence each.
    scores_path, results_path : Path
        The files written.
    """

    methods: tuple[Method, ...]
    ood_sets: tuple[str, ...]
    figures: Mapping[tuple[str, str], Metrics]
    n_images: Mapping[str, int]
    dim: int | None
    alpha: float | None
    warnings: tuple[str, ...]
    scores_path: Path
    results_path: Path


def score(
    features_dir: Path,
    *,
    ood_sets: Sequence[str],
    out_dir: Path,
    train: str | None = "train",
    val: str = "val",
    methods: Sequence[str] = METHOD_NAMES,
    dim_rule: str = "repo",
    dim: int | None = None,
    device: str = "auto",
    chunk_rows: int = CHUNK_ROWS,
) -> ScoreResult:
    """Return the figures of each method on each OOD set, after writing ``scores.parquet`` and ``results.csv``.

    Parameters
    ----------
    features_dir : Path
        Holds ``head.safetensors`` and one Parquet file a set, whoever made them.
    ood_sets : sequence of str
        Names of the OOD sets, at least one.
    out_dir : Path
        Where the two files go; each is written in one step.
    train, val : str
        Names of the ID sets: the one that methods are fitted on, read only where one needs it (None where none
        does), and the one that is scored.
    methods : sequence of str
        Names out of the table of methods.
    dim_rule, dim : str and int, optional
        D of the principal space: a rule by name, or D itself.
    device : {"auto", "cpu", "cuda"}
        Where to compute.
    chunk_rows : int
        Images read at a time.

    Raises
    ------
    InputError
        A method, rule, device or set name is unknown or given twice; no OOD set; a method needs `train`.
    FeatureError
        A set or the head is missing or damaged or they do not fit each other; an OOD set shares images with an ID
        set; a method cannot be fitted; a score is not finite.
    """
    place = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    chosen = methods_named(methods)
    train = _train_if_needed(train, chosen)
    _check_set_names(train, val, ood_sets)
    head = read_head(features_dir)
    names = dict.fromkeys([*([train] if train else []), val, *ood_sets])
    sets = {name: open_feature_set(features_dir, name, head, chunk_rows) for name in names}
    _check_out_is_not_in(sets, [train, val] if train else [val], ood_sets)

    head = head.to(place)
    training = Training(head, sets[train] if train else (), dim_rule, dim)
    scorers = {method.name: method.fit(training) for method in chosen}
    scores_path = out_dir / SCORES_FILE_NAME
    scores = _write_scores(scores_path, [sets[name] for name in (val, *ood_sets)], head, scorers)
    figures = {
        (method.name, ood_set): measure(scores[val][method.name], scores[ood_set][method.name])
        for method in chosen
        for ood_set in ood_sets
    }
    results_path = out_dir / RESULTS_FILE_NAME
    write_text(results_path, _results_csv(figures))

    warnings = _trained_on_val(sets[train], sets[val]) if train else []
    warnings += [warning for scorer in scorers.values() for warning in scorer.warnings]
    vim = scorers.get("vim")
    return ScoreResult(
        methods=chosen,
        ood_sets=tuple(ood_sets),
        figures=figures,
        n_images={name: feature_set.n_images for name, feature_set in sets.items()},
        dim=training.principal_space.dim if train else None,
        alpha=vim.alpha if isinstance(vim, ViM) else None,
        warnings=tuple(dict.fromkeys(warnings)),
        scores_path=scores_path,
        results_path=results_path,
    )


def score_batches(
    feature_set: FeatureSet, head: Head, scorers: Mapping[str, Scorer]
) -> Iterator[tuple[FeatureBatch, ScoresOfSet]]:
    """Yield each batch of `feature_set` with its scores by method, float64 (n,), higher = more OOD.

    Raises
    ------
    FeatureError
        A score is NaN or infinite; the message names method and image.
    """
    for batch in feature_set:
        features = batch.features.to(head.device)
        logits = head.logits(features)
        scores = {name: scorer.ood_score(features, logits).cpu().numpy() for name, scorer in scorers.items()}
        for name, values in scores.items():
            if not np.isfinite(values).all():
                image_id = batch.image_ids[int(np.isfinite(values).argmin())].as_py()
                raise FeatureError(f"{feature_set.path}: method {name} gives image {image_id} no finite score")
        yield batch, scores


def _train_if_needed(train: str | None, methods: Sequence[Method]) -> str | None:
    needing = [method.name for method in methods if method.needs_train]
    if needing and train is None:
        raise InputError(
            f"{', '.join(needing)}: fitted on training features; name a training set, or leave them out"
        )
    return train if needing else None


def _check_set_names(train: str | None, val: str, ood_sets: Sequence[str]) -> None:
    if not ood_sets:
        raise InputError("score: name at least one OOD set")
    if len({val, *ood_sets}) < 1 + len(ood_sets) or train in ood_sets:
        given = ", ".join(filter(None, (train, val, *ood_sets)))
        raise InputError(f"score: an OOD set is named twice, or is an ID set too: {given}")


def _check_out_is_not_in(sets: Mapping[str, FeatureSet], id_sets: Sequence[str], ood_sets: Sequence[str]) -> None:
    for ood_set in ood_sets:
        for id_set in id_sets:
            if shared := _n_shared(sets[ood_set], sets[id_set]):
                raise FeatureError(
                    f"{sets[ood_set].path}: {shared} of its {sets[ood_set].n_images} images are in the ID set "
                    f"{id_set} too; an image is either in distribution or out of it"
                )


def _trained_on_val(train: FeatureSet, val: FeatureSet) -> list[str]:
    shared = _n_shared(val, train)
    if not shared:
        return []
    return [
        f"{shared} of the {val.n_images} images of {val.name} are in {train.name} too, "
        f"which flatters the methods that are fitted on it"
    ]


def _n_shared(one: FeatureSet, other: FeatureSet) -> int:
    return pc.sum(pc.is_in(one.image_ids, value_set=other.image_ids.combine_chunks())).as_py()


def _write_scores(
    path: Path, sets: Sequence[FeatureSet], head: Head, scorers: Mapping[str, Scorer]
) -> dict[str, ScoresOfSet]:
    """Write the scores of all images of `sets` as they come, and return them by set and method."""
    schema = pa.schema(
        [pa.field("image_id", pa.string(), nullable=False), pa.field("set", pa.string(), nullable=False)]
        + [pa.field(name, pa.float64(), nullable=False) for name in scorers]
    )
    collected: dict[str, ScoresOfSet] = {}
    n_images = sum(feature_set.n_images for feature_set in sets)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as file,
        tqdm(total=n_images, desc="score", unit="image", disable=None) as progress,
    ):
        for feature_set in sets:
            parts = []
            for batch, scores in score_batches(feature_set, head, scorers):
                set_column = pa.array([feature_set.name] * len(batch.image_ids))
                columns = [batch.image_ids, set_column, *(pa.array(values) for values in scores.values())]
                file.write_table(pa.Table.from_arrays(columns, schema=schema))
                parts.append(scores)
                progress.update(len(batch.image_ids))
            collected[feature_set.name] = {
                name: np.concatenate([part[name] for part in parts]) for name in scorers
            }
    return collected


def _results_csv(figures: Mapping[tuple[str, str], Metrics]) -> str:
    """Return one line a method and set, fractions at full precision."""
    rows = [
        {"method": method, "set": ood_set, **asdict(metrics)} for (method, ood_set), metrics in figures.items()
    ]
    table = pd.DataFrame(rows, columns=["method", "set", *METRIC_NAMES])
    return table.to_csv(index=False, lineterminator="\n")
