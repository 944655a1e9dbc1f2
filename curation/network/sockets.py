"""Sockets that know the deadline of the picture they read for."""

import socket
import ssl
import time
from typing import Any


class Patience:
    """How long the reader of one picture may still wait, and what of its attempts is spent.

    A socket's own timeout starts anew with every byte, so that a server that sends one byte a second is never too
    late. The sockets below ask here before each receive, and the wait never reaches past the deadline.

    Parameters
    ----------
    socket_timeout_s : float
        Longest wait for the next bytes.
    deadline_s : float
        Longest time from now to the end of the picture.

    Attributes
    ----------
    n_spent : int
        Attempts that failed and count against the picture.
    failed_at : float
        When the latest attempt failed, by the monotonic clock; before there is one, when the picture began.
    """

    def __init__(self, socket_timeout_s: float, deadline_s: float) -> None:
        self.socket_timeout_s = socket_timeout_s
        self._deadline_s = deadline_s
        self.renew()

    def renew(self) -> None:
        """Begin anew: what has passed was not the picture's to answer for."""
        self.failed_at = time.monotonic()
        self.deadline = self.failed_at + self._deadline_s
        self.n_spent = 0

    def note_failure(self, *, is_spent: bool) -> None:
        """Note that an attempt failed, and whether it counts against the picture."""
        self.failed_at = time.monotonic()
        self.n_spent += is_spent

    @property
    def is_half_over(self) -> bool:
        """Whether half of the time to the deadline has passed."""
        return 2 * self.left_s <= self._deadline_s

    @property
    def left_s(self) -> float:
        """Seconds to the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def next_wait_s(self) -> float:
        """Return the longest wait for the next bytes, above 0.

        Raises
        ------
        TimeoutError
            The deadline has passed.
        """
        left_s = self.left_s
        if not left_s:
            raise TimeoutError("the deadline of the picture has passed")
        return min(self.socket_timeout_s, left_s)


class DeadlineSocket(socket.socket):
    """A TCP socket whose receives end at the deadline of `patience`."""

    patience: Patience

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive as `socket.recv_into` does, within what is left of the patience."""
        _limit(self, self.patience)
        return super().recv_into(buffer, nbytes, flags)


class DeadlineTLSSocket(ssl.SSLSocket):
    """A TLS socket whose receives end at the deadline of `patience`.

    The handshake needs no such care: OpenSSL's wrapper bounds all of it by the timeout that is set when it starts.
    """

    patience: Patience

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive as `ssl.SSLSocket.recv_into` does, within what is left of the patience."""
        _limit(self, self.patience)
        return super().recv_into(buffer, nbytes, flags)


def _limit(sock: socket.socket, patience: Patience) -> None:
    wait_s = patience.next_wait_s()
    # Setting a timeout is a system call; far from the deadline it stays what it was.
    if wait_s != sock.gettimeout():
        sock.settimeout(wait_s)
