"""What ID images hidden in an OOD set do to its figures, and which rows to leave out where they are known.

Take a detector that puts every truly OOD image above every ID image, and cannot tell a hidden ID image from any
other ID image. On an OOD set of which the share ``rate`` is really ID, and with many images, it gets:

- AUROC: pairs with a truly OOD image, a share ``1 - rate``, are all won; of those with a hidden ID image half are
  won. Together ``(1 - rate) + rate / 2 = 1 - rate / 2``.
- `fpr95_in`: what keeps 95 % of ID images keeps 95 % of the hidden ones too, and no other image of the set. The
  share ``0.95 rate`` of it is let through.
- `fpr95_out`: 95 % of the set has to be caught. Its truly OOD images, ``1 - rate``, are caught at no cost; where
  ``rate <= 0.05`` they are enough. Otherwise ``rate - 0.05`` of the set is still missing and has to come out of
  the ``rate`` that is hidden ID: ``(rate - 0.05) / rate`` of the hidden, and so the same share of all ID images.

A detector that goes past these limits tells apart where the two sets come from, not what they show.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests.certified import read_certificate
from manifests.errors import InputError

# Two-sided 95 %: 1.96.
_NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)

_SHARE = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]-?[0-9]{1,3})?"
_SHARES = re.compile(rf"({_SHARE})(?: *, *({_SHARE}) *, *({_SHARE}))?")
_COUNTS = re.compile(r"([0-9]{1,12})/([0-9]{1,12})")


@dataclass(frozen=True)
class Contamination:
    """Share of the images of an OOD set that are really ID, and its interval where one is known.

    Attributes
    ----------
    rate : float
        In [0, 1].
    low, high : float, optional
        Ends of the interval, about `rate`; both or neither.

    Raises
    ------
    InputError
        A share is outside [0, 1], one end is missing, or `rate` is not between the ends.
    """

    rate: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        low, high = (self.rate if end is None else end for end in (self.low, self.high))
        if not 0 <= low <= self.rate <= high <= 1 or (self.low is None) != (self.high is None):
            raise InputError(
                f"contamination: expected shares with 0 <= low <= rate <= high <= 1, found rate {self.rate}, "
                f"low {self.low}, high {self.high}; write 4.75 % as 0.0475"
            )


@dataclass(frozen=True)
class DetectorLimits:
    """The best figures that the detector described above can get, as fractions."""

    auroc_ceiling: float
    fpr95_in_floor: float
    fpr95_out_floor: float


@dataclass(frozen=True)
class ContaminationLimits:
    """The limits at the rate and at both ends of its interval, None where there is none."""

    at_rate: DetectorLimits
    at_low: DetectorLimits | None
    at_high: DetectorLimits | None


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Which images of a set are listed as ID.

    Attributes
    ----------
    is_left_out : array
        bool, (n,), in the order of the set's image ids.
    n_left_out, n_listed : int
        Images of the list that are in the set, and all of the list.
    """

    is_left_out: NDArray[np.bool_]
    n_left_out: int
    n_listed: int


def parse_contamination(text: str) -> Contamination:
    """Return the contamination that a person typed.

    Parameters
    ----------
    text : str
        A rate (``0.0475``), a rate with its interval (``0.0475,0.031,0.073``), counts (``19/400``: 19 ID images
        found among 400 inspected), which get the 95 % interval of `wilson_interval`, or the path of a certificate
        or of a set's ``manifest.json`` that holds one, see `certified_contamination`.

    Raises
    ------
    InputError
        The text is none of these, a share is outside [0, 1], the rate is outside its interval, or more images were
        found than inspected.
    """
    typed = text.strip()
    if typed.endswith(".json"):
        return certified_contamination(Path(typed))
    if counts := _COUNTS.fullmatch(typed):
        n_found, n_inspected = int(counts[1]), int(counts[2])
        return Contamination(n_found / max(n_inspected, 1), *wilson_interval(n_found, n_inspected))
    shares = _SHARES.fullmatch(typed)
    if shares is None:
        raise InputError(
            "contamination: expected a rate such as 0.0475, a rate and its interval such as 0.0475,0.031,0.073, "
            f"counts such as 19/400, or a certificate's .json, found {text[:80]!r}"
        )
    return Contamination(*(float(share) for share in shares.groups() if share is not None))


def certified_contamination(path: Path) -> Contamination:
    """Return what an audit found, as its certificate states it, or a set's header with its certificate.

    The rate is the share of defects in the sample, without those removed since; the upper end the certificate's
    one-sided bound, for the set whose header it was read from. Nothing is bounded from below: the lower end is 0.

    Raises
    ------
    InputError
        The file cannot be read, is no certificate, or is a set without one.
    """
    stated = read_certificate(path)
    n_removed = stated.get("n_defects_removed_since", 0)
    n_left = stated["n_sample"] - n_removed
    rate = (stated["n_defects"] - n_removed) / n_left if n_left else 0.0
    return Contamination(rate, 0.0, stated.get("upper_bound_here", stated["upper_bound"]))


def wilson_interval(n_found: int, n_inspected: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share.

    With p = n_found / n_inspected, n = n_inspected and z = 1.96, its ends are
    ``(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22.

    Raises
    ------
    InputError
        No image was inspected, or `n_found` is not from 0 to `n_inspected`.
    """
    if not 0 <= n_found <= n_inspected or n_inspected == 0:
        raise InputError(
            f"contamination: expected ID images of images inspected, such as 19/400, found {n_found}/{n_inspected}"
        )
    share, spread = n_found / n_inspected, _NORMAL_QUANTILE**2 / n_inspected
    half_width = (spread * share * (1 - share) + spread**2 / 4) ** 0.5
    low, high = ((share + spread / 2 + side * half_width) / (1 + spread) for side in (-1, 1))
    # These two ends are exact, but for rounding.
    return (0.0 if n_found == 0 else low), (1.0 if n_found == n_inspected else high)


def contamination_limits(contamination: Contamination) -> ContaminationLimits:
    """Return what the detector described above can get at best, at the rate and at the ends of its interval."""
    return ContaminationLimits(
        at_rate=_limits(contamination.rate),
        at_low=None if contamination.low is None else _limits(contamination.low),
        at_high=None if contamination.high is None else _limits(contamination.high),
    )


def leave_out(image_ids: pa.ChunkedArray | pa.Array, listed: Sequence[str]) -> LeftOut:
    """Return which images of a set are listed.

    A list may belong to another set: that none of its images is in this one is no error but a count to be shown.

    Parameters
    ----------
    image_ids : pyarrow.ChunkedArray or pyarrow.Array
        Ids of the set, each once, (n,), as in `FeatureSet.image_ids`.
    listed : sequence of str
        Ids of images known to be ID, each once, as `read_image_ids` returns them.
    """
    is_left_out = np.asarray(pc.is_in(image_ids, value_set=pa.array(listed, image_ids.type)))
    return LeftOut(is_left_out, int(is_left_out.sum()), len(listed))


def _limits(rate: float) -> DetectorLimits:
    return DetectorLimits(
        auroc_ceiling=1 - rate / 2,
        fpr95_in_floor=0.95 * rate,
        fpr95_out_floor=0.0 if rate <= 0.05 else (rate - 0.05) / rate,
    )
