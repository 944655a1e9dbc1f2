"""One request whose answer is read block by block: for files that are larger than memory."""

import contextlib
import http.client
from collections.abc import Iterator, Mapping

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from curation.network.connections import Connections
from curation.network.exchange import failure_of, retry_after_s
from curation.network.sockets import Patience
from curation.network.targets import Target


class StreamedAnswer:
    """What a server answers to one request, while it comes.

    Attributes
    ----------
    http_status : int
        Its status.
    headers : mapping
        Its headers; names are compared without case.
    n_announced : int, optional
        Bytes that the body will have, where the server says so.
    is_chunked : bool
        Whether the body shows its own end.
    retry_after_s : float
        Seconds to wait that the server asks for, 0 where it does not.
    """

    def __init__(self, response: BaseHTTPResponse, patience: Patience) -> None:
        self._response, self._patience = response, patience
        self.http_status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.n_announced: int | None = response.length_remaining
        self.is_chunked: bool = getattr(response, "chunked", False)
        self.retry_after_s = retry_after_s(response)

    def blocks(self, block_bytes: int) -> Iterator[bytes]:
        """Yield the body as it comes on the wire; each block has the whole patience anew.

        Raises
        ------
        NetworkFailure
            The connection ended before the body did, or a block took too long.
        """
        while True:
            self._patience.renew()
            try:
                block = self._response.read(block_bytes, decode_content=False)
            except (OSError, http.client.HTTPException, HTTPError) as error:
                raise failure_of(error, self._patience, self.http_status) from error
            if not block:
                return
            yield block


@contextlib.contextmanager
def streamed_answer(
    connections: Connections, target: Target, headers: Mapping[str, str], patience: Patience
) -> Iterator[StreamedAnswer]:
    """Ask for `target` over a connection of its own, which is closed in the end.

    Raises
    ------
    NetworkFailure
        No answer came.
    """
    connection = connections.opened(target, patience)
    try:
        try:
            connection.request(
                "GET", connections.request_path(target), preload_content=False,
                headers={**headers, **connections.request_headers(target)},
            )  # fmt: skip
            response = connection.getresponse()
        except (OSError, http.client.HTTPException, HTTPError) as error:
            raise failure_of(error, patience, None) from error
        yield StreamedAnswer(response, patience)
    finally:
        connection.close()
