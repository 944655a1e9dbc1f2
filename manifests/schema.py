"""Every table of a workspace: its file, its columns, and the words that its columns may hold."""

from dataclasses import dataclass

import pyarrow as pa

from manifests.errors import TableError

DOWNLOAD_STATUSES = (
    "ok",
    "missing",
    "placeholder",
    "not_an_image",
    "undecodable",
    "too_large",
    "refused",
    "failed",
)
LABEL_SOURCES = ("human", "machine")
SCREEN_STATUSES = ("review", "dropped")
SCREEN_REASONS = ("in_class", "duplicate", "leak", "unreadable", "low_quality")
ANSWERS = ("in", "out", "difficult", "skip", "undo")
QUEUES = ("first", "inspection", "dispute", "gold", "audit")
VERDICT_WORDS = ("out", "in", "difficult", "disputed", "open")
VERDICT_SOURCES = ("consensus", "adjudication", "inspection")

OOD_LABEL = -1
"""The label of every out-of-distribution image in exported lists (OpenOOD's convention)."""

N_SHOWN_CLASSES = 10
"""How many similar classes an annotator sees, as in the ViM paper, section 5."""

ROW_GROUP_ROWS = 65_536


@dataclass(frozen=True)
class TableSpec:
    """One table of the workspace.

    Attributes
    ----------
    file_name : str
        Path below the workspace.
    schema : pyarrow.Schema
        Columns in order; a column that may be empty is nullable.
    written_by : str
        The command that writes it, named where the table is missing.
    words : dict of str to tuple of str
        For columns of fixed vocabulary, the words allowed.
    key : tuple of str
        Columns that together tell one row from every other.
    parts_dir : str, optional
        Folder of the workspace with what the table is made of, which changes with it from version to version.
    """

    file_name: str
    schema: pa.Schema
    written_by: str
    words: dict[str, tuple[str, ...]]
    key: tuple[str, ...] = ("image_id",)
    parts_dir: str | None = None

    def check(self, table: pa.Table, where: str) -> pa.Table:
        """Return `table` after checking columns, types, nulls, vocabulary and unique ids.

        Raises
        ------
        TableError
            Naming `where`, the column, what was expected and what was found.
        """
        if difference := difference_of_form(table.schema, self.schema):
            raise TableError(f"{where}: {difference}")
        for field in self.schema:
            column = table.column(field.name)
            if not field.nullable and column.null_count:
                raise TableError(f"{where}: column {field.name} holds {column.null_count} empty cells")
            if field.name in self.words:
                strange = set(column.unique().to_pylist()) - {*self.words[field.name], None}
                if strange:
                    raise TableError(f"{where}: column {field.name} holds the unknown word {min(strange)!r}")
        if table.num_rows != _n_distinct(table.select(list(self.key))):
            raise TableError(f"{where}: an {' with its '.join(self.key)} stands in more than one row")
        return table


def difference_of_form(found: pa.Schema, expected: pa.Schema) -> str:
    """Return how the columns of a file differ from those of this version, in words; empty where they do not."""
    told = [
        f"{word} column{'s' * (len(names) > 1)} {', '.join(names)}"
        for word, names in (
            ("lacks the", [name for name in expected.names if name not in found.names]),
            ("has the unknown", [name for name in found.names if name not in expected.names]),
        )
        if names
    ]
    if not told and found.names != expected.names:
        return f"expected the columns {', '.join(expected.names)}, in this order; found {', '.join(found.names)}"
    told += [
        f"column {field.name} should be {field.type}, is {found.field(field.name).type}"
        for field in expected
        if found.names.count(field.name) == 1 and found.field(field.name).type != field.type
    ]
    return "; ".join(told)


def _n_distinct(keys: pa.Table) -> int:
    if keys.num_columns == 1:
        # Grouping imports pandas, which takes 0.25 s and 35 MB.
        return len(keys.column(0).unique())
    return int(keys.group_by(keys.column_names).aggregate([]).num_rows)


def _required(name: str, dtype: pa.DataType) -> pa.Field:
    return pa.field(name, dtype, nullable=False)


IMAGE_ID = _required("image_id", pa.string())

