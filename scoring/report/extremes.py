"""Which images a method gets most wrong: OOD images that look in-distribution, and ID images that look OOD."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scoring.methods.table import Method
from scoring.plots.results import Results
from scoring.plots.style import PRINTED

N_IMAGES = 12
"""Images of one gallery: two rows of six on a laptop."""


@dataclass(frozen=True)
class ExtremeImage:
    """One image: its id, its score, and how many ID images score lower."""

    image_id: str
    ood_score: float
    n_in_below: int


@dataclass(frozen=True)
class Extremes:
    """The images of one set that a method gets most wrong.

    Attributes
    ----------
    method : Method
        Whose scores.
    set_name : str
        The ID set, or an OOD set.
    is_in : bool
        Whether it is the ID set.
    images : tuple of ExtremeImage
        The most wrong first.
    """

    method: Method
    set_name: str
    is_in: bool
    images: tuple[ExtremeImage, ...]


def best_of_each_family(results: Results) -> tuple[Method, ...]:
    """Return the method of each family that has the best AUROC on average, in the order of families."""
    best: dict[str, Method] = {}
    for method in results.best_first:
        best.setdefault(method.family, method)
    return tuple(best[family] for family in PRINTED.families if family in best)


def extremes_of(results: Results, method: Method, n_images: int = N_IMAGES) -> list[Extremes]:
    """Return the lowest scores of each OOD set and the highest of the ID set; ties by image id."""
    in_scores = results.in_scores[method.name]
    in_sorted = np.sort(in_scores)

    def images(set_name: str, scores: NDArray[np.float64], sign: int) -> tuple[ExtremeImage, ...]:
        return tuple(
            ExtremeImage(image_id, score, int(np.searchsorted(in_sorted, score)))
            for image_id, score in _first(results.image_ids[set_name], scores, sign, n_images)
        )

    found = [
        Extremes(method, ood_set, False, images(ood_set, results.out_scores[ood_set][method.name], 1))
        for ood_set in results.ood_sets
    ]
    return [*found, Extremes(method, results.val, True, images(results.val, in_scores, -1))]


def _first(
    image_ids: pa.ChunkedArray, scores: NDArray[np.float64], sign: int, n_images: int
) -> Sequence[tuple[str, float]]:
    """Return ids and scores of the images first by ``sign * score``, then by id."""
    keys = sign * scores
    n_wanted = min(n_images, len(keys))
    # All that tie with the last one wanted too, so that ids decide between them.
    rows = np.flatnonzero(keys <= np.partition(keys, n_wanted - 1)[n_wanted - 1])
    pairs = zip(image_ids.take(rows).to_pylist(), scores[rows].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (sign * pair[1], pair[0]))[:n_wanted]
