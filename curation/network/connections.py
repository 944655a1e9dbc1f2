"""Kept-alive connections to the very addresses that were checked; the one home of the HTTP client."""

import ipaddress
import logging
import os
import socket
import ssl
import weakref
from collections import defaultdict, deque
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import make_headers

from curation.network.addresses import Pins, Resolver, host_in_url, literal_address
from curation.network.failures import BrokenExchangeError, OutOfTimeError, RefusedError, UnreachableError
from curation.network.policy import FetchPolicy
from curation.network.sockets import DeadlineSocket, DeadlineTLSSocket, Patience
from curation.network.targets import Target
from manifests.errors import InputError

_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")

# urllib3 warns of a malformed header with the whole URL, and a URL may hold a secret.
logging.getLogger("urllib3.connection").addFilter(lambda record: "url=" not in str(record.msg))


class _Pinned(HTTPConnection):
    """A connection whose host name is for the request and the certificate only: the address is given."""

    addresses: tuple[str, ...]
    connected_to: str
    patience: Patience

    def _new_conn(self) -> socket.socket:
        failure: OSError | None = None
        for address in self.addresses:
            is_v6 = ipaddress.ip_address(address).version == 6
            sock = DeadlineSocket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.patience = self.patience
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self.patience.next_wait_s())
                sock.connect((address, self.port))
                sock.settimeout(self.patience.next_wait_s())
            except OSError as error:
                sock.close()
                failure = error
            else:
                self.connected_to = address
                return sock
        raise UnreachableError(
            "timed out" if isinstance(failure, TimeoutError) else "the connection failed"
        ) from failure


class _PinnedTLS(_Pinned, HTTPSConnection):
    """The same under TLS: name and certificate are verified against the host name, never against the address."""


Connection = _Pinned