CANDIDATES = TableSpec(
    "candidates.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("subset", pa.string()),
            _required("url", pa.string()),
            pa.field("original_url", pa.string()),
            pa.field("landing_url", pa.string()),
            pa.field("license_url", pa.string()),
            pa.field("author", pa.string()),
            pa.field("author_profile_url", pa.string()),
            pa.field("title", pa.string()),
            pa.field("original_size_bytes", pa.int64()),
            pa.field("original_md5", pa.string()),
            pa.field("rotation_deg", pa.int16()),
        ]
    ),
    "candidates",
    {},
)

ORIGINAL_DUPLICATES = TableSpec(
    "original_duplicates.parquet",
    pa.schema([IMAGE_ID, _required("duplicate_of", pa.string()), _required("is_dropped", pa.bool_())]),
    "candidates",
    {},
)
"""Images whose original has the MD5 and size of that of an earlier id."""

WITHDRAWN = TableSpec("withdrawn.parquet", pa.schema([IMAGE_ID]), "candidates", {})
"""Candidates whose original Flickr no longer has (``nan`` in Rotation); elsewhere, no rotation means not known."""

LABELS = TableSpec(
    "labels.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("label_mid", pa.string()),
            pa.field("label_name", pa.string()),
            _required("source", pa.string()),
            _required("confidence", pa.float32()),
            pa.field("wnid", pa.string()),
        ]
    ),
    "labels",
    {"source": LABEL_SOURCES},
    key=("image_id", "label_mid", "source", "confidence"),
)

DOWNLOADS = TableSpec(
    "downloads.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("status", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("http_status", pa.int16()),
            _required("attempts", pa.int16()),
            pa.field("sha256", pa.string()),
            pa.field("size_bytes", pa.int64()),
            pa.field("width_px", pa.int32()),
            pa.field("height_px", pa.int32()),
            pa.field("path", pa.string()),
        ]
    ),
    "download",
    {"status": DOWNLOAD_STATUSES},
)

SCREEN = TableSpec(
    "screen.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("status", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("duplicate_of", pa.string()),
            pa.field("risk", pa.float32()),
            pa.field("shown_classes", pa.list_(pa.int16())),
            pa.field("shown_similarities", pa.list_(pa.float32())),
            pa.field("shown_sources", pa.list_(pa.string())),
            pa.field("shown_views", pa.list_(pa.string())),
            pa.field("absent_classes", pa.list_(pa.int16())),
            _required("is_control", pa.bool_()),
        ]
    ),
    "screen",
    {"status": SCREEN_STATUSES, "reason": SCREEN_REASONS},
)

QUALITY_CHECKS = ("blur", "dark", "low_information", "odd_size", "extreme_aspect", "near_empty")

QUALITY = TableSpec(
    "quality.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("sha256", pa.string()),
            *(_required(f"{check}_score", pa.float32()) for check in QUALITY_CHECKS),
            *(_required(f"is_{check}", pa.bool_()) for check in QUALITY_CHECKS),
        ]
    ),
    "quality",
    {},
    parts_dir="quality",
)
"""Pictures that cannot be read have no row; scores and flags are those of `curation.screening.checks`."""

DUPLICATE_KINDS = ("bytes", "pixels")

DUPLICATES = TableSpec(
    "duplicates.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("duplicate_of", pa.string()),
            _required("kind", pa.string()),
            _required("bits", pa.int16()),
            pa.field("similarity", pa.float32()),
            _required("agreement", pa.float32()),
        ]
    ),
    "duplicates",
    {"kind": DUPLICATE_KINDS},
)
"""Every picture of a group but its representative, and what the two have in common."""

LEAKS = TableSpec(
    "leaks.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("against", pa.string()),
            _required("other", pa.string()),
            _required("kind", pa.string()),
            pa.field("bits", pa.int16()),
            pa.field("similarity", pa.float32()),
            pa.field("agreement", pa.float32()),
        ]
    ),
    "leaks",
    {"kind": (*DUPLICATE_KINDS, "id")},
    key=("image_id", "against", "other"),
)
"""Pairs of a candidate and a picture of another set: by id, equal in bytes, or alike."""

VERDICTS = TableSpec(
    "verdicts.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("verdict", pa.string()),
            _required("source", pa.string()),
            _required("n_out", pa.int16()),
            _required("n_in", pa.int16()),
            _required("n_difficult", pa.int16()),
            pa.field("class_index", pa.int16()),
        ]
    ),
    "consensus",
    {"verdict": VERDICT_WORDS, "source": VERDICT_SOURCES},
)

GOLD_ANSWERS = ("in", "out", "difficult")

