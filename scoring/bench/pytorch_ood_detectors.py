"""pytorch-ood's detectors beside ours: fit and scores on the same tensors in memory, features in and scores out.

Options are set to ours where they differ. Its detectors need no network here: those on logits get a head's product
that is timed with them, as ours make it too.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from manifests.devices import seconds_now
from manifests.errors import one_line
from scoring.bench.alone import N_TIMED
from scoring.bench.machine import available_memory_bytes
from scoring.bench.sets import BenchSets, in_memory
from scoring.bench.subset import PeerCost, timed_scores
from scoring.feature_sets import FeatureBatch
from scoring.methods.fitting import fit_methods
from scoring.methods.table import Method
from scoring.outputs import Outputs
from scoring.statistics.bank import spaced_rows
from scoring.statistics.gather import Training

_MANY_IMAGES, _FEW_IMAGES = 4096, 64
_SHARE_OF_NNGUIDE = 0.01
_LARGEST_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Everything in memory, on the device.

    Attributes
    ----------
    sets : BenchSets
        Where it is from.
    train, classes : Tensor
        Training features, float32 (n, n_features), and class indices, int64 (n,).
    features : Tensor
        The first images that are scored.
    """

    sets: BenchSets
    train: torch.Tensor
    classes: torch.Tensor
    features: torch.Tensor

    @classmethod
    def of(cls, sets: BenchSets) -> "_Tensors":
        train, classes = in_memory(sets.train)
        device = sets.head.device
        features = sets.first_scored(N_TIMED).to(device)
        return cls(sets, train.to(device), torch.from_numpy(classes).to(device), features)

    @cached_property
    def head(self) -> torch.nn.Linear:
        """The head as a layer."""
        head = self.sets.head
        layer = torch.nn.Linear(head.n_features, head.n_classes, device=head.device)
        layer.load_state_dict({"weight": head.weight, "bias": head.bias})
        return layer

    def head_of_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the logits of feature maps (n, n_features, 1, 1)."""
        return self.head(maps.flatten(start_dim=1))

    def batches(self) -> list[FeatureBatch]:
        """Return the training images as a feature set yields them."""
        n_rows = self.sets.train.chunk_rows
        parts = zip(self.train.split(n_rows), self.classes.cpu().split(n_rows), strict=True)
        return [
            FeatureBatch(pa.nulls(len(rows), pa.string()), pa.array(classes.numpy().astype(np.int32)), rows)
            for rows, classes in parts
        ]


@dataclass(frozen=True)
class _Detector:
    """One detector.

    Attributes
    ----------
    name : str
        Its class.
    build : callable
        Takes the class, the tensors and keywords, returns it unfitted.
    score : callable
        Takes it, the tensors, and features; returns scores, higher = more OOD.
    fit : callable, optional
        Takes it and the tensors.
    options : mapping of str to str
        Its keywords, and the options of our method that they are given.
    batch_rows : int
        Images in one call of `score`.
    bytes_of_fit : callable
        Memory that fitting takes at once.
    """

    name: str
    build: Callable[..., Any]
    score: Callable[[Any, _Tensors, torch.Tensor], torch.Tensor]
    fit: Callable[[Any, _Tensors], Any] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    batch_rows: int = _MANY_IMAGES
    bytes_of_fit: Callable[[_Tensors], int] = lambda tensors: 5 * 4 * tensors.train.numel()


def installed_version() -> str | None:
    """Return the version of pytorch-ood, or None where it is not installed."""
    return version("pytorch-ood") if importlib.util.find_spec("pytorch_ood") else None


def time_detectors(sets: BenchSets, methods: tuple[Method, ...]) -> tuple[PeerCost, ...]:
    """Return what pytorch-ood's detectors cost beside ours, for each of `methods` that both have."""
    tensors = _Tensors.of(sets)
    return tuple(
        _cost(tensors, method, _DETECTORS[method.name]) for method in methods if method.name in _DETECTORS
    )


