"""Perceptual hashes a second and core beside what decoding alone takes, and the search among them."""

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.bench.bodies import photo_body
from curation.bench.screen.programs import run_program
from curation.bench.screen.report import Row, Section
from curation.bench.server import image_id_of
from curation.duplicates.hamming import hamming_pairs
from curation.duplicates.hashing import perceptual_hash_of_bytes

_MOST_BITS = 8
_GOAL_A_SECOND = 600
_DRAFT_PX = 64
_IMAGEDEDUP = "curation.bench.screen.imagededup_hashes"


def hash_section(n_pictures: int, n_hashes: int, folder: Path, n_peer_hashes: int | None, seed: int) -> Section:
    """Return what hashing photographs and searching their hashes costs.

    Parameters
    ----------
    n_pictures : int
        JPEGs of 1024 x 768 px and 287 kB.
    n_hashes : int
        Random hashes to search.
    folder : Path
        For the files that imagededup reads.
    n_peer_hashes : int, optional
        Hashes that imagededup is given; None leaves it out.
    seed : int
        Of the hashes.
    """
    body = photo_body()
    contents = [body.content(image_id_of(index)) for index in range(n_pictures)]
    size = f"{n_pictures:,} JPEGs, one core"
    hashes = planted_hashes(n_hashes, seed)
    rows = [
        Row("ours: perceptual hash", size, _seconds(contents, _hash), n_pictures),
        Row("limit: decoding at an eighth", size, _seconds(contents, _decode_small), n_pictures),
        Row("limit: decoding whole", size, _seconds(contents, _decode), n_pictures),
        _search(hashes)[0],
    ]  # fmt: skip
    notes = [f"Goal of the first: {_GOAL_A_SECOND} a second and core"]
    if n_peer_hashes is not None:
        peer_rows, told = _peer_rows(contents, hashes[:n_peer_hashes], n_hashes, folder)
        rows += peer_rows
        notes.append(told)
    return Section("Perceptual hashes", tuple(rows), tuple(notes), {"goal_images_per_s_and_core": _GOAL_A_SECOND})


def planted_hashes(n_hashes: int, seed: int) -> npt.NDArray[np.uint64]:
    """Return random hashes, every hundredth with one of its bits flipped in the hash that follows."""
    hashes = np.random.default_rng(seed).integers(0, 2**64, n_hashes, np.uint64)
    hashes[1::100] = hashes[: len(hashes[1::100]) * 100 : 100] ^ np.uint64(1)
    return hashes


def _peer_rows(
    contents: Sequence[bytes], hashes: npt.NDArray[np.uint64], n_hashes: int, folder: Path
) -> tuple[list[Row], str]:
    pictures_dir, hashes_path = folder / "pictures", folder / "hashes.npy"
    pictures_dir.mkdir()
    for index, content in enumerate(contents):
        (pictures_dir / f"{image_id_of(index)}.jpg").write_bytes(content)
    np.save(hashes_path, hashes)
    result, _ = run_program(_IMAGEDEDUP, [pictures_dir, hashes_path, _MOST_BITS], folder)
    name = f"imagededup {result['version']}"
    ours, n_found = _search(hashes)
    search_s, size = float(result["search_s"]), f"{len(contents):,} JPEGs, one core"
    rows = [
        Row(f"{name}: PHash().encode_image", size, result["hash_s"], len(contents)),
        ours,
        Row(f"{name}: find_duplicates", ours.size, search_s),
        Row(f"{name}, extrapolated", f"{n_hashes:,} hashes", search_s * (n_hashes / len(hashes)) ** 2),
    ]
    told = (
        f"imagededup: find_duplicates(max_distance_threshold={_MOST_BITS}) as it comes, all cores; it found "
        f"{result['n_pairs']:,} pairs, ours {n_found:,}; its time is taken to grow with the square of the hashes"
    )
    return rows, told


def _search(hashes: npt.NDArray[np.uint64]) -> tuple[Row, int]:
    started = time.perf_counter()
    n_found = len(hamming_pairs(hashes, _MOST_BITS))
    seconds = time.perf_counter() - started
    return Row(f"ours: all pairs of {_MOST_BITS} bits or fewer", f"{len(hashes):,} hashes", seconds), n_found


def _seconds(contents: Sequence[bytes], work: Callable[[bytes], object]) -> float:
    work(contents[0])
    started = time.perf_counter()
    for content in contents:
        work(content)
    return time.perf_counter() - started


def _hash(content: bytes) -> None:
    perceptual_hash_of_bytes(content, None)


def _decode_small(content: bytes) -> None:
    image = Image.open(io.BytesIO(content))
    image.draft("L", (_DRAFT_PX, _DRAFT_PX))
    image.load()


def _decode(content: bytes) -> None:
    Image.open(io.BytesIO(content)).load()
