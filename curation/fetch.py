"""Fetching one picture over HTTP: the one home of the HTTP client.

What this file promises: http and https only; no private, loopback or link-local address unless asked for; no
redirects followed; a cap on bytes; a deadline over all bodies and waits; retries of what may pass, with full
jitter and Retry-After; reasons that are the same words on every run.
"""

import ipaddress
import random
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import urllib3

from manifests.workspace import DISTRIBUTION_NAME, tool_version

MAX_BYTES = 64 << 20
"""Open Images' copies are 287 kB on average (36 GB / 125,436); nothing honest comes near this."""

_RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_GONE_STATUSES = (404, 410)
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class FetchPolicy:
    """How hard to try, and what to refuse.

    Attributes
    ----------
    allow_private : bool
        Whether addresses that are not public may be connected to (a mirror on the loopback).
    max_attempts : int
        Requests for one picture, the first included.
    socket_timeout_s : float
        Longest wait for a connection or for the next bytes.
    deadline_s : float
        Longest time for one picture, waits between attempts included.
    max_bytes : int
        Longest body.
    first_wait_s, longest_wait_s : float
        Bounds of the exponential back-off; the wait is drawn uniformly from 0 to its current bound.
    """

    allow_private: bool = False
    max_attempts: int = 5
    socket_timeout_s: float = 20.0
    deadline_s: float = 120.0
    max_bytes: int = MAX_BYTES
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0


@dataclass(frozen=True)
class Fetched:
    """What came of one picture: `content` where it arrived, else a download status and its reason."""

    status: str
    reason: str | None
    http_status: int | None
    attempts: int
    content: bytes = b""


class _RetryableError(Exception):
    def __init__(self, reason: str, http_status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.http_status = http_status
        self.wait_s = wait_s


class _Connections(threading.local):
    """One session a thread: `requests` does not promise that a session may be shared."""

    def __init__(self, policy: FetchPolicy) -> None:
        self.session = requests.Session()
        self.session.headers["User-Agent"] = f"{DISTRIBUTION_NAME}/{tool_version()}"
        # A mirror on the loopback is not behind the proxy of the environment.
        self.session.trust_env = not policy.allow_private


class Fetcher:
    """Fetches pictures with kept-alive connections, one session a thread.

    Parameters
    ----------
    policy : FetchPolicy
        How hard to try, and what to refuse.
    """

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._connections = _Connections(policy)
        self._refused_hosts: dict[str, str | None] = {}

    def fetch(self, url: str) -> Fetched:
        """Return the body at `url`, or why there is none; never raises for what a server does."""
        try:
            parts = urlsplit(url)
            refusal = _scheme_refusal(parts.scheme) or self._host_refusal(parts.hostname or "")
        except ValueError:
            # UnicodeError of a host name that cannot be looked up is one of these too.
            refusal = "not a valid URL"
        if refusal:
            return Fetched("refused", refusal, None, 0)
        deadline = time.monotonic() + self._policy.deadline_s
        bound_s = self._policy.first_wait_s
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(url, attempt, deadline)
            except _RetryableError as error:
                wait_s = error.wait_s if error.wait_s is not None else random.uniform(0, bound_s)
                bound_s = min(bound_s * 2, self._policy.longest_wait_s)
                is_last = attempt >= self._policy.max_attempts or time.monotonic() + wait_s > deadline
                if is_last:
                    return Fetched("failed", error.reason, error.http_status, attempt)
                time.sleep(wait_s)

    def _attempt(self, url: str, attempt: int, deadline: float) -> Fetched:
        try:
            with self._connections.session.get(
                url, stream=True, timeout=self._policy.socket_timeout_s, allow_redirects=False
            ) as response:
                status = response.status_code
                if status in (*_GONE_STATUSES, *_RETRIED_STATUSES):
                    _drain(response, deadline)
                if status in _GONE_STATUSES:
                    return Fetched("missing", f"HTTP {status}", status, attempt)
                if status in _RETRIED_STATUSES:
                    raise _RetryableError(f"HTTP {status}", status, _retry_after_s(response))
                if response.is_redirect:
                    return Fetched("refused", "the server redirects elsewhere", status, attempt)
                if status != requests.codes.ok:
                    return Fetched("failed", f"HTTP {status}", status, attempt)
                return self._body(response, attempt, deadline)
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _RetryableError("timed out") from error
        except requests.exceptions.SSLError:
            return Fetched("refused", "the server's certificate is not valid", None, attempt)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            return Fetched("refused", "not a valid URL", None, attempt)
        except requests.exceptions.ConnectionError as error:
            raise _RetryableError("the connection failed") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _RetryableError("the body did not arrive whole") from error

    def _body(self, response: requests.Response, attempt: int, deadline: float) -> Fetched:
        status = response.status_code
        announced = response.headers.get("Content-Length", "")
        content = bytearray()
        # `read1` returns what has come; `read` waits for a whole block, and a slow server passes the deadline.
        while block := response.raw.read1(_BLOCK_BYTES, decode_content=True):
            content += block
            if len(content) > self._policy.max_bytes:
                return Fetched("too_large", f"over {self._policy.max_bytes} bytes", status, attempt)
            if time.monotonic() > deadline:
                return Fetched("failed", f"not done within {self._policy.deadline_s:g} s", status, attempt)
        is_encoded = "Content-Encoding" in response.headers
        if announced.isdigit() and not is_encoded and len(content) != int(announced):
            raise _RetryableError("the body did not arrive whole", status)
        return Fetched("ok", None, status, attempt, bytes(content))

    def _host_refusal(self, host: str) -> str | None:
        if self._policy.allow_private:
            return None
        if host not in self._refused_hosts:
            self._refused_hosts[host] = _private_refusal(host)
        return self._refused_hosts[host]


def _drain(response: requests.Response, deadline: float) -> None:
    """Read a short error page to its end: the connection is kept for the next request."""
    n_bytes = 0
    while n_bytes < _BLOCK_BYTES and time.monotonic() < deadline:
        block = response.raw.read1(_BLOCK_BYTES)
        if not block:
            return
        n_bytes += len(block)


def _scheme_refusal(scheme: str) -> str | None:
    return None if scheme in ("http", "https") else f"the scheme {scheme!r} is not http or https"


def _private_refusal(host: str) -> str | None:
    """Return why `host` may not be connected to, or None; a name that does not resolve is left to the request."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return None
    for address in addresses:
        if not ipaddress.ip_address(str(address).split("%")[0]).is_global:
            return f"{host} is not a public address (--allow-private lets it pass)"
    return None


def _retry_after_s(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    return float(text) if text.isdigit() else None
