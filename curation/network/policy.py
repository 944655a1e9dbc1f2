"""How hard to try, and what to refuse."""

import math
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from curation.network.addresses import host_in_url
from manifests.errors import InputError
from manifests.mirror import MIRROR_URL

MAX_BYTES = 64 << 20
"""Open Images' copies are 287 kB on average (36 GB / 125,436); nothing honest comes near this."""

OFFICIAL_HOSTS = frozenset({str(urlsplit(MIRROR_URL).hostname), "storage.googleapis.com"})
"""Where Open Images itself is served: the pictures, and the metadata with the lists of originals."""

_LONGEST_S = 86_400.0
"""A day; a lock can be waited for no longer than 292 years, and a number beyond that would end the run."""

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class FetchPolicy:
    """How hard to try, and what to refuse.

    Attributes
    ----------
    allow_private : bool
        Whether addresses that are not public may be connected to (a mirror on the loopback). A URL that names
        such an address, or ``localhost``, then needs no place in `allowed_hosts`; a redirect to one still does.
    max_attempts : int
        Requests for one picture, the first included; redirects, probes of a host that is down, and answers "later"
        (429, 500, 502, 503, 504) of a host that gives them to many, do not count.
    socket_timeout_s : float
        Longest wait for a connection or for the next bytes.
    deadline_s : float
        Longest time for one picture: name lookup, connection, headers, body, redirects, retries and all waits; it
        begins anew where its host was down, which is waited out for as long again.
    max_bytes : int
        Longest body, on the wire and after decoding.
    first_wait_s, longest_wait_s : float
        Bounds of the exponential back-off; the wait is drawn uniformly from 0 to its current bound.
    allowed_hosts : frozenset of str
        Hosts that may be asked, at the default ports of http and https: ``host``, ``*.domain`` for all names below
        it, and either with ``:port`` for this one port; of an IPv6 address ``[address]:port``.
    max_redirects : int
        Redirects followed for one picture; each is checked as the first URL was.
    host_concurrency : int
        Requests in flight to one host, over all threads.
    host_requests_per_s : float
        Requests to one host, over all threads. S3 documents 5,500 a second for one prefix, shared by everyone who
        asks, and about a third of it is more than one machine's network carries of these pictures.
    ca_bundle : str, optional
        File of certificates to trust, in place of REQUESTS_CA_BUNDLE, SSL_CERT_FILE and the bundled ones.
    proxy : str, optional
        ``http://[user:password@]host:port`` of a proxy. The environment's proxies are not used: it would be the
        proxy that looks names up, so that addresses were neither checked nor pinned.
    contact : str, optional
        URL or address that the User-Agent names, so that whoever runs the server can reach whoever runs this.
    """

    allow_private: bool = False
    max_attempts: int = 5
    socket_timeout_s: float = 20.0
    deadline_s: float = 120.0
    max_bytes: int = MAX_BYTES
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    allowed_hosts: frozenset[str] = OFFICIAL_HOSTS
    max_redirects: int = 5
    host_concurrency: int = 32
    host_requests_per_s: float = 2000.0
    ca_bundle: str | None = None
    proxy: str | None = None
    contact: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_attempts", "max_bytes", "host_concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, found {getattr(self, name)}")
        for name in ("socket_timeout_s", "deadline_s", "host_requests_per_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        for name in ("first_wait_s", "longest_wait_s", "max_redirects"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        for name in ("socket_timeout_s", "deadline_s", "first_wait_s", "longest_wait_s"):
            if getattr(self, name) > _LONGEST_S:
                raise InputError(
                    f"{name}: expected a day at most ({_LONGEST_S:g} s), found {getattr(self, name):g}"
                )
        for host in self.allowed_hosts:
            if not host or host != host.lower() or set(host) & set("/@?# "):
                raise InputError(f"--allow-host: expected a host name in lower case, found {host!r}")
        if self.contact is not None and not (self.contact.isascii() and self.contact.isprintable()):
            raise InputError(f"--contact: expected printable ASCII, found {self.contact!r}")

    def allowing(self, base_url: str) -> "FetchPolicy":
        """Return this policy with the host of `base_url`, at its port, allowed: who names a mirror allows it.

        Raises
        ------
        InputError
            `base_url` names no host, or carries a user name or a query.
        """
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError as error:
            raise InputError("--base-url: not a valid URL") from error
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise InputError("--base-url: expected http://HOST/... or https://HOST/...")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise InputError("--base-url: expected no user name, query or fragment in it")
        host = host_in_url(parts.hostname)
        entry = host if port in (None, *DEFAULT_PORTS.values()) else f"{host}:{port}"
        return replace(self, allowed_hosts=self.allowed_hosts | {entry})
