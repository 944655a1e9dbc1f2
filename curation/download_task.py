"""One picture of `download`: fetched, checked, stored, and told of in a line of the log."""

from concurrent.futures import Future
from typing import NamedTuple

from curation.download_log import Row
from curation.fetch import Fetched, Fetcher, FetchStoppedError
from curation.picture_processes import PictureProcesses
from curation.picture_store import PictureStore


class Task(NamedTuple):
    """One picture to get: from `source`, or already `found` in an archive."""

    position: int
    image_id: str
    source: str
    found: Fetched | None = None


def bring(task: Task, fetcher: Fetcher, store: PictureStore) -> Row | None:
    """Return the line of the log on one picture, after storing it if it is one; None where the run stops."""
    fetched = _fetched(task, fetcher)
    if fetched is None:
        return None
    row = _row(task, fetched)
    return row | store.take(task.image_id, fetched.content) if fetched.status == "ok" else row


def bring_through(task: Task, fetcher: Fetcher, processes: PictureProcesses) -> Row | Future[Row | None] | None:
    """Return what `bring` does; of a picture that `processes` store, as a Future."""
    fetched = _fetched(task, fetcher)
    if fetched is None:
        return None
    row = _row(task, fetched)
    return processes.take(task.image_id, fetched.content, row) if fetched.status == "ok" else row


def _fetched(task: Task, fetcher: Fetcher) -> Fetched | None:
    try:
        return task.found or fetcher.fetch(task.source)
    except FetchStoppedError:
        return None


def _row(task: Task, fetched: Fetched) -> Row:
    return {
        "image_id": task.image_id,
        "url": task.source,
        "status": fetched.status,
        "reason": fetched.reason,
        "http_status": fetched.http_status,
        "attempts": fetched.attempts,
    }
