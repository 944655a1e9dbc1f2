"""Downloading in shards, on machines that share the folder of pictures; the log is written here alone."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from curation.crew import work_through
from curation.download_log import Row
from curation.download_task import Task, bring
from curation.engine.engine import Engine
from curation.fetch import Fetcher, FetchPolicy
from curation.picture_store import PictureStore
from curation.stopping import StopRequest
from manifests.workspace import Workspace

THREADS_A_WORKER = 4
"""Threads that wait for another attempt hold no connection; the others keep the connections busy."""

_CANDIDATES_A_SHARD = 256
"""Seconds of work: a lost node, or a lost driver, costs no more than that for each shard in work."""


@dataclass(frozen=True)
class _Shard:
    root: Path
    policy: FetchPolicy
    tasks: tuple[Task, ...]


def brought_in_shards(
    engine: Engine, workspace: Workspace, policy: FetchPolicy, tasks: Iterable[Task]
) -> Iterator[list[tuple[Task, Row | None]]]:
    """Yield the lines of the log on `tasks`, shard by shard, in their order.

    A shard is what is due of 256 candidates that follow each other in the table. The limits of `policy` hold for
    all machines together: each shard in work has its part of the connections and of the rate.
    """
    n_at_once = min(engine.n_slots, policy.host_concurrency)
    share = replace(
        policy,
        host_concurrency=policy.host_concurrency // n_at_once,
        host_requests_per_s=policy.host_requests_per_s / n_at_once,
    )
    shards = (
        _Shard(workspace.root, share, tuple(of_shard))
        for _, of_shard in itertools.groupby(tasks, key=lambda task: task.position // _CANDIDATES_A_SHARD)
    )
    is_limited = n_at_once < engine.n_slots
    return engine.map(_bring_shard, shards, most_at_once=n_at_once if is_limited else None)


def _bring_shard(shard: _Shard) -> list[tuple[Task, Row | None]]:
    store, fetcher = PictureStore(Workspace(shard.root)), _fetcher(shard.policy)
    results: list[tuple[Task, Row | None]] = []
    work_through(
        shard.tasks,
        lambda task: bring(task, fetcher, store),
        results.extend,
        n_threads=shard.policy.host_concurrency * THREADS_A_WORKER,
        # A request of this process' own that nobody makes: it is the driver that is asked to stop.
        stop_request=StopRequest(),
    )
    return sorted(results, key=lambda result: result[0].position)


@functools.lru_cache(maxsize=1)
def _fetcher(policy: FetchPolicy) -> Fetcher:
    """Return the fetcher of this process, which keeps connections, and what it learnt of hosts, between shards."""
    return Fetcher(policy)
