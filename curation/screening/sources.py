"""What proposes classes for a picture: one embedding store against the class prototypes of its space."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.embedding_store import EmbeddingStore
from curation.prototypes import class_prototypes
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.workspace import Workspace

CLIP_LOGIT_SCALE = 100.0
"""What CLIP's cosines are multiplied by before a softmax: the cap on its learnt scale, which OpenAI's and
open_clip's trained models all reach (Radford et al. 2021, section 2.5)."""

Head = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""A classifier's weight (n_classes, n_dimensions) and bias (n_classes,)."""

PrototypesOf = Callable[[EmbeddingStore], tuple[list[ClassName], npt.NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class ClassSource:
    """One store, its prototypes, and how its cosines become logits.

    Attributes
    ----------
    word : str
        ``clip`` or ``classifier``: the word for `schema.SCREEN`'s ``shown_sources``.
    store : EmbeddingStore
        The vectors.
    prototypes : (n_classes, n_dimensions) float32
        Unit rows.
    head : Head or None
        With the length of a feature vector it gives the classifier's own logits. None of CLIP, where logits are
        cosines times `CLIP_LOGIT_SCALE`.
    """

    word: str
    store: EmbeddingStore
    prototypes: npt.NDArray[np.float32]
    head: Head | None

    @functools.cached_property
    def leading_directions(self) -> npt.NDArray[np.float32]:
        """The unit directions in which the prototypes differ most, a tenth as many as classes, (k, n_dimensions).

        Pictures of none of the classes have less of their length there (Cook et al. 2020, "Outlier detection
        through null space analysis of neural networks"); with half or twice as many, risk is as good.
        """
        centred = self.prototypes.astype(np.float64) - self.prototypes.mean(axis=0, dtype=np.float64)
        _, directions = np.linalg.eigh(centred.T @ centred)
        n_leading = max(1, min(len(centred) // 10, centred.shape[1]))
        return directions[:, -n_leading:].T.astype(np.float32).copy()

    @property
    def digest(self) -> str:
        """16 hex digits over store, prototypes and head: a calibration holds for equal ones only."""
        digest = hashlib.sha256(self.store.key.digest.encode())
        for values in (self.prototypes, *(self.head or ())):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]


def open_sources(
    workspace: Workspace,
    wanted: Sequence[str] = (),
    *,
    prototypes_of: PrototypesOf = class_prototypes,
    announce: Callable[[str], None] = lambda line: None,
) -> tuple[list[ClassName], list[ClassSource]]:
    """Return the in-distribution classes, and the sources in a fixed order: CLIP first, then by digest.

    Parameters
    ----------
    workspace : Workspace
        With embeddings.
    wanted : sequence of str
        Digests or model names; none means every store of the workspace.
    prototypes_of : callable
        Returns the classes and their prototypes in a store's space.
    announce : callable
        Told in one line of each source.

    Raises
    ------
    StageMissingError
        There are no embeddings, or those of a store are not complete.
    InputError
        A wanted store is not there, or two sources have other classes.
    """
    sources: list[ClassSource] = []
    classes: list[ClassName] = []
    stores = EmbeddingStore.find(workspace, wanted)
    for store in stores:
        # Raises where it is not whole: before the prototypes, which take minutes.
        store.read_unreadable()
    for store in sorted(stores, key=lambda store: (_word(store) != "clip", store.key.digest)):
        found, prototypes = prototypes_of(store)
        if classes and found != classes:
            raise InputError(
                f"--embeddings: {sources[0].store.key.digest} has {len(classes)} classes, "
                f"{store.key.digest} has {len(found)} or others: name the stores of one label space"
            )
        classes = found
        source = ClassSource(_word(store), store, prototypes, _head_of(store, len(found)))
        announce(f"{source.word}: {store.key.model} ({store.key.digest}), {len(found)} class prototypes")
        sources.append(source)
    return classes, sources


def _word(store: EmbeddingStore) -> str:
    return "clip" if store.key.source == "clip" else "classifier"


def _head_of(store: EmbeddingStore, n_classes: int) -> Head | None:
    head = store.read_head()
    if head is None:
        return None
    weight, bias = head
    if len(weight) != n_classes:
        raise InputError(f"{store.folder}: its head has {len(weight)} classes, the names are {n_classes}")
    return weight, bias
