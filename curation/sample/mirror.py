"""A server on the loopback that stands in for Open Images' mirror: ``/<subset>/<image_id>.jpg`` from a folder."""

import contextlib
import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from manifests.image_ids import IMAGE_ID_PATTERN

BUSY_SHARE = 0.05
"""Share of ids whose first request is answered 503, so that a demo shows what a retry does."""

IDLE_TIMEOUT_S = 10.0
"""A kept-alive connection without a request is closed after this long, so that its thread ends."""

_PATH = re.compile(rf"/(?P<subset>[a-z]{{1,20}})/(?P<image_id>{IMAGE_ID_PATTERN.pattern})\.jpg")


@contextlib.contextmanager
def serving(folder: Path, *, busy_share: float = BUSY_SHARE) -> Iterator[str]:
    """Serve `folder` on a free port of 127.0.0.1 and yield the base address; stop on leaving.

    Parameters
    ----------
    folder : Path
        Holds ``<subset>/<image_id>.jpg``; nothing else in it or outside it is served.
    busy_share : float
        Share of ids, chosen by a hash of the id, whose first request on a connection is answered 503 with
        ``Retry-After: 0``;
        0 for a mirror that is never busy.

    Yields
    ------
    str
        Such as ``http://127.0.0.1:40123``, without a slash at the end.
    """
    with _Mirror(folder, busy_share) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="mirror", daemon=True
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def is_busy_once(image_id: str, busy_share: float) -> bool:
    """Return whether the first request for `image_id` is answered 503."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=4).digest()) < busy_share * 2**32


class _Mirror(ThreadingHTTPServer):
    # A kept-alive connection may be open when the demo is done; leaving must not wait for it.
    daemon_threads = True
    block_on_close = False
    # The default of 5 refuses connections when a downloader opens its whole pool at once.
    request_queue_size = 128

    def __init__(self, folder: Path, busy_share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.busy_share = busy_share

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a downloader that was killed in mid-request; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Mirror
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    # Header and body are two writes; without this the second waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Begin a connection, on which nothing has been asked yet."""
        super().setup()
        self._asked: set[str] = set()

    def do_GET(self) -> None:
        """Answer with the picture, 404 or 503."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the downloader reports."""

    def _answer(self, *, with_body: bool) -> None:
        # The path is matched as sent: anything with an escape, a query or a dot segment is absent.
        match = _PATH.fullmatch(self.path)
        if match is None:
            self._send(HTTPStatus.NOT_FOUND, b"", with_body=with_body)
            return
        if self._is_busy(match["image_id"]):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"", with_body=with_body)
            return
        try:
            content = (self.server.folder / match["subset"] / f"{match['image_id']}.jpg").read_bytes()
        except FileNotFoundError:
            self._send(HTTPStatus.NOT_FOUND, b"", with_body=with_body)
            return
        self._send(HTTPStatus.OK, content, with_body=with_body)

    def _is_busy(self, image_id: str) -> bool:
        """Return True the first time on this connection for the busy share of ids.

        By connection, so that a downloader that was killed and starts again meets what an undisturbed one meets.
        """
        was_asked = image_id in self._asked
        self._asked.add(image_id)
        return not was_asked and is_busy_once(image_id, self.server.busy_share)

    def _send(self, status: HTTPStatus, content: bytes, *, with_body: bool) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            if status is HTTPStatus.SERVICE_UNAVAILABLE:
                self.send_header("Retry-After", "0")
            # The mirror says image/jpeg whatever the file holds, as an object store does for a key in .jpg.
            self.send_header("Content-Type", "image/jpeg" if status is HTTPStatus.OK else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)
