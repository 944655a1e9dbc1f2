"""What tells which classes a picture may show: embeddings, each compared by the model that it was made with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.commands.summary import announce

if TYPE_CHECKING:
    from curation.embedding_store import EmbeddingStore
    from curation.encoder import Encoder, HeadedEncoder
    from curation.prototypes import Prototypes
    from curation.screening.sources import ClassSource
    from curation.store_key import StoreKey
    from manifests.label_space import ClassName
    from manifests.workspace import Workspace


@dataclass(frozen=True)
class Classifiers:
    """Models of timm, which are `scoring`'s, as commands of this package need them.

    Attributes
    ----------
    check : callable
        Takes model, local checkpoint and settings, and refuses what `load` would, as far as that takes no weights.
    load : callable
        Takes the same and a device, and returns the model as an encoder. Can be pickled.
    """

    check: Callable[[str, Path | None, Mapping[str, Any]], None]
    load: "Callable[[str, Path | None, Mapping[str, Any], str], HeadedEncoder]"

    def of_store(self, key: "StoreKey", device: str) -> "Encoder":
        """Load the encoder that an embedding store was made with, CLIP or a classifier."""
        from curation.prototypes import load_clip_of

        if key.source != "classifier":
            return load_clip_of(key, device)
        return self.load(key.model, Path(key.pretrained) if key.pretrained else None, key.settings, device)


@dataclass(frozen=True)
class ClassChoice:
    """Which embeddings are compared with which classes; attributes as the options of these names."""

    embeddings: list[str] | None = None
    classes: Path | None = None
    templates: str = "openai"
    exemplars: Path | None = None
    prototypes: str | None = None


def class_sources(
    classifiers: Classifiers, space: "Workspace", choice: ClassChoice, device: str
) -> "tuple[list[ClassName], list[ClassSource]]":
    """Return the in-distribution classes, and what compares pictures with them, one for each embedding store."""
    from curation.prototypes import class_prototypes
    from curation.screening.sources import open_sources

    def prototypes_of(store: "EmbeddingStore") -> "tuple[list[ClassName], Prototypes]":
        return class_prototypes(
            store, choice.classes, choice.templates, choice.exemplars, kind=choice.prototypes, device=device,
            load=classifiers.of_store, announce=announce,
        )  # fmt: skip

    return open_sources(space, choice.embeddings or (), prototypes_of=prototypes_of, announce=announce)
