"""Work in threads ahead of the one that needs it, which a signal may leave at any line.

Python runs the handlers of signals in the main thread, between any two steps of it. What a handler raises (Ctrl-C)
may come out of the middle of `threading` or `concurrent.futures`, which are Python, and leave a lock of theirs
taken for good. So a thread that waits touches only locks and queues written in C: it has taken one, or it has not.
"""

import _thread
import atexit
import functools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")


class Task(Generic[Prepared]):
    """Work for a `Crew`, to be done once.

    Parameters
    ----------
    work : callable
        What a thread of the crew calls.
    """

    def __init__(self, work: Callable[[], Prepared]) -> None:
        self._work: Callable[[], Prepared] | None = work
        self._outcome: SimpleQueue[tuple[Prepared] | BaseException] = SimpleQueue()
        # May be taken twice: what a thread works on may collect the iterator that waits for it.
        self._in_work = threading.RLock()

    def run(self) -> None:
        """Do the work, where it was not dropped."""
        with self._in_work:
            work, self._work = self._work, None
            if work is not None:
                try:
                    self._outcome.put((work(),))
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
                    self._outcome.put(error)

    def result(self) -> Prepared:
        """Return what the work returned, or raise what it raised, once it has; to be asked once."""
        outcome = self._outcome.get()
        if not isinstance(outcome, BaseException):
            return outcome[0]
        try:
            raise outcome
        finally:
            # Its traceback holds this frame, which would hold it.
            del outcome

    def drop(self) -> None:
        """Let the work not be done, where it has not begun."""
        self._work = None

    def wait(self) -> None:
        """Return when the work, if it was begun, has come to its end."""
        with self._in_work:
            pass


_begun: set[Task[Any]] = set()
"""What crews were given and have not done."""


@atexit.register
def _end_all() -> None:
    # Threads that are in the middle of a library in C++ when Python ends can abort the process.
    for task in tuple(_begun):
        task.drop()
    for task in tuple(_begun):
        task.wait()


class Crew:
    """Threads that do tasks in the order in which they are given.

    Daemons: none keeps the process from its end, and what one has in work is waited for there.

    Parameters
    ----------
    n_threads : int
        At most; each is started when there is a task for it.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._n_started = 0
        self._waiting: SimpleQueue[Task[Any] | None] = SimpleQueue()

    def begin(self, task: Task[Any]) -> None:
        """Give the crew a task."""
        if self._n_started < self._n_threads:
            # Not by `threading`, which waits in Python until a thread has started; that is for the thread to do.
            _thread.start_new_thread(self._start, ())
            self._n_started += 1
        _begun.add(task)
        self._waiting.put(task)

    def end(self) -> None:
        """Let the threads end after what they were given."""
        self._waiting.put(None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="ahead", daemon=True).start()
        except RuntimeError:
            # The system has no further thread: this one does.
            self._run()

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            task.run()
            _begun.discard(task)
            # What it made is not for this thread to keep.
            del task
        # For the next thread.
        self._waiting.put(None)


@functools.cache
def one_thread_ahead() -> Crew:
    """Return the one thread in which the next part of a file is read while the last is worked on.

    One for all files and for good: allocators keep what a thread freed for that thread, and lose it when it ends.
    """
    return Crew(1)


def prepared_ahead(
    prepare: Callable[[Item], Prepared], items: Iterable[Item], *, n_workers: int, n_ahead: int
) -> Generator[tuple[Item, Prepared], None, None]:
    """Yield ``(item, prepare(item))`` in order, while threads prepare up to `n_ahead` items that follow.

    `n_ahead` bounds the memory. However the iterator is left, nothing is being prepared any more after it.
    """
    waiting: deque[tuple[Item, Task[Prepared]]] = deque()
    crew = Crew(n_workers)
    try:
        for item in items:
            task = Task(functools.partial(prepare, item))
            # Before it is begun, so that none is begun that is not waited for in the end.
            waiting.append((item, task))
            crew.begin(task)
            if len(waiting) > n_ahead:
                yield _first_done(waiting)
        while waiting:
            yield _first_done(waiting)
    finally:
        crew.end()
        for _, task in waiting:
            task.drop()
        for _, task in waiting:
            task.wait()


def _first_done(waiting: deque[tuple[Item, Task[Prepared]]]) -> tuple[Item, Prepared]:
    item, task = waiting[0]
    made = task.result()
    # Only now: until it is done, it is one to wait for.
    waiting.popleft()
    return item, made


def done_in_threads(
    work: Callable[[Item], Prepared], items: Iterable[Item], *, n_threads: int
) -> Iterator[Prepared]:
    """Yield ``work(item)`` of each item in order; `n_threads` are kept at work."""
    for _, made in prepared_ahead(work, items, n_workers=n_threads, n_ahead=2 * n_threads):
        yield made
