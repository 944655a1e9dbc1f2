"""A data set as FiftyOne stores it on disk (its type `FiftyOneDataset`), written without FiftyOne.

``fiftyone.Dataset.from_dir(folder, dataset_type=fiftyone.types.FiftyOneDataset)`` loads it with every field. The
form is that of `FiftyOneDatasetExporter` in fiftyone 1.22: `metadata.json` declares the fields, `samples.json`
holds them, in MongoDB's extended JSON. Paths are relative to the folder; times are set on loading.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.durable import replacing, write_text
from manifests.exporters import described
from manifests.exporters.exported_set import ExportedSet, Record, file_name, records_table
from manifests.exporters.placing import place_pictures, size_bytes

_WRITTEN_FOR = "1.22.0"
"""The release whose form this is; a later one migrates it on loading."""

_LABEL_WORD = "out_of_distribution"
_FIELDS = "fiftyone.core.fields."
_STRING, _INT, _FLOAT = f"{_FIELDS}StringField", f"{_FIELDS}IntField", f"{_FIELDS}FloatField"
_OBJECT_ID, _DATE, _LIST = f"{_FIELDS}ObjectIdField", f"{_FIELDS}DateTimeField", f"{_FIELDS}ListField"
_EMBEDDED = f"{_FIELDS}EmbeddedDocumentField"


def write_fiftyone(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``metadata.json``, ``samples.json`` and the pictures below ``data/``."""
    write_text(folder / "metadata.json", json.dumps(_dataset(export), indent=2) + "\n")
    with replacing(folder / "samples.json") as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"samples": [\n')
        for number, record in enumerate(export.records):
            separator = ",\n" if number else ""
            stream.write(separator + json.dumps(_sample(record, size_bytes(export, record)), ensure_ascii=False))
        stream.write("\n]}\n")
    return place_pictures(export, folder, _path)


def _path(record: Record) -> str:
    return f"data/{file_name(record)}"


def _dataset(export: ExportedSet) -> dict[str, Any]:
    info = {key: export.header[key] for key in ("name", "version", "content_sha256")}
    return {
        "version": _WRITTEN_FOR,
        "media_type": "image",
        "description": described.summary(export),
        "tags": [export.name],
        "info": {"manifest": info},
        "app_config": {},
        "classes": {},
        "default_classes": [_LABEL_WORD],
        "group_media_types": {},
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": _own_fields() + _record_fields(),
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def _own_fields() -> list[dict[str, Any]]:
    """Return the fields that every data set has, and the label."""
    measures = [_field("mime_type", _STRING)]
    measures += [_field(name, _INT) for name in ("size_bytes", "width", "height", "num_channels")]
    classification = [
        _field("id", _OBJECT_ID, db_field="_id"), _field("tags", _LIST, subfield=_STRING),
        _field("label", _STRING), _field("confidence", _FLOAT), _field("logits", f"{_FIELDS}VectorField"),
    ]  # fmt: skip
    return [
        _field("id", _OBJECT_ID, db_field="_id"),
        _field("filepath", _STRING),
        _field("tags", _LIST, subfield=_STRING),
        _field("metadata", _EMBEDDED, embedded_doc_type="fiftyone.core.metadata.ImageMetadata", fields=measures),
        _field("created_at", _DATE, read_only=True),
        _field("last_modified_at", _DATE, read_only=True),
        _field("_media_type", _STRING),
        _field("_rand", _FLOAT),
        _field("_dataset_id", _OBJECT_ID),
        _field(
            "ground_truth", _EMBEDDED, embedded_doc_type="fiftyone.core.labels.Classification",
            fields=classification,
        ),
    ]  # fmt: skip


def _record_fields() -> list[dict[str, Any]]:
    columns = records_table([]).schema
    return [_field(column.name, _STRING if column.type == pa.string() else _INT) for column in columns]


def _field(name: str, field_type: str, **settings: Any) -> dict[str, Any]:
    field: dict[str, Any] = {
        "name": name, "ftype": field_type, "embedded_doc_type": None, "subfield": None, "fields": [],
        "db_field": name, "description": None, "info": None, "read_only": False,
    }  # fmt: skip
    return field | settings


def _sample(record: Record, picture_bytes: int) -> dict[str, Any]:
    digest = hashlib.sha256(record["image_id"].encode()).hexdigest()
    measures = {"_cls": "ImageMetadata", "size_bytes": picture_bytes}
    measures |= {"width": record["width_px"], "height": record["height_px"]}
    return {
        # An object id has 24 hex digits. FiftyOne draws `_rand` from [0, 1); both follow from the image id here.
        "_id": {"$oid": digest[:24]},
        "_rand": int(digest[24:36], 16) / 16**12,
        "_media_type": "image",
        "filepath": _path(record),
        "tags": [record["split"]],
        "metadata": measures,
        "ground_truth": {
            "_id": {"$oid": digest[40:]}, "_cls": "Classification", "tags": [], "label": _LABEL_WORD
        },
        **record,
        "label": schema.OOD_LABEL,
    }  # fmt: skip
