"""Checks of a picture that may be too poor to judge: each a score, and a flag where it passes a threshold.

Thresholds were set on 1,679 real pictures (452 Flickr photographs, 913 of ImageNet, 248 textures, 66 of COCO),
such that a check flags what is rare among them: ``blur`` 2 textures, ``low_information`` 8 textures,
``odd_size`` 1 picture of ImageNet, the others none. (The command `quality` prints these counts of any
workspace.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

MEASURED_SIDE_PX = 256
"""The longer side that a picture is reduced to before grey values are measured: scores of equal scenes agree
whatever the camera. A smaller picture is taken as it is, as enlarging would blur it."""

_FLAT_SIDE_PX = 64
_FLAT_LEVELS = 32


@dataclass(frozen=True)
class Check:
    """One check: the picture is flagged where its score is below (or, if `is_high_bad`, above) the threshold."""

    threshold: float
    is_high_bad: bool
    meaning: str


CHECKS: Mapping[str, Check] = {
    "blur": Check(40.0, False, "variance of the Laplacian of the grey picture"),
    "dark": Check(0.25, False, "99th percentile of grey, 0 black to 1 white"),
    "low_information": Check(3.0, False, "entropy of the grey histogram in bits, 0 to 8"),
    "odd_size": Check(100.0, False, "shorter side in pixels"),
    "extreme_aspect": Check(3.0, True, "longer over shorter side"),
    "near_empty": Check(0.95, True, "share of the picture within one colour, 32 levels wide a channel"),
}
"""By the words of `schema.QUALITY_CHECKS`."""


def picture_facts(image: Image.Image) -> dict[str, float]:
    """Return the score of every check of an upright RGB picture."""
    small = image.copy()
    small.thumbnail((MEASURED_SIDE_PX, MEASURED_SIDE_PX), Image.Resampling.BOX)
    grey = np.asarray(small.convert("L"))
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    present = shares[shares > 0]
    return {
        "blur": _laplacian_variance(grey.astype(np.float64)),
        "dark": float(np.searchsorted(shares.cumsum(), 0.99) / 255),
        "low_information": float(-(present * np.log2(present)).sum()) + 0.0,
        "odd_size": float(min(image.size)),
        "extreme_aspect": max(image.size) / min(image.size),
        "near_empty": _largest_colour_share(small),
    }


def _laplacian_variance(grey: npt.NDArray[np.float64]) -> float:
    """Return the variance of the four-neighbour Laplacian (Pech-Pacheco et al. 2000), 0 without inner pixels."""
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())


def _largest_colour_share(small: Image.Image) -> float:
    """Return the share of pixels in the fullest cube of 32 levels a side, of two grids half a step apart."""
    flat = small.copy()
    flat.thumbnail((_FLAT_SIDE_PX, _FLAT_SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(flat, np.int64).reshape(-1, 3)
    n_levels = 256 // _FLAT_LEVELS + 1
    fullest = 0
    # A plain colour at the edge of a cube would fall into two.
    for shift in (0, _FLAT_LEVELS // 2):
        cubes = ((pixels + shift) // _FLAT_LEVELS) @ np.array([n_levels**2, n_levels, 1])
        fullest = max(fullest, int(np.bincount(cubes).max()))
    return fullest / len(pixels)
