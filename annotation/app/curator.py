"""The curator's dataset: every stored picture with all that is known of it, views of it, and a map of it.

It is a projection of the workspace that follows it: of a workspace whose pictures are the same, only the columns
that changed are written again, so that views which the curator saved go on naming the same samples.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.utils as fou
import numpy as np
import numpy.typing as npt
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.odm import database

from annotation.app.dataset import dataset_name_of
from annotation.picture_facts import FACTS, Cells, Fact
from manifests.stored_pictures import StoredPicture
from manifests.workspace import Workspace

VECTOR_FIELD = "clip"
SIMILARITY_KEY = "similar"
MAP_KEY = "map"

_SAMPLES_PER_BATCH = 10_000
_INDEXED = ("image_id", "risk", "verdict", "status", "duplicate_group", "disagreement")
_FIELDS = {
    "text": fo.StringField,
    "number": fo.FloatField,
    "count": fo.IntField,
    "truth": fo.BooleanField,
}


@dataclass(frozen=True)
class CuratorContent:
    """What the dataset is made of.

    Attributes
    ----------
    pictures : mapping of str to StoredPicture
        By image id, sorted.
    columns : mapping of str to mapping
        Of each of `annotation.picture_facts.FACTS`, cells by image id.
    vectors : mapping of str to ndarray
        Embeddings by image id; may be empty.
    map_method : str
        ``pca`` or ``umap``.
    """

    pictures: Mapping[str, StoredPicture]
    columns: Mapping[str, Cells]
    vectors: Mapping[str, npt.NDArray[np.float32]]
    map_method: str = "pca"


def curator_dataset_name(workspace: Workspace) -> str:
    """Return the name of the curator's dataset, which is not the annotators'."""
    return f"{dataset_name_of(workspace.root)}-curator"


def build_curator_dataset(workspace: Workspace, content: CuratorContent) -> fo.Dataset:
    """Return the dataset, built or brought up to date where the workspace has changed."""
    name = curator_dataset_name(workspace)
    dataset = fo.load_dataset(name) if name in fo.list_datasets() else fo.Dataset(name, persistent=True)
    # As stored before the samples were last changed: a build that was killed left none.
    stored = dict(dataset.info.get("digests", {}))
    digests = _digests(content)
    if stored.get("") != digests[""]:
        _remember(dataset, {})
        _add_samples(dataset, content)
    else:
        for fact in FACTS:
            if stored.get(fact.name) != digests[fact.name]:
                _set_column(dataset, fact, content)
    _describe(dataset)
    _remember(dataset, digests)
    return dataset


def _remember(dataset: fo.Dataset, digests: Mapping[str, str]) -> None:
    dataset.info["digests"] = dict(digests)
    dataset.save()
    # A database that is killed before its next checkpoint keeps the samples but counts none of them.
    database.get_db_client().admin.command("fsync")


def _digests(content: CuratorContent) -> dict[str, str]:
    """Return the digest of each column, and under the empty name that of the pictures and their vectors."""
    whole = hashlib.sha256(content.map_method.encode())
    for image_id, picture in content.pictures.items():
        row = (image_id, str(picture.path), picture.width_px, picture.height_px, picture.sha256)
        whole.update(repr(row).encode())
        whole.update(np.ascontiguousarray(content.vectors.get(image_id, ())).tobytes())
    return {"": whole.hexdigest()} | {
        fact.name: hashlib.sha256(
            repr([_cell(content, fact, image_id) for image_id in content.pictures]).encode()
        ).hexdigest()
        for fact in FACTS
    }


def _cell(content: CuratorContent, fact: Fact, image_id: str) -> object:
    found = content.columns.get(fact.name, {}).get(image_id)
    # An empty list is no cell either: in the sidebar, none of both is "None".
    return found or None if fact.kind == "texts" else found


def _add_samples(dataset: fo.Dataset, content: CuratorContent) -> None:
    for key in dataset.list_brain_runs():
        dataset.delete_brain_run(key)
    dataset.clear()
    for fact in FACTS:
        if fact.kind == "texts":
            dataset.add_sample_field(fact.name, fo.ListField, subfield=fo.StringField)
        else:
            dataset.add_sample_field(fact.name, _FIELDS[fact.kind])
    dataset.add_sample_field(VECTOR_FIELD, fo.VectorField)
    image_ids = list(content.pictures)
    dataset.add_samples([_sample(content, image_ids[0])], progress=False)
    samples = dataset._sample_collection
    template = samples.find_one()
    for batch in _batches(image_ids):
        # A copy of what FiftyOne itself stored for the first, which gives the parts that only it knows: to make
        # objects of 125,000 samples takes minutes, this seconds.
        samples.insert_many([_document(content, image_id, template) for image_id in batch])
    samples.delete_one({"_id": template["_id"]})
    for field in _INDEXED:
        dataset.create_index(field)
    if len(content.vectors) > 1:
        _compute_map(dataset, content.map_method)


def _batches(image_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(image_ids), _SAMPLES_PER_BATCH):
        yield image_ids[start : start + _SAMPLES_PER_BATCH]


def _sample(content: CuratorContent, image_id: str) -> fo.Sample:
    picture = content.pictures[image_id]
    return fo.Sample(
        filepath=str(picture.path),
        # With the size given, the App does not open every picture.
        metadata=fo.ImageMetadata(width=picture.width_px, height=picture.height_px),
    )


def _document(content: CuratorContent, image_id: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample as FiftyOne stores it; what is not known of a picture is left out, as it does itself."""
    picture = content.pictures[image_id]
    cells = {fact.name: _cell(content, fact, image_id) for fact in FACTS}
    vector = content.vectors.get(image_id)
    size = {"width": picture.width_px, "height": picture.height_px}
    own = {name: cell for name, cell in cells.items() if cell is not None} | {
        "_id": _sample_id(image_id),
        "_rand": int.from_bytes(_sample_id(image_id).binary[:6]) / 2**48,
        "filepath": str(picture.path),
        "metadata": dict(template["metadata"]) | size,
    }
    return dict(template) | own | ({} if vector is None else {VECTOR_FIELD: fou.serialize_numpy_array(vector)})


