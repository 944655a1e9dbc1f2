"""The stage `download`: every candidate's picture, or the reason why there is none."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import IO, Any

from tqdm import tqdm

from curation.fetch import Fetcher, FetchPolicy
from manifests import schema
from manifests.durable import append_json_lines, cut_torn_tail, read_json_lines, write_bytes
from manifests.errors import InputError, OpenImageOError, TableError, UnreadableImageError
from manifests.image_ids import is_image_id
from manifests.images import decode_image
from manifests.mirror import picture_url
from manifests.workspace import Workspace

_ROWS_A_FLUSH = 64
_SECONDS_A_FLUSH = 1.0
_IN_FLIGHT_A_WORKER = 4

_COLUMNS = schema.DOWNLOADS.schema.names


def download_pictures(
    workspace: Workspace,
    *,
    base_url: str | None = None,
    policy: FetchPolicy | None = None,
    n_workers: int = 16,
    retry: Sequence[str] = (),
) -> dict[str, int]:
    """Fetch what is missing, write ``downloads.parquet``, and return the number of images per status.

    Parameters
    ----------
    workspace : Workspace
        With ``candidates.parquet``.
    base_url : str, optional
        A mirror that holds pictures at ``<base_url>/<subset>/<image_id>.jpg``, instead of each row's own URL.
    policy : FetchPolicy, optional
        How hard to try, and what to refuse.
    n_workers : int
        Pictures fetched at a time.
    retry : sequence of str
        Statuses to fetch again, besides what was never fetched or is gone from the disk.

    Raises
    ------
    InputError
        `n_workers` or a word of `retry` is not what it should be.
    OpenImageOError
        Not one picture arrived; everything that was learnt is saved.
    """
    if n_workers < 1:
        raise InputError(f"--workers: expected 1 or more, found {n_workers}")
    strange = set(retry) - set(schema.DOWNLOAD_STATUSES)
    if strange:
        raise InputError(f"--retry: expected {', '.join(schema.DOWNLOAD_STATUSES)}, found {min(strange)!r}")
    policy = policy or FetchPolicy()
    arguments = {
        "base_url": base_url, "allow_private": policy.allow_private, "workers": n_workers, "retry": [*retry],
    }  # fmt: skip
    with workspace.stage("download", arguments, [workspace.path_of(schema.CANDIDATES)]) as record:
        candidates = workspace.read(schema.CANDIDATES).select(["image_id", "subset", "url"]).to_pylist()
        if base_url is not None:
            for row in candidates:
                row["url"] = picture_url(base_url, row["subset"], row["image_id"])
        known = _read_log(workspace)
        todo = [
            row for row in candidates if not _is_done(workspace, known.get(row["image_id"]), row["url"], retry)
        ]
        fetcher = Fetcher(policy)

        def fetch(candidate: dict[str, Any]) -> dict[str, Any]:
            return _fetch_one(workspace, fetcher, candidate["image_id"], candidate["url"])

        _fetch_all(workspace, todo, fetch, known, n_workers)
        rows: list[dict[str, Any]] = [
            {column: known[row["image_id"]].get(column) for column in _COLUMNS} for row in candidates
        ]
        workspace.write(schema.DOWNLOADS, rows)
        record.counts = dict(Counter(row["status"] for row in rows))
    if not record.counts.get("ok"):
        reasons = Counter(f"{row['status']} ({row['reason']})" for row in rows)
        commonest, n_images = reasons.most_common(1)[0]
        raise OpenImageOError(f"no picture arrived; {n_images} of {len(rows)} were {commonest}")
    return record.counts


def _read_log(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the last line of each image; a line has the columns of the table and the URL that was asked."""
    path = workspace.downloads_log_path
    cut_torn_tail(path)
    rows = read_json_lines(path)
    for number, row in enumerate(rows, start=1):
        is_row = is_image_id(str(row.get("image_id"))) and row.get("status") in schema.DOWNLOAD_STATUSES
        is_stored = isinstance(row.get("path"), str) and isinstance(row.get("size_bytes"), int)
        if not is_row or (row["status"] == "ok" and not is_stored):
            raise TableError(f"{path}, line {number}: not a line of this log: {str(row)[:80]}")
    return {row["image_id"]: row for row in rows}


