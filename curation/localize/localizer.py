"""What `localize` asks of a model that says where in a picture a class might be, whichever way it was made."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image


class Localizer(Protocol):
    """A model that makes one evidence mask of one picture and one class name.

    Two kinds are there: `curation.localize.heat_map.HeatMap`, which needs no training, and the trained network,
    loaded by `curation.localize.checkpoints.load_localizer`.
    """

    @property
    def name(self) -> str:
        """Model and weights, for people to read."""
        ...

    @property
    def digest(self) -> str:
        """16 hex digits over weights, architecture and preprocessing: equal digests give equal masks."""
        ...

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return where each class might be: float32 (n_names, height, width) in [0, 1], higher = more evidence.

        Parameters
        ----------
        picture : Image
            RGB, upright.
        names : sequence of str
            Classes, as people call them.

        Returns
        -------
        ndarray of float32, (n_names, height, width)
            In the order of `names`. Height and width are the model's own: the mask covers the whole picture, end
            to end in both directions, whatever the shape of the two. A class has the same mask whichever others
            are asked for beside it, but for rounding. From 0.5 on a place counts as the class's.
        """
        ...
