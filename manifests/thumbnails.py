"""Thumbnails for pages that show pictures, made under the one policy of reading them."""

import base64
from pathlib import Path

from PIL import Image

from manifests.errors import UnreadableImageError
from manifests.images import jpeg_bytes, read_image

_LONGEST_SIDE_PX = 256
"""Cards are about 180 px wide: sharp on screens with two dots a pixel where a picture is upright."""

_QUALITY = 80

NO_PICTURE = "no picture here"


def thumbnail(path: Path, rotation_deg: int | None = None) -> bytes | str:
    """Return the picture at `path` as a small JPEG, or in words why there is none.

    Parameters
    ----------
    path : Path
        Where its bytes lie, if they do.
    rotation_deg : int, optional
        As `manifests.images.read_image` takes it.
    """
    if not path.is_file():
        return NO_PICTURE
    try:
        picture = read_image(path, rotation_deg, least_side_px=_LONGEST_SIDE_PX)
    except UnreadableImageError as error:
        return error.status
    picture.thumbnail((_LONGEST_SIDE_PX, _LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    return jpeg_bytes(picture, _QUALITY)


def data_address(content: bytes) -> str:
    """Return a JPEG as an address that holds it, so that it lies in the page itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
