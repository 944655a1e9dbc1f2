"""Draws by seed: an image's place in them depends on the seed and its id alone, never on rows or machines."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from manifests.errors import InputError

REST_SPLIT = "test"
DEFAULT_SPLITS: Mapping[str, float] = {"val": 0.1}
"""As OpenOOD parts OpenImage-O: 10 % for tuning, the rest to report on."""


def drawn_number(purpose: str, key: str, seed: int) -> int:
    """Return a number below 2**64, uniform over keys; `purpose` keeps draws of one seed independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{purpose}\n{key}".encode()).digest()[:8], "big")


def split_of(group: str, splits: Mapping[str, float], seed: int) -> str:
    """Return the split of a group of duplicates, by the shares of the splits; what they leave is `REST_SPLIT`.

    Each group draws for itself, by the smallest id in it. So the shares are met on average only, but no image
    moves to another split because others came or went: else every addition would be a major version. The
    exception is a copy that joins a group with a smaller id, or that links two groups: a group is never cut, so it
    may move then.
    """
    drawn = drawn_number("split", group, seed) / 2**64
    bound = 0.0
    for name in sorted(splits):
        bound += splits[name]
        if drawn < bound:
            return name
    return REST_SPLIT


def check_splits(splits: Mapping[str, float]) -> None:
    """Refuse shares that are none.

    Raises
    ------
    InputError
        A share is not in [0, 1), their sum is not below 1, or one is given for `REST_SPLIT`.
    """
    if REST_SPLIT in splits:
        raise InputError(f"--split: {REST_SPLIT} is what the others leave; give the others' shares")
    for name, share in splits.items():
        if not 0 <= share < 1:
            raise InputError(f"--split {name}: expected a share from 0 to below 1, found {share}")
    if sum(splits.values()) >= 1:
        raise InputError(
            f"--split: the shares sum to {sum(splits.values()):g}, which leaves nothing for {REST_SPLIT}"
        )


def stratified_draw(stratum_of: Mapping[str, str], n_wanted: int, seed: int) -> frozenset[str]:
    """Return `n_wanted` image ids, each stratum's share in them as in all, by the method of largest remainders.

    Parameters
    ----------
    stratum_of : mapping
        Image id to stratum.
    n_wanted : int
        At most as many as there are images.
    seed : int
        Of the order in which each stratum's images are taken.

    Raises
    ------
    InputError
        There are not so many images.
    """
    if not 0 < n_wanted <= len(stratum_of):
        raise InputError(
            f"--target: expected 1 to {len(stratum_of):,}, all images that are left; found {n_wanted}"
        )
    members: defaultdict[str, list[str]] = defaultdict(list)
    for image_id, stratum in stratum_of.items():
        members[stratum].append(image_id)
    n_of = largest_remainders({stratum: len(ids) for stratum, ids in members.items()}, n_wanted)
    return frozenset(
        image_id for stratum, ids in members.items() for image_id in drawn_order(ids, seed)[: n_of[stratum]]
    )


def drawn_order(image_ids: Iterable[str], seed: int) -> list[str]:
    """Return image ids in the order in which `seed` draws them."""
    return sorted(image_ids, key=lambda image_id: (drawn_number("draw", image_id, seed), image_id))


def largest_remainders(sizes: Mapping[str, int], n_wanted: int) -> dict[str, int]:
    """Return how many of `n_wanted` each part gets: its exact quota, or the whole number next below or above.

    Parts of equal remainders go by name. In whole numbers throughout: no rounding differs between machines.
    """
    n_all = sum(sizes.values())
    shares = {name: divmod(n_wanted * size, n_all) for name, size in sizes.items()}
    n_open = n_wanted - sum(whole for whole, _ in shares.values())
    by_remainder = sorted(shares, key=lambda name: (-shares[name][1], name))
    more = set(by_remainder[:n_open])
    return {name: whole + (name in more) for name, (whole, _) in shares.items()}
