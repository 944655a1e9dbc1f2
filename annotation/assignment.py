"""Who sees which picture, and in which order: pure functions of a seed, so that every machine draws alike."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

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


def with_gold(
    image_ids: Sequence[str], gold_ids: Iterable[str], share: float, *, seed: int, annotator_id: str
) -> Iterator[str]:
    """Yield `image_ids` in order with gold images among them, about `share` of all, as long as there are some.

    Where a gold image goes depends on the image after it, so that a session that is opened again goes on with
    the same sequence.

    Raises
    ------
    InputError
        `share` is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"gold share: expected a share in [0, 1), found {share}")
    gold = iter(sorted(gold_ids, key=lambda image_id: draw(seed, "gold", annotator_id, image_id)))
    # n gold images in each gap with the mean share / (1 - share): at a share of one half, one a gap.
    odds = share / (1 - share)
    for image_id in image_ids:
        n_gold = int(odds) + (draw(seed, "gap", annotator_id, image_id) < (odds % 1) * 2 ** (8 * _DRAW_BYTES))
        for _ in range(n_gold):
            following = next(gold, None)
            if following is not None:
                yield following
        yield image_id
