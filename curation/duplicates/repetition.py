"""How much a picture repeats itself: of a chessboard, one part lies well over another, and over other boards."""

import numpy as np
import numpy.typing as npt
import torch

from curation.duplicates.placement import Searched, evened
from curation.duplicates.thumbnails import Thumbnails
from curation.threads import one_thread

_PART_SHARE = 0.5
_NEAR_SHARE = 0.1
"""Shifts of less than a tenth of the side are no other place: what is smooth looks the same there."""

_PARTS = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
"""Places from the top and the left, 0 to 1 of the room that there is, of the parts that are looked for."""


@one_thread()
def repetitions(thumbnails: Thumbnails) -> npt.NDArray[np.float32]:
    """Return how well a part of each picture fits at another place of it, up to 1.

    Half of 663 ImageNet pictures reach 0.35, one in a hundred 0.80; chessboards and stripes 0.95 to 1.
    """
    pictures = evened(torch.from_numpy(thumbnails.brightness).float())
    searched, side = Searched(pictures), pictures.shape[-1]
    size, near = round(side * _PART_SHARE), round(side * _NEAR_SHARE)
    highest = torch.full((len(pictures),), -1.0)
    for down, right in _PARTS:
        top, left = round((side - size) * down), round((side - size) * right)
        found = searched.correlations(pictures[:, top : top + size, left : left + size])
        found[:, max(0, top - near) : top + near + 1, max(0, left - near) : left + near + 1] = -1.0
        highest = torch.maximum(highest, found.flatten(1).max(dim=1).values)
    return np.round(highest.numpy(), 4)
