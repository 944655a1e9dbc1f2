"""The published lists of OpenImage-O: how many ids each holds, and the SHA-256 over them.

The digests are over the ids, sorted, one a line, each with a line end; so neither the lists' forms nor their order
matter. They were computed from ``datalists/openimage_o.txt`` of github.com/haoqiwang/vim at dabf9e5 (the file's
SHA-256 begins f1ef7273bb91) and from ``benchmark_imglist/imagenet/{val,test}_openimage_o.txt`` of OpenOOD v1.5.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import InputError
from manifests.image_ids import read_image_ids


@dataclass(frozen=True)
class PublishedList:
    """The ids of one split: how many, and their digest by `ids_digest`."""

    n_images: int
    sha256: str


WHOLE = PublishedList(17_632, "d0805226593ff9ec5305b992696b5c5b7d062b3a59cab66b15c9d6ccb8fd4de6")
"""ViM's list; OpenOOD's two lists together are the same set."""

OFFICIAL: Mapping[str, Mapping[str, PublishedList]] = {
    "vim": {"test": WHOLE},
    "openood": {
        "val": PublishedList(1_763, "34cbf2d54c4407e49f1805daeb5a70b26ab439af8cf81dd91993612e94760926"),
        "test": PublishedList(15_869, "6f74d6a8ba27fc437ae0685d120fe242c0a07328427bb039b60fb41f88efd229"),
    },
}
"""Name of the publication to its splits."""


def ids_digest(image_ids: Iterable[str]) -> str:
    """Return the SHA-256 over the ids, sorted, one a line."""
    return hashlib.sha256("".join(f"{image_id}\n" for image_id in sorted(image_ids)).encode()).hexdigest()


def official_lists(publication: str, paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the lists of a publication with their splits, told by the ids that they hold, sorted by split.

    Raises
    ------
    InputError
        There is no such publication, a file is not one of its lists, or one of its lists is missing.
    """
    _check_publication(publication)
    expected = OFFICIAL[publication]
    split_of = {published.sha256: split for split, published in expected.items()}
    found: dict[str, Path] = {}
    for path in paths:
        ids = read_image_ids(path)
        split = split_of.get(ids_digest(ids))
        if split is None:
            wanted = "; ".join(
                f"{one}: {known.n_images:,}, {known.sha256[:12]}" for one, known in expected.items()
            )
            raise InputError(
                f"{path}: {len(ids):,} ids with the digest {ids_digest(ids)[:12]} are no list that {publication} "
                f"published ({wanted})"
            )
        if split in found:
            raise InputError(f"{path}: holds the same ids as {found[split]}")
        found[split] = path
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise InputError(f"--official {publication}: the list of the split {missing[0]} is missing")
    return sorted(found.items())


def official_statement(publication: str, ids_of_split: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """Return what a header says of an official set: `publication`, and `checked`, a line a split and one for all.

    Raises
    ------
    InputError
        There is no such publication, or the ids are not those that it published.
    """
    _check_publication(publication)
    lines: list[str] = []
    whole: set[str] = set()
    for split, published in sorted(OFFICIAL[publication].items()):
        ids = list(ids_of_split.get(split, ()))
        whole |= set(ids)
        _check(split, ids, published)
        lines.append(f"{split}: {len(ids):,} ids as published, sha256 {published.sha256}")
    _check("all splits", whole, WHOLE)
    lines.append(f"together the {len(whole):,} ids of ViM's list, sha256 {WHOLE.sha256}")
    return {"publication": publication, "checked": lines}


def _check_publication(publication: str) -> None:
    if publication not in OFFICIAL:
        raise InputError(f"--official: expected {' or '.join(sorted(OFFICIAL))}, found {publication!r}")


def _check(what: str, image_ids: Iterable[str], published: PublishedList) -> None:
    ids = list(image_ids)
    if len(ids) != published.n_images or ids_digest(ids) != published.sha256:
        raise InputError(
            f"{what}: expected the {published.n_images:,} published ids ({published.sha256[:12]}), "
            f"found {len(ids):,} ({ids_digest(ids)[:12]})"
        )