GOLD = TableSpec(
    "gold.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("answer", pa.string()),
            pa.field("class_index", pa.int16()),
            pa.field("note", pa.string()),
        ]
    ),
    "gold",
    {"answer": GOLD_ANSWERS},
)
"""Images whose answer is known beforehand; annotators meet them unmarked."""


def audit_table(audit: str) -> TableSpec:
    """Return the table of one audit, ``audits/<audit>.parquet``: its blind sample, and each image's stratum."""
    return TableSpec(
        f"audits/{audit}.parquet",
        pa.schema([IMAGE_ID, _required("audit", pa.string()), pa.field("stratum", pa.string())]),
        "audit plan",
        {},
    )


OPINIONS = TableSpec(
    "opinions.parquet",
    pa.schema(
        [
            IMAGE_ID,
            *(_required(f"p_{answer}", pa.float64()) for answer in ("out", "in", "difficult")),
            pa.field("opinion", pa.string()),
        ]
    ),
    "annotators",
    {"opinion": ("out", "in", "difficult")},
)
"""Dawid-Skene's posterior of each truth, and the likeliest, null in a tie: a second opinion, never the verdict."""

MANIFEST = TableSpec(
    "manifest.parquet",
    pa.schema(
        [
            IMAGE_ID,
            pa.field("sha256", pa.string()),
            pa.field("url", pa.string()),
            pa.field("license_url", pa.string()),
            pa.field("author", pa.string()),
            pa.field("title", pa.string()),
            pa.field("landing_url", pa.string()),
            pa.field("width_px", pa.int32()),
            pa.field("height_px", pa.int32()),
            pa.field("verdict_source", pa.string()),
            pa.field("n_out", pa.int16()),
            _required("split", pa.string()),
            pa.field("strata", pa.string()),
        ]
    ),
    "build-manifest",
    {},
)

LEFT_OUT = TableSpec(
    "left_out.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("reason", pa.string()),
            pa.field("n_out", pa.int16()),
            pa.field("n_in", pa.int16()),
            pa.field("n_difficult", pa.int16()),
        ]
    ),
    "build-manifest",
    {},
)
"""Beside each manifest: every image that is not in it, why, and its votes where it had any."""


LOCALIZED = TableSpec(
    "localized.parquet",
    pa.schema(
        [
            IMAGE_ID,
            _required("class_index", pa.int16()),
            _required("class_name", pa.string()),
            _required("localizer", pa.string()),
            _required("sha256", pa.string()),
            _required("rotation_deg", pa.int16()),
            _required("area_share", pa.float32()),
            _required("peak", pa.float32()),
        ]
    ),
    "localize",
    {},
    key=("image_id", "class_index"),
    parts_dir="masks",
)
"""Of each image and shown class, by the last `localize`: the name that was asked for, the share of the area with
evidence, and the highest. The masks themselves lie in ``masks/<localizer>/``; see `manifests.masks`."""

MASKS = pa.schema(
    [
        IMAGE_ID,
        _required("sha256", pa.string()),
        _required("rotation_deg", pa.int16()),
        _required("class_index", pa.int16()),
        _required("class_name", pa.string()),
        _required("area_share", pa.float32()),
        _required("peak", pa.float32()),
        _required("mask", pa.binary()),
    ]
)
"""Of one shard of masks: one row an image and class, each mask a PNG; beside it the name that was asked for, and
the two facts of `LOCALIZED`."""

UNREADABLE = pa.schema([IMAGE_ID, _required("sha256", pa.string()), _required("reason", pa.string())])
"""Beside the shards of masks: the pictures that have none, and why."""


def embeddings_schema(n_dimensions: int) -> pa.Schema:
    """Return the schema of one embeddings shard: one row an image and view, unit vectors in float16.

    `norm` is the length that a vector had before; null where it means nothing, as for CLIP.
    """
    return pa.schema(
        [
            IMAGE_ID,
            _required("sha256", pa.string()),
            _required("view", pa.string()),
            _required("embedding", pa.list_(pa.float16(), n_dimensions)),
            pa.field("norm", pa.float32()),
        ]
    )


def features_schema(n_features: int) -> pa.Schema:
    """Return the schema of one feature set: one row an image, class index null where unknown."""
    return pa.schema(
        [
            IMAGE_ID,
            pa.field("class_index", pa.int32()),
            # That no element is empty is told here too: it is read half as fast again.
            _required("features", pa.list_(pa.field("element", pa.float32(), nullable=False), n_features)),
        ]
    )
