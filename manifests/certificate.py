"""Statistics of an audit: how large a blind sample has to be, and what share of defects it leaves possible.

All of it is exact. A design is a walk: images are audited one by one, each is a defect with probability p, and at
each look the walk stops if few enough defects are found. Every probability is a sum over the paths of that walk,
so a design that may stop early keeps its confidence by construction and not by an approximation.

The walk draws with replacement. A sample drawn without it, from a set of N images, varies less: there the bounds
are a little too high, and for shares up to one half never too low, as the tests count exactly. (For sets that are
nearly all defects and confidences below 95 % they can be.) `finite_bound` is exact for a sample of fixed size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from manifests.errors import InputError

_BISECTIONS = 200
_MOST_IMAGES = 1 << 22


@dataclass(frozen=True)
class Look:
    """One look at the sample: after `n_images` images, at most `max_defects` of them certify the set."""

    n_images: int
    max_defects: int


@dataclass(frozen=True)
class Design:
    """When an audit stops, and what it may then say.

    A set with a share of defects above `bound` is certified with at most the probability 1 - `confidence`.

    Attributes
    ----------
    bound, confidence : float
        In (0, 1).
    looks : tuple of Look
        By size, each with more images and more defects than the one before. With one look, the size is fixed.
    """

    bound: float
    confidence: float
    looks: tuple[Look, ...]

    def has_ended(self, place: int, n_defects: int) -> bool:
        """Return whether no look after the one at `place` is needed: it is the last, it certifies, or none can."""
        is_last = place == len(self.looks) - 1
        return is_last or n_defects <= self.looks[place].max_defects or n_defects > self.looks[-1].max_defects

    def is_certified(self, place: int, n_defects: int) -> bool:
        """Return whether a walk that stands at the look at `place` with so many defects certifies the set."""
        return n_defects <= self.looks[place].max_defects

    def upper_bound(self, place: int, n_defects: int) -> float:
        """Return the one-sided upper confidence bound of the share of defects, of a walk that has ended.

        It is the share p at which an end as good as this or a better one has the probability 1 - `confidence`.
        An end is better the sooner it certifies, then the later it fails, then the fewer defects it has (stagewise
        ordering; Jennison & Turnbull 2000, Group Sequential Methods, section 12.4). With one look this is the
        bound of Clopper & Pearson (1934, Biometrika 26). With several it is never below theirs: for an end that
        hardly any share makes likely, the ordering alone would claim less than what was found. So the coverage is
        at least the confidence, and an end is certified exactly where its bound is `bound` or less.

        Raises
        ------
        ValueError
            The walk has not ended there.
        """
        if not (0 <= n_defects <= self.looks[place].n_images and self.has_ended(place, n_defects)):
            raise ValueError(f"a walk does not end at look {place + 1} with {n_defects} defects: {self.looks}")
        if n_defects == self.looks[place].n_images:
            return 1.0
        error = 1 - self.confidence
        of_fixed_size = Design(self.bound, self.confidence, (self.looks[place],))
        return max(
            _share_at(lambda p: self._as_good(place, n_defects, p), error),
            _share_at(lambda p: of_fixed_size._as_good(0, n_defects, p), error),
        )

    def any_time_bound(self, n_hits: int, n_images: int) -> float:
        """Return an upper bound for whatever else was counted along the way, on the sample or a part of it.

        Each look may err by its equal part of 1 - `confidence` (Bonferroni), so the bound holds whatever made the
        walk stop at one of them. With one look it is that of Clopper & Pearson.
        """
        error = (1 - self.confidence) / len(self.looks)
        return Design(self.bound, 1 - error, (Look(n_images, 0),)).upper_bound(0, n_hits)

    def outlook(self, p: float) -> tuple[float, float]:
        """Return the expected number of images audited and the probability to certify, at a true share `p`."""
        n_expected = certified = 0.0
        walk = _Walk(p)
        for place, look in enumerate(self.looks):
            n_expected += walk.mass * (look.n_images - walk.n_images)
            at_look = walk.advanced(look.n_images, self.looks[-1].max_defects)
            certified += sum(at_look[: look.max_defects + 1])
            walk.keep({k: share for k, share in enumerate(at_look) if not self.has_ended(place, k)})
        return n_expected, certified

    def _as_good(self, place: int, n_defects: int, p: float) -> float:
        """Return the probability of an end as good as this one or better."""
        better = worse = 0.0
        walk = _Walk(p)
        for earlier, look in enumerate(self.looks[:place]):
            mass = walk.mass
            at_look = walk.advanced(look.n_images, self.looks[-1].max_defects)
            better += sum(at_look[: look.max_defects + 1])
            worse += mass - sum(at_look)
            walk.keep({k: share for k, share in enumerate(at_look) if not self.has_ended(earlier, k)})
        mass = walk.mass
        here = sum(walk.advanced(self.looks[place].n_images, n_defects))
        is_failed_early = place < len(self.looks) - 1 and not self.is_certified(place, n_defects)
        return 1 - worse - (mass - here) if is_failed_early else better + here


class _Walk:
    """Walks that have not stopped, by their number of defects, where each image is a defect with probability p."""

    def __init__(self, p: float) -> None:
        self._p = p
        self._going = {0: 1.0}
        self.n_images = 0

    @property
    def mass(self) -> float:
        """The probability of not having stopped."""
        return math.fsum(self._going.values())

    def advanced(self, n_images: int, most: int) -> list[float]:
        """Return the probabilities of 0 to `most` defects after `n_images` images; go there."""
        step = [_binomial(k, n_images - self.n_images, self._p) for k in range(most + 1)]
        self.n_images = n_images
        going = [(k, share) for k, share in self._going.items() if share]
        return [math.fsum(share * step[n - k] for k, share in going if k <= n) for n in range(most + 1)]

    def keep(self, going: dict[int, float]) -> None:
        """Go on with these walks alone: number of defects to probability."""
        self._going = going


def sequential_design(bound: float, confidence: float, max_defects: int, n_looks: int) -> Design:
    """Return a design that certifies a clean set after fewer images than one of a fixed size would.

    From look to look the defects allowed rise evenly from 0 to `max_defects`. Of the error 1 - `confidence` the
    first look may spend one half, the next a quarter, and so on, the last what is left; each is as small as its
    spending lets it be. Halves beat equal parts where few images are defects, which is when a certificate is
    wanted: for 2 defects in 3 looks at 1 % and 95 %, a set without any stops after 368 images instead of 408 (628
    at a fixed size), and the most is 701 instead of 672.

    Parameters
    ----------
    bound : float
        Largest share of defects to certify, in (0, 1).
    confidence : float
        In [0.5, 1).
    max_defects : int
        Allowed at the last look; at least `n_looks` - 1, as a look that allows no more than the one before cannot
        certify anything.
    n_looks : int
        1 or more.

    Raises
    ------
    InputError
        A number is out of range.
    """
    if not (0 < bound < 1 and 0.5 <= confidence < 1):
        raise InputError(
            "audit: expected a bound between 0 and 1 and a confidence from 0.5 to below 1, found "
            f"{bound:g} and {confidence:g}; write 1 % as 0.01"
        )
    if n_looks < 1 or max_defects < n_looks - 1:
        raise InputError(
            f"audit: {n_looks} looks need at least {max(n_looks - 1, 0)} defects allowed at the last, as each "
            f"allows more than the one before; found --max-defects {max_defects}"
        )
    looks: list[Look] = []
    walk, spent = _Walk(bound), 0.0
    for place in range(n_looks):
        allowed = max_defects * place // (n_looks - 1) if n_looks > 1 else max_defects
        share_spent = 1.0 if place == n_looks - 1 else 1 - 0.5 ** (place + 1)
        limit = (1 - confidence) * share_spent - spent
        n_images = _smallest_look(walk, allowed, limit)
        at_look = walk.advanced(n_images, max_defects)
        spent += sum(at_look[: allowed + 1])
        walk.keep({k: share for k, share in enumerate(at_look) if k > allowed})
        looks.append(Look(n_images, allowed))
    return Design(bound, confidence, tuple(looks))


def finite_bound(n_defects: int, n_sample: int, n_population: int, confidence: float) -> int:
    """Return the most defects that a set of `n_population` images can have, at one-sided `confidence`.

    It is the largest number M for which a simple random sample of `n_sample` without replacement has `n_defects`
    or fewer with a probability above 1 - `confidence` (hypergeometric distribution). Of a set that was audited
    whole, it is what was found.
    """
    low, high = n_defects, n_population - n_sample + n_defects
    while low < high:
        middle = (low + high + 1) // 2
        if _hypergeometric_cdf(n_defects, n_sample, middle, n_population) > 1 - confidence:
            low = middle
        else:
            high = middle - 1
    return low


def _smallest_look(walk: _Walk, allowed: int, limit: float) -> int:
    """Return the fewest images after which at most the share `limit` of the walks has no more than `allowed`."""

    def is_enough(n_images: int) -> bool:
        ahead = walk.n_images
        probability = sum(walk.advanced(n_images, allowed))
        walk.n_images = ahead
        return probability <= limit

    low, high = walk.n_images, walk.n_images + 1
    while not is_enough(high):
        if high > _MOST_IMAGES:
            raise InputError(
                f"audit: this bound and confidence need a sample of more than {_MOST_IMAGES:,} images"
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _share_at(probability: Callable[[float], float], wanted: float) -> float:
    """Return the share at which a probability that falls with it is `wanted`, rounded up."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if probability(middle) > wanted else (low, middle)
    return high


def _binomial(k: int, n: int, p: float) -> float:
    if k > n:
        return 0.0
    if p in (0.0, 1.0):
        return float(k == (n if p else 0))
    return math.exp(_log_choose(n, k) + k * math.log(p) + (n - k) * math.log1p(-p))


def _hypergeometric_cdf(k: int, n_sample: int, n_defects: int, n_population: int) -> float:
    whole = _log_choose(n_population, n_sample)
    least = max(0, n_sample - (n_population - n_defects))
    return math.fsum(
        math.exp(_log_choose(n_defects, one) + _log_choose(n_population - n_defects, n_sample - one) - whole)
        for one in range(least, min(k, n_defects) + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
