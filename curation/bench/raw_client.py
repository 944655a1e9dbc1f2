"""The yardstick: the least that a Python program can do to fetch pictures over kept-alive connections.

`http.client` of the standard library, one connection a thread, each body read into one buffer that is used again:
no status but 200 is known, nothing is tried again, nothing looked at. With a folder, each picture is also hashed
and written, which whoever keeps pictures cannot go without.
"""

import hashlib
import http.client
import multiprocessing
import threading
from pathlib import Path
from urllib.parse import urlsplit

from curation.bench.server import image_id_of
from manifests.errors import OpenImageOError

_BUFFER_BYTES = 1 << 20


def fetch_raw(
    base_url: str, n_images: int, n_threads: int, *, n_processes: int = 1, store_dir: Path | None = None
) -> None:
    """Fetch all pictures of a benchmark's server and throw them away, or store them.

    Parameters
    ----------
    base_url : str
        Of a server without faults.
    n_images : int
        Pictures 0 to `n_images` - 1.
    n_threads, n_processes : int
        Connections in all, and the processes that they are spread over: threads of one share its lock.
    store_dir : Path, optional
        Where pictures are written, after their SHA-256 is computed.

    Raises
    ------
    OpenImageOError
        An answer was not 200, or a body was longer than the buffer.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=_fetch_share,
            args=(base_url, range(part, n_images, n_processes), max(1, n_threads // n_processes), store_dir),
        )
        for part in range(n_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise OpenImageOError("the raw client failed; its error stands above")


def _fetch_share(base_url: str, indices: range, n_threads: int, store_dir: Path | None) -> None:
    failures: list[BaseException] = []

    def fetch(share: range) -> None:
        try:
            _fetch_one_by_one(base_url, share, store_dir)
        except (OSError, http.client.HTTPException, OpenImageOError) as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch, args=(indices[part::n_threads],)) for part in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _fetch_one_by_one(base_url: str, indices: range, store_dir: Path | None) -> None:
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    for index in indices:
        image_id = image_id_of(index)
        connection.request("GET", f"/test/{image_id}.jpg")
        response = connection.getresponse()
        n_bytes = response.length or 0
        if response.status != http.client.OK or not 0 < n_bytes <= len(buffer):
            raise OpenImageOError(f"{image_id}: HTTP {response.status} with {n_bytes} bytes")
        n_read = 0
        while n_read < n_bytes:
            n_new = response.readinto(buffer[n_read:n_bytes])
            if not n_new:
                raise OpenImageOError(f"{image_id}: {n_read} of {n_bytes} bytes arrived")
            n_read += n_new
        if store_dir is not None:
            hashlib.sha256(buffer[:n_bytes]).hexdigest()
            (store_dir / f"{image_id}.jpg").write_bytes(buffer[:n_bytes])
    connection.close()
