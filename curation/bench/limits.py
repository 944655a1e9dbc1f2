"""What the machine can do at most: each thing that a picture cannot go without, by itself, on all cores."""

import hashlib
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from curation.bench.bodies import Body
from curation.bench.server import image_id_of


@dataclass(frozen=True)
class Limits:
    """Pictures a second, on all cores, of one thing alone.

    Attributes
    ----------
    decode, sha256, write : float
        A full decode with Pillow; the digest; a file, without waiting for the disk.
    """

    decode: float
    sha256: float
    write: float

    def together(self, server_cpu_s: float) -> float:
        """Return pictures a second if every core did nothing else, the serving of each included.

        Parameters
        ----------
        server_cpu_s : float
            Processor time of the server a picture: it has the same cores.
        """
        a_picture_s = 1 / self.decode + 1 / self.sha256 + 1 / self.write + server_cpu_s / (os.cpu_count() or 1)
        return 1 / a_picture_s


def machine_limits(body: Body, n_images: int, folder: Path) -> Limits:
    """Return the limits for pictures like `body`, each step timed on `n_images` a core, on all cores at once."""
    n_cores = os.cpu_count() or 1
    content = body.content(image_id_of(0))

    def rate(step: Callable[[bytes, int, Path], float]) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            folders = [Path(tempfile.mkdtemp(dir=scratch)) for _ in range(n_cores)]
            jobs = [pool.submit(step, content, n_images, place) for place in folders]
            return n_images * sum(1 / job.result() for job in jobs)

    with ProcessPoolExecutor(n_cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        rate(_decode_s)  # the processes start, and import Pillow
        return Limits(decode=rate(_decode_s), sha256=rate(_sha256_s), write=rate(_write_s))


def _decode_s(content: bytes, n_images: int, folder: Path) -> float:
    started = time.perf_counter()
    for _ in range(n_images):
        Image.open(io.BytesIO(content)).load()
    return time.perf_counter() - started


def _sha256_s(content: bytes, n_images: int, folder: Path) -> float:
    started = time.perf_counter()
    for _ in range(n_images):
        hashlib.sha256(content).hexdigest()
    return time.perf_counter() - started


def _write_s(content: bytes, n_images: int, folder: Path) -> float:
    started = time.perf_counter()
    for index in range(n_images):
        (folder / image_id_of(index)).write_bytes(content)
    return time.perf_counter() - started
