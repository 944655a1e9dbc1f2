"""The benchmark's HTTP/1.1 server: one process, one loop, bodies made beforehand, and faults on request.

A response costs it one `sendmsg`, about a tenth of a millisecond, so that what is measured is the client. Every
twentieth picture faults where faults are asked for, in turn by the kinds of `FAULTS`, and once: whoever asks again
gets it. Only a 429 lasts, for the second that its Retry-After names, as with a server that means it.
"""

import contextlib
import heapq
import multiprocessing
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from ctypes import Structure, c_double, c_longlong
from multiprocessing.sharedctypes import RawValue
from typing import Any

from curation.bench.bodies import Body

FAULTS = ("429", "503", "reset", "stall", "short body")
"""Too many requests, with Retry-After; unavailable, without; a reset in mid-body; silence in mid-body for
`STALL_S`; a body that ends early, and its connection with it."""

FAULT_EVERY = 20
"""One picture in so many faults: 5 %."""

RETRY_AFTER_S = 1
STALL_S = 1.0

_SEND_BUFFER_BYTES = 1 << 20
_RECEIVE_BYTES = 1 << 16
_END_OF_HEAD = b"\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def image_id_of(index: int) -> str:
    """Return the id of the picture at an index: 16 hex digits, as Open Images has them."""
    return f"{index:016x}"


