"""When two pictures are the same photograph: which pairs are looked at, and which of these are linked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.duplicates.alignment import agreements, plain_agreements
from curation.duplicates.repetition import repetitions
from curation.embedding_store import EmbeddingStore
from manifests.errors import InputError

LEAST_SIMILARITY = {"clip": 0.9, "classifier": 0.7, "features": 0.7}
"""Cosine of a proposed pair, by the source of the embeddings.

Of MobileNetV2's features 0.7 proposes 96 % of crops to 70 % of the sides and 1 in 10,000 unlike pairs (measured on
1,679 photographs). CLIP's vectors all lie closer together; its bound could not be measured here.
"""

MOST_BITS = ((5_000, 18), (20_000, 16))
MOST_BITS_OF_MORE = 14
"""Bits in which the hashes of a proposed pair may differ, for up to so many pictures, and for more.

Four bits more find half of the crops that fewer miss, and propose 50 times the unlike pairs, each of which takes
0.3 ms to tell apart.
"""

MOST_PICTURES_FOR_CROPS = 20_000
"""Windows of so many take 20 s of a core to compare and propose 100,000 unlike pairs; of 125,436 it would be 13
minutes and 5 million, where embeddings, if there are any, propose the crops as well.
"""

REPEATED = 0.9
"""A picture with such a repetition can be laid over others of its kind, as a chessboard over a chessboard."""

LEAST_PLAIN_AGREEMENT = 0.9
"""What a pair with such a picture must reach as it lies, neither moved nor scaled."""


@dataclass(frozen=True)
class DuplicateRules:
    """Which pairs are proposed, and which of these are links.

    Attributes
    ----------
    least_agreement : float
        A proposed pair is linked at this agreement or more, as `alignment.agreements` gives it; one with a picture
        that repeats itself (`REPEATED`) only if it also agrees as it lies (`LEAST_PLAIN_AGREEMENT`).
    most_bits : int or None
        Pairs are proposed whose hashes, of the whole of one and any window of the other, mirrored or not, differ
        in at most so many of 64 bits; None takes what `MOST_BITS` has for the number of pictures.
    least_similarity : float or None
        Pairs are proposed at this cosine or more; None takes `LEAST_SIMILARITY`'s value for the embeddings.
    has_crops : bool or None
        Compare the windows of a picture too, which finds crops without embeddings, at 37 times the cost; None does
        so for up to `MOST_PICTURES_FOR_CROPS` pictures.

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

    def similarity_of(self, store: EmbeddingStore) -> float:
        """Return the bound on the cosine for the vectors of a store."""
        return LEAST_SIMILARITY[store.key.source] if self.least_similarity is None else self.least_similarity

    def bits_of(self, n_pictures: int) -> int:
        """Return the bound on the differing bits where each of so many pictures is compared with all."""
        if self.most_bits is not None:
            return self.most_bits
        return next((bits for most, bits in MOST_BITS if n_pictures <= most), MOST_BITS_OF_MORE)

    def looks_for_crops(self, n_pictures: int) -> bool:
        """Return whether windows are compared where each of so many pictures is compared with all."""
        return n_pictures <= MOST_PICTURES_FOR_CROPS if self.has_crops is None else self.has_crops

    def are_linked(self, firsts: npt.NDArray[np.uint8], seconds: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return of each pair of thumbnails, both (n, side, side), whether they show the same photograph."""
        return told_agreements(firsts, seconds, self.least_agreement) >= self.least_agreement


def told_agreements(
    firsts: npt.NDArray[np.uint8], seconds: npt.NDArray[np.uint8], least_agreement: float
) -> npt.NDArray[np.float32]:
    """Return the agreement (n,) of pairs of thumbnails, -1 where it tells nothing as a picture repeats itself.

    Pairs below `least_agreement` are not looked at for that.
    """
    told = agreements(firsts, seconds)
    places = np.flatnonzero(told >= least_agreement)
    firsts, seconds = firsts[places], seconds[places]
    is_repeated = np.maximum(repetitions(firsts), repetitions(seconds)) >= REPEATED
    told[places[is_repeated & (plain_agreements(firsts, seconds) < LEAST_PLAIN_AGREEMENT)]] = -1.0
    return told
