"""The stage `download`: every candidate's picture, or the reason why there is none."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np

from curation.crew import work_through
from curation.download_log import DownloadLog, Row
from curation.download_plan import DownloadRequest, Plan, candidate_sources, images_due
from curation.download_shards import THREADS_A_WORKER, brought_in_shards
from curation.download_state import DownloadState, candidate_batches
from curation.download_table import describe_failed, refuse_failures, write_downloads
from curation.download_task import Task, bring, bring_through
from curation.engine.engine import Engine
from curation.fetch import Fetched, Fetcher, FetchPolicy
from curation.network.connections import ignored_proxy_notice
from curation.picture_processes import picture_processes
from curation.picture_store import QUARANTINE, PictureStore
from curation.stopping import StopRequest
from curation.tar_archive import pictures_in_tar
from manifests import schema
from manifests.errors import InputError
from manifests.stage_progress import ProgressBar
from manifests.workspace import Workspace

MAX_FAILURES = 0.05
"""Flickr had lost 0.6 to 0.75 % of the originals in 2016, the mirror none: 5 % is no bad luck any more."""

MAX_WORKERS = 256
"""Each has four threads. So many connections at 50 ms a picture are 5,000 a second, all that S3 gives a prefix."""

_RETRIED = tuple(status for status in schema.DOWNLOAD_STATUSES if status != "ok")


ResultT = TypeVar("ResultT")


def download_pictures(
    workspace: Workspace,
    *,
    base_url: str | None = None,
    policy: FetchPolicy | None = None,
    n_workers: int = 16,
    retry: Sequence[str] = (),
    max_failures: float = MAX_FAILURES,
    verify: bool = False,
    tar_paths: Sequence[Path] = (),
    engine: Engine | None = None,
    announce: Callable[[str], None] = lambda line: None,
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
        Requests to one host at a time.
    retry : sequence of str
        Statuses to fetch again, besides what was never fetched or is gone from the disk.
    max_failures : float
        Largest share of the candidates, from 0 to 1 inclusive, that may be without a picture.
    verify : bool
        Read every stored picture again: what has not the recorded SHA-256 is moved aside and fetched anew.
    tar_paths : sequence of Path
        Official archives to take the pictures from, instead of requests; an image in none of them is ``missing``.
    engine : Engine, optional
        Fetch in shards on its machines, instead of in threads here; `n_workers` then is for all together.
    announce : callable
        Takes a line on what is unusual.

    Raises
    ------
    InputError
        An argument is not what it should be, or an archive is damaged.
    OpenImageOError
        Too many images are without a picture, or all; everything that was learnt is saved.
    KeyboardInterrupt
        Ctrl-C, or SIGTERM (`TerminatedError`); every picture that came to its end is saved.
    """
    check_arguments(n_workers, retry, max_failures)
    if engine is not None and tar_paths:
        raise InputError("--engine: archives are read on this machine: leave it out with --from-tar")
    policy = dataclasses.replace(policy or FetchPolicy(), host_concurrency=n_workers)
    if base_url is not None:
        policy = policy.allowing(base_url)
    if not tar_paths and (notice := ignored_proxy_notice(policy)):
        announce(f"download: {notice}")
    request = DownloadRequest(base_url, tuple(tar_paths), frozenset(retry), verify)
    arguments = request.arguments() | {
        "allow_private": policy.allow_private, "workers": n_workers, "max_failures": max_failures,
    }  # fmt: skip
    inputs = [workspace.path_of(schema.CANDIDATES)]
    with StopRequest() as stop_request, workspace.stage("download", arguments, inputs) as record:
        # Before the log is made: without candidates, nothing is.
        next(candidate_batches(workspace, ["image_id"]), None)
        with DownloadLog(workspace.downloads_log_path) as log, Fetcher(policy) as fetcher:
            run = _Run(workspace, log, request, fetcher, policy=policy, stop_request=stop_request, engine=engine)
            record.details = {"moved_aside": run.bring(announce)}
            outcome = write_downloads(workspace, run.state, log)
        record.counts = dict(outcome.n_by_status)
    refuse_failures(outcome, max_failures)
    if failed := describe_failed(outcome):
        announce(f"download: {failed}")
    return record.counts


def check_arguments(n_workers: int, retry: Sequence[str], max_failures: float) -> None:
    """Refuse what `download_pictures` does not take: InputError."""
    if not 1 <= n_workers <= MAX_WORKERS:
        raise InputError(f"--workers: expected 1 or more, {MAX_WORKERS} at most, found {n_workers}")
    strange = set(retry) - set(_RETRIED)
    if strange:
        raise InputError(
            f"--retry: expected {', '.join(_RETRIED)}, found {min(strange)!r} (--verify checks what arrived)"
        )
    if not 0 <= max_failures <= 1:
        raise InputError(f"--max-failures: expected a share from 0 to 1, found {max_failures:g}")


