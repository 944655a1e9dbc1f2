"""The stage `screen`: which pictures go to the annotators, with which ten classes, in which order."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from curation.duplicates import duplicate_groups, duplicates_of, perceptual_hash
from curation.embedding_store import EmbeddingStore
from curation.feature_source import read_head_rows
from curation.views import FULL
from manifests import schema
from manifests.durable import replacing
from manifests.errors import InputError, TableError, UnreadableImageError
from manifests.images import read_image
from manifests.label_space import ClassName, read_label_space, write_label_space
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace


@dataclass(frozen=True)
class ScreenRules:
    """What is dropped.

    Attributes
    ----------
    in_class_above : float or None
        Drop pictures whose highest class similarity exceeds this cosine; None drops none, only orders.
    control_share : float
        Share of those that goes to the annotators all the same, unmarked.
    least_similarity, most_bits : float, int
        A pair is a near-duplicate at this cosine or more, and at this Hamming distance or less of 64.
    seed : int
        Chooses the control images.
    """

    in_class_above: float | None = None
    control_share: float = 0.05
    least_similarity: float = 0.9
    most_bits: int = 8
    seed: int = 0


@dataclass
class _Screened:
    image_ids: list[str]
    digests: list[str]
    full: list[npt.NDArray[np.float32]]
    shown: list[tuple[list[int], list[float]]]


def screen_pictures(
    workspace: Workspace,
    rules: ScreenRules,
    *,
    classes_path: Path | None = None,
    template_set: str = "openai",
    embeddings_digest: str | None = None,
    device: str = "auto",
    announce: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Write ``screen.parquet`` and ``classes.csv``, and return counts per status and reason.

    A picture's similarity to a class is the highest cosine over its views; it shows the ten classes of the
    highest. Its risk, (1 + highest similarity) / 2, orders the queue and is no probability.

    Parameters
    ----------
    workspace : Workspace
        With downloads and embeddings.
    rules : ScreenRules
        What is dropped.
    classes_path : Path, optional
        The in-distribution classes as a CSV; by default open_clip's 1,000 ImageNet-1K names.
    template_set : str
        Prompt ensemble, a key of `curation.clip.TEMPLATE_SETS`.
    embeddings_digest : str, optional
        Which embeddings, where the workspace holds several.
    device : str
        Where class names are encoded.
    announce : callable
        Told in one line which embeddings and prototypes are used.

    Raises
    ------
    InputError
        A rule or file is not what it should be, or the classes do not fit the prototypes.
    StageMissingError
        Downloads or embeddings are missing or not complete.
    """
    _check_rules(rules)
    store = EmbeddingStore.choose(workspace, embeddings_digest)
    arguments = {
        "rules": vars(rules), "classes": str(classes_path) if classes_path else None,
        "templates": template_set, "embeddings": store.key.digest,
    }  # fmt: skip
    inputs = [workspace.path_of(schema.CANDIDATES), workspace.path_of(schema.DOWNLOADS), *store.paths()]
    with workspace.stage("screen", arguments, [*inputs, *([classes_path] if classes_path else [])]) as record:
        unreadable = store.read_unreadable()
        pictures = stored_pictures(workspace)
        classes, prototypes = class_prototypes(store, classes_path, template_set, device)
        announce(f"screen: {store.key.model} ({store.key.digest}) against {len(classes)} class prototypes")
        screened = _compared(store, pictures, prototypes)
        missing = pictures.keys() - set(screened.image_ids) - unreadable.keys()
        if missing:
            raise InputError(
                f"{len(missing)} downloaded pictures have no embedding ({min(missing)}): run 'embed' again"
            )
        duplicates = _find_duplicates(screened, pictures, rules)
        rows = [
            _row(image_id, shown, duplicates.get(image_id), rules)
            for image_id, shown in zip(screened.image_ids, screened.shown, strict=True)
        ]
        rows += [_unreadable_row(image_id) for image_id in unreadable.keys() & pictures.keys()]
        write_label_space(workspace.classes_path, classes)
        workspace.write(schema.SCREEN, rows)
        record.seed = rules.seed
        record.counts = dict(Counter(_count_word(row) for row in rows))
        return record.counts


def class_prototypes(
    store: EmbeddingStore, classes_path: Path | None, template_set: str, device: str
) -> tuple[list[ClassName], npt.NDArray[np.float32]]:
    """Return the in-distribution classes and their unit prototypes (n_classes, n_dimensions) in a store's space.

    Of a CLIP store, text prototypes, kept in the store under a digest of names and templates, as 80,000 texts
    take minutes; of features, the head's rows.
    """
    classes = read_label_space(classes_path) if classes_path else None
    if store.key.source == "features":
        prototypes = read_head_rows(Path(store.key.model))
        classes = classes or _imagenet_classes()
        if len(classes) != len(prototypes):
            raise InputError(
                f"the head has {len(prototypes)} classes, the names are {len(classes)}: give --classes"
            )
        return classes, prototypes
    from curation.clip import TEMPLATE_SETS, load_encoder

    if template_set not in TEMPLATE_SETS:
        raise InputError(f"--templates: expected {' or '.join(TEMPLATE_SETS)}, found {template_set!r}")
    classes = classes or _imagenet_classes()
    names = [known.name for known in classes]
    text_digest = hashlib.sha256("\n".join([template_set, *names]).encode()).hexdigest()[:16]
    path = store.folder / f"prototypes-{text_digest}.safetensors"
    if not path.exists():
        encoder = load_encoder(store.key.model, store.key.pretrained, device)
        if encoder.digest != store.key.encoder_digest:
            raise InputError(f"{store.key.pretrained} has changed since 'embed' used it: run 'embed' again")
        with replacing(path) as temporary:
            save_file({"prototypes": encoder.encode_class_names(names, template_set)}, temporary)
    try:
        return classes, load_file(path)["prototypes"]
    except (SafetensorError, KeyError, OSError) as error:
        raise TableError(f"{path}: damaged ({error}); delete it, and it is made again") from error


