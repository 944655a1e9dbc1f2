"""A program: near-duplicates by fiftyone-brain, of vectors in a file, with the time that its own call takes."""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np


def main(vectors_path: str, distance: str, result_path: str) -> None:
    """Write the seconds of `compute_near_duplicates`, and what it found; the data set is made before."""
    vectors = np.load(vectors_path).astype(np.float32)
    dataset = fo.Dataset()
    try:
        # No file is opened, as the embeddings are given.
        dataset.add_samples([fo.Sample(filepath=f"{index}.jpg") for index in range(len(vectors))], progress=False)
        started = time.perf_counter()
        found = fob.compute_near_duplicates(dataset, threshold=float(distance), embeddings=vectors, progress=False)
        result = {
            "seconds": time.perf_counter() - started,
            "n_duplicates": len(found.duplicate_ids),
            "version": metadata.version("fiftyone-brain"),
        }
    finally:
        dataset.delete()
    Path(result_path).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
