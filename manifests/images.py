"""Pictures to bytes and back: the only place that opens image bytes, under one stated policy.

Policy
------
- JPEG, PNG, WebP and GIF only, known by their magic bytes, whatever the file is called.
- The parts are walked first (`image_structure`): more than `MAX_PIXELS`, more metadata than `MAX_METADATA_BYTES`,
  or more texts to inflate or passes to make than any honest file has, is refused before a pixel is decoded. All
  passes of a progressive JPEG together may cover `MAX_SCANNED_PIXELS`, so that a decode takes about 2 s at most.
- A truncated or damaged picture is refused, never repaired. Where pictures come in (`inspect_image`), so is one
  without its end mark, or with anything after it.
- Of an animation, the first frame. Transparency is laid over white. Everything becomes 8-bit RGB.
- Orientation: Open Images' rotation where it is known and not zero (degrees counterclockwise), else the EXIF
  orientation of the file. Never both: each describes the same turn.
"""

import contextlib
import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from manifests.errors import UnreadableImageError, one_line
from manifests.image_structure import MAX_PARTS, ImageStructure, image_structure

MAX_PIXELS = 50_000_000
"""Open Images' copies have at most 1024 x 1024 pixels; 50 MP leaves room for originals and stops bombs."""

MAX_METADATA_BYTES = 8 << 20
"""EXIF, profiles and texts of one file; the largest printing profiles have 2 to 3 MB."""

# Pillow joins the blocks of a GIF's comment one by one, in time that grows with the square of their number.
_MAX_GIF_METADATA_BYTES = 256 << 10
# Pillow inflates each of a PNG's texts to at most 1 MiB.
_MAX_COMPRESSED_TEXTS = 16
# libjpeg-turbo's own advice against pictures that take minutes is 500; encoders make about ten.
_MAX_SCANS = 100

MAX_SCANNED_PIXELS = 10 * MAX_PIXELS
"""Pixels times passes of a progressive JPEG. Noise at quality 95 takes 2.9 ns for each, so that a decode takes
about 2 s at most; what common encoders make of `MAX_PIXELS`, in ten passes, is just within."""

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
_EXIF_ON_ITS_SIDE = (5, 6, 7, 8)


def decode_image(
    content: bytes, rotation_deg: int | None = None, *, least_side_px: int | None = None
) -> Image.Image:
    """Return the picture in `content` as an upright RGB image.

    Parameters
    ----------
    content : bytes
        The file as served.
    rotation_deg : int, optional
        Open Images' rotation, a multiple of 90, counterclockwise.
    least_side_px : int, optional
        Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, which is fast and nearly the same as resizing, as
        long as its shorter side keeps so many pixels.

    Raises
    ------
    UnreadableImageError
        With status ``not_an_image`` (empty, or other magic bytes), ``too_large`` (more than `MAX_PIXELS`), or
        ``undecodable`` (damaged or truncated).
    """
    with _opened(content, least_side_px=least_side_px) as image:
        return _upright(image, rotation_deg)


def inspect_image(content: bytes) -> tuple[int, int]:
    """Return width and height, upright by EXIF, of a file that is one whole picture and nothing more.

    The picture is decoded to its end, but neither turned nor converted.

    Parameters
    ----------
    content : bytes
        The file as served.

    Raises
    ------
    UnreadableImageError
        As `decode_image`; ``undecodable`` also where the end mark is missing or is not the end of the file.
    """
    with _opened(content, is_strict=True) as image:
        width_px, height_px = image.size
        is_on_its_side = image.getexif().get(_ORIENTATION_TAG, 1) in _EXIF_ON_ITS_SIDE
        return (height_px, width_px) if is_on_its_side else (width_px, height_px)


