"""Shards as tasks of a Ray cluster (extra ``ray``); Ray is imported nowhere else.

``RAY_ADDRESS`` says which cluster, as for Ray's own tools; without it Ray takes one that runs on this machine, or
starts one here for the time of the run. The toolkit must be installed on every node, and all nodes must see the
workspace, what else the command names, and the folder in which it is given, under the same paths.
"""

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from manifests.errors import InputError, OpenImageOError, ToolMissingError, one_line

# Before Ray is imported, which would report to its makers how it is used.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    import ray
except ImportError as missing:
    raise ToolMissingError(
        "--engine ray: Ray is not installed: pip install 'openimage-o-toolkit[ray]'"
    ) from missing

_MOST_RETRIES = 5
"""Nodes that a shard may lose before it is taken to be what ends them, by its memory for one."""

_SHARDS_A_SLOT = 4
"""Results are taken in the order of the shards: so many may be done, or wait, behind one that takes long."""

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")


@contextlib.contextmanager
def connected() -> Iterator["RayEngine"]:
    """Yield an engine on the cluster, and leave the cluster at the end.

    Raises
    ------
    ToolMissingError
        The cluster does not answer.
    """
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ToolMissingError(f"--engine ray: no cluster can be had ({one_line(error)})") from error
    try:
        # Ray tells of lost nodes and retries on stdout, which is for a stage's result.
        with contextlib.redirect_stdout(sys.stderr):
            yield RayEngine()
    finally:
        ray.shutdown()


class RayEngine:
    """Runs shards on the nodes of the cluster that this process is connected to.

    A shard whose node or process is lost is run again elsewhere; what it raises itself is not.
    """

    @property
    def n_slots(self) -> int:
        """Cores of all nodes that are alive."""
        return max(1, sum(int(cores) for cores in _cores_of_nodes()))

    def map(
        self,
        function: Callable[[ShardT], ResultT],
        shards: Iterable[ShardT],
        *,
        n_cores: int = 1,
        n_gpus: int = 0,
        most_at_once: int | None = None,
    ) -> Iterator[ResultT]:
        """Yield ``function(shard)`` of every shard, in their order.

        Raises
        ------
        InputError
            No node has so many cores, so that a shard would wait forever.
        OpenImageOError
            A shard was lost with its node again and again.
        """
        largest = max(_cores_of_nodes(), default=0)
        if largest < n_cores:
            raise InputError(
                f"--engine ray: a shard wants {n_cores} cores, and the largest node has {largest:g}: set "
                "OMP_NUM_THREADS to what each shard may have"
            )
        task = ray.remote(_call).options(
            num_cpus=n_cores, num_gpus=n_gpus, max_retries=_MOST_RETRIES, retry_exceptions=False
        )
        most_waiting = min(self.n_slots * _SHARDS_A_SLOT, most_at_once or self.n_slots * _SHARDS_A_SLOT)
        waiting: deque[Any] = deque()
        try:
            for shard in shards:
                waiting.append(task.remote(function, shard, str(Path.cwd())))
                if len(waiting) == most_waiting:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:
            for reference in waiting:
                ray.cancel(reference)


def _call(function: Callable[[ShardT], ResultT], shard: ShardT, folder: str) -> ResultT:
    """Return what a task is for; Ray itself takes plain functions alone, no built-in and no partial ones.

    `folder` is where the user's own relative paths begin.
    """
    os.chdir(folder)
    return function(shard)


def _cores_of_nodes() -> list[float]:
    return [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]


def _result(reference: Any) -> Any:
    try:
        # Not `ray.get`, which makes every signal a Ctrl-C, SIGTERM too.
        return reference.future().result()
    except ray.exceptions.RayTaskError as error:
        # The shard's own error, without Ray's report of where it was raised, is what the user can act on.
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise OpenImageOError(
            f"--engine ray: a shard was lost {_MOST_RETRIES + 1} times ({one_line(error)}); what was done is "
            "saved: run the same command again"
        ) from error