def fault_of(index: int) -> str | None:
    """Return how the picture at `index` faults when it is first asked for, of `FAULTS`, or None."""
    if index % FAULT_EVERY:
        return None
    return FAULTS[index // FAULT_EVERY % len(FAULTS)]


class ServerCounts(Structure):
    """What the server tells, in memory that both processes see.

    Attributes
    ----------
    first_request_at : float
        `time.monotonic` of it; 0 before.
    n_requests, n_connections, n_faults : int
        So far.
    cpu_s : float
        Processor time that serving took.
    """

    _fields_ = (
        ("first_request_at", c_double),
        ("cpu_s", c_double),
        ("n_requests", c_longlong),
        ("n_connections", c_longlong),
        ("n_faults", c_longlong),
    )


class BenchServer:
    """A running server.

    Attributes
    ----------
    base_url : str
        Pictures lie at ``<base_url>/test/<image id>.jpg``.
    counts : ServerCounts
        Of requests so far.
    """

    def __init__(self, base_url: str, counts: Any) -> None:
        self.base_url = base_url
        self.counts = counts


@contextlib.contextmanager
def serving(body: Body, *, has_faults: bool = False) -> Iterator[BenchServer]:
    """Yield a server of `body` in a process of its own on a free port of the loopback."""
    context = multiprocessing.get_context("spawn")
    counts = RawValue(ServerCounts)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = context.Process(target=_serve, args=(listener, body, has_faults, counts), daemon=True)
        process.start()
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield BenchServer(base_url, counts)
    finally:
        process.terminate()
        process.join()
        process.close()


def _serve(listener: socket.socket, body: Body, has_faults: bool, counts: ServerCounts) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        _Loop(listener, body, has_faults, counts).run()


class _Connection:
    """One client: what it has sent of a request, what it has still to get, and what happens after that."""

    __slots__ = ("after", "pending", "received", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.received = b""
        self.pending: list[memoryview] = []
        self.after = ""


class _Loop:
    """Accepts, reads, writes and waits for all connections in one thread."""

    def __init__(self, listener: socket.socket, body: Body, has_faults: bool, counts: ServerCounts) -> None:
        self._listener = listener
        self._body = body
        self._has_faults = has_faults
        self._counts = counts
        self._selector = selectors.DefaultSelector()
        self._cpu_before_s = 0.0
        self._first_asked_at: dict[int, float] = {}
        self._stalled: list[tuple[float, int, _Connection, list[memoryview]]] = []

    def run(self) -> None:
        self._listener.setblocking(False)
        self._cpu_before_s = time.process_time()
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            timeout_s = max(0.0, self._stalled[0][0] - time.monotonic()) if self._stalled else None
            for key, _ in self._selector.select(timeout_s):
                if key.data is None:
                    self._accept()
                else:
                    with self._closing_what_breaks(key.data):
                        self._serve_ready(key.data)
            self._resume_stalled()

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except OSError:
            return  # the client has gone again
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A whole picture fits: one call sends it, and the loop turns to the next client.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._counts.n_connections += 1
        self._selector.register(connected, selectors.EVENT_READ, _Connection(connected))

    @contextlib.contextmanager
    def _closing_what_breaks(self, connection: _Connection) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _serve_ready(self, connection: _Connection) -> None:
        if connection.pending:
            self._send(connection)
            return
        received = connection.socket.recv(_RECEIVE_BYTES)
        if not received:
            self._close(connection)
            return
        connection.received += received
        head, end, connection.received = connection.received.partition(_END_OF_HEAD)
        if not end:
            connection.received = head
            return
        self._answer(connection, head)

    def _answer(self, connection: _Connection, head: bytes) -> None:
        now = time.monotonic()
        counts = self._counts
        counts.n_requests += 1
        counts.first_request_at = counts.first_request_at or now
        counts.cpu_s = time.process_time() - self._cpu_before_s
        image_id = head.split(b" ", 2)[1].rpartition(b"/")[2].partition(b".")[0].decode()
        if b"connection: close" in head.lower():
            connection.after = "close"
        parts = self._body.parts(image_id)
        n_bytes = sum(map(len, parts))
        status = f"HTTP/1.1 200 OK\r\nContent-Type: {self._body.content_type}\r\nContent-Length: {n_bytes}\r\n\r\n"
        connection.pending = [memoryview(part) for part in (status.encode(), *parts)]
        if self._has_faults:
            self._play_fault(connection, int(image_id, 16), now)
        self._send(connection)

    def _play_fault(self, connection: _Connection, index: int, now: float) -> None:
        """Turn the answer that `connection` is about to get into the fault that is due, if any."""
        fault = fault_of(index)
        is_first = index not in self._first_asked_at
        asked_at = self._first_asked_at.setdefault(index, now)
        is_due = is_first or (fault == "429" and now < asked_at + RETRY_AFTER_S)
        if fault is None or not is_due:
            return
        self._counts.n_faults += 1
        if fault == "429":
            head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {RETRY_AFTER_S}\r\nContent-Length: 0\r\n\r\n"
            connection.pending = [memoryview(head.encode())]
        elif fault == "503":
            connection.pending = [memoryview(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")]
        else:
            rest = connection.pending[-1]
            half = len(rest) // 2
            connection.pending[-1] = rest[:half]
            if fault == "stall":
                connection.after = f"stall {connection.after}"
                entry = (now + STALL_S, self._counts.n_requests, connection, [rest[half:]])
                heapq.heappush(self._stalled, entry)
            else:
                connection.after = "reset" if fault == "reset" else "close"

    def _send(self, connection: _Connection) -> None:
        try:
            n_sent = connection.socket.sendmsg(connection.pending)
        except BlockingIOError:
            n_sent = 0
        while connection.pending and n_sent >= len(connection.pending[0]):
            n_sent -= len(connection.pending.pop(0))
        if connection.pending:
            connection.pending[0] = connection.pending[0][n_sent:]
            self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            return
        if connection.after == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if connection.after in ("reset", "close"):
            self._close(connection)
        else:
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _resume_stalled(self) -> None:
        while self._stalled and self._stalled[0][0] <= time.monotonic():
            _, _, connection, rest = heapq.heappop(self._stalled)
            connection.after = connection.after.removeprefix("stall ")
            connection.pending += rest
            if connection.socket.fileno() >= 0:
                with self._closing_what_breaks(connection):
                    self._send(connection)
