"""The FiftyOne dataset behind the annotators' panel: pictures and nothing that anybody knows about them.

Whoever opens the App sees every field, so it carries neither risk nor `is_control` nor answers: what an annotator
may see comes from the judging session. It is a projection of the workspace that can be deleted at any time.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import fiftyone as fo
from fiftyone.core.odm import database

from annotation.review import ReviewItem

PANEL_NAME = "openimage_o_judge"
"""The panel's name; the same word stands in ``plugins/judge/dist/index.umd.js``."""

WORKSPACE_NAME = "judge"

_SAMPLES_PER_BATCH = 10_000


def dataset_name_of(workspace_root: Path) -> str:
    """Return the name of the annotators' dataset of one workspace; a database may hold several."""
    return f"openimage-o-{hashlib.sha256(str(workspace_root.resolve()).encode()).hexdigest()[:12]}"


def build_dataset(workspace_root: Path, items: Iterable[ReviewItem]) -> str:
    """Return the name of the dataset with one sample for each item, built anew only where they changed."""
    name = dataset_name_of(workspace_root)
    by_id = sorted(items, key=lambda item: item.image_id)
    content = _content_digest(by_id)
    if name in fo.list_datasets() and fo.load_dataset(name).info.get("content") == content:
        return name
    dataset = fo.Dataset(name, overwrite=True, persistent=True)
    dataset.add_sample_field("image_id", fo.StringField)
    for start in range(0, len(by_id), _SAMPLES_PER_BATCH):
        batch = [_sample(item) for item in by_id[start : start + _SAMPLES_PER_BATCH]]
        # The schema is known: to look for new fields in every sample takes a third of the time.
        dataset.add_samples(batch, expand_schema=False, progress=False)
    dataset.save_workspace(
        WORKSPACE_NAME,
        fo.Space(children=[fo.Panel(type=PANEL_NAME, pinned=True)]),
        description="Judge candidates one by one",
    )
    # Last, so that a dataset left half-built by a kill is built anew.
    dataset.info = {"content": content}
    dataset.save()
    # A database that is killed before its next checkpoint keeps the samples but counts none of them, and the App
    # takes that for an empty dataset.
    database.get_db_client().admin.command("fsync")
    return name


def _sample(item: ReviewItem) -> fo.Sample:
    return fo.Sample(
        filepath=str(item.path),
        # With the size given, the App does not open every picture.
        metadata=fo.ImageMetadata(width=item.width_px, height=item.height_px),
        image_id=item.image_id,
    )


def _content_digest(items: Sequence[ReviewItem]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.image_id, str(item.path), item.width_px, item.height_px)).encode())
    return digest.hexdigest()
