"""One picture of `download`: fetched, checked, stored, and told of in a line of the log."""

from typing import NamedTuple

from curation.download_log import Row
from curation.fetch import Fetched, Fetcher, FetchStoppedError
from curation.picture_store import PictureStore


class Task(NamedTuple):
    """One picture to get: from `source`, or already `found` in an archive."""

    position: int
    image_id: str
    source: str
    found: Fetched | None = None


def bring(task: Task, fetcher: Fetcher, store: PictureStore) -> Row | None:
    """Return the line of the log on one picture, after storing it if it is one; None where the run stops."""
    try:
        fetched = task.found or fetcher.fetch(task.source)
    except FetchStoppedError:
        return None
    row = {
        "image_id": task.image_id,
        "url": task.source,
        "status": fetched.status,
        "reason": fetched.reason,
        "http_status": fetched.http_status,
        "attempts": fetched.attempts,
    }
    return row | store.take(task.image_id, fetched.content) if fetched.status == "ok" else row
