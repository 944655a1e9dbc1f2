"""A Hugging Face data set: Parquet shards with the picture bytes, and a card; `datasets.load_dataset` reads it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.durable import replacing, write_text
from manifests.errors import InputError
from manifests.exporters import described
from manifests.exporters.attribution import license_name
from manifests.exporters.exported_set import ExportedSet, Record, file_name, records_table
from manifests.exporters.placing import checked_contents, size_bytes

CARD_NAME = "README.md"
SHARD_BYTES = 500_000_000
"""The size of shard that `datasets` itself makes (`MAX_SHARD_SIZE`)."""

# A row group is read whole for one picture; `datasets` writes 100 rows of images to a group too.
_ROW_GROUP_ROWS = 100
_SPLIT_PATTERN = re.compile(r"\w+(\.\w+)*", re.ASCII)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_IMAGE = pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
# Those of Creative Commons that the hub knows: https://huggingface.co/docs/hub/repositories-licenses
_LICENSE_TAGS = (
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
)  # fmt: skip
_TYPE_NAMES = {pa.int16(): "int16", pa.int32(): "int32", pa.string(): "string"}


def write_huggingface(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``data/<split>-<number>-of-<count>.parquet`` and the card, ``README.md``.

    Raises
    ------
    InputError
        A split has a name that the library does not take.
    """
    splits = export.by_split()
    for split, records in splits.items():
        if not _SPLIT_PATTERN.fullmatch(split):
            raise InputError(f"huggingface: a split is named by letters, digits, '_' and '.', found {split!r}")
        shards = list(_shards(export, records))
        for number, of_shard in enumerate(shards):
            path = folder / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
            _write_shard(export, of_shard, path)
    write_text(folder / CARD_NAME, _card(export, list(splits)))
    return {}


def _shards(export: ExportedSet, records: Sequence[Record]) -> Iterator[list[Record]]:
    """Part the records so that the pictures of each part stay below `SHARD_BYTES`, whole row groups each."""
    shard: list[Record] = []
    filled = 0
    remaining = iter(records)
    while group := list(islice(remaining, _ROW_GROUP_ROWS)):
        group_bytes = sum(size_bytes(export, record) for record in group)
        if shard and filled + group_bytes > SHARD_BYTES:
            yield shard
            shard, filled = [], 0
        shard, filled = shard + group, filled + group_bytes
    if shard:
        yield shard


def _write_shard(export: ExportedSet, records: Sequence[Record], path: Path) -> None:
    table_schema = _schema()
    found = checked_contents(export, records)
    # The pictures are compressed already, and compressed bytes differ between versions of a compressor.
    with replacing(path) as temporary, pq.ParquetWriter(temporary, table_schema, compression="none") as writer:
        while group := list(islice(found, _ROW_GROUP_ROWS)):
            images = [{"bytes": content, "path": file_name(record)} for record, content in group]
            columns = records_table([record for record, _ in group])
            table = columns.add_column(0, _IMAGE, pa.array(images, _IMAGE.type))
            writer.write_table(table.cast(table_schema))


def _schema() -> pa.Schema:
    """Return the columns, with the library's own note that the first one holds pictures."""
    columns = records_table([]).schema
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {field.name: {"dtype": _TYPE_NAMES[field.type], "_type": "Value"} for field in columns}
    note = json.dumps({"info": {"features": features}})
    return pa.schema([_IMAGE, *(pa.field(field.name, field.type) for field in columns)], {"huggingface": note})


def _card(export: ExportedSet, splits: Sequence[str]) -> str:
    front = "\n".join(_yaml(_front_matter(export, splits)))
    votes, certificate = described.votes(export), described.certificate(export)
    protocol = " ".join(part for part in (described.protocol(export), votes, certificate) if part)
    return (
        f"---\n{front}\n---\n\n# {export.name} {export.version}\n\n{described.summary(export)}\n\n"
        f"## Use\n\n{described.USE_CASE}\n\n## How the images were chosen\n\n{protocol}\n\n"
        "## Pictures\n\n"
        "Each row holds the bytes as Open Images serves them. `rotation_deg` is Open Images' rotation, "
        "counterclockwise, null where it is not known; nothing has been turned.\n\n"
        f"## Licences\n\n{described.RIGHTS_SENTENCE}\n\n{described.PEOPLE_SENTENCE}\n\n"
        f"## Citation\n\n```bibtex\n{described.CITATION}\n```\n"
    )


def _front_matter(export: ExportedSet, splits: Sequence[str]) -> dict[str, Any]:
    names = {license_name(record["license_url"]) for record in export.records}
    only = next(iter(names)) if len(names) == 1 else ""
    license_tag = only.lower().replace(" ", "-")
    is_known = license_tag in _LICENSE_TAGS
    n_images = len(export.records)
    front: dict[str, Any] = {
        "pretty_name": f"{export.name} {export.version}",
        "license": license_tag if is_known else "other",
    }
    if not is_known:
        front |= {"license_name": "per-image", "license_link": "ATTRIBUTION.csv"}
    return front | {
        "task_categories": ["image-classification"],
        "tags": ["out-of-distribution-detection", "imagenet-1k", "open-images"],
        "size_categories": [next((name for bound, name in _SIZES if n_images < bound), "1M<n<10M")],
        "configs": [{
            "config_name": "default",
            "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
        }],
    }  # fmt: skip


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield lines of YAML; texts are quoted as JSON, which YAML is a superset of."""
    for key, item in value.items():
        if not isinstance(item, list):
            yield f"{indent}{key}: {json.dumps(item, ensure_ascii=False)}"
            continue
        yield f"{indent}{key}:"
        for entry in item:
            if isinstance(entry, Mapping):
                first, *rest = _yaml(entry, f"{indent}  ")
                yield f"{indent}- {first.strip()}"
                yield from rest
            else:
                yield f"{indent}- {json.dumps(entry, ensure_ascii=False)}"