def upright_size(path: Path, rotation_deg: int | None = None) -> tuple[int, int]:
    """Return width and height of the picture in the file `path` as `read_image` gives it, from its header alone.

    Raises
    ------
    UnreadableImageError
        The file is missing, or its header is damaged.
    """
    try:
        with _WITHOUT_WARNINGS, Image.open(path, formats=_FORMATS) as image:
            width_px, height_px = image.size
            if rotation_deg:
                is_on_its_side = rotation_deg % 180 == 90
            else:
                is_on_its_side = image.getexif().get(_ORIENTATION_TAG, 1) in _EXIF_ON_ITS_SIDE
    except _DAMAGE_ERRORS as error:
        raise UnreadableImageError("undecodable", f"cannot be read ({_stable(error)})") from error
    return (height_px, width_px) if is_on_its_side else (width_px, height_px)


def read_image(path: Path, rotation_deg: int | None = None, *, least_side_px: int | None = None) -> Image.Image:
    """Return the picture in the file `path` as `decode_image` does; a missing file is ``undecodable``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError("undecodable", f"cannot be read ({error.strerror})") from error
    return decode_image(content, rotation_deg, least_side_px=least_side_px)


def jpeg_bytes(image: Image.Image, quality: int) -> bytes:
    """Return a picture as JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@contextlib.contextmanager
def _opened(content: bytes, *, is_strict: bool = False, least_side_px: int | None = None) -> Iterator[Image.Image]:
    """Yield the decoded picture; what a library makes of a damaged file becomes our one error."""
    structure = image_structure(content)
    if structure is None:
        found = f"the file starts with {_printable(content[:16])}" if content else "the file is empty"
        raise UnreadableImageError("not_an_image", found)
    _check_size(structure.width_px, structure.height_px)
    _check_load(content, structure)
    if is_strict:
        _check_end(content, structure)
    try:
        with _WITHOUT_WARNINGS, Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            # A frame of a GIF may be larger than its header says.
            _check_size(image.width, image.height)
            if least_side_px is not None:
                scale = least_side_px / min(image.size)
                # The decoder takes the smallest size that is no smaller than this; formats without it do nothing.
                image.draft(image.mode, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
            image.load()
            yield image
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("too_large", f"over the cap of {MAX_PIXELS} px") from error
    except _DAMAGE_ERRORS as error:
        raise UnreadableImageError("undecodable", f"cannot be decoded ({_stable(error)})") from error


def _check_size(width_px: int, height_px: int) -> None:
    if width_px * height_px > MAX_PIXELS:
        raise UnreadableImageError("too_large", f"{width_px} x {height_px} px is over the cap of {MAX_PIXELS} px")


def _check_load(content: bytes, structure: ImageStructure) -> None:
    """Refuse what would cost memory or time out of proportion to the picture."""
    is_gif = content.startswith(b"GIF8")
    for found, cap, what in (
        (structure.metadata_bytes, _MAX_GIF_METADATA_BYTES if is_gif else MAX_METADATA_BYTES, "bytes of metadata"),
        (structure.n_compressed_texts, _MAX_COMPRESSED_TEXTS, "compressed texts"),
        (structure.n_scans, _MAX_SCANS, "scans"),
        (structure.n_parts, MAX_PARTS, "parts"),
        (structure.width_px * structure.height_px * structure.n_scans, MAX_SCANNED_PIXELS, "px in all scans"),
    ):
        if found > cap:
            raise UnreadableImageError("too_large", f"over the cap of {cap} {what}")


def _check_end(content: bytes, structure: ImageStructure) -> None:
    if structure.end is None:
        raise UnreadableImageError("undecodable", "truncated: the file ends before the picture does")
    if structure.end < len(content):
        n_bytes = len(content) - structure.end
        raise UnreadableImageError("undecodable", f"{n_bytes} bytes stand after the end of the picture")


class _WithoutWarnings:
    """Ignores warnings while any thread is decoding.

    Pillow warns of odd EXIF and palette transparency and then does the right thing; its warning of a large
    picture is ours to judge. `warnings.catch_warnings` alone would, in threads that overlap, put back the
    filters of whichever thread came in last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._n_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._filters.__exit__(None, None, None)


_WITHOUT_WARNINGS = _WithoutWarnings()


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
