"""Who sees which picture, and in which order: pure functions of a seed, so that every machine draws alike."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence

from annotation.review import ReviewItem
from manifests.errors import InputError

ORDERS = ("risk", "random")

_DRAW_BYTES = 8


def draw(*parts: object) -> int:
    """Return a number below 2**64 that looks random and depends on nothing but `parts`."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_DRAW_BYTES).digest(), "big")


def assigned(image_id: str, annotators: Sequence[str], n_votes: int, seed: int) -> list[str]:
    """Return the `n_votes` annotators whose turn an image is, by rendezvous hashing (Thaler & Ravishankar 1998).

    Every machine finds the same without asking another, each annotator gets an equal share but for chance, and
    who is among n is also among n + 1.
    """
    return sorted(annotators, key=lambda name: (draw(seed, "turn", image_id, name), name))[:n_votes]


def ordered(items: Iterable[ReviewItem], order: str, seed: int, annotator_id: str) -> list[str]:
    """Return the ids of `items` riskiest first, ties by image_id, or in an order drawn for this annotator.

    Raises
    ------
    InputError
        `order` is not one of `ORDERS`.
    """
    if order == "risk":
        return [item.image_id for item in sorted(items, key=lambda item: (-item.risk, item.image_id))]
    if order == "random":
        return sorted(
            (item.image_id for item in items), key=lambda image_id: draw(seed, "order", annotator_id, image_id)
        )
    raise InputError(f"order: expected one of {ORDERS}, found {order!r}")


def gold_order(gold_ids: Iterable[str], seed: int) -> list[str]:
    """Return gold images in an order drawn for all annotators alike: how often two miss one image needs pairs."""
    return sorted(gold_ids, key=lambda image_id: draw(seed, "gold", image_id))


def checked_gold_share(share: float) -> float:
    """Return `share` if it is one of gold among all images.

    Raises
    ------
    InputError
        It is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"gold share: expected a share in [0, 1), found {share}")
    return share


def n_gold_after(image_id: str, share: float, *, seed: int, annotator_id: str) -> int:
    """Return how many gold images follow `image_id` in one annotator's queue, so that about `share` is gold.

    It hangs on the image before, which this annotator has yet to answer: a session that is opened again begins
    with no more gold than any other part of it.
    """
    # The mean is share / (1 - share): at a share of one half, one gold image follows each.
    odds = share / (1 - share)
    is_one_more = draw(seed, "gap", annotator_id, image_id) < (odds % 1) * 2 ** (8 * _DRAW_BYTES)
    return int(odds) + is_one_more


class Turns:
    """Whose turn each image is.

    Parameters
    ----------
    annotator_id : str
        Who asks.
    names : iterable of str
        Those who share the images out.
    seed : int
        Of the draw.
    is_fixed : bool
        Whether the others' images are never shown to `annotator_id`; otherwise they come after their own.
    """

    def __init__(self, annotator_id: str, names: Iterable[str], seed: int, *, is_fixed: bool = False) -> None:
        self.is_fixed = is_fixed
        self._annotator_id = annotator_id
        self._names = set(names)
        self._seed = seed

    @property
    def n_names(self) -> int:
        """How many share the images out."""
        return max(1, len(self._names))

    def add(self, names: Collection[str]) -> None:
        """Share out among `names` too, from now on."""
        self._names.update(names)

    def n_before(self, image_id: str, n_votes: int, can_vote: Callable[[str], bool]) -> int:
        """Return how many come before this annotator at an image beyond the `n_votes` that it needs.

        0 is their own turn. Who takes what is the turn of others goes by this number, so that two who do so do not
        take the same.

        Parameters
        ----------
        image_id : str
            The image.
        n_votes : int
            Votes that it needs in all.
        can_vote : callable
            Tells of a name whether they have voted on it or still may; the turn of others is passed on.
        """
        if self._annotator_id in self._names and len(self._names) <= n_votes:
            return 0
        able = [name for name in self._names if can_vote(name)]
        order = assigned(image_id, able, len(able), self._seed)
        place = order.index(self._annotator_id) if self._annotator_id in order else len(self._names) + n_votes
        return max(0, place + 1 - n_votes)
