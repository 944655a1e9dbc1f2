"""Near-duplicates among candidates: equal bytes, or close in CLIP space and in perceptual hash.

CLIP alone calls two different photographs of one landmark the same, a perceptual hash alone two dark pictures;
a pair must be close in both.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

_HASH_SIDE = 8
_DCT_SIDE = 32
_BLOCK_ROWS = 2048


def close_pairs(embeddings: npt.NDArray[np.float32], least_similarity: float) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j, of rows whose dot product is at least `least_similarity`; exact.

    Parameters
    ----------
    embeddings : (n, n_dimensions) float32
        Unit vectors.
    least_similarity : float
        Inclusive bound on the cosine.
    """
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(embeddings), _BLOCK_ROWS):
        block = embeddings[start : start + _BLOCK_ROWS]
        for other_start in range(start, len(embeddings), _BLOCK_ROWS):
            similarities = block @ embeddings[other_start : other_start + _BLOCK_ROWS].T  # (rows, columns)
            rows, columns = np.nonzero(similarities >= least_similarity)
            firsts, seconds = rows + start, columns + other_start
            is_ordered = firsts < seconds
            pairs += zip(firsts[is_ordered].tolist(), seconds[is_ordered].tolist(), strict=True)
    return pairs


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit DCT hash of a picture: signs of its 8 x 8 lowest frequencies against their median.

    The usual pHash: grey, 32 x 32, type-II DCT; the constant term takes no part in the median.
    """
    pixels = np.asarray(image.convert("L").resize((_DCT_SIDE, _DCT_SIDE), Image.Resampling.LANCZOS), np.float64)
    places = np.arange(_DCT_SIDE)
    basis = np.cos(np.pi * (2 * places + 1) * np.arange(_HASH_SIDE)[:, None] / (2 * _DCT_SIDE))  # (8, 32)
    lowest = (basis @ pixels @ basis.T).ravel()
    bits = lowest > np.median(lowest[1:])
    return int.from_bytes(np.packbits(bits).tobytes())


def hamming_distance(first: int, second: int) -> int:
    """Return in how many bits two hashes differ."""
    return (first ^ second).bit_count()


def duplicate_groups(
    image_ids: Sequence[str],
    digests: Sequence[str],
    embeddings: npt.NDArray[np.float32],
    hash_of: Callable[[str], int],
    *,
    least_similarity: float,
    most_bits: int,
) -> list[list[str]]:
    """Return the groups of near-duplicates, each sorted, as connected components of the pairs found.

    Parameters
    ----------
    image_ids : sequence of str
        One an image.
    digests : sequence of str
        SHA-256 of each image's bytes; equal bytes are duplicates whatever the rest says.
    embeddings : (n, n_dimensions) float32
        Unit vectors of the whole pictures.
    hash_of : callable
        The perceptual hash of an image id; called only for images that have a close neighbour.
    least_similarity : float
        Inclusive bound on the cosine of a pair.
    most_bits : int
        Inclusive bound on the Hamming distance of a pair's hashes.
    """
    parents = {image_id: image_id for image_id in image_ids}

    def root_of(image_id: str) -> str:
        while parents[image_id] != image_id:
            parents[image_id] = parents[parents[image_id]]
            image_id = parents[image_id]
        return image_id

    first_of: dict[str, str] = {}
    for image_id, digest in zip(image_ids, digests, strict=True):
        parents[root_of(image_id)] = root_of(first_of.setdefault(digest, image_id))
    hashes: dict[str, int] = {}
    for pair in close_pairs(embeddings, least_similarity):
        first, second = (image_ids[place] for place in pair)
        for image_id in (first, second):
            if image_id not in hashes:
                hashes[image_id] = hash_of(image_id)
        if hamming_distance(hashes[first], hashes[second]) <= most_bits:
            parents[root_of(first)] = root_of(second)
    groups: dict[str, list[str]] = {}
    for image_id in sorted(image_ids):
        groups.setdefault(root_of(image_id), []).append(image_id)
    return [group for group in groups.values() if len(group) > 1]


def duplicates_of(groups: Sequence[Sequence[str]], n_pixels: Mapping[str, int]) -> dict[str, str]:
    """Return, for every image but each group's representative, the representative.

    The representative is the picture with the most pixels; of equals, the smallest image id.
    """
    representative: dict[str, str] = {}
    for group in groups:
        kept = min(group, key=lambda image_id: (-n_pixels[image_id], image_id))
        representative |= {image_id: kept for image_id in group if image_id != kept}
    return representative
