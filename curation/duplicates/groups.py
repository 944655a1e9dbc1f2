"""Groups of pictures that are linked, directly or through others, and the one that stands for each group."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt


class Groups:
    """Which of n pictures are linked: connected components, so that of A~B and B~C all three are one group.

    Attributes
    ----------
    labels : (n,) int64
        The smallest place of the group that each picture is in.
    """

    def __init__(self, n_pictures: int) -> None:
        self.labels = np.arange(n_pictures)

    def join(self, pairs: npt.NDArray[np.int64]) -> None:
        """Put both pictures of each pair (n_pairs, 2) into one group."""
        for first, second in pairs.tolist():
            low, high = sorted((int(self.labels[first]), int(self.labels[second])))
            if low != high:
                self.labels[self.labels == high] = low

    def join_equal(self, words: Sequence[str]) -> None:
        """Put pictures with equal words into one group."""
        first_of: dict[str, int] = {}
        pairs = [(first_of.setdefault(word, place), place) for place, word in enumerate(words)]
        self.join(np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2))

    def are_apart(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return of each pair (n_pairs, 2) whether its pictures are in different groups."""
        return self.labels[pairs[:, 0]] != self.labels[pairs[:, 1]]

    def members(self) -> list[list[int]]:
        """Return the groups of more than one picture, each in rising order, by their first."""
        order = np.argsort(self.labels, kind="stable")
        starts = np.flatnonzero(np.diff(self.labels[order], prepend=-1))
        return [group.tolist() for group in np.split(order, starts[1:]) if len(group) > 1]


def representatives(
    groups: Sequence[Sequence[int]],
    image_ids: Sequence[str],
    n_pixels: Sequence[int],
    n_bytes: Sequence[int],
    unusable: Collection[str] = (),
) -> dict[int, int]:
    """Return, for every picture of a group but its representative, the representative.

    That is the picture with the most pixels; of equals the one with the most bytes, then with the smallest id. One
    whose id is `unusable` stands for others only where all are.
    """
    kept_of: dict[int, int] = {}
    for group in groups:
        kept = min(
            group,
            key=lambda place: (
                image_ids[place] in unusable, -n_pixels[place], -n_bytes[place], image_ids[place]
            ),
        )  # fmt: skip
        kept_of |= {place: kept for place in group if place != kept}
    return kept_of