def _sample_id(image_id: str) -> ObjectId:
    # By the image alone, so that views that name samples outlive a dataset that is built anew.
    return ObjectId(hashlib.sha256(image_id.encode()).digest()[:12])


def _set_column(dataset: fo.Dataset, fact: Fact, content: CuratorContent) -> None:
    cells = {image_id: _cell(content, fact, image_id) for image_id in content.pictures}
    dataset.set_values(fact.name, cells, key_field="image_id", progress=False)


def _compute_map(dataset: fo.Dataset, method: str) -> None:
    with_vector = dataset.exists(VECTOR_FIELD)
    # Vectors are read from the field: those that a run holds itself take ten times as long to load.
    fob.compute_similarity(with_vector, embeddings=VECTOR_FIELD, brain_key=SIMILARITY_KEY)
    fob.compute_visualization(
        with_vector, embeddings=VECTOR_FIELD, brain_key=MAP_KEY, method=method, num_dims=2, seed=0, verbose=False
    )


def _describe(dataset: fo.Dataset) -> None:
    """Give names to the groups of the sidebar and save the toolkit's views; those of the curator stay."""
    if not dataset.app_config.sidebar_groups:
        dataset.app_config.sidebar_groups = _sidebar_groups()
    by_risk = dataset.sort_by("risk", reverse=True)
    views = {
        "by risk": by_risk.match(F("status") == "review"),
        "disputed": by_risk.match(F("verdict") == "disputed"),
        "annotators disagree": dataset.match(F("disagreement") > 0).sort_by("disagreement", reverse=True),
        "agreed out": by_risk.match(F("verdict") == "out"),
        "in": by_risk.match(F("verdict") == "in"),
        "difficult": by_risk.match(F("verdict") == "difficult"),
        "duplicate groups": dataset.match(F("duplicate_group_size") > 1).sort_by("duplicate_group"),
        "dropped": by_risk.match(F("status") == "dropped"),
        "controls": by_risk.match(F("is_control") == True),  # noqa: E712 - an expression of FiftyOne
        "gold": dataset.exists("gold_answer"),
        "low quality": dataset.exists("quality_flags"),
        "with notes": dataset.match(F("n_notes") > 0),
    }
    for name, view in views.items():
        dataset.save_view(name, view, overwrite=True)


def _sidebar_groups() -> list[fo.SidebarGroupDocument]:
    groups: dict[str, list[str]] = {}
    for fact in FACTS:
        groups.setdefault(fact.group, []).append(fact.name)
    shown = [fo.SidebarGroupDocument(name=name, paths=paths) for name, paths in groups.items()]
    # What FiftyOne adds to every sample comes last and closed.
    of_fiftyone = {
        "tags": [],
        "other": ["id", "filepath", VECTOR_FIELD, "created_at", "last_modified_at"],
        "metadata": [
            f"metadata.{part}" for part in ("size_bytes", "mime_type", "width", "height", "num_channels")
        ],
    }
    return shown + [
        fo.SidebarGroupDocument(name=name, paths=paths, expanded=False) for name, paths in of_fiftyone.items()
    ]
