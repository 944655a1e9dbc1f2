"""What the sources say of each picture: a few numbers for its risk, and the classes that each would show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from curation.embedding_store import EmbeddedImage
from curation.screening.sources import CLIP_LOGIT_SCALE, ClassSource, Head
from manifests.errors import TableError
from manifests.schema import N_SHOWN_CLASSES

HIGHEST_COSINE = "highest cosine"
NUMBER_NAMES = (
    "cosine of the whole", HIGHEST_COSINE, "log-odds of the whole", "highest log-odds", "spread of the whole",
    "length of the whole", "leading share of the whole",
)  # fmt: skip
"""Per source, what risk is a function of. The cosine with the best class and the log-odds that the softmax gives
the best class, of the whole picture and as the highest over all its views; then, of the whole: the spread of its
unit vector (sum of absolute values over the square root of their number: 1 where all are equal), the logarithm
of its length before it was made unit (0 of CLIP), and the length of its part in
`ClassSource.leading_directions`.

Chosen on half of the real pictures that `bench risk` takes, 40 times, with MobileNetV2: of the other half's `in`
were flagged at 0.5 %, 1 % and 5 % of `out` lost, by the cosines and log-odds alone, 44, 52 and 70 %, with the
spread 61, 64 and 85 %, with all seven 73, 77 and 91 %; energy, and logits for cosines, added nothing."""

NO_CLASS = -1
"""Stands where a picture has fewer classes than the others of its block."""

_BLOCK_VIEWS = 2048
"""Views compared at once: 8 MB for each matrix of similarities with 1,000 classes."""


@dataclass(frozen=True, eq=False)
class TopClasses:
    """The classes that one source would show, best first.

    Attributes
    ----------
    classes : (n, k) int16
        Class indices; k is `N_SHOWN_CLASSES`, or all classes where there are fewer.
    cosines : (n, k) float32
        Highest cosine over the views.
    views : (n, k) int16
        Which view raised the class, an index into the picture's `view_names`.
    """

    classes: npt.NDArray[np.int16]
    cosines: npt.NDArray[np.float32]
    views: npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one source says of some pictures, in the order of `image_ids`.

    Attributes
    ----------
    image_ids : list of str
        One a picture.
    view_names : tuple of str
        Of every one of these pictures, the whole first.
    numbers : (n, len(NUMBER_NAMES)) float64
        What risk is a function of.
    top : TopClasses
        What to show: the classes of the highest cosines.
    asked : TopClasses
        The classes that were asked for, `NO_CLASS` where a picture has fewer than others.
    """

    image_ids: list[str]
    view_names: tuple[str, ...]
    numbers: npt.NDArray[np.float64]
    top: TopClasses
    asked: TopClasses


