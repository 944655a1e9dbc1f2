"""Threads that work through tasks: bounded in number and in what lies between them, and stopped in good order."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from curation.stopping import StopRequest

_TASKS_A_THREAD = 2
"""One in work and one waiting: a thread need not wait for the next, and memory depends on the threads alone."""

GRACE_S = 5.0
"""How long, after a request to stop, tasks in work may take to their end; those that take longer are given up."""

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class _Crew(Generic[TaskT, ResultT]):
    def __init__(self, work: Callable[[TaskT], ResultT | Future[ResultT]], n_threads: int) -> None:
        self.n_in_flight = 0
        self.done: SimpleQueue[tuple[TaskT, ResultT] | BaseException | None] = SimpleQueue()
        self._work = work
        self._waiting: SimpleQueue[TaskT | None] = SimpleQueue()
        # Daemons: one that hangs in a request does not keep the process from its end.
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(n_threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def give(self, tasks: Iterable[TaskT]) -> None:
        for task in tasks:
            self._waiting.put(task)
            self.n_in_flight += 1

    def take(self, timeout_s: float | None = None) -> list[tuple[TaskT, ResultT] | BaseException]:
        """Return what has come to its end: at least one, but for a request to stop or the time-out."""
        finished = []
        try:
            outcome = self.done.get(timeout=timeout_s)
            while True:
                if outcome is not None:
                    finished.append(outcome)
                outcome = self.done.get_nowait()
        except Empty:
            self.n_in_flight -= len(finished)
            return finished

    def stop(self, grace_s: float) -> list[tuple[TaskT, ResultT] | BaseException]:
        """Drop the tasks that wait and return the rest of what comes to its end in time."""
        try:
            while True:
                self._waiting.get_nowait()
                self.n_in_flight -= 1
        except Empty:
            for _ in self._threads:
                self._waiting.put(None)
        finished = []
        deadline = time.monotonic() + grace_s
        while self.n_in_flight and (left_s := deadline - time.monotonic()) > 0:
            finished += self.take(left_s)
        return finished

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                outcome = self._work(task)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again in the main thread
                self.done.put(error)
                continue
            if isinstance(outcome, Future):
                outcome.add_done_callback(partial(self._note, task))
            else:
                self.done.put((task, outcome))

    def _note(self, task: TaskT, outcome: Future[ResultT]) -> None:
        error = outcome.exception()
        self.done.put((task, outcome.result()) if error is None else error)


def work_through(
    tasks: Iterable[TaskT],
    work: Callable[[TaskT], ResultT | Future[ResultT]],
    keep: Callable[[list[tuple[TaskT, ResultT]]], None],
    *,
    n_threads: int,
    stop_request: StopRequest,
    hurry: Callable[[], None] = lambda: None,
) -> None:
    """Do `work` on every task in threads; hand the results to `keep` as they come, in this thread.

    Parameters
    ----------
    tasks : iterable
        Drawn one by one, in this thread, as room is made.
    work : callable
        What a thread does with a task. It may return a `Future` of the result and leave the thread to the next.
        What it raises ends the run, after `keep` has had what else was done.
    keep : callable
        Takes a list of (task, result); never called by two threads.
    n_threads : int
        How many work at a time.
    stop_request : StopRequest
        Once it is made, tasks in work come to their end (for `GRACE_S` seconds) and into `keep`, and it is raised.
    hurry : callable
        Called once on the way to a stop, whatever its cause: ends what tasks in work wait for.
    """
    crew = _Crew(work, n_threads)
    waiting = iter(tasks)
    with stop_request.deferred(lambda: crew.done.put(None)):
        try:
            # Here, as `Thread.start` waits in Python: an exception in the middle of that leaves a lock taken.
            crew.start()
            while not stop_request.is_made:
                crew.give(islice(waiting, n_threads * _TASKS_A_THREAD - crew.n_in_flight))
                if not crew.n_in_flight:
                    break
                _keep(crew.take(), keep)
            if stop_request.is_made:
                hurry()
        except BaseException:
            hurry()
            raise
        finally:
            _keep(crew.stop(GRACE_S), keep)


def _keep(
    outcomes: list[tuple[TaskT, ResultT] | BaseException], keep: Callable[[list[tuple[TaskT, ResultT]]], None]
) -> None:
    keep([outcome for outcome in outcomes if not isinstance(outcome, BaseException)])
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
