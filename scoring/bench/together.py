"""The paper's nine methods at once, from Parquet to metrics: what the stage `score` does, with a clock."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import torch

from manifests.allocator import keep_freed_memory
from manifests.devices import seconds_now
from scoring.bench.machine import peak_memory_mb
from scoring.bench.sets import BenchSets
from scoring.evaluate import score_sets, write_score_table
from scoring.feature_sets import FeatureBatch, FeatureSet
from scoring.figures import figures_of
from scoring.methods.fitting import fit_methods
from scoring.methods.table import methods_named
from scoring.statistics.gather import Training

PAPER_METHODS = (
    "msp", "max_logit", "energy", "react", "vim", "residual", "gradnorm", "mahalanobis", "kl_matching",
)  # fmt: skip
"""Those of the ViM repository's `benchmark.py`."""

N_DRAWS = 1000
"""Bootstrap draws of `score`'s intervals."""


@dataclass(frozen=True)
class Reading:
    """One reading of a set.

    Attributes
    ----------
    seconds : float
        From the first row to the last, what was computed of the rows included.
    waited_s : float
        Of that, how long the computation waited for rows.
    """

    seconds: float
    waited_s: float


@dataclass(frozen=True)
class TogetherCost:
    """What several methods at once cost.

    Attributes
    ----------
    methods : tuple of str
        Those that were fitted.
    refused : dict of str to str
        The reason, for those that were not.
    fit_readings : tuple of Reading
        Of the training set.
    solving_s : float
        The rest of fitting: decompositions and the like.
    scoring : Reading
        Of all scored sets, writing the scores included.
    metrics_s : float
        Five metrics of each method on each OOD set.
    intervals_s : float
        The same with bootstrap intervals; not in `total_s`.
    total_s : float
        From opening the folder to the metrics; not the imports.
    peak_mb, imports_mb : float
        Most resident memory of the process, 10^6 bytes: up to the metrics, and before anything but imports.
    peak_device_mb : float, optional
        Most memory of tensors on a GPU.
    auroc : dict of str to dict of str to float
        By method and OOD set.
    """

    methods: tuple[str, ...]
    refused: dict[str, str]
    fit_readings: tuple[Reading, ...]
    solving_s: float
    scoring: Reading
    metrics_s: float
    intervals_s: float
    total_s: float
    peak_mb: float
    imports_mb: float
    peak_device_mb: float | None
    auroc: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class _TimedSet(FeatureSet):
    """A feature set that notes how long each reading of it took."""

    device: torch.device
    readings: list[Reading] = field(default_factory=list)

    @classmethod
    def of(cls, feature_set: FeatureSet, device: torch.device) -> Self:
        known = {one.name: getattr(feature_set, one.name) for one in fields(FeatureSet)}
        return cls(**known, device=device)

    def __iter__(self) -> Iterator[FeatureBatch]:
        started, waited_s = seconds_now(self.device), 0.0
        batches = super().__iter__()
        while True:
            # Unsynchronised: a GPU goes on computing while rows are waited for.
            asked = seconds_now(torch.device("cpu"))
            batch = next(batches, None)
            waited_s += seconds_now(torch.device("cpu")) - asked
            if batch is None:
                break
            yield batch
        self.readings.append(Reading(seconds_now(self.device) - started, waited_s))


def time_together(features_dir: Path, methods: tuple[str, ...], device: torch.device) -> TogetherCost:
    """Return what `methods` cost together. To be called in a fresh process, as memory once taken stays taken."""
    imports_mb = peak_memory_mb()
    keep_freed_memory()
    started = seconds_now(device)
    sets = BenchSets.open(features_dir, device)
    train = _TimedSet.of(sets.train, device)
    scored = [_TimedSet.of(one, device) for one in sets.scored]
    training = Training(sets.head, train, group_of=sets.group_of)
    fitted = fit_methods(methods_named(methods), training)
    is_fitted = seconds_now(device)
    with tempfile.TemporaryDirectory() as folder:
        scores = score_sets(scored, sets.head, fitted.scorers).scores
        write_score_table(Path(folder) / "scores.parquet", scored, scores)
    is_scored = seconds_now(device)
    in_set, *ood_sets = (one.name for one in scored)
    out_scores = {name: scores[name] for name in ood_sets}
    figures = figures_of(scores[in_set], out_scores)
    is_measured = seconds_now(device)
    peak_mb = peak_memory_mb()
    figures_of(scores[in_set], out_scores, n_draws=N_DRAWS)
    return TogetherCost(
        methods=tuple(fitted.scorers),
        refused=dict(fitted.refused),
        fit_readings=tuple(train.readings),
        solving_s=is_fitted - started - sum(reading.seconds for reading in train.readings),
        scoring=Reading(is_scored - is_fitted, sum(one.readings[0].waited_s for one in scored)),
        metrics_s=is_measured - is_scored,
        intervals_s=seconds_now(device) - is_measured,
        total_s=is_measured - started,
        peak_mb=peak_mb,
        imports_mb=imports_mb,
        peak_device_mb=torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None,
        auroc={
            method: {name: figures.metrics[method, name].auroc for name in ood_sets} for method in fitted.scorers
        },
    )
