"""The columns of Open Images' image-level labels, V3 to V7, and what becomes of their cells."""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.metadata.csv_tables import CsvForm
from manifests.image_ids import is_image_id

_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
_MID = re.compile(r"/[a-z]{1,3}/[0-9a-z_]{1,40}")
_CONFIDENCE = re.compile(r"0(\.[0-9]{1,17})?|1(\.0{1,17})?")

_HUMAN_WORDS = ("verification", "crowdsource-verification")
SOURCE_OF_WORD = dict.fromkeys(_HUMAN_WORDS, "human") | {"machine": "machine"}
"""Who gave a label, by the words of the column Source."""

ROWS_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label_mid", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
    ]
)


def _row(cells: dict[str, str]) -> dict[str, Any]:
    image_id, word, mid, confidence = (cells[name] for name in _COLUMNS)
    if not is_image_id(image_id):
        raise ValueError(f"ImageID: expected 1 to 64 letters, digits, '_' or '-', found {image_id[:80]!r}")
    if word not in SOURCE_OF_WORD:
        raise ValueError(f"Source: expected one of {', '.join(SOURCE_OF_WORD)}, found {word[:80]!r}")
    if not _MID.fullmatch(mid):
        raise ValueError(f"LabelName: expected a MID such as /m/0449p, found {mid[:80]!r}")
    if not _CONFIDENCE.fullmatch(confidence):
        raise ValueError(f"Confidence: expected a number from 0 to 1, found {confidence[:80]!r}")
    source = SOURCE_OF_WORD[word]
    if source == "human" and float(confidence) not in (0, 1):
        raise ValueError(f"Confidence: expected 0 or 1 where a person verified, found {confidence[:80]!r}")
    return {"image_id": image_id, "label_mid": mid, "source": source, "confidence": float(confidence)}


def _table(raw: pa.Table) -> pa.Table | None:
    image_id, word, mid, confidence = (raw.column(name).combine_chunks() for name in _COLUMNS)
    is_plain = (
        pc.match_substring_regex(image_id, r"^[A-Za-z0-9_-]{1,64}$"),
        pc.is_in(word, pa.array(SOURCE_OF_WORD)),
        pc.match_substring_regex(mid, f"^{_MID.pattern}$"),
        pc.match_substring_regex(confidence, f"^({_CONFIDENCE.pattern})$"),
    )
    if not all(pc.all(column, min_count=0).as_py() for column in is_plain):
        return None
    # By way of float64, as the exact reader does: rounding twice is not rounding once.
    numbers = pc.cast(confidence, pa.float64())
    is_whole = pc.is_in(numbers, pa.array([0.0, 1.0]))
    if not pc.all(pc.or_(pc.equal(word, "machine"), is_whole), min_count=0).as_py():
        return None
    source = pa.array(SOURCE_OF_WORD.values()).take(pc.index_in(word, pa.array(SOURCE_OF_WORD)))
    return pa.table([image_id, mid, source, pc.cast(numbers, pa.float32())], schema=ROWS_SCHEMA)


LABELS_CSV = CsvForm((_COLUMNS,), ROWS_SCHEMA, _table, _row)
"""``annotations-{human,machine}.csv`` of V3 and ``*-annotations-{human,machine}-imagelabels.csv`` since."""

NAMES_SCHEMA = pa.schema([("label_mid", pa.string()), ("label_name", pa.string())])


def _name_row(cells: dict[str, str]) -> dict[str, Any]:
    if not _MID.fullmatch(cells["LabelName"]):
        raise ValueError(f"LabelName: expected a MID such as /m/0449p, found {cells['LabelName'][:80]!r}")
    return {"label_mid": cells["LabelName"], "label_name": cells["DisplayName"]}


CLASS_NAMES_CSV = CsvForm(
    (("LabelName", "DisplayName"),), NAMES_SCHEMA, lambda _: None, _name_row, has_header=False
)
"""``class-descriptions.csv``, with or without a header: 20,000 rows, so all are read exactly."""
