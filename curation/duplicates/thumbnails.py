"""Small copies of pictures, from which duplicates are told: brightness in some detail, colour in less."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from manifests.images import decode_image

SIDE = 48
"""At 48 a crop to half the sides still covers 24 x 24; at 32 unlike pictures come as close as such crops do."""

COLOUR_SIDE = 12

N_BYTES = SIDE**2 + 2 * COLOUR_SIDE**2

_DECODED_SIDE_PX = 2 * SIDE
"""Least shorter side of a JPEG decoded at reduced size; from there the copy is made by averaging."""


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """The small copies of n pictures, their shapes given up.

    Attributes
    ----------
    brightness : (n, SIDE, SIDE) uint8
        Luma of JPEG.
    colour : (n, 2, COLOUR_SIDE, COLOUR_SIDE) uint8
        Chroma blue and red, 128 for grey.
    """

    brightness: npt.NDArray[np.uint8]
    colour: npt.NDArray[np.uint8]

    @classmethod
    def from_bytes(cls, stored: Sequence[bytes]) -> Self:
        """Return what `thumbnail` gave for each of n pictures."""
        return cls.from_rows(np.frombuffer(b"".join(stored), np.uint8).reshape(len(stored), N_BYTES))

    @classmethod
    def from_rows(cls, rows: npt.NDArray[np.uint8]) -> Self:
        """Return the same from an array (n, `N_BYTES`), which is copied."""
        brightness = rows[:, : SIDE**2].reshape(-1, SIDE, SIDE).copy()
        return cls(brightness, rows[:, SIDE**2 :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE).copy())

    def __len__(self) -> int:
        return len(self.brightness)

    def __getitem__(self, places: npt.NDArray[np.int64] | slice) -> Self:
        return type(self)(self.brightness[places], self.colour[places])


def thumbnail(image: Image.Image) -> bytes:
    """Return the small copy of a picture as `N_BYTES` bytes: brightness, then both chroma."""
    brightness, *colours = image.convert("RGB").convert("YCbCr").split()
    parts = [_shrunk(brightness, SIDE), *(_shrunk(colour, COLOUR_SIDE) for colour in colours)]
    return b"".join(part.tobytes() for part in parts)


def thumbnail_of_bytes(content: bytes, rotation_deg: int | None = None) -> bytes:
    """Return the small copy of a picture file; a large JPEG is decoded at a half, a quarter or an eighth.

    Raises
    ------
    UnreadableImageError
        As `manifests.images.decode_image`.
    """
    return thumbnail(decode_image(content, rotation_deg, least_side_px=_DECODED_SIDE_PX))


def _shrunk(channel: Image.Image, side: int) -> Image.Image:
    return channel.resize((side, side), Image.Resampling.BOX)
