"""Ctrl-C and SIGTERM, taken where a stage can stop in good order instead of in the middle of a line."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

from manifests.process_edge import Ending, current_ending

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A request to stop, by Ctrl-C or SIGTERM, from the user.

    Within the block the first signal raises `KeyboardInterrupt` or `TerminatedError` as it comes, but for parts
    that are `deferred`: there the request is noted and raised at the end of the part. A second one ends the
    process, as `manifests.process_edge.Ending` has it.
    """

    def __init__(self) -> None:
        self._ending = Ending()
        self._is_made = False
        self._wake: Callable[[], None] | None = None
        self._previous: list[signal._HANDLER] = []

    @property
    def is_made(self) -> bool:
        """Whether a deferred part should come to its end."""
        return self._is_made

    def __enter__(self) -> Self:
        # Python lets only the main thread have handlers; elsewhere signals are the caller's affair.
        if threading.current_thread() is threading.main_thread():
            self._ending = current_ending()
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
        if self._is_made:
            raise self._ending.exception

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._ending.take(number):
            return
        if self._wake is None:
            raise self._ending.exception
        self._is_made = True
        self._wake()