def _is_done(workspace: Workspace, row: dict[str, Any] | None, url: str, retry: Sequence[str]) -> bool:
    """Return whether an image needs no request: its last status stands, and an arrived picture is on disk.

    What another URL answered says nothing of this one, and a refusal before any request may be lifted by a flag.
    """
    if row is None or row["status"] in retry:
        return False
    if row["status"] != "ok":
        return row.get("url") == url and row.get("attempts") != 0
    path = workspace.root / row["path"]
    return path.exists() and path.stat().st_size == row["size_bytes"]


def _fetch_one(workspace: Workspace, fetcher: Fetcher, image_id: str, url: str) -> dict[str, Any]:
    """Fetch one picture, look at it, store it if it is one, and return its row."""
    fetched = fetcher.fetch(url)
    row = {
        "image_id": image_id,
        "url": url,
        "status": fetched.status,
        "reason": fetched.reason,
        "http_status": fetched.http_status,
        "attempts": fetched.attempts,
    }
    if fetched.status != "ok":
        return row
    try:
        image = decode_image(fetched.content)
    except UnreadableImageError as error:
        return row | {"status": error.status, "reason": error.reason}
    path = workspace.relative_image_path(image_id)
    write_bytes(workspace.root / path, fetched.content)
    return row | {
        "sha256": hashlib.sha256(fetched.content).hexdigest(),
        "size_bytes": len(fetched.content),
        "width_px": image.width,
        "height_px": image.height,
        "path": path,
    }


def _fetch_all(
    workspace: Workspace,
    todo: Sequence[dict[str, Any]],
    fetch: Callable[[dict[str, Any]], dict[str, Any]],
    known: dict[str, dict[str, Any]],
    n_workers: int,
) -> None:
    """Fetch `todo` in threads; the log is on disk about once a second, and when the run is interrupted.

    Few enough are in flight that memory does not grow with `todo`.
    """
    if not todo:
        return
    waiting = iter(todo)
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="download")
    in_flight: set[Future[dict[str, Any]]] = set()
    done: set[Future[dict[str, Any]]] = set()
    counts: Counter[str] = Counter()
    bar = tqdm(total=len(todo), desc="download", unit="img", disable=not sys.stderr.isatty())
    with workspace.downloads_log_path.open("ab") as log, bar:
        try:
            for candidate in islice(waiting, n_workers * _IN_FLIGHT_A_WORKER):
                in_flight.add(pool.submit(fetch, candidate))
            flushed_at = time.monotonic()
            while in_flight:
                just_done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                done |= just_done
                for candidate in islice(waiting, len(just_done)):
                    in_flight.add(pool.submit(fetch, candidate))
                counts.update(future.result()["status"] for future in just_done)
                bar.set_postfix(counts, refresh=False)
                bar.update(len(just_done))
                if len(done) >= _ROWS_A_FLUSH or time.monotonic() - flushed_at > _SECONDS_A_FLUSH:
                    _save(log, done, known)
                    done, flushed_at = set(), time.monotonic()
        finally:
            # On Ctrl-C too: the pictures in flight come to their end and into the log.
            pool.shutdown(wait=True, cancel_futures=True)
            _save(log, done | in_flight, known)


def _save(log: IO[bytes], done: Iterable[Future[dict[str, Any]]], known: dict[str, dict[str, Any]]) -> None:
    """Put the rows of what came to an end into the log and into `known`; what raised is raised elsewhere."""
    rows = [future.result() for future in done if not future.cancelled() and not future.exception()]
    append_json_lines(log, rows)
    known.update((row["image_id"], row) for row in rows)