def _cost(tensors: _Tensors, method: Method, detector: _Detector) -> PeerCost:
    ours = _time_ours(tensors, method)
    n_scored = tensors.sets.n_scored
    cost = PeerCost(method.name, f"pytorch-ood {detector.name}", None, 0.0, 0, n_scored, ours.seconds, None)
    needed = detector.bytes_of_fit(tensors)
    if needed > _LARGEST_SHARE_OF_MEMORY * available_memory_bytes():
        return replace(cost, note=f"left out: takes {needed / 2**30:.0f} GiB")
    try:
        with torch.no_grad():
            return _time_theirs(tensors, detector, cost, ours)
    except Exception as error:  # noqa: BLE001 - another library's code: whatever it raises is a line of the table
        return replace(cost, note=f"failed: {type(error).__name__}: {one_line(error, most_chars=120)}")


@dataclass(frozen=True, eq=False)
class _Ours:
    """Seconds of our fit and all scores, extrapolated, the scores, and the options; no scores where refused."""

    seconds: float | None
    scores: NDArray[np.float64] | None
    options: Mapping[str, Any]


def _time_ours(tensors: _Tensors, method: Method) -> _Ours:
    sets, device = tensors.sets, tensors.sets.head.device
    batches = tensors.batches()
    started = seconds_now(device)
    fitted = fit_methods([method], Training(sets.head, batches, group_of=sets.group_of))
    fit_s = seconds_now(device) - started
    options = fitted.options[method.name]
    if method.name in fitted.refused:
        return _Ours(None, None, options)
    scorer = fitted.scorers[method.name]
    timed = timed_scores(
        lambda rows: scorer.ood_score(Outputs(sets.head, tensors.features[rows])),
        len(tensors.features),
        scorer.prefers_rows or sets.train.chunk_rows,
        device,
        budget_s=math.inf,
    )
    return _Ours(fit_s + timed.seconds / len(timed.scores) * sets.n_scored, timed.scores, options)


