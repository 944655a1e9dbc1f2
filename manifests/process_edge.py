"""What a command shares with the machine it runs on: the signals that end it, and its standard output."""

import contextlib
import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from manifests.errors import OutputError, TerminatedError


@contextlib.contextmanager
def ending_in_order() -> Iterator[list[int]]:
    """Let SIGTERM end the block by `TerminatedError`, so that what it made for itself is put away.

    Its number is then added to the list that is yielded, as libraries may make something else of the exception. A
    stage that stops in its own way (`curation.stopping`, the App) has its own handlers while it runs.
    """
    # Python lets only the main thread have handlers.
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    owner = os.getpid()
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            received.append(number)
            raise TerminatedError
        # A forked worker has inherited this: what it works on is its parent's to put away.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    previous = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
