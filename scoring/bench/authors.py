"""The ViM authors' formulations of `peers`, timed on the images that ours are timed on, and their scores compared.

The authors' code computes the logits and the softmax of everything before its first method; ours shares them too.
What is compared is what a method adds to a run that has both. Scores are those of as many images as a few seconds
allow, fits those of all training images, where there is memory for the copies that the authors' code makes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manifests.devices import seconds_now
from scoring.bench import peers
from scoring.bench.alone import Alone, Cost
from scoring.bench.machine import available_memory_bytes
from scoring.bench.peers import Array
from scoring.bench.sets import BenchSets, in_memory
from scoring.bench.subset import PeerCost, timed_scores
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.moments import SecondMoment
from scoring.statistics.templates import SoftmaxByPrediction

_PEER = "ViM authors"
_CPU = torch.device("cpu")
_QUANTILE_OF_REACT = 0.99
_FEW_IMAGES, _MANY_IMAGES = 20, 4096
"""In one call of the methods that go image by image, and of those that take arrays."""


@dataclass(frozen=True, eq=False)
class _Arrays:
    """All training images and those scored for the clock in memory, as the authors' code has them."""

    sets: BenchSets
    alone: Alone

    @cached_property
    def weight(self) -> Array:
        return self.sets.head.weight.cpu().numpy()

    @cached_property
    def bias(self) -> Array:
        return self.sets.head.bias.cpu().numpy()

    @cached_property
    def train_and_classes(self) -> tuple[Array, NDArray[np.int64]]:
        features, classes = in_memory(self.sets.train)
        return features.numpy(), classes

    @property
    def train(self) -> Array:
        return self.train_and_classes[0]

    @cached_property
    def train_logits(self) -> Array:
        return self.logits_of(self.train)

    @property
    def features(self) -> Array:
        return self.alone.timed_features.numpy()

    @cached_property
    def logits(self) -> Array:
        return self.logits_of(self.features)

    @cached_property
    def probabilities(self) -> Array:
        return peers.softmax_of(self.logits)

    @property
    def train_probabilities(self) -> Array:
        return peers.softmax_of(self.train_logits)

    @cached_property
    def has_room(self) -> bool:
        """Whether the fits leave a third of the memory; the largest is Mahalanobis, with its float64 copies."""
        job = self.sets.job
        return available_memory_bytes() > 1.5 * (4 * job.K * (7 * job.N + 2 * job.C))

    def logits_of(self, features: Array) -> Array:
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class _Formulation:
    """One method of the authors.

    Attributes
    ----------
    score : callable
        Takes the arrays, what `fit` returned, and a slice of images; returns scores.
    fit : callable, optional
        Takes the arrays and what `given` returned.
    given : callable, optional
        What the authors' code has before the method begins; not timed.
    fit_of_ours : callable, optional
        What stands for the result of `fit` where there is no room for it.
    batch_rows : int
        Images in one call of `score`.
    """

    score: Callable[[_Arrays, Any, slice], Array]
    fit: Callable[[_Arrays, Any], Any] | None = None
    given: Callable[[_Arrays], Any] = lambda arrays: None
    fit_of_ours: Callable[[_Arrays], Any] | None = None
    batch_rows: int = _MANY_IMAGES


def time_authors(sets: BenchSets, alone: Alone) -> tuple[PeerCost, ...]:
    """Return what the authors' formulations cost, of each method that `alone` holds and of shared work."""
    arrays = _Arrays(sets, alone)
    ours = {cost.name: cost for cost in (*alone.shared, *alone.costs) if cost.refused is None}
    return tuple(_cost(arrays, one, ours[name]) for name, one in _FORMULATIONS.items() if name in ours)


def _cost(arrays: _Arrays, formulation: _Formulation, ours: Cost) -> PeerCost:
    fitted, fit_s, ours_s, note = None, None, ours.total_s, ""
    if formulation.fit is not None and arrays.has_room:
        given = formulation.given(arrays)
        started = seconds_now(_CPU)
        fitted = formulation.fit(arrays, given)
        fit_s = seconds_now(_CPU) - started
        del given
    elif formulation.fit is not None:
        if formulation.fit_of_ours is None:
            note = "left out: too little memory for the fit"
            return PeerCost(ours.name, _PEER, None, 0.0, 0, ours.n_scored, ours.total_s, None, note)
        fitted = formulation.fit_of_ours(arrays)
        ours_s -= ours.statistics_s + ours.fit_s
        note = "scores alone: too little memory for the fit"
    timed = timed_scores(
        lambda rows: formulation.score(arrays, fitted, rows), len(arrays.features), formulation.batch_rows, _CPU
    )
    our_scores = arrays.alone.scores.get(ours.name)
    return PeerCost(
        method=ours.name,
        peer=_PEER,
        fit_s=fit_s,
        score_s=timed.seconds,
        n_timed=len(timed.scores),
        n_scored=ours.n_scored,
        ours_s=ours_s,
        agreement=None if our_scores is None else largest_difference(timed.scores, our_scores.numpy()),
        note=note,
    )


