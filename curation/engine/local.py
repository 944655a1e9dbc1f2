"""Shards in processes of this machine."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from manifests.ahead import prepared_ahead
from manifests.errors import OpenImageOError

_SHARDS_A_PROCESS = 2
"""One in work and one waiting, so that a process need not wait for this one to wake up."""

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")


class LocalEngine:
    """Runs shards in `n_slots` processes; with one, in this process, where nothing has to start.

    Attributes
    ----------
    n_slots : int
        Processes.
    """

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots

    def map(
        self,
        function: Callable[[ShardT], ResultT],
        shards: Iterable[ShardT],
        *,
        n_cores: int = 1,
        n_gpus: int = 0,
        most_at_once: int | None = None,
    ) -> Iterator[ResultT]:
        """Yield ``function(shard)`` of every shard, in their order; cores and GPUs are shared by all.

        Raises
        ------
        OpenImageOError
            A process was ended from outside.
        """
        n_processes = min(self.n_slots, most_at_once or self.n_slots)
        if n_processes == 1:
            yield from map(function, shards)
            return
        # Not fork: the threads of torch and Pillow in this process may hold locks that a copy would wait for.
        pool = ProcessPoolExecutor(
            n_processes, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts
        )
        n_at_once = n_processes * _SHARDS_A_PROCESS

        def run(shard: ShardT) -> ResultT:
            # Not in the main thread: the pool waits in Python, where a signal could leave a lock taken.
            _block_interrupts()
            return pool.submit(function, shard).result()

        results = prepared_ahead(run, shards, n_workers=n_at_once, n_ahead=n_at_once - 1)
        try:
            for _, result in results:
                yield result
        except BrokenProcessPool as error:
            raise OpenImageOError(
                "a worker process was ended from outside, by a lack of memory for one: give fewer workers; what "
                "was done is saved"
            ) from error
        finally:
            # The pool first: its end is that of what waits in `run`.
            pool.shutdown(wait=True, cancel_futures=True)
            results.close()


def _block_interrupts() -> None:
    """Let processes that this thread starts inherit it: a Ctrl-C may come while they still import."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _leave_interrupts() -> None:
    """Leave Ctrl-C, which the terminal sends to every process, to the one that collects the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
