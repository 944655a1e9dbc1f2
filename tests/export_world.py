"""A workspace with a frozen set in two splits, and what every loader must make of it."""

import hashlib
import io

from PIL import Image

from manifests import schema
from manifests.build import build_manifest
from manifests.exporters.export import exported_set
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, pictures

LICENSE = "https://creativecommons.org/licenses/by/2.0/"
VAL, TEST = ("0000", "0003"), ("0001", "0002", "0004", "0005", "0006")
HOSTILE_TITLE = '=HYPERLINK("http://x.invalid","<script>alert(1)</script>")'
HOSTILE_AUTHOR = "<img src=x onerror=\"document.title='run'\">\u202egnp"


def make_workspace(root, *, is_reversed=False):
    """Seven pictures; the first has a hostile title and author, the last nothing but its address."""
    workspace = add_pictures(Workspace(root), pictures(7))
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    for number, row in enumerate(rows[:-1]):
        row |= {
            "license_url": LICENSE, "author": f"author {number}", "title": f"title {number}",
            "landing_url": f"https://flickr.invalid/{number}", "rotation_deg": 0,
        }  # fmt: skip
    rows[0] |= {"title": HOSTILE_TITLE, "author": HOSTILE_AUTHOR, "landing_url": "javascript:alert(1)"}
    if is_reversed:
        rows.reverse()
    workspace.write(schema.CANDIDATES, rows)
    return workspace


def freeze_lists(workspace, version="1.0.0"):
    lists = []
    for split, ids in (("val", VAL), ("test", TEST)):
        path = workspace.root.parent / f"{split}.txt"
        path.write_text("".join(f"{image_id}.jpg\n" for image_id in ids))
        lists.append((split, path))
    return build_manifest(workspace, "openimage_o", version, lists=lists)


def frozen_set(root, **how):
    workspace = make_workspace(root, **how)
    return exported_set(workspace, freeze_lists(workspace))


def pixel_digest(image):
    """Digest of a picture as three bytes a pixel, as stored: no rotation."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def expected_rows(image_ids):
    """What a loader must give: id, label, pixels."""
    contents = pictures(7)
    return [[one, -1, pixel_digest(Image.open(io.BytesIO(contents[one])))] for one in image_ids]


def tree_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
