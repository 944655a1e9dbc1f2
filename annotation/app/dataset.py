"""The FiftyOne dataset of one annotator: a projection of the workspace that can be deleted at any time.

It carries neither `is_control` nor anybody's answers, as whoever opens the App sees every field.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo

from annotation.review import ReviewItem
from manifests.label_space import ClassName

PANEL_NAME = "openimage_o_judge"
"""The panel's name; the same word stands in ``plugins/judge/dist/index.umd.js``."""

WORKSPACE_NAME = "judge"

_SAMPLES_PER_BATCH = 1000


def build_dataset(
    workspace_root: Path, annotator_id: str, items: Sequence[ReviewItem], class_names: Mapping[int, ClassName]
) -> str:
    """Return the name of the dataset with one sample for each item, built anew only where its content changed."""
    # A database that the user names may hold other workspaces, and other annotators of this one.
    owner = hashlib.sha256(f"{workspace_root.resolve()}\n{annotator_id}".encode()).hexdigest()
    name = f"openimage-o-{owner[:12]}"
    content = _content_digest(items, class_names)
    if name in fo.list_datasets() and fo.load_dataset(name).info.get("content") == content:
        return name
    dataset = fo.Dataset(name, overwrite=True, persistent=True)
    for batch in _batches(items):
        dataset.add_samples([_sample(item, class_names) for item in batch], progress=False)
    dataset.save_workspace(
        WORKSPACE_NAME,
        fo.Space(children=[fo.Panel(type=PANEL_NAME, pinned=True)]),
        description="Judge candidates one by one",
    )
    # Last, so that a dataset left half-built by a kill is built anew.
    dataset.info = {"annotator_id": annotator_id, "content": content}
    dataset.save()
    return name


def _sample(item: ReviewItem, class_names: Mapping[int, ClassName]) -> fo.Sample:
    names = [
        class_names[class_index].name if class_index in class_names else f"class {class_index}"
        for class_index in item.shown_classes
    ]
    return fo.Sample(
        filepath=str(item.path),
        # With the size given, the App does not open every picture.
        metadata=fo.ImageMetadata(width=item.width_px, height=item.height_px),
        image_id=item.image_id,
        risk=item.risk,
        shown_names=names,
        shown_classes=list(item.shown_classes),
        shown_similarities=list(item.shown_similarities),
    )


def _batches(items: Sequence[ReviewItem]) -> Iterator[tuple[ReviewItem, ...]]:
    remaining = iter(items)
    while batch := tuple(itertools.islice(remaining, _SAMPLES_PER_BATCH)):
        yield batch


def _content_digest(items: Sequence[ReviewItem], class_names: Mapping[int, ClassName]) -> str:
    digest = hashlib.sha256()
    content: list[Any] = [*items, *sorted(class_names.items())]
    for part in content:
        digest.update(repr(part).encode())
    return digest.hexdigest()
