"""When two pictures are the same photograph: which pairs are looked at, and which of these are linked."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.duplicates.alignment import fits, plain_agreements
from curation.duplicates.repetition import repetitions
from curation.duplicates.thumbnails import Thumbnails
from curation.embedding_store import EmbeddingStore
from manifests.errors import InputError

FEW_PICTURES = 20_000
"""Among so many, pairs are proposed more freely: each takes a third of a millisecond to look at."""

LEAST_SIMILARITY = {"clip": (0.85, 0.9), "classifier": (0.55, 0.7), "features": (0.55, 0.7)}
"""Cosine of a proposed pair, by the source of the embeddings: among few pictures, and among more.

Of MobileNetV2's features 0.7 proposes 96 % of crops to 70 % of the sides and 1 in 10,000 unlike pairs, 0.6 nine in
ten crops to 60 % and 5 in 10,000 (1,679 photographs). CLIP's vectors all lie closer together; its bounds could not
be measured here.
"""

MOST_BITS = ((5_000, 18), (FEW_PICTURES, 16))
MOST_BITS_OF_MORE = 14
"""Bits in which the hashes of a proposed pair may differ, for up to so many pictures, and for more.

Four bits more find half of the crops that fewer miss, and propose 40 times the unlike pairs, each of which takes
0.3 ms to tell apart.
"""

REPEATED = 0.9
"""A picture with such a repetition can be laid over others of its kind, as a chessboard over a chessboard."""

LEAST_TONE = 0.75
"""What linked pictures must have in common besides details.

Of copies of 120 photographs 99 % have it, of those with a logo or cropped to half the sides 96 %.
"""

MOST_COLOUR_DIFFERENCE = {0.7: 4.5, 1.0: 12.0}
"""How far colours may differ at an agreement; between the two on a line. The less details agree, the closer must
colours be: crops agree least and keep their colours, darker copies the other way round. Drawings of one thing and
scenes with no more than a horizon agree at 0.70 to 0.77 by chance, and differ by 7 to 12 levels.
"""

MOST_LIGHT_DIFFERENCE = {1: {0.7: 27.0, 1.0: 27.0}, 2: {0.7: 20.0, 1.0: 80.0}}
"""The same for brightness, where one picture or both are black and white and have no colour to compare.

A photograph made grey keeps its brightness: 221 such copies differed by 1 level at most, cropped as well by 15,
made grey by the mean of red, green and blue by 26. A red and a black chessboard agree fully and differ by 44.
"""

LEAST_PLAIN_AGREEMENT = 0.9
"""What a pair with such a picture must reach as it lies, neither moved nor scaled."""


@dataclass(frozen=True)
class DuplicateRules:
    """Which pairs are proposed, and which of these are links.

    Attributes
    ----------
    least_agreement : float
        A proposed pair is linked at this agreement or more, as `alignment.Fits` has it, where tone and colour fit;
        one with a picture that repeats itself (`REPEATED`) only if it also agrees as it lies.
    most_bits : int or None
        Pairs are proposed whose hashes, of the whole of one and any window of the other, mirrored or not, differ
        in at most so many of 64 bits; None takes what `MOST_BITS` has for the number of pictures.
    least_similarity : float or None
        Pairs are proposed at this cosine or more; None takes what `LEAST_SIMILARITY` has.
    has_crops : bool or None
        Compare the windows of a picture too, which finds crops without embeddings, at 37 times the cost; None does
        so for up to `FEW_PICTURES` pictures: their windows take 20 s of a core, those of 125,436 about 13 minutes.

    Raises
    ------
    InputError
        A bound is out of its range.
    """

    least_agreement: float = 0.7
    most_bits: int | None = None
    least_similarity: float | None = None
    has_crops: bool | None = None

    def __post_init__(self) -> None:
        for flag, value, least, most in (
            ("--least-agreement", self.least_agreement, 0, 1),
            ("--least-similarity", self.least_similarity, -1, 1),
            ("--most-bits", self.most_bits, 0, 64),
        ):
            # Not "value < least": a NaN is on neither side of a bound.
            if value is not None and not least <= value <= most:
                raise InputError(f"{flag}: expected {least} to {most}, found {value}")

    def similarity_of(self, store: EmbeddingStore, n_pictures: int) -> float:
        """Return the bound on the cosine for the vectors of a store, each compared with so many."""
        among_few, among_more = LEAST_SIMILARITY[store.key.source]
        by_number = among_few if n_pictures <= FEW_PICTURES else among_more
        return by_number if self.least_similarity is None else self.least_similarity

    def bits_of(self, n_pictures: int) -> int:
        """Return the bound on the differing bits where each of so many pictures is compared with all."""
        if self.most_bits is not None:
            return self.most_bits
        return next((bits for most, bits in MOST_BITS if n_pictures <= most), MOST_BITS_OF_MORE)

    def looks_for_crops(self, n_pictures: int) -> bool:
        """Return whether windows are compared where each of so many pictures is compared with all."""
        return n_pictures <= FEW_PICTURES if self.has_crops is None else self.has_crops

    def are_linked(self, firsts: Thumbnails, seconds: Thumbnails) -> npt.NDArray[np.bool_]:
        """Return of each pair of pictures whether they show the same photograph."""
        return told_agreements(firsts, seconds, self.least_agreement) >= self.least_agreement


def told_agreements(firsts: Thumbnails, seconds: Thumbnails, least_agreement: float) -> npt.NDArray[np.float32]:
    """Return the agreement (n,) of pairs of pictures, -1 where something else tells that they are not the same.

    Pairs below `least_agreement` are not looked at for that.
    """
    fit = fits(firsts, seconds)
    is_other = (fit.tone < LEAST_TONE) | (fit.colour_difference > _on_line(MOST_COLOUR_DIFFERENCE, fit.agreement))
    for n_grey, most in MOST_LIGHT_DIFFERENCE.items():
        is_other |= (fit.n_grey == n_grey) & (fit.light_difference > _on_line(most, fit.agreement))
    places = np.flatnonzero((fit.agreement >= least_agreement) & ~is_other)
    firsts, seconds = firsts[places], seconds[places]
    is_repeated = np.maximum(repetitions(firsts), repetitions(seconds)) >= REPEATED
    is_other[places] = is_repeated & (plain_agreements(firsts, seconds) < LEAST_PLAIN_AGREEMENT)
    return np.where(is_other, np.float32(-1), fit.agreement)


def _on_line(values: Mapping[float, float], at: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return what lies between `values`, given by place, on lines from one to the next."""
    return np.interp(at, [*values], [*values.values()])
