"""A process that is asked to end does so in one line, with its exit code and record, whatever comes between."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from manifests.ahead import prepared_ahead
from manifests.errors import TerminatedError
from manifests.process_edge import current_ending, ending_in_order, held_back
from manifests.workspace import Workspace
from tests.waiting import HANGS_S

REPOSITORY = Path(__file__).parent.parent
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
IN_ONE_LINE = "interrupted: what was done is saved; run the same command again\n"

both_signals = pytest.mark.parametrize("number", CODES, ids=["SIGTERM", "Ctrl-C"])


@pytest.fixture
def ended(tmp_path, monkeypatch, capsys):
    """Return a function that runs a stage with a body, and returns exit code, standard error and records."""

    def run(body):
        def stage(*_):
            with Workspace(tmp_path / "ws").stage("candidates", {}):
                body()
            return {"test": 1}

        monkeypatch.setattr("curation.candidates.propose_candidates", stage)
        (tmp_path / "ids.csv").write_text("ImageID\n")
        code = cli.run(
            ["candidates", "--metadata", str(tmp_path / "ids.csv"), "--workspace", str(tmp_path / "ws")]
        )
        return code, capsys.readouterr().err, [path.name for path in tmp_path.glob("ws/provenance/*")]

    return run


def ask(number):
    os.kill(os.getpid(), number)


@both_signals
def test_what_a_library_makes_of_a_signal_is_the_interruption(number, ended):
    def body():
        try:
            ask(number)
        except KeyboardInterrupt:
            raise RuntimeError("cannot release un-acquired lock") from None

    assert ended(body) == (CODES[number], IN_ONE_LINE, ["candidates.interrupted.json"])


@both_signals
def test_a_signal_that_is_sent_twice_is_raised_once(number, ended):
    put_away = []

    def body():
        try:
            ask(number)
        finally:
            ask(number)
            put_away.append("whole")

    assert ended(body) == (CODES[number], IN_ONE_LINE, ["candidates.interrupted.json"])
    assert put_away == ["whole"]


@both_signals
def test_a_signal_in_the_middle_of_work_in_threads_ends_it_in_order(number, ended):
    begun, done = [], []

    def prepare(item):
        begun.append(item)
        done.append(item)

    def body():
        for item, _ in prepared_ahead(prepare, range(1000), n_workers=2, n_ahead=8):
            if item == 20:
                ask(number)

    assert ended(body) == (CODES[number], IN_ONE_LINE, ["candidates.interrupted.json"])
    assert 20 < len(begun) == len(done) < 40


def test_an_error_without_a_signal_stays_a_fault_of_this_program(ended, tmp_path):
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 // 0)

    assert [path.name for path in tmp_path.glob("ws/provenance/*")] == ["candidates.failed.json"]


@both_signals
def test_a_signal_that_comes_as_a_command_begins_is_told_as_any(number, ended, monkeypatch):
    install = signal.signal

    def install_and_ask(of_number, handler):
        previous = install(of_number, handler)
        if handler == current_ending().receive and of_number == number:
            ask(number)
        return previous

    monkeypatch.setattr(signal, "signal", install_and_ask)
    begun = []

    assert ended(lambda: begun.append(1)) == (CODES[number], IN_ONE_LINE, [])
    assert begun == []


ASKED_AGAIN = """
import os, signal, sys, time
from manifests import process_edge
process_edge._SAME_REQUEST_S = 0.001
with process_edge.ending_in_order() as ending, ending.raising():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    finally:
        time.sleep(0.01)
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(600)
"""


@both_signals
def test_asked_again_it_ends_whatever_it_waits_for(number):
    finished = subprocess.run(
        [sys.executable, "-c", ASKED_AGAIN, str(int(number))],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_S,
    )  # fmt: skip

    assert (finished.returncode, finished.stderr) == (-number, "")


def test_handlers_are_put_back_and_a_command_in_a_command_is_asked_the_same():
    before = [signal.getsignal(number) for number in CODES]
    with ending_in_order() as ending:
        with ending_in_order() as within:
            assert within is ending is current_ending()
        ask(signal.SIGTERM)
        assert ending.number == signal.SIGTERM
        with pytest.raises(TerminatedError), ending.raising():
            pytest.fail("it had come before")
    assert [signal.getsignal(number) for number in CODES] == before
    assert current_ending().number is None


@both_signals
def test_what_is_held_back_comes_after_the_block(number, ended):
    done = []

    def body():
        with held_back():
            ask(number)
            done.append("whole")
        done.append("not reached")

    assert ended(body) == (CODES[number], IN_ONE_LINE, ["candidates.interrupted.json"])
    assert done == ["whole"]


def test_one_who_has_ctrl_c_ignored_goes_on_ignoring_it():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_in_order() as ending, ending.raising():
            ask(signal.SIGINT)
        assert ending.number is None
    finally:
        signal.signal(signal.SIGINT, previous)
