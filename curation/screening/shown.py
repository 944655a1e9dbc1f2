"""The ten classes that annotators see of a picture, merged from all that propose some."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.screening.evidence import NO_CLASS, TopClasses
from manifests import schema


@dataclass(frozen=True, eq=False)
class Proposals:
    """What one source proposes for n pictures: `top` as (n, k) arrays, `NO_CLASS` where it has fewer than k.

    Attributes
    ----------
    word : str
        ``human``, ``clip`` or ``classifier``.
    top : TopClasses
        Best first.
    view_names : (n, k) array of str
        The view that raised each class.
    """

    word: str
    top: TopClasses
    view_names: npt.NDArray[np.str_]


def shown_columns(proposals: Sequence[Proposals]) -> dict[str, pa.ListArray]:
    """Return the ``shown_*`` columns of `schema.SCREEN` for n pictures.

    Classes that people verified come first, as many of them as are shown. Then the sources take turns, each with
    its best class that is not there yet: similarities of two models are not comparable, ranks are, and a class
    that only one of them sees is shown. Each class carries the first source that raised it, and the view and
    cosine there.

    Parameters
    ----------
    proposals : sequence of Proposals
        In the order in which they take turns.
    """
    turns = _turns(proposals)
    classes = np.concatenate([one.top.classes for one in proposals], axis=1)[:, turns]
    is_shown = (classes != NO_CLASS) & ~_is_repeated(classes)
    is_shown &= is_shown.cumsum(axis=1) <= schema.N_SHOWN_CLASSES
    words = np.concatenate([np.full(one.top.classes.shape[1], one.word) for one in proposals])[turns]
    cosines = np.concatenate([one.top.cosines for one in proposals], axis=1)[:, turns]
    views = np.concatenate([one.view_names for one in proposals], axis=1)[:, turns]
    offsets = np.concatenate([[0], is_shown.sum(axis=1).cumsum()]).astype(np.int32)
    values = {
        "shown_classes": pa.array(classes[is_shown], pa.int16()),
        "shown_similarities": pa.array(cosines[is_shown], pa.float32()),
        "shown_sources": pa.array(np.broadcast_to(words, classes.shape)[is_shown], pa.string()),
        "shown_views": pa.array(views[is_shown], pa.string()),
    }
    return {name: pa.ListArray.from_arrays(pa.array(offsets), column) for name, column in values.items()}


def _turns(proposals: Sequence[Proposals]) -> npt.NDArray[np.intp]:
    """Return the order of the columns of all proposals: people's first, then by rank, then by source."""
    ranks = np.concatenate([
        np.arange(one.top.classes.shape[1]) + (0 if one.word == "human" else schema.N_SHOWN_CLASSES)
        for one in proposals
    ])  # fmt: skip
    return np.argsort(ranks, kind="stable")


def _is_repeated(classes: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Return where a class stands further left in the same row."""
    is_repeated = np.zeros(classes.shape, bool)
    for column in range(1, classes.shape[1]):
        is_repeated[:, column] = (classes[:, :column] == classes[:, column : column + 1]).any(axis=1)
    return is_repeated
