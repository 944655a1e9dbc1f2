"""Reading pictures: the only place that opens image bytes, under one stated policy.

Policy
------
- JPEG, PNG, WebP and GIF only, known by their magic bytes, whatever the file is called.
- The header is checked first: more than `MAX_PIXELS` is refused before a pixel is decoded.
- A truncated or damaged picture is refused, never repaired.
- Of an animation, the first frame. Transparency is laid over white. Everything becomes 8-bit RGB.
- Orientation: Open Images' rotation where it is known and not zero (degrees counterclockwise), else the EXIF
  orientation of the file. Never both: each describes the same turn.
"""

import io
import struct
import warnings
from pathlib import Path

from PIL import Image

from manifests.errors import UnreadableImageError, one_line

MAX_PIXELS = 50_000_000
"""Open Images' copies have at most 1024 x 1024 pixels; 50 MP leaves room for originals and stops bombs."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

# Pillow lets all of these out of damaged files; found by flipping bytes of good ones.
_DAMAGE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, KeyError, TypeError, AttributeError,
    OverflowError, ZeroDivisionError, struct.error,
)  # fmt: skip

_ORIENTATION_TAG = 0x0112
# Only the one tag is read: ImageOps.exif_transpose writes the whole EXIF block anew, and fails on damaged ones.
_EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(content: bytes, rotation_deg: int | None = None) -> Image.Image:
    """Return the picture in `content` as an upright RGB image.

    Parameters
    ----------
    content : bytes
        The file as served.
    rotation_deg : int, optional
        Open Images' rotation, a multiple of 90, counterclockwise.

    Raises
    ------
    UnreadableImageError
        With status ``not_an_image`` (empty, or other magic bytes), ``too_large`` (more than `MAX_PIXELS`), or
        ``undecodable`` (damaged or truncated).
    """
    if not content:
        raise UnreadableImageError("not_an_image", "the file is empty")
    if not content.startswith(_MAGIC):
        raise UnreadableImageError("not_an_image", f"the file starts with {_printable(content[:16])}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd EXIF and palette transparency and then does the right thing; its warning
            # of a large picture is ours to judge, just below.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(
                    "too_large", f"{image.width} x {image.height} px is over the cap of {MAX_PIXELS} px"
                )
            image.load()
            return _upright(image, rotation_deg)
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("too_large", f"over the cap of {MAX_PIXELS} px") from error
    except _DAMAGE_ERRORS as error:
        raise UnreadableImageError("undecodable", f"cannot be decoded ({_stable(error)})") from error


def read_image(path: Path, rotation_deg: int | None = None) -> Image.Image:
    """Return the picture in the file `path` as `decode_image` does; a missing file is ``undecodable``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError("undecodable", f"cannot be read ({error.strerror})") from error
    return decode_image(content, rotation_deg)


def _upright(image: Image.Image, rotation_deg: int | None) -> Image.Image:
    if rotation_deg:
        return _rgb(image).rotate(rotation_deg, expand=True)
    turn = _EXIF_TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    return _rgb(image if turn is None else image.transpose(turn))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        image = image.point(lambda value: value / 257).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def _printable(head: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head)


def _stable(error: BaseException) -> str:
    # Pillow puts the address of the buffer into some messages; a reason must be equal on every run.
    return one_line(error, 160).split("<_io")[0].strip()
