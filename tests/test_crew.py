import threading
from concurrent.futures import Future

import pytest

from curation.crew import work_through
from curation.stopping import StopRequest


def results_of(tasks, work, n_threads=2):
    kept = []
    work_through(tasks, work, kept.extend, n_threads=n_threads, stop_request=StopRequest())
    return kept


def later(seconds, finish):
    future = Future()
    timer = threading.Timer(seconds, lambda: finish(future))
    timer.start()
    return future


def test_a_result_that_comes_later_is_kept_with_its_task():
    kept = results_of(range(8), lambda task: later(0.02, lambda future: future.set_result(task * 10)))
    assert sorted(kept) == [(task, task * 10) for task in range(8)]


def test_results_that_come_at_once_and_later_may_be_mixed():
    def work(task):
        return -task if task % 2 else later(0.02, lambda future: future.set_result(-task))

    assert sorted(results_of(range(8), work)) == [(task, -task) for task in range(8)]


def test_a_thread_does_not_wait_for_a_result_that_comes_later():
    futures = []

    def work(task):
        futures.append(Future())
        if len(futures) == 2:
            # Both tasks were begun by the only thread there is.
            for future in futures:
                future.set_result(threading.current_thread().name)
        return futures[task]

    (_, first), (_, second) = results_of(range(2), work, n_threads=1)
    assert first == second


def test_an_error_that_comes_later_ends_the_run_after_what_else_was_done_is_kept():
    kept = []

    def work(task):
        if task == 3:
            return later(0.05, lambda future: future.set_exception(OSError("no room")))
        return task

    with pytest.raises(OSError, match="no room"):
        work_through(range(4), work, kept.extend, n_threads=2, stop_request=StopRequest())
    assert sorted(kept) == [(0, 0), (1, 1), (2, 2)]


def test_results_to_come_are_bounded_by_the_threads():
    n_begun = n_most = 0
    lock = threading.Lock()

    def work(task):
        nonlocal n_begun, n_most
        with lock:
            n_begun += 1
            n_most = max(n_most, n_begun)

        def finish(future):
            nonlocal n_begun
            with lock:
                n_begun -= 1
            future.set_result(None)

        return later(0.01, finish)

    results_of(range(50), work, n_threads=3)
    assert 1 < n_most <= 6


def test_what_never_comes_is_given_up_after_the_grace(monkeypatch):
    monkeypatch.setattr("curation.crew.GRACE_S", 0.1)

    def work(task):
        if task == 1:
            raise OSError("no room")
        return Future()

    with pytest.raises(OSError, match="no room"):
        results_of(range(2), work)