def compare(
    source: ClassSource, images: Mapping[str, EmbeddedImage], asked: Mapping[str, Sequence[int]]
) -> Iterator[Evidence]:
    """Yield the evidence of one source on some pictures, in blocks of pictures with the same views.

    The order is by views, then by image id, so that equal pictures give equal blocks and equal bytes.

    Parameters
    ----------
    source : ClassSource
        What they are compared with.
    images : mapping of str to EmbeddedImage
        By image id.
    asked : mapping of str to sequence of int
        Classes of which the cosine is wanted, whatever it is, by image id.

    Raises
    ------
    TableError
        A classifier's store holds a picture without the length of its features.
    """
    by_views: dict[tuple[str, ...], list[str]] = {}
    for image_id in sorted(images):
        by_views.setdefault(images[image_id].views, []).append(image_id)
    for views, image_ids in sorted(by_views.items()):
        n_a_block = max(1, _BLOCK_VIEWS // len(views))
        for start in range(0, len(image_ids), n_a_block):
            block = image_ids[start : start + n_a_block]
            yield _evidence(source, [images[image_id] for image_id in block], asked)


def _evidence(
    source: ClassSource, images: Sequence[EmbeddedImage], asked: Mapping[str, Sequence[int]]
) -> Evidence:
    image_ids = [image.image_id for image in images]
    vectors = torch.from_numpy(np.stack([image.embeddings for image in images]).astype(np.float32))  # (n, v, d)
    cosines = vectors @ torch.from_numpy(source.prototypes).T  # (n, v, c)
    norms = _norms(source, images)
    logits = cosines * CLIP_LOGIT_SCALE if source.head is None else _logits(source.head, vectors, norms)
    # Of one view the highest over the views is itself: no need of a copy.
    highest, views = cosines.max(dim=1) if cosines.shape[1] > 1 else (cosines[:, 0], None)  # (n, c)
    return Evidence(
        image_ids, images[0].views, _numbers(source, vectors[:, 0], norms[:, 0], cosines, logits),
        _top(highest, views), _asked(highest, views, [asked.get(image_id, ()) for image_id in image_ids]),
    )  # fmt: skip


def _norms(source: ClassSource, images: Sequence[EmbeddedImage]) -> torch.Tensor:
    """Return the lengths that vectors had, (n, v); 1 of CLIP, which gives directions only."""
    norms = [image.norms for image in images if image.norms is not None]
    if source.head is None:
        return torch.ones(len(images), len(images[0].views))
    if len(norms) < len(images):
        raise TableError(f"{source.store.folder}: holds features without their length: run 'embed' again")
    return torch.from_numpy(np.stack(norms))


def _logits(head: Head, vectors: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    weight, bias = (torch.from_numpy(values) for values in head)
    return norms[:, :, None] * (vectors @ weight.T) + bias  # (n, v, c)


def _numbers(
    source: ClassSource, whole: torch.Tensor, norms: torch.Tensor, cosines: torch.Tensor, logits: torch.Tensor
) -> npt.NDArray[np.float64]:
    best, at = logits.max(dim=2, keepdim=True)  # (n, v, 1)
    # Of the others alone: 1 minus the softmax of a sure picture is 0 in float32, its log-odds infinite.
    log_odds = (best - _logsumexp_(logits.scatter_(2, at, -torch.inf)))[:, :, 0]  # (n, v)
    cosine = cosines.amax(dim=2)
    columns = [
        cosine[:, 0], cosine.amax(dim=1), log_odds[:, 0], log_odds.amax(dim=1),
        whole.abs().sum(dim=1) / math.sqrt(whole.shape[1]), norms.log(),
        (whole @ torch.from_numpy(source.leading_directions).T).norm(dim=1),
    ]  # fmt: skip
    return torch.stack(columns, dim=1).double().numpy()


def _logsumexp_(values: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum of exponentials over the last axis, which is kept; `values` are used up."""
    # A finite shift: where all are -inf, as with one class, the sum of nothing is right.
    shift = values.amax(dim=2, keepdim=True).clamp_(min=torch.finfo(values.dtype).min)
    return values.sub_(shift).exp_().sum(dim=2, keepdim=True).log_().add_(shift)


def _top(highest: torch.Tensor, views: torch.Tensor | None) -> TopClasses:
    return _of_classes(highest_classes(highest), highest, views)


def _asked(highest: torch.Tensor, views: torch.Tensor | None, asked: Sequence[Sequence[int]]) -> TopClasses:
    classes = torch.full((len(asked), max(map(len, asked))), NO_CLASS)
    for row, wanted in enumerate(asked):
        if wanted:
            classes[row, : len(wanted)] = torch.tensor(wanted)
    return _of_classes(classes, highest, views)


def _of_classes(classes: torch.Tensor, highest: torch.Tensor, views: torch.Tensor | None) -> TopClasses:
    """Return classes, `NO_CLASS` among them, with their highest cosine and the view that has it."""
    columns = classes.clamp(min=0)
    raised_by = torch.zeros_like(classes) if views is None else views.gather(1, columns)
    return TopClasses(
        classes.to(torch.int16).numpy(), highest.gather(1, columns).numpy(), raised_by.to(torch.int16).numpy()
    )


def highest_classes(scores: torch.Tensor) -> torch.Tensor:
    """Return the columns of the highest scores of each row, highest first; of equals, the smaller column first."""
    n_shown = min(N_SHOWN_CLASSES, scores.shape[1])
    # One more than shown: which of several equal scores `topk` takes is not said; few rows have such at its end.
    highest, columns = scores.topk(min(n_shown + 1, scores.shape[1]), dim=1)
    has_more = highest[:, n_shown:].eq(highest[:, n_shown - 1 : n_shown]).any(dim=1)
    columns, order = columns[:, :n_shown].sort(dim=1)
    columns = columns.gather(1, highest.gather(1, order).sort(dim=1, descending=True, stable=True).indices)
    columns[has_more] = scores[has_more].sort(dim=1, descending=True, stable=True).indices[:, :n_shown]
    return columns