def _time_theirs(tensors: _Tensors, detector: _Detector, cost: PeerCost, ours: _Ours) -> PeerCost:
    device = tensors.sets.head.device
    keywords = {theirs: ours.options[our_option] for theirs, our_option in detector.options.items()}
    detector_class = getattr(importlib.import_module("pytorch_ood.detector"), detector.name)
    built = detector.build(detector_class, tensors, **keywords)
    fit_s = None
    if detector.fit is not None:
        started = seconds_now(device)
        detector.fit(built, tensors)
        fit_s = seconds_now(device) - started
    timed = timed_scores(
        lambda rows: detector.score(built, tensors, tensors.features[rows]),
        len(tensors.features),
        detector.batch_rows,
        device,
    )
    n_timed = len(timed.scores)
    agreement = None if ours.scores is None else rank_correlation(timed.scores, ours.scores[:n_timed])
    return replace(cost, fit_s=fit_s, score_s=timed.seconds, n_timed=n_timed, agreement=agreement)


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the correlation of the ranks of two scores of the same images; equal scores rank as they come."""
    first, second = (
        scores.argsort(kind="stable").argsort().astype(np.float64) for scores in (one, other)
    )  # fmt: skip
    return float(np.corrcoef(first, second)[0, 1])


def _on_logits(name: str, *, is_fitted: bool = False, **options: str) -> _Detector:
    def fit(detector: Any, tensors: _Tensors) -> Any:
        return detector.fit_logits(tensors.head(tensors.train), tensors.classes)

    return _Detector(
        name,
        build=lambda detector, tensors, **keywords: detector(None, **keywords),
        score=lambda detector, tensors, features: detector.predict_logits(tensors.head(features)),
        fit=fit if is_fitted else None,
        options=options,
    )


def _on_features(name: str, *, batch_rows: int = _MANY_IMAGES, **options: str) -> _Detector:
    return _Detector(
        name,
        build=lambda detector, tensors, **keywords: detector(None, **keywords),
        score=lambda detector, tensors, features: detector.predict_features(features),
        fit=lambda detector, tensors: detector.fit_features(tensors.train, tensors.classes),
        options=options,
        batch_rows=batch_rows,
    )


def _with_head(detector: Any, tensors: _Tensors, **keywords: Any) -> Any:
    return detector(None, tensors.head, **keywords)


def _with_weights(detector: Any, tensors: _Tensors, **keywords: Any) -> Any:
    return detector(None, w=tensors.sets.head.weight, b=tensors.sets.head.bias, **keywords)


def _on_maps(name: str, *, is_fitted: bool = False, variant: str | None = None, **options: str) -> _Detector:
    def fit(detector: Any, tensors: _Tensors) -> Any:
        return detector.fit_feature_maps(tensors.train[:, :, None, None], tensors.classes)

    constants = {} if variant is None else {"variant": variant}
    return _Detector(
        name,
        build=lambda detector, tensors, **keywords: detector(None, tensors.head_of_maps, **constants, **keywords),
        score=lambda detector, tensors, features: detector.predict_feature_maps(features[:, :, None, None]),
        fit=fit if is_fitted else None,
        options=options,
    )


def _fit_nnguide(detector: Any, tensors: _Tensors) -> Any:
    rows = spaced_rows(0, len(tensors.train), _SHARE_OF_NNGUIDE)
    return detector.fit_features(tensors.train[rows], tensors.classes[rows])


# By the name of our method. ODIN and others that move the picture have no place here.
_DETECTORS: Mapping[str, _Detector] = {
    "msp": _on_logits("MaxSoftmax"),
    "max_logit": _on_logits("MaxLogit"),
    "energy": _on_logits("EnergyBased"),
    "gen": _on_logits("GEN", gamma="gamma", M="top"),
    "kl_matching": _on_logits("KLMatching", is_fitted=True),
    "gradnorm": _Detector(
        "GradNorm",
        build=lambda detector, tensors: detector(tensors.head, param_filter=lambda name: name == "weight"),
        score=lambda detector, tensors, features: detector.predict(features),
        batch_rows=_FEW_IMAGES,
    ),
    "mahalanobis": _on_features("Mahalanobis", batch_rows=_FEW_IMAGES),
    "rmds": _on_features("RMD", batch_rows=_FEW_IMAGES),
    "knn": _on_features("KNN", batch_rows=_FEW_IMAGES, k="k"),
    "vim": replace(
        _on_features("ViM"),
        build=lambda detector, tensors: _with_weights(detector, tensors, d=tensors.sets.job.D),
    ),
    "dice": replace(_on_features("DICE", batch_rows=_FEW_IMAGES, p="sparsity"), build=_with_weights),
    "she": replace(_on_features("SHE"), build=_with_head),
    "nnguide": replace(_on_features("NNGuide", k="k"), build=_with_head, fit=_fit_nnguide),
    "nci": replace(_on_features("NCI", alpha="alpha"), build=_with_head),
    "fdbd": replace(
        _on_features("fDBD"),
        build=_with_head,
        # All differences of two rows of W at once, and their squares.
        bytes_of_fit=lambda tensors: 2 * 4 * tensors.sets.job.C**2 * tensors.sets.job.N,
    ),
    "react": _on_maps("ReAct", is_fitted=True, percentile="quantile"),
    "vra": _on_maps("VRA", is_fitted=True, lower_percentile="low_quantile", upper_percentile="high_quantile"),
    "ash_p": _on_maps("ASH", variant="ash-p", percentile="quantile"),
    "ash_b": _on_maps("ASH", variant="ash-b", percentile="quantile"),
    "ash_s": _on_maps("ASH", variant="ash-s", percentile="quantile"),
    "scale": _on_maps("SCALE", percentile="quantile"),
}