class _Proxy:
    """A proxy, taken apart."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InputError("--proxy: not a valid URL") from error
        if parts.scheme != "http" or not host:
            raise InputError("--proxy: expected http://[user:password@]HOST[:PORT]")
        self.host = host
        self.port = port or 80
        self.name = f"{host_in_url(host)}:{self.port}"
        self.headers: dict[str, str] = {}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers = {name.title(): value for name, value in make_headers(proxy_basic_auth=user).items()}


class Connections:
    """Connections to all hosts; those that nobody uses are kept for the next request, the latest used first.

    Parameters
    ----------
    policy : FetchPolicy
        What to trust, and whether a proxy is used.
    resolver : callable
        Looks a host name up.

    Raises
    ------
    InputError
        The file of certificates cannot be read, or the proxy is malformed.
    """

    def __init__(self, policy: FetchPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._proxy = _Proxy(policy.proxy) if policy.proxy else None
        # Whoever names a proxy trusts its address; it is most often a private one.
        allow_private = policy.allow_private or self._proxy is not None
        self._pins = Pins(resolver, allow_private=allow_private)
        self._tls = _tls_context(policy)
        self._idle: dict[tuple[str, str, int], deque[Connection]] = defaultdict(deque)
        self.close = weakref.finalize(self, _close_all, self._idle)

    def request_headers(self, target: Target) -> dict[str, str]:
        """Return the headers that the way to `target` needs: those for a proxy that reads the request."""
        return dict(self._proxy.headers) if self._proxy and target.scheme == "http" else {}

    def request_path(self, target: Target) -> str:
        """Return what the request line names: the path, or to a proxy that reads the request the whole URL."""
        return target.url if self._proxy and target.scheme == "http" else target.path

    def kept(self, target: Target, patience: Patience) -> Connection | None:
        """Return an open connection that was used before, or None; one that the server closed is put away."""
        idle = self._idle[_key(target)]
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return None
            if connection.is_connected:
                _lend(connection, patience)
                return connection
            connection.close()

    def keep(self, target: Target, connection: Connection) -> None:
        """Take back a connection whose answer was read to its end."""
        if connection.is_closed:
            return
        self._idle[_key(target)].append(connection)

    def opened(self, target: Target, patience: Patience) -> Connection:
        """Return a new connection, ready for a request.

        Raises
        ------
        RefusedError
            An address is not public, or the server's certificate is not valid.
        UnreachableError
            The name does not resolve, or nobody answers.
        BrokenExchangeError
            The server speaks no TLS that we speak, or ended the handshake.
        OutOfTimeError
            The deadline passed during the handshake.
        """
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (target.host, target.port)
        literal = literal_address(host)
        connection = self._blank(target, host, port)
        try:
            connection.addresses = (str(literal),) if literal else self._pins.addresses_of(host, port, patience)
            connection.patience = patience
            _connect(connection, patience)
        except UnreachableError as failure:
            if literal is None:
                self._pins.forget(host)
            if self._proxy:
                raise UnreachableError(f"the proxy {self._proxy.name}: {failure.reason}") from failure
            raise
        if literal is None:
            self._pins.prefer(host, connection.connected_to)
        _lend(connection, patience)
        return connection

    def _blank(self, target: Target, host: str, port: int) -> Connection:
        timeout_s = self._policy.socket_timeout_s
        if target.scheme == "http":
            return _Pinned(host, port, timeout=timeout_s)
        connection = _PinnedTLS(host, port, timeout=timeout_s, ssl_context=self._tls)
        if self._proxy:
            connection.set_tunnel(target.host, target.port, self._proxy.headers)
        return connection


def ignored_proxy_notice(policy: FetchPolicy) -> str | None:
    """Return one line for the user whose environment names a proxy that is not used, or None."""
    named = next((name for name in _PROXY_VARIABLES if os.environ.get(name)), None)
    if named is None or policy.proxy:
        return None
    return f"{named} is set and not used: addresses cannot be checked behind a proxy (--proxy URL uses one)"


def _bundle(policy: FetchPolicy) -> str:
    from_environment = (os.environ.get(name) for name in _BUNDLE_VARIABLES)
    return policy.ca_bundle or next(filter(None, from_environment), None) or certifi.where()


def _tls_context(policy: FetchPolicy) -> ssl.SSLContext:
    bundle = _bundle(policy)
    is_folder = Path(bundle).is_dir()
    try:
        context = ssl.create_default_context(
            cafile=None if is_folder else bundle, capath=bundle if is_folder else None
        )
    except OSError as error:
        names = ", ".join(("--ca-bundle", *_BUNDLE_VARIABLES))
        raise InputError(f"{bundle}: expected certificates to trust, as named by one of {names}") from error
    context.sslsocket_class = DeadlineTLSSocket
    return context


def _connect(connection: Connection, patience: Patience) -> None:
    try:
        connection.connect()
    except UnreachableError:
        connection.close()
        raise
    except (ssl.SSLCertVerificationError, ssl.CertificateError) as error:
        connection.close()
        raise RefusedError("the server's certificate is not valid") from error
    except ssl.SSLError as error:
        connection.close()
        raise BrokenExchangeError("no TLS connection came about") from error
    except OSError as error:
        # The server ended the handshake, or the proxy would not let us through.
        connection.close()
        if patience.is_over:
            raise OutOfTimeError("the connection failed") from error
        reason = "timed out" if isinstance(error, TimeoutError) else "the connection failed"
        raise BrokenExchangeError(reason) from error


def _lend(connection: Connection, patience: Patience) -> None:
    sock = connection.sock
    if isinstance(sock, DeadlineSocket | DeadlineTLSSocket):
        sock.patience = patience


def _key(target: Target) -> tuple[str, str, int]:
    return target.scheme, target.host, target.port


def _close_all(idle: dict[tuple[str, str, int], deque[Connection]]) -> None:
    for connections in list(idle.values()):
        while connections:
            connections.pop().close()
