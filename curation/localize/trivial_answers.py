"""Answers that read no phrase: what a localizer has to beat before its figures say anything.

Each is a `curation.localize.localizer.Localizer`, judged by the same code as a network.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.localize.referring_set import ReferringExample


@dataclass(frozen=True)
class CentredBox:
    """The same share of every picture, in its middle and of its shape; 1 is the whole picture.

    Attributes
    ----------
    area_share : float
        In [0, 1].
    """

    area_share: float = 1.0

    @property
    def name(self) -> str:
        """For people."""
        return "the whole picture" if self.area_share == 1 else f"centred box, {self.area_share:.1%} of the area"

    @property
    def digest(self) -> str:
        """16 hex digits over the share."""
        return _digest(f"centred box {self.area_share!r}")

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return 1 in the box and 0 around it, (n_names, height, width) of the picture."""
        side = math.sqrt(self.area_share)
        width, height = round(side * picture.width), round(side * picture.height)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        box = np.zeros((picture.height, picture.width), np.float32)
        box[top : top + height, left : left + width] = 1
        return _for_each(names, box)


@dataclass(frozen=True)
class ColourContrast:
    """All that differs in colour from the picture's border: objects on a plain ground, whichever is asked for."""

    name: str = "all that stands out"

    @property
    def digest(self) -> str:
        """16 hex digits; there is but one."""
        return _digest("colour contrast")

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return each pixel's distance in RGB from the median of the outermost pixels; black to white is 1."""
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)  # (height, width, 3)
        border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
        distance = np.linalg.norm(pixels - np.median(border, axis=0), axis=2)
        return _for_each(names, (distance / (255 * math.sqrt(3))).astype(np.float32))


def mean_area_share(examples: Sequence[ReferringExample]) -> float:
    """Return the mean share of a picture's pixels that its mask takes."""
    return float(np.mean([(np.asarray(example.read()[1]) >= 128).mean() for example in examples]))


def _for_each(names: Sequence[str], evidence: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.broadcast_to(evidence, (len(names), *evidence.shape))


def _digest(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:16]
