"""64-bit perceptual hashes of thumbnails and of their parts.

A hash is the signs of the 64 lowest frequencies of a thumbnail's cosine transform but the constant one. To mirror
a picture changes the sign of every second column of frequencies, so that the mirror's hash is the hash with the
bits of `MIRROR_BITS` turned: one comparison finds both. All sums are of whole numbers below 2**53, which float64
holds exactly, so that hashes are equal on every machine.
"""

import functools

import numpy as np
import numpy.typing as npt

from curation.duplicates.thumbnails import Thumbnails, thumbnail_of_bytes

_N_FREQUENCIES = 8
_BASIS_SCALE = 1024

CROP_WINDOWS: tuple[tuple[float, float, float, float], ...] = (
    (1.0, 1.0, 0.0, 0.0),
    (0.9, 0.9, 0.5, 0.5),
    *((0.9, 0.9, y, x) for y in (0.0, 1.0) for x in (0.0, 1.0)),
    *((0.8, 0.8, y / 2, x / 2) for y in range(3) for x in range(3)),
    *((0.7, 0.7, y / 3, x / 3) for y in range(4) for x in range(4)),
    *((0.75, 1.0, y / 2, 0.0) for y in range(3)),
    *((1.0, 0.75, 0.0, x / 2) for x in range(3)),
)
"""Parts of a thumbnail that are hashed, the whole first: shares of height and width, then place from the top and
from the left, 0 to 1 of the room that there is.

A crop is near one of them whatever its place: neighbours lie a tenth of a side apart.
"""


def perceptual_hash_of_bytes(content: bytes, rotation_deg: int | None = None) -> int:
    """Return the 64-bit hash of a picture file, as `thumbnail_of_bytes` decodes it."""
    return int(hashes_of(Thumbnails.from_bytes([thumbnail_of_bytes(content, rotation_deg)]).brightness)[0])


def hashes_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the hashes (n,) of grey pictures (n, height, width) uint8."""
    down, right = _basis(pixels.shape[1]), _basis(pixels.shape[2])  # (9, height), (9, width)
    sums = down @ (pixels.astype(np.float64) @ right.T)  # (n, 9, 9): rows, columns
    # The ninth row takes the place of the constant term: the lowest frequency left, and even under mirroring.
    lowest = sums[:, :_N_FREQUENCIES, :_N_FREQUENCIES].copy()
    lowest[:, 0, 0] = sums[:, _N_FREQUENCIES, 0]
    packed = np.packbits((lowest > 0).reshape(len(pixels), _N_FREQUENCIES**2), axis=1)  # (n, 8)
    return packed.view(">u8")[:, 0].astype(np.uint64)


def window_hashes(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the hashes (n, n_windows) of every part in `CROP_WINDOWS` of grey pictures (n, side, side)."""
    side = pixels.shape[-1]
    hashes = np.empty((len(pixels), len(CROP_WINDOWS)), np.uint64)
    for column, (height_share, width_share, down, right) in enumerate(CROP_WINDOWS):
        height, width = round(side * height_share), round(side * width_share)
        top, left = round((side - height) * down), round((side - width) * right)
        part = pixels[:, top : top + height, left : left + width]
        hashes[:, column] = hashes_of(part)
    return hashes


@functools.cache
def _basis(side: int) -> npt.NDArray[np.float64]:
    """Return the cosines of the lowest frequencies (9, side), as whole numbers."""
    places = 2 * np.arange(side) + 1
    frequencies = np.arange(_N_FREQUENCIES + 1)[:, None]
    basis = np.rint(_BASIS_SCALE * np.cos(np.pi * places * frequencies / (2 * side)))
    # Rounding leaves a frequency a little of the constant term, which a bright picture would turn into a bit.
    basis[2::2, 0] -= np.floor(basis[2::2].sum(axis=1) / 2)
    basis[2::2, -1] -= basis[2::2].sum(axis=1)
    return basis


def _mirror_bits() -> int:
    columns = np.tile(np.arange(_N_FREQUENCIES) % 2 == 1, _N_FREQUENCIES)
    return int.from_bytes(np.packbits(columns).tobytes())


MIRROR_BITS = _mirror_bits()
"""The bits in which the hash of a picture and of its mirror image differ.

But for those whose sums are exactly 0: these are no bits in both. A picture that is its own mirror image has them
all, and so the hash of its mirror image as it is; `near_pairs` compares both ways. Of 766 pictures 4 had any.
"""
