"""Each method by itself: its statistics, its fit and its scores, with what methods share computed before, apart.

A statistic that two methods ask for is measured once and stands in the bill of both, as either would pay it alone.
Only the head's product, the softmax and the norms, which most methods take from `Outputs`, are billed apart: those
of the scored images and of the first reading of the training images. What a statistic of a later reading takes
from `Outputs`, it pays for.
"""

import contextlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from tqdm import tqdm

from manifests.devices import seconds_now
from manifests.errors import FeatureError
from scoring.bench.sets import BenchSets
from scoring.methods.contract import Scorer
from scoring.methods.table import Method
from scoring.outputs import Outputs
from scoring.statistics.gather import UNKNOWN_CLASS, Measurement, Statistic, Training, TrainingBatch

N_TIMED = 16_384
"""Images that are scored for the clock."""

SHARED = {
    "head product": ("logits",),
    "softmax": ("top_logit", "log_sum_exp", "other_probability", "probabilities"),
    "norms": ("feature_norm", "unit_features"),
}
"""Shared work by name, and the attributes of `Outputs` that it stands for."""


@dataclass(frozen=True)
class Cost:
    """What one method, or one piece of shared work, costs.

    Attributes
    ----------
    name : str
        Of the method, or a key of `SHARED`.
    statistics_s : float
        Measuring its statistics on the training images; for shared work, its part of the first reading.
    fit_s : float
        All of fitting that looks at no image.
    score_s : float
        Scoring `n_timed` images.
    n_timed, n_scored : int
        How many were scored for the clock, and how many there are to score.
    refused : str, optional
        Why it cannot be fitted or scored.
    """

    name: str
    statistics_s: float
    fit_s: float
    score_s: float
    n_timed: int
    n_scored: int
    refused: str | None = None

    @property
    def total_s(self) -> float:
        """Statistics, fit, and the scores of all images, extrapolated from those timed."""
        return self.statistics_s + self.fit_s + self.score_s * self.n_scored / self.n_timed


@dataclass(frozen=True, eq=False)
class Alone:
    """Methods fitted one by one, and their bills.

    Attributes
    ----------
    costs, shared : tuple of Cost
        Of the methods, in the order given, and of `SHARED`.
    trainings : mapping of method to Training
        Each method's own.
    scores : mapping of method to Tensor
        Of `timed_features`, float64, (n_timed,), on the CPU.
    timed_features : Tensor
        The first images scored, float32, (n_timed, n_features), on the CPU.
    """

    costs: tuple[Cost, ...]
    shared: tuple[Cost, ...]
    trainings: Mapping[str, Training]
    scores: Mapping[str, torch.Tensor]
    timed_features: torch.Tensor


class _Bills:
    """Seconds by part and owner, and the methods that gave up."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[tuple[str, Hashable], float] = defaultdict(float)
        self.refused: dict[str, str] = {}

    @contextlib.contextmanager
    def billed(self, part: str, owner: Hashable, methods: Iterable[str] = ()) -> Iterator[None]:
        """Time a block. A FeatureError in it ends the block and refuses the `methods` that it is done for."""
        started = seconds_now(self._device)
        try:
            yield
        except FeatureError as error:
            for method in methods:
                self.refused.setdefault(method, str(error))
        self._seconds[part, owner] += seconds_now(self._device) - started

    def seconds(self, part: str, owner: Hashable) -> float:
        """Return the sum for one part and owner."""
        return self._seconds.get((part, owner), 0.0)


def time_alone(sets: BenchSets, methods: Sequence[Method]) -> Alone:
    """Return what each of `methods` costs by itself, on all training images and the first images scored."""
    bills = _Bills(sets.head.device)
    trainings = {method.name: Training(sets.head, sets.train, group_of=sets.group_of) for method in methods}
    needs: dict[str, tuple[Statistic, ...]] = {}
    for method in methods:
        with bills.billed("fit", method.name, [method.name]):
            needs[method.name] = tuple(dict.fromkeys(_with_dependencies(method.scorer.needs(sets.head))))
    _measure(sets, trainings, needs, bills)
    scorers: dict[str, Scorer] = {}
    for method in methods:
        if method.name not in bills.refused:
            with bills.billed("fit", method.name, [method.name]):
                scorers[method.name] = method.scorer.fit(trainings[method.name])
    timed_features = sets.first_scored(N_TIMED)
    scores = _score(sets, scorers, timed_features, bills)

    def cost(name: str, statistics_s: float) -> Cost:
        fit_s, score_s = bills.seconds("fit", name), bills.seconds("score", name)
        n_timed = len(timed_features)
        return Cost(name, statistics_s, fit_s, score_s, n_timed, sets.n_scored, bills.refused.get(name))

    measured_s = {
        name: sum(bills.seconds("statistic", statistic) for statistic in statistics)
        for name, statistics in needs.items()
    }
    return Alone(
        costs=tuple(cost(method.name, measured_s.get(method.name, 0.0)) for method in methods),
        shared=tuple(cost(name, bills.seconds("training", name)) for name in SHARED),
        trainings=trainings,
        scores=scores,
        timed_features=timed_features,
    )


def _with_dependencies(statistics: Iterable[Statistic]) -> Iterator[Statistic]:
    for statistic in statistics:
        yield from _with_dependencies(statistic.depends_on)
        yield statistic


def _measure(
    sets: BenchSets,
    trainings: Mapping[str, Training],
    needs: Mapping[str, Sequence[Statistic]],
    bills: _Bills,
) -> None:
    """Measure all statistics in as few readings as they allow, and tell each method's own training of its."""
    waiting = {statistic for statistics in needs.values() for statistic in statistics}
    known: set[Statistic] = set()
    while waiting:
        ready = {statistic for statistic in waiting if known.issuperset(statistic.depends_on)}
        owners = {statistic: [name for name in needs if statistic in needs[name]] for statistic in ready}
        begun: dict[Statistic, Measurement] = {}
        for statistic in ready:
            for name in owners[statistic]:
                # Whoever begins solves for what the statistic rests on, and has it then: a part of the fit.
                if name not in bills.refused:
                    with bills.billed("fit", name, [name]):
                        begun[statistic] = statistic.begin(trainings[name])
        for batch in _batches(sets, bills, has_shared=not known):
            for statistic, measurement in begun.items():
                with bills.billed("statistic", statistic, owners[statistic]):
                    measurement.add(TrainingBatch(_alone(batch.outputs), batch.class_index, batch.first_row))
        for statistic, measurement in begun.items():
            with bills.billed("statistic", statistic, owners[statistic]):
                _tell(measurement.result(), statistic, [trainings[name] for name in owners[statistic]])
        known |= ready
        waiting -= ready


