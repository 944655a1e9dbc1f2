"""Exact quantiles of all entries of the training features, in two readings and constant memory.

Radix selection: float32 values order as their bits do. The first reading counts them by their upper 16 bits, which
tells in which such bin the wanted rank lies; the second counts the lower 16 bits of that bin alone, which tells
the value.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from manifests.errors import InputError
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch

_N_BINS = 1 << 16


@dataclass(frozen=True)
class UpperHalves(Statistic):
    """Number of entries by their upper 16 bits, ascending as floats, int64, (65536,), on the CPU."""

    def begin(self, training: Training) -> "UpperMeasurement":
        """Return a measurement of nothing yet."""
        return UpperMeasurement()


class UpperMeasurement(Measurement):
    """Counts by upper half."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_N_BINS, dtype=torch.int64)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        upper = (_bits(batch.outputs.features) >> 16).add_(_N_BINS // 2)
        self._counts += torch.bincount(upper.flatten(), minlength=_N_BINS).cpu()

    def result(self) -> torch.Tensor:
        """Return the counts."""
        negative, positive = self._counts.split(_N_BINS // 2)
        return torch.cat([negative.flip(0), positive])


@dataclass(frozen=True)
class FeatureQuantile(Statistic):
    """The `share` quantile of all entries of all training features, as a float.

    Interpolated linearly between the two nearest ranks, as NumPy's default.

    Raises
    ------
    InputError
        `share` is not in [0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"quantile of the features: expected a share from 0 to 1, found {self.share}")

    @property
    def depends_on(self) -> tuple[Statistic, ...]:
        """The counts by upper half."""
        return (UpperHalves(),)

    def begin(self, training: Training) -> "QuantileMeasurement":
        """Return a measurement of the bins in which the two ranks lie."""
        return QuantileMeasurement(training[UpperHalves()], self.share)


class QuantileMeasurement(Measurement):
    """Counts by lower half in one or two bins."""

    def __init__(self, upper_counts: torch.Tensor, share: float) -> None:
        position = share * (int(upper_counts.sum()) - 1)
        self._weight = position - math.floor(position)
        self._ranks = (math.floor(position), math.ceil(position))
        self._n_up_to = upper_counts.cumsum(0)  # (65536,)
        self._bins = [int(torch.searchsorted(self._n_up_to, rank, right=True)) for rank in self._ranks]
        self._counts = {number: torch.zeros(_N_BINS, dtype=torch.int64) for number in self._bins}

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        bits = _bits(batch.outputs.features)
        for number, counts in self._counts.items():
            lower = bits[(bits >> 16) == _upper_bits(number)] & (_N_BINS - 1)
            counts += torch.bincount(lower, minlength=_N_BINS).cpu()

    def result(self) -> float:
        """Return the quantile."""
        below, above = (self._value(rank, number) for rank, number in zip(self._ranks, self._bins, strict=True))
        return below + self._weight * (above - below)

    def _value(self, rank: int, number: int) -> float:
        counts = self._counts[number].flip(0) if number < _N_BINS // 2 else self._counts[number]
        n_before = int(self._n_up_to[number - 1]) if number else 0
        lower = int(torch.searchsorted(counts.cumsum(0), rank - n_before, right=True))
        if number < _N_BINS // 2:
            lower = _N_BINS - 1 - lower
        return float_of_halves(_upper_bits(number), lower)


def _bits(features: torch.Tensor) -> torch.Tensor:
    return features.contiguous().view(torch.int32)


def _upper_bits(number: int) -> int:
    """Return the upper 16 bits, as a signed number, of the floats in one bin; bins ascend as floats do.

    Positive floats order as their bits do, negative ones the other way round.
    """
    return number - _N_BINS // 2 if number >= _N_BINS // 2 else -number - 1


def float_of_halves(upper: int, lower: int) -> float:
    """Return the float32 of its upper 16 bits, a signed number, and its lower 16."""
    return float(np.array((upper << 16) | lower, dtype=np.int32).view(np.float32))
