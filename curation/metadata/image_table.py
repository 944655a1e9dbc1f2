"""The columns of Open Images' image tables, V3 to V7, and what becomes of their cells."""

import base64
import binascii
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.metadata.csv_tables import CsvForm
from manifests import schema
from manifests.image_ids import is_image_id
from manifests.mirror import MIRROR_URL, picture_url

SUBSETS = ("train", "validation", "test")

_V3_COLUMNS = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL",
)  # fmt: skip
_V4_COLUMNS = (*_V3_COLUMNS, "Rotation")
_KEPT_AS_THEY_ARE = {
    "original_url": "OriginalURL", "landing_url": "OriginalLandingURL", "license_url": "License",
    "author": "Author", "author_profile_url": "AuthorProfileURL", "title": "Title",
}  # fmt: skip

IMAGES_SCHEMA = schema.CANDIDATES.schema.append(pa.field("is_withdrawn", pa.bool_(), nullable=False))
"""The columns of ``candidates.parquet``, then whether Flickr no longer has the original."""

# Spellings that the fast way knows; the exact one takes any spelling of these numbers.
_ROTATIONS = {"": None, "nan": None} | {f"{turn}{end}": turn for turn in (0, 90, 180, 270) for end in ("", ".0")}
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_BASE64 = np.zeros(256, np.uint8)
_BASE64[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)] = np.arange(
    64
)


def _row(cells: dict[str, str]) -> dict[str, Any]:
    image_id, subset = cells["ImageID"], cells["Subset"]
    if not is_image_id(image_id):
        raise ValueError(f"ImageID: expected 1 to 64 letters, digits, '_' or '-', found {image_id[:80]!r}")
    if subset not in SUBSETS:
        raise ValueError(f"Subset: expected one of {', '.join(SUBSETS)}, found {subset[:80]!r}")
    rotation_deg, is_withdrawn = _rotation(cells.get("Rotation", ""))
    return {
        "image_id": image_id,
        "subset": subset,
        "url": picture_url(MIRROR_URL, subset, image_id),
        **{ours: cells[theirs] or None for ours, theirs in _KEPT_AS_THEY_ARE.items()},
        "original_size_bytes": _size(cells["OriginalSize"]),
        "original_md5": _md5(cells["OriginalMD5"]),
        "rotation_deg": rotation_deg,
        "is_withdrawn": is_withdrawn,
    }


def _size(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise ValueError(f"OriginalSize: expected bytes as a whole number, found {text[:80]!r}")
    return int(text)


def _md5(text: str) -> str | None:
    """Return the hex form of an MD5 that Open Images gives as base64 of its 16 bytes."""
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise ValueError(f"OriginalMD5: expected base64 of 16 bytes, found {text[:80]!r}")
    return digest.hex()


def _rotation(text: str) -> tuple[int | None, bool]:
    """Return degrees counterclockwise, None where unknown, and whether the original is withdrawn (``nan``)."""
    if not text:
        return None, False
    try:
        degrees = float(text)
    except ValueError:
        degrees = -1.0
    if math.isnan(degrees):
        return None, True
    if degrees not in (0, 90, 180, 270):
        raise ValueError(f"Rotation: expected 0, 90, 180, 270 or nan, found {text[:80]!r}")
    return int(degrees), False


def _table(raw: pa.Table) -> pa.Table | None:
    cells = {name: raw.column(name).combine_chunks() for name in raw.column_names}
    image_id, subset = cells["ImageID"], cells["Subset"]
    rotation = cells.get("Rotation", pa.repeat("", len(image_id)))
    is_plain = (
        pc.match_substring_regex(image_id, r"^[A-Za-z0-9_-]{1,64}$"),
        pc.is_in(subset, pa.array(SUBSETS)),
        pc.match_substring_regex(cells["OriginalSize"], r"^(0|[1-9][0-9]{0,17})?$"),
        pc.match_substring_regex(cells["OriginalMD5"], r"^([A-Za-z0-9+/]{22}==)?$"),
        pc.is_in(rotation, pa.array(_ROTATIONS)),
    )
    if not all(pc.all(column, min_count=0).as_py() for column in is_plain):
        return None
    url = pc.binary_join_element_wise(f"{MIRROR_URL}/", subset, "/", image_id, ".jpg", "")
    rotation_deg = pa.array(_ROTATIONS.values(), pa.int16()).take(pc.index_in(rotation, pa.array(_ROTATIONS)))
    columns = {
        "image_id": image_id,
        "subset": subset,
        "url": url,
        **{ours: _null_where_empty(cells[theirs]) for ours, theirs in _KEPT_AS_THEY_ARE.items()},
        "original_size_bytes": pc.cast(_null_where_empty(cells["OriginalSize"]), pa.int64()),
        "original_md5": _hex_of_base64(cells["OriginalMD5"]),
        "rotation_deg": rotation_deg,
        "is_withdrawn": pc.equal(rotation, "nan"),
    }
    return pa.table([columns[name] for name in IMAGES_SCHEMA.names], schema=IMAGES_SCHEMA)


def _null_where_empty(cells: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)


def _hex_of_base64(cells: pa.StringArray) -> pa.StringArray:
    """Return MD5s as hex; each cell is empty, which gives null, or 22 characters of base64 and ``==``."""
    is_given = pc.not_equal(cells, "")
    given = cells.filter(is_given)
    offsets = np.frombuffer(given.buffers()[1], np.int32)[given.offset : given.offset + len(given) + 1]
    text = np.frombuffer(given.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]].reshape(-1, 24)
    groups = np.concatenate([_BASE64[text[:, :22]], np.zeros((len(text), 2), np.uint8)], axis=1).reshape(-1, 6, 4)
    sextets = groups.astype(np.uint32)
    words = sextets[..., 0] << 18 | sextets[..., 1] << 12 | sextets[..., 2] << 6 | sextets[..., 3]
    digests = np.stack([words >> 16, words >> 8, words], axis=-1).astype(np.uint8).reshape(-1, 18)[:, :16]
    digits = _HEX[np.stack([digests >> 4, digests & 15], axis=-1)].reshape(-1)
    ends = np.concatenate([[0], np.cumsum(np.asarray(is_given) * 32)]).astype(np.int32)
    hexes = pa.Array.from_buffers(pa.string(), len(cells), [None, pa.py_buffer(ends), pa.py_buffer(digits)])
    return pc.if_else(is_given, hexes, pa.scalar(None, pa.string()))


IMAGES = CsvForm((_V3_COLUMNS, _V4_COLUMNS), IMAGES_SCHEMA, _table, _row)
"""V3's ``images.csv`` (11 columns) and V4 to V7's ``*-images-with-rotation.csv`` (one more)."""
