"""Rows of Open Images' metadata for the sample's pictures: every address, name and title is made up."""

import base64
import hashlib

import numpy as np

COLUMNS = (
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
)  # fmt: skip
"""Header of ``test-images-with-rotation.csv`` (V4 to V7)."""

LICENSE_URL = "https://creativecommons.org/licenses/by/2.0/"

NO_THUMBNAIL_SHARE = 0.025
"""As in Open Images: about 2.5 % of rows have no thumbnail."""

_FIRST_NAMES = ("Sample", "Drawn", "Paper", "Crayon", "Pixel", "Ímagined", "Nobody", "Ink")
_LAST_NAMES = ("Person", "Fox", "von Nirgendwo", "O'Sketch", "Müller-Muster", "架空", "Doe", "Bezier")
_TITLES = (
    "IMG_{n}", "DSC0{n}", "P{n}", "Sunday, by the lake", 'The "good" one', "Day {n}/365", "untitled", "",
    "été à la mer", "夏の思い出", "what, again?", "Kitchen table, 7 a.m.", 'She said "no", so I kept it',
    "100_{n}.JPG", "Ørsted Park; rain", "Fundstück №{n}", "¡Mira!", "tests, tests & more tests",
    "Wandering — part {n}",
)  # fmt: skip
# A title says nothing of what is drawn: the truth must not leak into the metadata.


def make_up_row(rng: np.random.Generator, image_id: str, original: bytes, rotation: str) -> dict[str, str]:
    """Return one metadata row; size and MD5 are those of `original`, the file as its author uploaded it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of names, titles and addresses.
    image_id : str
        16 hex digits.
    original : bytes
        The upright original, which is not the mirror's copy.
    rotation : str
        The cell as written: degrees, ``nan`` or empty.
    """
    author_index = int(rng.integers(40))
    author = f"{_FIRST_NAMES[author_index % 8]} {_LAST_NAMES[author_index // 5]}"
    author_number, photo_number = 9_000_000 + author_index, int(rng.integers(10**9, 10**10))
    file_url = f"https://farm{rng.integers(1, 9)}.example.invalid/{rng.integers(1000, 9999)}/{photo_number}"
    title = str(rng.choice(_TITLES)).format(n=int(rng.integers(100, 9999)))
    has_thumbnail = rng.random() >= NO_THUMBNAIL_SHARE
    cells = (
        image_id,
        "test",
        f"{file_url}_o.jpg",
        f"https://www.example.invalid/photos/{author_number}/{photo_number}",
        LICENSE_URL,
        f"https://www.example.invalid/people/{author_number}/",
        author,
        title,
        str(len(original)),
        base64.b64encode(hashlib.md5(original, usedforsecurity=False).digest()).decode(),
        f"{file_url}_z.jpg" if has_thumbnail else "",
        rotation,
    )
    return dict(zip(COLUMNS, cells, strict=True))
