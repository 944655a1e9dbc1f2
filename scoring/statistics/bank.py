"""A share of the training images, and the bank that NNGuide makes of one: features scaled by their energy."""

from dataclasses import dataclass
from fractions import Fraction

import torch

from manifests.errors import FeatureError, InputError
from scoring.outputs import Outputs
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch

ROW_RULES = ("spaced", "first")

_LARGEST_BANK_BYTES = 1 << 30
"""A quarter of the 4 GiB in which 1.28 million images of 2,048 features are to be scored; there 10 % of them."""

_OPENOOD_BATCH_ROWS = 200
"""OpenOOD's evaluator reads batches of so many images, and its bank ends with one."""

_LARGEST_DENOMINATOR = 1_000_000
"""Shares are taken to a millionth: 0.01 is one row in a hundred, though no float is 0.01."""


def check_share(share: float, owner: str) -> None:
    """Raise InputError where `share` is not a share of the training images, above 0 and at most 1."""
    if not 0 < share <= 1:
        raise InputError(f"{owner}: expected a share of the training images above 0 and at most 1, found {share}")


def rows_in_share(n_images: int, share: float) -> int:
    """Return floor(n_images share): how many of so many rows are in an evenly spaced share of them."""
    exact = Fraction(share).limit_denominator(_LARGEST_DENOMINATOR)
    return n_images * exact.numerator // exact.denominator


def spaced_rows(first_row: int, n_rows: int, share: float) -> torch.Tensor:
    """Return which rows from `first_row` on are in an evenly spaced share of all rows: int64, less `first_row`.

    The number of a row tells whether it is, so that it takes no knowledge of how many there are in all.
    """
    exact = Fraction(share).limit_denominator(_LARGEST_DENOMINATOR)
    ends = torch.arange(first_row, first_row + n_rows + 1) * exact.numerator // exact.denominator  # (n_rows + 1,)
    return (ends[1:] > ends[:-1]).nonzero().flatten()


@dataclass(frozen=True)
class ImageCount(Statistic):
    """Number of training images."""

    def begin(self, training: Training) -> "CountMeasurement":
        """Return a measurement of nothing yet."""
        return CountMeasurement()


class CountMeasurement(Measurement):
    """A count."""

    def __init__(self) -> None:
        self._n_images = 0

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._n_images += len(batch.outputs)

    def result(self) -> int:
        """Return the count."""
        return self._n_images


@dataclass(frozen=True)
class GuideBank(Statistic):
    """x / norm(x) log sum_c exp(l_c) of a share of the training images, float32, (n_rows, n_features).

    Attributes
    ----------
    share : float
        Above 0 and at most 1.
    rows : {"spaced", "first"}
        Evenly spaced rows; or the first ones, as many whole batches of 200 as hold more than the share: OpenOOD's.

    Raises
    ------
    InputError
        `share` or `rows` is none of these.
    """

    share: float
    rows: str = "spaced"

    def __post_init__(self) -> None:
        check_share(self.share, "bank of training images")
        if self.rows not in ROW_RULES:
            raise InputError(
                f"bank of training images: expected rows to be one of {', '.join(ROW_RULES)}, found {self.rows!r}"
            )

    @property
    def depends_on(self) -> tuple[Statistic, ...]:
        """For the first rows, how many images there are in all."""
        return (ImageCount(),) if self.rows == "first" else ()

    def begin(self, training: Training) -> "BankMeasurement":
        """Return a measurement of nothing yet."""
        n_first = None
        if self.rows == "first":
            n_batches = rows_in_share(training[ImageCount()], self.share) // _OPENOOD_BATCH_ROWS + 1
            n_first = n_batches * _OPENOOD_BATCH_ROWS
        return BankMeasurement(training.head.n_features, training.head.device, share=self.share, n_first=n_first)


class BankMeasurement(Measurement):
    """Rows of the bank; `n_first` of them from the start, or evenly spaced ones."""

    def __init__(self, n_features: int, device: torch.device, *, share: float, n_first: int | None) -> None:
        self._share = share
        self._n_first = n_first
        # Doubled when full: a small tensor kept of each batch would settle in the holes that large ones leave,
        # where those then find no room.
        self._room = torch.empty(1024, n_features, device=device)
        self._n_rows = 0
        self._n_left = _LARGEST_BANK_BYTES // (4 * n_features)

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images; raises FeatureError where the bank grows beyond its limit."""
        n_images = len(batch.outputs)
        if self._n_first is None:
            chosen = spaced_rows(batch.first_row, n_images, self._share)
        else:
            chosen = torch.arange(min(max(self._n_first - batch.first_row, 0), n_images))
        self._n_left -= len(chosen)
        if self._n_left < 0:
            raise FeatureError(
                f"a bank of {self._share:g} of the training images takes more than "
                f"{_LARGEST_BANK_BYTES >> 20} MiB; give a smaller share"
            )
        outputs = Outputs(batch.outputs.head, batch.outputs.features[chosen.to(batch.outputs.features.device)])
        scaled = outputs.unit_features.double() * outputs.log_sum_exp[:, None]
        while self._n_rows + len(scaled) > len(self._room):
            self._room = torch.cat([self._room, torch.empty_like(self._room)])
        self._room[self._n_rows : self._n_rows + len(scaled)] = scaled
        self._n_rows += len(scaled)

    def result(self) -> torch.Tensor:
        """Return the bank."""
        return self._room[: self._n_rows].clone()
