"""Croissant 1.1: the set described as JSON-LD, with the responsible-AI fields filled from the logs.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and .../croissant-rai-spec.html. What the logs do
not tell and the user does not say is left out: a validator's warning is better than an invented date or name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests.durable import sha256_of_file, write_text
from manifests.exporters import described
from manifests.exporters.exported_set import RECORDS_NAME, ExportedSet, file_name, records_table
from manifests.exporters.placing import place_pictures
from manifests.exporters.record_tables import picture_path, write_records

METADATA_NAME = "croissant.json"
_RECORDS_ID, _PICTURES_ID, _SET_ID = "records.parquet", "pictures", "images"
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_croissant(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``croissant.json``, the ``records.parquet`` that it describes, and the pictures where exported."""
    table = _records(export)
    write_records(folder / RECORDS_NAME, table)
    digests = place_pictures(export, folder, picture_path)
    metadata = _metadata(export, table.schema, folder / RECORDS_NAME)
    write_text(folder / METADATA_NAME, json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")
    return digests


def _records(export: ExportedSet) -> pa.Table:
    """Return the table of records; with pictures, its last column is the file name by which they are joined."""
    if export.pictures is None:
        return records_table(export.records)
    table = records_table(export.records, picture_path)
    return table.append_column("file_name", pa.array(map(file_name, export.records), pa.string()))


def _metadata(export: ExportedSet, columns: pa.Schema, records_path: Path) -> dict[str, Any]:
    publication = export.publication
    licenses = sorted({record["license_url"] for record in export.records if record["license_url"]})
    stated = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": export.name,
        "version": export.version,
        "description": described.summary(export),
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "license": licenses,
        "sdLicense": described.ANNOTATION_LICENSE_URL,
        "creator": [{"@type": "sc:Organization", "name": name} for name in publication.creators],
        "url": publication.url,
        "datePublished": publication.published,
        "citeAs": described.CITATION,
        "keywords": ["out-of-distribution detection", "ImageNet-1K", "Open Images"],
        "prov:wasDerivedFrom": {"@id": described.SOURCE_URL},
        "distribution": _distribution(export, records_path),
        "recordSet": [_record_set(export, columns)],
    }
    return {key: value for key, value in (stated | _responsible_ai(export)).items() if value not in (None, [])}


def _responsible_ai(export: ExportedSet) -> dict[str, Any]:
    facts = export.facts
    days = [f"{day}T00:00:00Z" for day in (facts.first_day, facts.last_day) if day is not None]
    analysis = [text for text in (described.votes(export), described.certificate(export)) if text is not None]
    missing = sum(record["license_url"] is None for record in export.records)
    has_answers = bool(facts.n_answers)
    return {
        "rai:dataCollection": f"Images of Open Images. {described.protocol(export)}",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataCollectionTimeFrame": days,
        "rai:dataCollectionMissingData": f"{missing:,} of {len(export.records):,} images have no licence listed.",
        "rai:dataAnnotationProtocol": [described.protocol(export)] if has_answers else None,
        "rai:dataAnnotationPlatform": (
            [f"openimage-o-toolkit {version} (FiftyOne App)" for version in facts.tool_versions] or None
        ),
        "rai:annotationsPerItem": _annotations_per_item(export),
        "rai:dataAnnotationAnalysis": analysis,
        "rai:machineAnnotationTools": (
            ["Embedding models proposed the classes that stood beside each image; people decided."]
            if has_answers else None
        ),
        "rai:dataUseCases": [described.USE_CASE],
        "rai:dataLimitations": [described.LABEL_SENTENCE, described.RIGHTS_SENTENCE],
        "rai:personalSensitiveInformation": [described.PEOPLE_SENTENCE],
        "rai:dataReleaseMaintenancePlan": (
            "Versions are X.Y.Z: images removed, changed or moved between splits raise X, images added Y, the "
            "same records written anew Z. Withdrawn images leave a tombstone."
        ),
    }  # fmt: skip


def _annotations_per_item(export: ExportedSet) -> str | None:
    n_answers = export.facts.n_answers
    if not n_answers:
        return None
    return f"{n_answers / len(export.records):.2f} standing answers on average ({n_answers:,} in all)"


def _distribution(export: ExportedSet, records_path: Path) -> list[dict[str, Any]]:
    files = [{
        "@type": "cr:FileObject", "@id": _RECORDS_ID, "name": _RECORDS_ID, "contentUrl": RECORDS_NAME,
        "encodingFormat": "application/x-parquet", "sha256": sha256_of_file(records_path),
        "contentSize": f"{records_path.stat().st_size} B",
    }]  # fmt: skip
    if export.pictures is not None:
        files.append({
            "@type": "cr:FileSet", "@id": _PICTURES_ID, "name": _PICTURES_ID, "encodingFormat": "image/jpeg",
            "includes": "images/*/*.jpg",
        })  # fmt: skip
    return files


def _record_set(export: ExportedSet, columns: pa.Schema) -> dict[str, Any]:
    fields: list[dict[str, Any]] = [
        {
            "@type": "cr:Field",
            "@id": f"{_SET_ID}/{column.name}",
            "name": column.name,
            "dataType": "sc:Text" if column.type == pa.string() else "sc:Integer",
            "source": {"fileObject": {"@id": _RECORDS_ID}, "extract": {"column": column.name}},
        }
        for column in columns
    ]
    if export.pictures is not None:
        fields[-1]["references"] = {"fileSet": {"@id": _PICTURES_ID}, "extract": {"fileProperty": "filename"}}
        fields.append(_picture_field())
    return {
        "@type": "cr:RecordSet",
        "@id": _SET_ID,
        "name": _SET_ID,
        "key": {"@id": f"{_SET_ID}/image_id"},
        "field": fields,
    }


def _picture_field() -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{_SET_ID}/image",
        "name": "image",
        "dataType": "sc:ImageObject",
        "source": {"fileSet": {"@id": _PICTURES_ID}, "extract": {"fileProperty": "content"}},
    }
