"""Exact intervals of a share that was counted on a sample."""

import math
from dataclasses import asdict, dataclass
from typing import Any

_BISECTIONS = 200
_MOST_TERMS = 10_000
_TINY = 1e-300


@dataclass(frozen=True)
class Share:
    """`n_hits` of `n_all`, with an interval that holds the true share with at least the stated confidence.

    Attributes
    ----------
    n_hits, n_all : int
        What was counted.
    low, high : float
        Clopper-Pearson bounds, inclusive; 0 and 1 where nothing was counted.
    """

    n_hits: int
    n_all: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, NaN of none."""
        return self.n_hits / self.n_all if self.n_all else math.nan

    @property
    def brief(self) -> str:
        """It in a cell of a table; of none, a dash."""
        return f"{self.value:.1%} of {self.n_all:,}" if self.n_all else "-"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, with the share itself."""
        return {**asdict(self), "value": self.value}

    def __str__(self) -> str:
        counted = f"{self.n_hits:,} of {self.n_all:,}"
        if not self.n_all:
            return counted
        return f"{counted} = {self.value:.2%} (95 % interval {self.low:.2%} to {self.high:.2%})"


def counted_share(n_hits: int, n_all: int, confidence: float = 0.95) -> Share:
    """Return a share with its two-sided Clopper-Pearson interval.

    The bounds are the quantiles alpha / 2 of Beta(k, n - k + 1) and 1 - alpha / 2 of Beta(k + 1, n - k)
    (Clopper & Pearson 1934, Biometrika 26).

    Raises
    ------
    ValueError
        `n_hits` is not between 0 and `n_all`.
    """
    if not 0 <= n_hits <= n_all:
        raise ValueError(f"expected 0 <= n_hits <= n_all, found {n_hits} and {n_all}")
    tail = (1 - confidence) / 2
    low = _beta_quantile(tail, n_hits, n_all - n_hits + 1) if n_hits else 0.0
    high = _beta_quantile(1 - tail, n_hits + 1, n_all - n_hits) if n_hits < n_all else 1.0
    return Share(n_hits, n_all, low, high)


def _beta_quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        # The fraction converges fast only on this side of the mean.
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = (
        a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a + 1) - math.lgamma(b)
    )  # fmt: skip
    fraction, upper, lower = 1.0, 1.0, 0.0
    for term in range(_MOST_TERMS):
        half = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            numerator = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1 / (1 + numerator * lower or _TINY)
        upper = 1 + numerator / upper or _TINY
        fraction *= lower * upper
        if abs(lower * upper - 1) < 1e-15:
            break
    return math.exp(log_front) * (fraction - 1)
