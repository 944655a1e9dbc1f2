"""What can go wrong on the way to one picture; none of these leaves `curation.fetch`, save the stop.

::

    NetworkFailure
    ├── RefusedError          a rule of ours forbids the request or the answer
    ├── GoneError             the server says that there is no such picture
    ├── TooLargeError         the body is over the cap of bytes
    ├── UnusableAnswerError   an answer that will not be other on a second attempt
    ├── OutOfTimeError        the deadline of the picture has passed
    ├── UnreachableError      no connection; it may be the whole host
    ├── BusyError             the server says "later"
    └── BrokenExchangeError   a connection was there, and no whole answer came of it
        └── DroppedError      the server hung up before the first byte of an answer
"""

from typing import ClassVar


class NetworkFailure(Exception):  # noqa: N818 - the root of a family that is stored, and no error of the toolkit
    """Root of what ends one request.

    No reason carries a query, a user name, an address that was looked up, a time or a library's text: the tables
    of two runs must be equal, and a URL may hold a secret.

    Attributes
    ----------
    status : str
        Download status of a picture that ends with this.
    reason : str
        One line, the same words on every run.
    http_status : int, optional
        What the server answered, where it did.
    is_final : bool
        Whether a second attempt would be of no use.
    costs_attempt : bool
        Whether a request of the picture was spent on it.
    is_excused : bool
        Whether that request does not count against the picture's attempts, as the host fails so for all, or is
        not there at all.
    """

    status: ClassVar[str] = "failed"
    is_final: bool = True
    is_excused: bool = False

    def __init__(self, reason: str, http_status: int | None = None, *, costs_attempt: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.http_status = http_status
        self.costs_attempt = costs_attempt


class RefusedError(NetworkFailure):
    """A rule of ours forbids the request; unless it is the answer's redirect, none was made."""

    status = "refused"

    def __init__(self, reason: str, http_status: int | None = None, *, costs_attempt: bool = False) -> None:
        super().__init__(reason, http_status, costs_attempt=costs_attempt)


class GoneError(NetworkFailure):
    """The server says that there is no such picture."""

    status = "missing"


class TooLargeError(NetworkFailure):
    """The body is over the cap of bytes, on the wire or after decoding."""

    status = "too_large"


class UnusableAnswerError(NetworkFailure):
    """The server answered something that will not be other on a second attempt."""


class OutOfTimeError(NetworkFailure):
    """The deadline of the picture has passed; `reason` says what was waited for, and may be empty."""


class UnreachableError(NetworkFailure):
    """No connection: the name does not resolve, or nobody answers there. It may be the whole host."""

    is_final = False


class BusyError(NetworkFailure):
    """The server says "later", by its status; `retry_after_s` where it says when."""

    is_final = False

    def __init__(self, reason: str, http_status: int, retry_after_s: float = 0.0) -> None:
        super().__init__(reason, http_status)
        self.retry_after_s = retry_after_s


class BrokenExchangeError(NetworkFailure):
    """A connection was there, and no whole answer came of it."""

    is_final = False


class DroppedError(BrokenExchangeError):
    """The server hung up before the first byte of an answer, as it does with connections kept for too long."""


class FetchStoppedError(Exception):
    """`Fetcher.stop` was called while this picture waited; nothing is known of it."""
