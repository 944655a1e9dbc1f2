"""Ctrl-C and SIGTERM, taken where a stage can stop in good order instead of in the middle of a line."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from manifests.errors import TerminatedError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A request to stop, by Ctrl-C or SIGTERM, from the user.

    Within the block signals raise `KeyboardInterrupt` or `TerminatedError` as they come, but for parts that are
    `deferred`: there the request is noted and raised at the end of the part. A second one is raised at once.
    """

    def __init__(self) -> None:
        self._made: int | None = None
        self._wake: Callable[[], None] | None = None
        self._previous: list[signal._HANDLER] = []

    @property
    def is_made(self) -> bool:
        """Whether a deferred part should come to its end."""
        return self._made is not None

    def __enter__(self) -> Self:
        # Python lets only the main thread have handlers; elsewhere signals are the caller's affair.
        if threading.current_thread() is threading.main_thread():
            self._previous = [signal.signal(number, self._receive) for number in _SIGNALS]
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in zip(_SIGNALS, self._previous, strict=False):
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self, wake: Callable[[], None]) -> Iterator[None]:
        """Hold a request back until the end of the block; `wake` is called when one comes."""
        self._wake = wake
        try:
            yield
        finally:
            self._wake = None
        if self._made is not None:
            raise _exception_of(self._made)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._wake is None or self.is_made:
            raise _exception_of(number)
        self._made = number
        self._wake()


def _exception_of(number: int) -> KeyboardInterrupt:
    return TerminatedError() if number == signal.SIGTERM else KeyboardInterrupt()
