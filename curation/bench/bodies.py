"""The pictures that the benchmark's server serves: 287 kB each, and no two of them equal.

All of a kind have the same pixels and differ in a comment that holds the image id, so that their digests differ
(one digest under many ids is a placeholder) and a server can answer without making a picture for each request.
"""

import random
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from manifests.images import jpeg_bytes

BODY_BYTES = 287_000
"""What a picture of Open Images has on average: 36 GB / 125,436."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LIGHT_SIDE_PX = 309  # 309 rows of 1 + 3 * 309 bytes are 286,752
_PHOTO_SIZE_PX = (1024, 768)


@dataclass(frozen=True)
class Body:
    """A picture but for its comment.

    Attributes
    ----------
    name : str
        ``light`` or ``photo``.
    content_type : str
        Of HTTP.
    start, rest : bytes
        What stands before and after the comment.
    """

    name: str
    content_type: str
    start: bytes
    rest: bytes

    def parts(self, image_id: str) -> tuple[bytes, bytes]:
        """Return the picture of an image in two parts: a short one of its own, and the one that all share."""
        comment = image_id.encode()
        if self.content_type == "image/png":
            return self.start + _png_chunk(b"tEXt", b"Comment\0" + comment), self.rest
        return self.start + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment, self.rest

    def content(self, image_id: str) -> bytes:
        """Return the picture of an image, whole."""
        return b"".join(self.parts(image_id))


def light_body() -> Body:
    """Return a PNG whose pixels are stored, not compressed: its decoding costs next to nothing."""
    side = _LIGHT_SIDE_PX
    rows = b"".join(b"\0" + bytes((x * y) % 251 for x in range(3 * side)) for y in range(side))
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = _png_chunk(b"IDAT", zlib.compress(rows, level=0))
    return Body("light", "image/png", _PNG_SIGNATURE + header, pixels + _png_chunk(b"IEND", b""))


def photo_body() -> Body:
    """Return a JPEG of 1,024 x 768 px at about `BODY_BYTES`: waves under as much noise as that takes."""
    best = b""
    low, high = 0.0, 1.0
    for _ in range(12):
        amount = (low + high) / 2
        encoded = jpeg_bytes(_waves_and_noise(amount), 88)
        if abs(len(encoded) - BODY_BYTES) < abs(len(best) - BODY_BYTES):
            best = encoded
        low, high = (amount, high) if len(encoded) < BODY_BYTES else (low, amount)
    return Body("photo", "image/jpeg", best[:2], best[2:])


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _waves_and_noise(amount: float) -> Image.Image:
    width, height = _PHOTO_SIZE_PX
    waves = Image.radial_gradient("L").resize((width, height))
    noise = Image.frombytes("L", (width, height), random.Random(0).randbytes(width * height))
    grey = Image.blend(waves, noise, amount)
    return Image.merge("RGB", (grey, waves, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
