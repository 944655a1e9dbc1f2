"""Class prototypes in the space of an embedding store: from names, from a head, from pictures, or from both.

Kinds
-----
- ``names``: of a CLIP store, the mean of the unit text embeddings of a class's name in all templates, made unit;
  of a classifier's, the row of its head, made unit.
- ``exemplars``: the mean of the unit vectors of a class's example pictures, made unit.
- ``fused``: the mean of these two, made unit; of a class without an example picture, the first alone.
"""

import hashlib
import json
from collections.abc import Callable, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from curation.embedding_store import HEAD_FILE_NAME, EmbeddingStore
from curation.encoder import Encoder
from curation.encoding import Encoding
from curation.exemplars import Exemplar, exemplar_means, exemplars_digest, find_exemplars
from curation.imagenet_classes import imagenet_classes
from curation.reading import ViewReader
from curation.store_key import StoreKey
from manifests.durable import replacing
from manifests.errors import InputError, TableError, one_line
from manifests.label_space import ClassName, read_label_space

KINDS = ("names", "exemplars", "fused")

MOST_EXEMPLARS_A_CLASS = 50
"""As many as ImageNet's validation set has of a class; the mean of 50 unit vectors is near that of all 1,300."""

_BATCH_SIZE = 64

Prototypes = npt.NDArray[np.float32]
LoadEncoder = Callable[[StoreKey, str], Encoder]
"""Loads the encoder of a store's key on a device."""


def load_clip_of(key: StoreKey, device: str) -> Encoder:
    """Return the CLIP encoder that a store was made with.

    Raises
    ------
    InputError
        The store was made with another kind of model.
    """
    from curation.clip import load_encoder

    if key.source != "clip":
        raise InputError(f"--exemplars: the store of {key.model} was made of features, not of pictures")
    return load_encoder(key.model, key.pretrained, device)


def compared_classes(classes_path: Path | None) -> list[ClassName]:
    """Return the in-distribution classes of a CSV, or else the 1,000 of ImageNet-1K."""
    return read_label_space(classes_path) if classes_path else imagenet_classes()


def class_prototypes(
    store: EmbeddingStore,
    classes_path: Path | None = None,
    template_set: str = "openai",
    exemplars_dir: Path | None = None,
    *,
    kind: str | None = None,
    device: str = "auto",
    n_workers: int = 2,
    load: LoadEncoder = load_clip_of,
    announce: Callable[[str], None] = lambda line: None,
) -> tuple[list[ClassName], Prototypes]:
    """Return the in-distribution classes and their unit prototypes (n_classes, n_dimensions) in a store's space.

    Prototypes are kept in the store under a digest of everything that made them, as 80,000 texts take minutes.

    Parameters
    ----------
    store : EmbeddingStore
        Gives the space.
    classes_path : Path, optional
        The classes as a CSV; by default the 1,000 of ImageNet-1K.
    template_set : str
        Prompt ensemble of a CLIP store, a key of `curation.clip.TEMPLATE_SETS`.
    exemplars_dir : Path, optional
        As `curation.exemplars.find_exemplars` takes it.
    kind : str, optional
        One of `KINDS`; by default ``fused`` where there are exemplars, else ``names``.
    device : str
        Where an encoder is loaded, if it is needed.
    n_workers : int
        Threads that read exemplars.
    load : callable
        Loads the store's encoder; the default knows CLIP alone.
    announce : callable
        Told in one line how many exemplars took part.

    Raises
    ------
    InputError
        The classes do not fit the head; `template_set` or `kind` is unknown, or `kind` and exemplars do not go
        together; a class has no exemplar and nothing else; the model has changed since the store was made.
    TableError
        A file of the store is damaged.
    """
    kind = kind or ("names" if exemplars_dir is None else "fused")
    if kind not in KINDS or (kind == "names") != (exemplars_dir is None):
        raise InputError(
            f"--prototypes: expected names, or with --exemplars exemplars or fused; found {kind} "
            f"{'without' if exemplars_dir is None else 'with'} --exemplars"
        )
    classes = compared_classes(classes_path)
    if kind != "exemplars":
        # Before the exemplars, which take longest.
        _check_names(store, classes, template_set)
    encoders = _Encoders(store, load, device)
    if exemplars_dir is None:
        return classes, _of_names(store, classes, template_set, encoders)
    exemplars = find_exemplars(exemplars_dir, classes, MOST_EXEMPLARS_A_CLASS)
    if kind == "exemplars":
        _check_all_shown(exemplars_dir, classes, {exemplar.class_index for exemplar in exemplars})
    of_pictures = _of_exemplars(
        store, exemplars, exemplars_dir, encoders, n_classes=len(classes), n_workers=n_workers, announce=announce
    )
    if kind == "exemplars":
        # Again, as some pictures may not be readable.
        _check_all_shown(exemplars_dir, classes, {*np.flatnonzero(of_pictures.any(axis=1)).tolist()})
        return classes, of_pictures
    fused = _of_names(store, classes, template_set, encoders) + of_pictures
    return classes, fused / np.linalg.norm(fused, axis=1, keepdims=True)