def largest_difference(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    """Return max |theirs - ours| over the images that both scored, in standard deviations of ours."""
    same = ours[: len(theirs)]
    return float(np.abs(theirs - same).max() / same.std())


def _mahalanobis_of_ours(arrays: _Arrays) -> tuple[Array, Array]:
    training = arrays.alone.trainings["mahalanobis"]
    by_class, moments = training[MeansByClass()], training[SecondMoment()]
    covariance = (moments.scatter - by_class.between) / moments.n_images
    precision = torch.linalg.pinv(covariance, hermitian=True)
    return by_class.means.float().cpu().numpy(), precision.float().cpu().numpy()


def _templates_of_ours(arrays: _Arrays) -> Array:
    known = arrays.alone.trainings["kl_matching"][SoftmaxByPrediction()]
    return (known.sums / known.counts[:, None]).float().cpu().numpy()


def _residual_fit(arrays: _Arrays, logits: Array) -> peers.ResidualFit:
    return peers.ResidualFit.of(arrays.train, logits, arrays.weight, arrays.bias, arrays.sets.job.D)


_FORMULATIONS: Mapping[str, _Formulation] = {
    "head product": _Formulation(
        lambda arrays, fitted, rows: arrays.logits_of(arrays.features[rows]),
        fit=lambda arrays, train: arrays.logits_of(train),
        given=lambda arrays: arrays.train,
    ),
    "softmax": _Formulation(
        lambda arrays, fitted, rows: peers.softmax_of(arrays.logits[rows]),
        fit=lambda arrays, logits: peers.softmax_of(logits),
        given=lambda arrays: arrays.train_logits,
    ),
    "msp": _Formulation(lambda arrays, fitted, rows: 1 - arrays.probabilities[rows].max(axis=-1)),
    "max_logit": _Formulation(lambda arrays, fitted, rows: -arrays.logits[rows].max(axis=-1)),
    "energy": _Formulation(lambda arrays, fitted, rows: peers.energy(arrays.logits[rows])),
    "react": _Formulation(
        lambda arrays, clip, rows: peers.react(arrays.features[rows], clip, arrays.weight, arrays.bias),
        fit=lambda arrays, train: float(np.quantile(train, _QUANTILE_OF_REACT)),
        given=lambda arrays: arrays.train,
    ),
    "vim": _Formulation(
        lambda arrays, fitted, rows: fitted.vim(arrays.features[rows], arrays.logits[rows]),
        fit=_residual_fit,
        given=lambda arrays: arrays.train_logits,
    ),
    "residual": _Formulation(
        lambda arrays, fitted, rows: fitted.residual(arrays.features[rows]),
        fit=_residual_fit,
        given=lambda arrays: arrays.train_logits,
    ),
    "gradnorm": _Formulation(
        lambda arrays, fitted, rows: peers.gradnorm_by_backward(
            arrays.features[rows], arrays.weight, arrays.bias, arrays.sets.head.device
        ),
        batch_rows=_FEW_IMAGES,
    ),
    "mahalanobis": _Formulation(
        lambda arrays, fitted, rows: peers.mahalanobis_by_image(
            arrays.features[rows], fitted[0], fitted[1], arrays.sets.head.device
        ),
        fit=lambda arrays, given: peers.mahalanobis_fit(given[0], given[1], arrays.sets.head.n_classes),
        given=lambda arrays: arrays.train_and_classes,
        fit_of_ours=_mahalanobis_of_ours,
        batch_rows=_FEW_IMAGES,
    ),
    "kl_matching": _Formulation(
        lambda arrays, templates, rows: peers.kl_matching_by_pair(arrays.probabilities[rows], templates),
        fit=lambda arrays, probabilities: peers.kl_matching_fit(probabilities),
        given=lambda arrays: arrays.train_probabilities,
        fit_of_ours=_templates_of_ours,
        batch_rows=_FEW_IMAGES,
    ),
}
"""By the name of our method, or of shared work."""
