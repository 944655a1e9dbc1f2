"""What a run of `download` is asked for, and which images are due in it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from curation.download_log import DownloadLog
from curation.download_state import OK, DownloadState, candidate_batches
from curation.picture_store import PictureStore
from curation.placeholders import repeated_pictures
from manifests import schema
from manifests.mirror import picture_url
from manifests.work_plan import Fetch, WorkPlan
from manifests.workspace import Workspace

MEAN_PICTURE_BYTES = 287_000
"""Of Open Images' 125,436 test pictures: https://github.com/cvdfoundation/open-images-dataset says 36 GB."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DownloadRequest:
    """Where the pictures come from, and which are fetched again.

    Attributes
    ----------
    base_url : str or None
        A mirror, instead of each row's own URL.
    tar_paths : tuple of Path
        Archives, instead of requests.
    retry : frozenset of str
        Statuses to fetch again.
    verify : bool
        Whether stored pictures are read again.
    """

    base_url: str | None
    tar_paths: tuple[Path, ...]
    retry: frozenset[str]
    verify: bool

    def arguments(self) -> dict[str, Any]:
        """Return the request as JSON values, without folders of this machine."""
        return {
            "base_url": self.base_url,
            "from_tar": [path.name for path in self.tar_paths],
            "retry": sorted(self.retry),
            "verify": self.verify,
        }

    def source(self, subset: str, image_id: str, url: str) -> str:
        """Return what the log calls the place that a picture is asked for: a URL, or ``tar:`` and the archives."""
        if self.tar_paths:
            return "tar:" + "+".join(path.name for path in self.tar_paths)
        return url if self.base_url is None else picture_url(self.base_url, subset, image_id)


@dataclass(frozen=True)
class Plan:
    """Which images are due, and of which a picture was recorded, so that a file there is not as it should be."""

    is_due: Mask
    is_recorded: Mask


def candidate_sources(workspace: Workspace, request: DownloadRequest) -> Iterator[tuple[int, str, str]]:
    """Yield (position, image id, source) of each candidate."""
    for first, batch in candidate_batches(workspace, ["image_id", "subset", "url"]):
        image_ids, subsets, urls = (column.to_pylist() for column in batch.columns)
        for offset, (image_id, subset, url) in enumerate(zip(image_ids, subsets, urls, strict=True)):
            yield first + offset, image_id, request.source(subset, image_id, url)


def images_due(
    workspace: Workspace, state: DownloadState, log: DownloadLog, store: PictureStore, request: DownloadRequest
) -> Plan:
    """Return which images need to be fetched: their last status does not stand, or the picture is gone or changed.

    What another source answered says nothing of this one, and a refusal before any request may be lifted by a
    flag. A stored picture stands wherever it came from; only its size is looked at here.
    """
    repeated = repeated_pictures(workspace, state, log)
    is_due = np.ones(state.n_images, bool)
    is_recorded = state.codes == OK
    for position, image_id, source in candidate_sources(workspace, request):
        if not state.codes[position]:
            continue
        row = None if is_recorded[position] and position not in repeated else log.row_at(state.starts[position])
        status = "ok" if row is None else "placeholder" if position in repeated else row["status"]
        if status in request.retry:
            continue
        if row is not None and (row["url"] != source or row["attempts"] == 0):
            continue
        is_due[position] = bool(is_recorded[position]) and store.size_of(image_id) != state.sizes[position]
    return Plan(is_due, is_recorded)


def plan_download(workspace: Workspace, request: DownloadRequest) -> WorkPlan:
    """Return what a run would fetch, by the log and the files that are there, as `images_due` tells.

    The log is only read: a torn end, which the stage cuts off, counts for nothing.

    Raises
    ------
    StageMissingError
        `candidates` has not been run.
    """
    # Before the log is made: without candidates, nothing is.
    next(candidate_batches(workspace, ["image_id"]), None)
    store = PictureStore(workspace)
    with DownloadLog(workspace.downloads_log_path, is_read_only=True) as log:
        state = DownloadState(workspace, log)
        is_due = images_due(workspace, state, log, store, request).is_due
    n_due = int(is_due.sum())
    sizes = state.sizes[(state.codes == OK) & ~is_due]
    mean_bytes = float(sizes.mean()) if len(sizes) else MEAN_PICTURE_BYTES
    hosts = Counter(
        urlsplit(source).netloc for at, _, source in candidate_sources(workspace, request) if is_due[at]
    )
    fetches = [Fetch("pictures", host, n, round(n * mean_bytes), True) for host, n in sorted(hosts.items())]
    reads = [str(path) for path in request.tar_paths]
    reads += ["every stored picture, to verify it"] if request.verify else []
    writes = [str(workspace.root / "images"), str(workspace.downloads_log_path)] if n_due else []
    return WorkPlan(
        n_due, state.n_images - n_due, reads=reads, fetches=[] if request.tar_paths else fetches,
        writes=[*writes, str(workspace.path_of(schema.DOWNLOADS))],
    )  # fmt: skip
