"""A program: hashes of pictures and near-duplicates among hashes by imagededup, with the time that each takes."""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from imagededup.methods import PHash


def main(pictures_dir: str, hashes_path: str, most_bits: str, result_path: str) -> None:
    """Write the seconds of hashing every picture of a folder on one core, and of searching hashes of a file."""
    hasher = PHash(verbose=False)
    paths = sorted(Path(pictures_dir).iterdir())
    hasher.encode_image(image_file=str(paths[0]))  # what a first call sets up
    started = time.perf_counter()
    for path in paths:
        hasher.encode_image(image_file=str(path))
    hash_s = time.perf_counter() - started
    hashes = {str(index): f"{value:016x}" for index, value in enumerate(np.load(hashes_path).tolist())}
    started = time.perf_counter()
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=int(most_bits))
    result = {
        "hash_s": hash_s,
        "search_s": time.perf_counter() - started,
        "n_pairs": sum(map(len, found.values())) // 2,
        "version": metadata.version("imagededup"),
    }
    Path(result_path).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