class _Run:
    """One run of the stage on a workspace that it holds."""

    def __init__(
        self,
        workspace: Workspace,
        log: DownloadLog,
        request: DownloadRequest,
        fetcher: Fetcher,
        *,
        policy: FetchPolicy,
        stop_request: StopRequest,
        engine: Engine | None,
    ) -> None:
        self.state = DownloadState(workspace, log)
        self._workspace, self._log, self._request = workspace, log, request
        self._fetcher, self._policy, self._stop_request = fetcher, policy, stop_request
        self._store, self._engine = PictureStore(workspace), engine

    def bring(self, announce: Callable[[str], None]) -> int:
        """Fetch what is due and return how many files were moved aside before."""
        plan = images_due(self._workspace, self.state, self._log, self._store, self._request)
        if self._request.verify:
            self._find_changed(plan)
        n_moved = self._move_aside(plan)
        if n_moved:
            announce(f"download: {n_moved:,} stored pictures to be fetched again were moved to {QUARANTINE}/")
        n_due = int(plan.is_due.sum())
        with ProgressBar(n_due, "download") as bar:

            def keep(finished: list[tuple[Task, Row | None]]) -> None:
                rows = [(task, row) for task, row in finished if row is not None]
                self._save(rows)
                bar.update(len(rows), n_failed=sum(row["status"] != "ok" for _, row in rows))

            if self._engine is None:
                self._bring_tasks(self._tasks(plan), n_due, keep)
            else:
                for finished in brought_in_shards(self._engine, self._workspace, self._policy, self._tasks(plan)):
                    keep(finished)
        return n_moved

    def _bring_tasks(
        self, tasks: Iterable[Task], n_due: int, keep: Callable[[list[tuple[Task, Row | None]]], None]
    ) -> None:
        is_local = bool(self._request.tar_paths)
        with picture_processes(self._workspace, self._store, n_due) as processes:

            def work(task: Task) -> Row | Future[Row | None] | None:
                if processes is None:
                    return bring(task, self._fetcher, self._store)
                return bring_through(task, self._fetcher, processes)

            self._work_through(tasks, work, keep, is_local=is_local)

    def _work_through(
        self,
        tasks: Iterable[Task],
        work: Callable[[Task], ResultT | Future[ResultT]],
        keep: Callable[[list[tuple[Task, ResultT]]], None],
        *,
        is_local: bool,
    ) -> None:
        n_threads = os.cpu_count() or 1 if is_local else self._policy.host_concurrency * THREADS_A_WORKER
        work_through(
            tasks, work, keep, n_threads=n_threads, stop_request=self._stop_request, hurry=self._fetcher.stop
        )

    def _tasks(self, plan: Plan) -> Iterator[Task]:
        if self._request.tar_paths:
            return self._tasks_from_tar(plan)
        sources = candidate_sources(self._workspace, self._request)
        return (Task(*candidate) for candidate in sources if plan.is_due[candidate[0]])

    def _tasks_from_tar(self, plan: Plan) -> Iterator[Task]:
        """Yield what the archives hold of the images that are due, then the others, as missing."""
        is_left = plan.is_due.copy()
        source = self._request.source("", "", "")

        def is_wanted(image_id: str) -> bool:
            (position,) = self.state.positions([image_id])
            return position >= 0 and bool(is_left[position])

        for path in self._request.tar_paths if is_left.any() else ():
            pictures = pictures_in_tar(path, is_wanted, self._policy.max_bytes, lambda: self._stop_request.is_made)
            for image_id, found in pictures:
                (position,) = self.state.positions([image_id])
                is_left[position] = False
                yield Task(position, image_id, source, found)
        if self._stop_request.is_made:
            return  # what was not reached is not missing
        absent = Fetched("missing", "not in the archive", None, 1)
        for position, image_id, _ in candidate_sources(self._workspace, self._request):
            if is_left[position]:
                yield Task(position, image_id, source, absent)

    def _save(self, finished: list[tuple[Task, Row]]) -> None:
        starts = self._log.append([row for _, row in finished])
        for (task, row), start in zip(finished, starts, strict=True):
            self.state.note(task.position, start, row)

    def _find_changed(self, plan: Plan) -> None:
        """Mark as due every stored picture whose bytes are not those that the log records."""
        is_checked = plan.is_recorded & ~plan.is_due
        tasks = (
            Task(*candidate)
            for candidate in candidate_sources(self._workspace, self._request)
            if is_checked[candidate[0]]
        )
        with ProgressBar(int(is_checked.sum()), "verify") as bar:

            def keep(finished: list[tuple[Task, str]]) -> None:
                for task, digest in finished:
                    recorded = self._log.row_at(int(self.state.starts[task.position]))["sha256"]
                    plan.is_due[task.position] = digest != recorded
                bar.update(len(finished))

            self._work_through(tasks, lambda task: self._store.digest_of(task.image_id), keep, is_local=True)

    def _move_aside(self, plan: Plan) -> int:
        """Move what is fetched again out of the way: nothing recorded is overwritten, right or wrong."""
        n_moved = 0
        is_in_the_way = plan.is_due & plan.is_recorded
        if np.any(is_in_the_way):
            for position, image_id, _ in candidate_sources(self._workspace, self._request):
                if is_in_the_way[position] and self._store.size_of(image_id) is not None:
                    self._store.move_aside(image_id)
                    n_moved += 1
        return n_moved
