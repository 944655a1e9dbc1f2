"""One request and its answer, over one connection."""

import http.client
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as LibraryTimeoutError
from urllib3.response import BaseHTTPResponse

from curation.network.bodies import drain, read_body
from curation.network.connections import Connection, Connections
from curation.network.failures import BrokenExchangeError, DroppedError, NetworkFailure, OutOfTimeError
from curation.network.sockets import Patience
from curation.network.targets import Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `content` is read for status 200 only."""

    http_status: int
    content: bytes
    location: str | None
    retry_after_s: float


class Exchanges:
    """Asks servers over kept connections.

    Parameters
    ----------
    connections : Connections
        Where connections come from and go back to.
    headers : dict
        Sent with every request.
    max_bytes : int
        Longest body.
    """

    def __init__(self, connections: Connections, headers: dict[str, str], max_bytes: int) -> None:
        self._connections = connections
        self._headers = headers
        self._max_bytes = max_bytes

    def ask(self, target: Target, patience: Patience) -> Answer:
        """Return the answer to one GET, whatever its status.

        A kept connection that the server has closed meanwhile costs no attempt: a new one is opened at once.

        Raises
        ------
        NetworkFailure
            No whole answer came.
        """
        kept = self._connections.kept(target, patience)
        if kept is not None:
            try:
                return self._over(kept, target, patience)
            except DroppedError:
                pass
        return self._over(self._connections.opened(target, patience), target, patience)

    def _over(self, connection: Connection, target: Target, patience: Patience) -> Answer:
        headers = self._headers | self._connections.request_headers(target)
        http_status = None
        try:
            connection.request(
                "GET", self._connections.request_path(target), headers=headers, preload_content=False
            )
            response = connection.getresponse()
            http_status = response.status
            is_wanted = http_status == http.client.OK
            content = read_body(response, self._max_bytes) if is_wanted else b""
            is_read = is_wanted or drain(response)
        except NetworkFailure:
            connection.close()
            raise
        except (OSError, http.client.HTTPException, HTTPError) as error:
            connection.close()
            raise failure_of(error, patience, http_status) from error
        if is_read:
            self._connections.keep(target, connection)
        else:
            connection.close()
        return Answer(http_status, content, response.headers.get("Location"), retry_after_s(response))


def failure_of(error: Exception, patience: Patience, http_status: int | None) -> NetworkFailure:
    """Return what a library's or the system's error means for the request that was under way."""
    if patience.is_over:
        return OutOfTimeError("", http_status)
    if isinstance(error, TimeoutError | LibraryTimeoutError):
        return BrokenExchangeError("timed out")
    if http_status is not None:
        return BrokenExchangeError("the body did not arrive whole")
    if isinstance(error, OSError):
        return DroppedError("the connection failed")
    return BrokenExchangeError("the answer is not HTTP")


def retry_after_s(response: BaseHTTPResponse) -> float:
    """Return the seconds to wait that the answer asks for; 0 where it does not, or not in a known form."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    moment = _moment(text)
    if moment is None:
        return 0.0
    # Beside the server's own clock, where it shows it: ours may be wrong.
    return max(0.0, moment - (_moment(response.headers.get("Date", "")) or time.time()))


def _moment(text: str) -> float | None:
    """Return the seconds since 1970 of an HTTP date, or None."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