def _check_all_shown(folder: Path, classes: list[ClassName], shown: Set[int]) -> None:
    missing = [known.name for known in classes if known.class_index not in shown]
    if missing:
        raise InputError(
            f"--exemplars {folder}: {len(missing)} classes have no picture ({missing[0]}): add some, "
            "or take --prototypes fused"
        )


class _Encoders:
    """Loads a store's encoder once, when it is first asked for, and checks that it is still the same."""

    def __init__(self, store: EmbeddingStore, load: LoadEncoder, device: str) -> None:
        self._store = store
        self._load = load
        self._device = device
        self._encoder: Encoder | None = None

    def get(self) -> Encoder:
        if self._encoder is None:
            key = self._store.key
            encoder = self._load(key, self._device)
            if encoder.digest != key.encoder_digest:
                raise InputError(
                    f"{key.pretrained or key.model} has changed since 'embed' used it: run 'embed' again"
                )
            self._encoder = encoder
        return self._encoder


def _check_names(store: EmbeddingStore, classes: list[ClassName], template_set: str) -> None:
    from curation.clip import TEMPLATE_SETS

    head = store.read_head()
    if head is None and template_set not in TEMPLATE_SETS:
        raise InputError(f"--templates: expected {' or '.join(TEMPLATE_SETS)}, found {template_set!r}")
    if head is not None and len(classes) != len(head[0]):
        raise InputError(f"the head has {len(head[0])} classes, the names are {len(classes)}: give --classes")


def _of_names(
    store: EmbeddingStore, classes: list[ClassName], template_set: str, encoders: _Encoders
) -> Prototypes:
    head = store.read_head()
    if head is not None:
        return _of_head(head[0], store.folder / HEAD_FILE_NAME)
    from curation.clip import ClipEncoder

    names = [known.name for known in classes]

    def make() -> Prototypes:
        encoder = encoders.get()
        if not isinstance(encoder, ClipEncoder):
            raise InputError(f"--templates: {encoder.name} encodes no texts")
        return encoder.encode_class_names(names, template_set)

    return _kept(store, ["names", template_set, *names], make)


def _of_head(weight: Prototypes, path: Path) -> Prototypes:
    norms = np.linalg.norm(weight, axis=1, keepdims=True)
    if not (np.isfinite(weight).all() and norms.all()):
        raise InputError(f"{path}: class {int(np.argmin(norms))} has a zero weight row, so no direction, or a NaN")
    unit: Prototypes = weight / norms
    return unit


def _of_exemplars(
    store: EmbeddingStore,
    exemplars: list[Exemplar],
    folder: Path,
    encoders: _Encoders,
    *,
    n_classes: int,
    n_workers: int,
    announce: Callable[[str], None],
) -> Prototypes:
    def make() -> Prototypes:
        encoder = encoders.get()
        reader = ViewReader(encoder.pixels, encoder.input_px, 0, store.key.decoding == "fast")
        encoding = Encoding(encoder, reader, _BATCH_SIZE, n_workers, store.key.precision)
        means = exemplar_means(exemplars, folder, n_classes, encoding)
        announce(
            f"exemplars: {means.n_pictures.sum():,} pictures of {np.count_nonzero(means.n_pictures):,} of "
            f"{n_classes:,} classes, {len(means.unreadable):,} unreadable"
            + "".join(f"; first: {path}: {reason}" for path, reason in sorted(means.unreadable.items())[:1])
        )
        return means.prototypes

    return _kept(store, ["exemplars", str(n_classes), exemplars_digest(exemplars)], make)


def _kept(store: EmbeddingStore, made_of: list[str], make: Callable[[], Prototypes]) -> Prototypes:
    """Return prototypes that the store keeps under a digest of what they are made of, or make them.

    Model, preprocessing and precision are the store's own, so that its folder stands for them.
    """
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    path = store.folder / f"prototypes-{digest}.safetensors"
    if not path.exists():
        prototypes = make()
        with replacing(path) as temporary:
            save_file({"prototypes": prototypes}, temporary)
    try:
        return load_file(path)["prototypes"]
    except (SafetensorError, KeyError, OSError) as error:
        raise TableError(f"{path}: damaged ({one_line(error)}); delete it, and it is made again") from error
