"""The evidence of all sources on the pictures of a workspace, shard by shard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.labels import VerifiedClasses
from curation.screening.evidence import NO_CLASS, NUMBER_NAMES, Evidence, TopClasses, compare
from curation.screening.shown import Proposals, shown_columns
from curation.screening.small_masks import SmallMasks
from curation.screening.sources import ClassSource
from manifests.errors import InputError
from manifests.stored_pictures import StoredPicture, still_unreadable

_VERIFIED_NUMBER = "has a class that people verified"


@dataclass(frozen=True, eq=False)
class Gathered:
    """Some pictures: `image_ids`, the `numbers` (n, n_numbers) for their risk, and the ``shown_*`` columns."""

    image_ids: list[str]
    numbers: npt.NDArray[np.float64]
    shown: dict[str, pa.ListArray]


def number_names(
    sources: Sequence[ClassSource],
    verified: Mapping[str, VerifiedClasses] | None,
    masks: SmallMasks | None = None,
) -> list[str]:
    """Return the names of the columns of `Gathered.numbers`."""
    names = [f"{source.word} {source.store.key.digest}: {name}" for source in sources for name in NUMBER_NAMES]
    names += [] if verified is None else [_VERIFIED_NUMBER]
    return names if masks is None else [*names, masks.number_name]


def unreadable_reasons(sources: Sequence[ClassSource], pictures: Mapping[str, StoredPicture]) -> dict[str, str]:
    """Return why some of `pictures`, as they are stored now, have no embedding in one source or another."""
    reasons: dict[str, str] = {}
    for source in reversed(sources):
        found = still_unreadable(source.store.read_unreadable(), pictures)
        reasons |= {image_id: reason for image_id, (_, reason) in found.items()}
    return reasons


def gather(
    sources: Sequence[ClassSource],
    pictures: Mapping[str, StoredPicture],
    verified: Mapping[str, VerifiedClasses] | None,
    masks: SmallMasks | None = None,
) -> Iterator[Gathered]:
    """Yield the evidence on `pictures`, those apart that a source could not read.

    The number of a picture that `masks` calls unreadable is not a number; what is shown beside it is as of others.

    Only one shard of each store is held at a time: an image lies in the same shard of every store.

    Raises
    ------
    InputError
        A source has no embedding of a picture as it is stored now, and no reason for that, or `masks` has no mask.
    """
    unreadable = unreadable_reasons(sources, pictures)
    wanted: dict[int, list[str]] = {}
    for image_id in sorted(pictures.keys() - unreadable.keys()):
        if masks is not None:
            # Raises where it has none: before the first embedding is compared.
            masks.of(image_id)
        wanted.setdefault(sources[0].store.shard_of(image_id), []).append(image_id)
    for shard, image_ids in sorted(wanted.items()):
        of_shard = {image_id: pictures[image_id] for image_id in image_ids}
        yield _gather_shard(sources, shard, of_shard, verified, masks)


def _gather_shard(
    sources: Sequence[ClassSource],
    shard: int,
    pictures: Mapping[str, StoredPicture],
    verified: Mapping[str, VerifiedClasses] | None,
    masks: SmallMasks | None,
) -> Gathered:
    asked = {image_id: sorted(classes.present) for image_id, classes in (verified or {}).items()}
    proposals: list[Proposals] = []
    numbers: list[npt.NDArray[np.float64]] = []
    for source in sources:
        stored = source.store.read_shard(shard)
        images = {k: stored[k] for k, picture in pictures.items() if k in stored and stored[k].is_of(picture)}
        if len(images) < len(pictures):
            missing = min(pictures.keys() - images.keys())
            raise InputError(
                f"{source.store.folder}: {missing} and maybe others have no embedding there: run 'embed' again"
            )
        # People's classes have the cosines of the first source.
        blocks = list(compare(source, images, {} if proposals else asked))
        order = np.argsort([image_id for block in blocks for image_id in block.image_ids])
        numbers.append(np.concatenate([block.numbers for block in blocks])[order])
        if not proposals:
            proposals.append(_joined("human", blocks, order, is_asked=True))
        proposals.append(_joined(source.word, blocks, order))
    if verified is not None:
        numbers.append(np.array([[bool(asked.get(image_id))] for image_id in pictures], np.float64))
    if masks is not None:
        numbers.append(np.array([[masks.of(image_id)] for image_id in pictures], np.float64))
    return Gathered(list(pictures), np.concatenate(numbers, axis=1), shown_columns(proposals))


def _joined(
    word: str, blocks: Sequence[Evidence], order: npt.NDArray[np.intp], *, is_asked: bool = False
) -> Proposals:
    """Return the proposals of all blocks as one, padded to one width, in the given order of rows."""
    tops = [block.asked if is_asked else block.top for block in blocks]
    width = max(top.classes.shape[1] for top in tops)

    def joined(arrays: Sequence[npt.NDArray], fill: Any) -> npt.NDArray:
        padded = [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill) for array in arrays]
        return np.concatenate(padded)[order]

    names = [np.array(block.view_names)[top.views] for block, top in zip(blocks, tops, strict=True)]
    widest = max(array.dtype for array in names)
    padded_names = joined([array.astype(widest) for array in names], "")
    top = TopClasses(
        joined([top.classes for top in tops], NO_CLASS),
        joined([top.cosines for top in tops], 0),
        joined([top.views for top in tops], 0),
    )
    return Proposals(word, top, padded_names)
