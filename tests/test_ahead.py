"""`manifests.ahead`: what is done in threads comes in order, is bounded, and can be left at any step."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from manifests.ahead import done_in_threads, prepared_ahead
from manifests.errors import InputError
from tests.waiting import HANGS_S

REPOSITORY = Path(__file__).parent.parent


def test_items_come_in_order_each_with_what_was_made_of_it():
    slow = threading.Event()

    def prepare(number):
        # The first is the last to be done.
        if number == 0:
            assert slow.wait(10)
        elif number == 3:
            slow.set()
        return number * number

    made = prepared_ahead(prepare, range(6), n_workers=2, n_ahead=4)

    assert list(made) == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16), (5, 25)]
    assert list(done_in_threads(len, ["a", "", "abc"], n_threads=3)) == [1, 0, 3]
    assert list(done_in_threads(len, [], n_threads=3)) == []


def test_no_more_is_prepared_than_may_lie_ahead():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    made = prepared_ahead(str, items(), n_workers=4, n_ahead=3)
    for number in range(10):
        assert next(made) == (number, str(number))
        assert len(drawn) == number + 4
    made.close()


def test_an_error_comes_where_its_item_would_and_the_rest_is_not_begun():
    begun = []

    def prepare(number):
        begun.append(number)
        if number == 2:
            raise InputError("the third")
        return number

    made = prepared_ahead(prepare, range(100), n_workers=1, n_ahead=50)

    assert [next(made), next(made)] == [(0, 0), (1, 1)]
    with pytest.raises(InputError, match="the third"):
        next(made)
    assert len(begun) < 100
    n_begun = len(begun)
    assert next(made, None) is None
    assert len(begun) == n_begun


def test_what_is_in_work_when_the_iterator_is_left_comes_to_its_end_before():
    in_work, may_end, ended = threading.Event(), threading.Event(), []

    def prepare(number):
        if number == 1:
            in_work.set()
            assert may_end.wait(10)
            ended.append(number)
        return number

    made = prepared_ahead(prepare, range(9), n_workers=1, n_ahead=8)
    assert next(made) == (0, 0)
    assert in_work.wait(10)
    threading.Timer(0.1, may_end.set).start()
    made.close()

    assert ended == [1]


def test_an_iterator_may_be_collected_by_the_thread_that_works_for_it():
    may_collect, is_collected = threading.Event(), threading.Event()

    def prepare(number):
        if number == 1:
            assert may_collect.wait(10)
            gc.collect()
            is_collected.set()
        return number

    made = prepared_ahead(prepare, range(9), n_workers=1, n_ahead=1)
    assert next(made) == (0, 0)
    gone = weakref.ref(made)
    # It refers to itself, so that nothing but a collection ends it.
    circle = [made]
    circle.append(circle)
    gc.disable()
    try:
        del made, circle
        may_collect.set()
        assert is_collected.wait(10)
    finally:
        gc.enable()
    assert gone() is None


def test_where_the_system_has_no_further_thread_the_work_is_done_all_the_same(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert list(done_in_threads(len, ["a", "bc"], n_threads=2)) == [1, 2]


LEFT_AT_EVERY_STEP = """
import sys
from manifests.ahead import one_thread_ahead, prepared_ahead, Task

class Left(BaseException):
    pass

def work_left_at(step):
    # Where Python runs the handlers of signals: as a function begins, and after a call of one in C.
    n_steps = 0

    def count(frame, event, argument):
        nonlocal n_steps
        if event in ("call", "c_return"):
            n_steps += 1
            if n_steps == step:
                sys.setprofile(None)
                raise Left

    sys.setprofile(count)
    try:
        made = list(prepared_ahead(str, range(4), n_workers=2, n_ahead=2))
        task = Task(int)
        one_thread_ahead().begin(task)
        made.append(task.result())
    finally:
        sys.setprofile(None)
    assert made == [(0, "0"), (1, "1"), (2, "2"), (3, "3"), 0], made

step = 1
while True:
    try:
        work_left_at(step)
    except Left:
        step += 1
    else:
        break
print(step)
"""


def test_it_can_be_left_at_every_step_without_a_lock_that_stays_taken():
    finished = subprocess.run(
        [sys.executable, "-c", LEFT_AT_EVERY_STEP], cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_S
    )

    assert (finished.returncode, finished.stderr) == (0, "")
    # Of four items, each prepared, begun and waited for.
    assert int(finished.stdout) > 50