def _imagenet_classes() -> list[ClassName]:
    from curation.clip import imagenet_class_names

    return [ClassName(class_index, name) for class_index, name in enumerate(imagenet_class_names())]


def _compared(
    store: EmbeddingStore, pictures: Mapping[str, StoredPicture], prototypes: npt.NDArray[np.float32]
) -> _Screened:
    """Return, shard by shard, each picture's whole-view vector and the classes to show.

    Only those are kept: all similarities of all pictures would take 4 bytes a class and picture.
    """
    screened = _Screened([], [], [], [])
    for images in store.shards():
        for image_id, image in images.items():
            if image_id not in pictures or not image.is_of(pictures[image_id]):
                continue
            vectors = image.embeddings.astype(np.float32)  # (n_views, n_dimensions)
            screened.image_ids.append(image_id)
            screened.digests.append(image.sha256)
            screened.full.append(vectors[image.views.index(FULL)])
            screened.shown.append(_shown((vectors @ prototypes.T).max(axis=0)))
    return screened


def _find_duplicates(
    screened: _Screened, pictures: Mapping[str, StoredPicture], rules: ScreenRules
) -> dict[str, str]:
    def hash_of(image_id: str) -> int:
        path = pictures[image_id].path
        try:
            return perceptual_hash(read_image(path, pictures[image_id].rotation_deg))
        except UnreadableImageError as error:
            raise InputError(
                f"{path}: {error.reason}, since 'embed' read it: run 'download' and 'embed' again"
            ) from error

    if not screened.image_ids:
        return {}
    full = np.stack(screened.full)
    # float16 storage leaves lengths of 1 +- 5e-4, which the bound on the cosine should not feel.
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    groups = duplicate_groups(
        screened.image_ids, screened.digests, full, hash_of,
        least_similarity=rules.least_similarity, most_bits=rules.most_bits,
    )  # fmt: skip
    n_pixels = {image_id: stored.width_px * stored.height_px for image_id, stored in pictures.items()}
    return duplicates_of(groups, n_pixels)


def _shown(similarities: npt.NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Return the classes of the highest similarities, highest first, and these."""
    # A stable sort: of equal similarities the smaller class index stands first on every machine.
    shown = np.argsort(-similarities, kind="stable")[: schema.N_SHOWN_CLASSES]
    return shown.tolist(), similarities[shown].tolist()


def _row(
    image_id: str, shown: tuple[list[int], list[float]], duplicate_of: str | None, rules: ScreenRules
) -> dict[str, Any]:
    classes, similarities = shown
    highest = similarities[0]
    is_in_class = rules.in_class_above is not None and highest > rules.in_class_above
    reason = "duplicate" if duplicate_of else "in_class" if is_in_class else None
    is_control = reason == "in_class" and _is_chosen(image_id, rules.control_share, rules.seed)
    return {
        "image_id": image_id,
        "status": "dropped" if reason and not is_control else "review",
        "reason": reason,
        "duplicate_of": duplicate_of,
        "risk": min(1.0, max(0.0, (1 + highest) / 2)),
        "shown_classes": classes,
        "shown_similarities": similarities,
        "is_control": is_control,
    }


def _unreadable_row(image_id: str) -> dict[str, Any]:
    return {"image_id": image_id, "status": "dropped", "reason": "unreadable", "is_control": False}


def _is_chosen(image_id: str, share: float, seed: int) -> bool:
    """Return whether an image falls into a random share that depends on its id and the seed alone."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {image_id}".encode()).digest()[:8])
    return drawn < share * 2**64


def _count_word(row: dict[str, Any]) -> str:
    if row["is_control"]:
        return "control"
    return str(row["reason"]) if row["status"] == "dropped" else "review"


def _check_rules(rules: ScreenRules) -> None:
    bounds: Sequence[tuple[str, float, float, float]] = (
        ("--in-class-above", 0 if rules.in_class_above is None else rules.in_class_above, -1, 1),
        ("--control-share", rules.control_share, 0, 1),
        ("--near-duplicate-above", rules.least_similarity, -1, 1),
        ("--near-duplicate-bits", rules.most_bits, 0, 64),
    )
    for flag, value, least, most in bounds:
        if not least <= value <= most:
            raise InputError(f"{flag}: expected {least} to {most}, found {value}")
