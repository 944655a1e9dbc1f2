"""What a command shares with the machine it runs on: the signals that end it, and its standard output."""

import contextlib
import ctypes
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from manifests.errors import OutputError, TerminatedError

_PYTHONS_OWN = (signal.SIG_DFL, signal.default_int_handler)

_SAME_REQUEST_S = 1.0
"""Within this time a second signal is the first again: ``timeout`` sends its own to the process and to its group,
and who runs a command for another hands on the Ctrl-C that the terminal has sent to both."""


class Ending:
    """What signals have asked of this process, while it runs a command and those that this one runs.

    Attributes
    ----------
    number : int or None
        The first signal that came; None while none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_s = 0.0
        self._owner = os.getpid()
        self._raises = False

    @property
    def exception(self) -> KeyboardInterrupt:
        """What the first signal is raised as."""
        return TerminatedError() if self.number == signal.SIGTERM else KeyboardInterrupt()

    def take(self, number: int) -> bool:
        """Note a signal and return whether it is the first; a later one, meant as such, ends the process at once.

        So what waits in vain can be ended, and what puts itself away is not disturbed by another exception.
        """
        if os.getpid() == self._owner:
            if self.number is None:
                self._at_s = time.monotonic()
                self.number = number
                return True
            if time.monotonic() - self._at_s < _SAME_REQUEST_S:
                return False
        # Or a forked worker, which has inherited this: what it works on is its parent's to put away.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return False

    def receive(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if self.take(number) and self._raises:
            raise self.exception

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise the first signal within the block, at whatever step it comes; outside of it, it is noted."""
        was_raising = self._raises
        try:
            self._raises = True
            if self.number is not None and not was_raising:
                raise self.exception
            yield
        finally:
            self._raises = was_raising


_current: Ending | None = None
"""Of the command that runs in the main thread."""


def current_ending() -> Ending:
    """Return what signals have asked of the command that runs; outside of one, nothing yet."""
    return _current or Ending()


@contextlib.contextmanager
def ending_in_order() -> Iterator[Ending]:
    """Take Ctrl-C and SIGTERM, so that what the block made for itself is put away before the process ends.

    What comes is noted in what is yielded, as libraries may make something else of the exception; it is raised
    where that is `Ending.raising`. A stage that stops in its own way (`curation.stopping`, the App) has its own
    handlers while it runs.
    """
    global _current
    # A command in a command has the handlers of the first; and Python lets only the main thread have any.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or _current is not None:
        yield current_ending() if is_main else Ending()
        return
    ending = Ending()
    previous: dict[signal.Signals, Any] = {}
    try:
        _current = ending
        for number in (signal.SIGTERM, signal.SIGINT):
            # One who has Ctrl-C ignored, or handles it, goes on doing so.
            if number == signal.SIGTERM or signal.getsignal(number) in _PYTHONS_OWN:
                previous[number] = signal.signal(number, ending.receive)
        yield ending
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _current = None


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, and come then.

    For steps that must not be left half-way, as of `threading`: a thread whose start was left waits for good.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    previous: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, lambda of_number, _: came.append(of_number))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)


@contextlib.contextmanager
def captured_streams(out: io.StringIO, err: io.StringIO) -> Iterator[None]:
    """Take what the block prints to both streams; what libraries in C and other processes print goes to stderr.

    So nothing but what is printed after the block reaches standard output.
    """
    with contextlib.ExitStack() as stack:
        # Neither is there where the command was started without it.
        with contextlib.suppress(OSError):
            aside = os.dup(1)
            stack.callback(os.close, aside)
            os.dup2(2, 1)
            stack.callback(os.dup2, aside, 1)
            # What C keeps for standard output would come after the block, at the latest when the process ends.
            stack.callback(ctypes.CDLL(None).fflush, None)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        yield


def hand_over(text: str = "") -> None:
    """Print to standard output, and wait until it and all that was printed before is taken.

    Raises
    ------
    OutputError
        Nobody takes it: the disk is full, or the reader gone.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What the stream still holds would be tried again when the process ends, with a traceback.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
        raise OutputError(f"standard output: {error.strerror}") from error