def _tell(result: object, statistic: Statistic, trainings: Iterable[Training]) -> None:
    for training in trainings:
        training.derived(statistic, lambda: result)


def _batches(sets: BenchSets, bills: _Bills, *, has_shared: bool) -> Iterator[TrainingBatch]:
    """Yield the training images, with what methods share computed and billed where it is to be."""
    first_row = 0
    with tqdm(total=sets.train.n_images, desc="time statistics", unit="image", disable=None) as progress:
        for batch in sets.train:
            outputs = Outputs(sets.head, batch.features.to(sets.head.device))
            if has_shared:
                _compute_shared(outputs, bills, "training")
            classes = torch.tensor(batch.class_index.fill_null(UNKNOWN_CLASS).to_pylist(), dtype=torch.int64)
            yield TrainingBatch(outputs, classes.to(sets.head.device), first_row)
            first_row += len(outputs)
            progress.update(len(outputs))


def _score(
    sets: BenchSets, scorers: Mapping[str, Scorer], features: torch.Tensor, bills: _Bills
) -> dict[str, torch.Tensor]:
    """Return the scores of `features` by method, each timed, but for what the first calls set up."""
    light = {name: scorer for name, scorer in scorers.items() if not scorer.prefers_rows}
    chunks = features.split(sets.train.chunk_rows)
    _score_rows(sets, light, chunks[0], bills, part="warming up")
    parts = [_score_rows(sets, light, rows, bills, part="score") for rows in chunks]
    scores = {name: torch.cat([part[name] for part in parts]) for name in light if name not in bills.refused}
    bulky = {name: scorer for name, scorer in scorers.items() if name not in light}
    return scores | _score_rows(sets, bulky, features, bills, part="score", bills_shared=False)


def _score_rows(
    sets: BenchSets,
    scorers: Mapping[str, Scorer],
    rows: torch.Tensor,
    bills: _Bills,
    *,
    part: str,
    bills_shared: bool = True,
) -> dict[str, torch.Tensor]:
    outputs = Outputs(sets.head, rows.to(sets.head.device))
    _compute_shared(outputs, bills, part if bills_shared else "not billed")
    scores = {}
    for name, scorer in scorers.items():
        if name not in bills.refused:
            with bills.billed(part, name, [name]):
                scores[name] = scorer.ood_score(_alone(outputs)).cpu()
    return scores


def _compute_shared(outputs: Outputs, bills: _Bills, part: str) -> None:
    for name, attributes in SHARED.items():
        with bills.billed(part, name):
            for attribute in attributes:
                getattr(outputs, attribute)


def _alone(outputs: Outputs) -> Outputs:
    """Return the same images with the shared work done, and without what methods remembered for others."""
    fresh = Outputs(outputs.head, outputs.features)
    own = {one.name for one in fields(Outputs)}
    # Where a frozen object's cached properties keep what they computed.
    vars(fresh).update({name: value for name, value in vars(outputs).items() if name not in own})
    return fresh
