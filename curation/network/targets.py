"""Which URLs may be asked for: schemes, hosts, redirects. Nothing here touches the network."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from curation.network.addresses import IPAddress, host_in_url, is_public, literal_address, not_public
from curation.network.failures import RefusedError
from curation.network.policy import DEFAULT_PORTS, FetchPolicy

_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LONGEST_HOST_NAME = 253
_SAFE_IN_A_PATH = "/:=&?~+!$,;'@()*[]%-._"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL, taken apart.

    Attributes
    ----------
    scheme, host, port
        As they are connected to; the host in lower case and ASCII.
    path : str
        What the request line asks for: path and query.
    literal : IPv4Address or IPv6Address or None
        The address, where the host is one in any spelling.
    """

    scheme: str
    host: str
    port: int
    path: str
    literal: IPAddress | None

    @property
    def authority(self) -> str:
        """Host and port as a message names them; the default port is left out."""
        name = host_in_url(self.host)
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL, as a proxy is asked for it."""
        return f"{self.scheme}://{host_in_url(self.host)}:{self.port}{self.path}"


def first_target(url: str, policy: FetchPolicy) -> Target:
    """Return the target of a URL as it was given to us.

    Raises
    ------
    RefusedError
        The URL is malformed, of another scheme, carries a user name, or leads to a host that may not be asked.
    """
    target = _parsed(url, policy)
    is_private_by_name = target.literal is not None or _is_localhost(target.host)
    if not (policy.allow_private and is_private_by_name) and not _is_listed(target, policy):
        raise RefusedError(f"{_not_allowed(target)} (--allow-host {target.authority} lets it pass)")
    return target


def redirect_target(asked: Target, location: str, first: Target, policy: FetchPolicy) -> Target:
    """Return where `asked` redirects to, checked as the first URL was; the server of `first` may name itself.

    Raises
    ------
    RefusedError
        As for `first_target`, and where the way leads from https to http.
    """
    try:
        target = _parsed(urljoin(asked.url, location), policy, is_redirect=True)
    except ValueError as error:
        raise RefusedError("not a valid URL") from error
    if asked.scheme == "https" and target.scheme != "https":
        raise RefusedError("from https to http")
    is_same_server = (target.host, target.port) == (first.host, first.port)
    if not is_same_server and not _is_listed(target, policy):
        # What a server names by its private address, nobody should be told to allow.
        is_private = _is_localhost(target.host) or (target.literal is not None and not is_public(target.literal))
        advice = "" if is_private else f" (--allow-host {target.authority} lets it pass)"
        raise RefusedError(f"{_not_allowed(target)}{advice}")
    return target


def _parsed(url: str, policy: FetchPolicy, *, is_redirect: bool = False) -> Target:
    try:
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme not in DEFAULT_PORTS:
            raise RefusedError(f"the scheme {scheme[:20]!r} is not http or https")
        if _NOT_IN_A_URL.search(url):
            raise RefusedError("not a valid URL")
        if "@" in parts.netloc:
            raise RefusedError("the URL carries a user name or a password")
        port = parts.port if parts.port is not None else DEFAULT_PORTS[scheme]
        # "idna" raises UnicodeError, a ValueError, for a name that cannot be written in ASCII.
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError as error:
        raise RefusedError("not a valid URL") from error
    literal = literal_address(host)
    is_name = _HOST_NAME.fullmatch(host) is not None and len(host) <= _LONGEST_HOST_NAME
    if not port or (literal is None and not is_name):
        raise RefusedError("not a valid URL")
    if not policy.allow_private and (_is_localhost(host) or (literal is not None and not is_public(literal))):
        raise RefusedError(not_public(host, advises=not is_redirect))
    path = quote(parts.path or "/", safe=_SAFE_IN_A_PATH)
    query = f"?{quote(parts.query, safe=_SAFE_IN_A_PATH)}" if parts.query else ""
    return Target(scheme, host, port, path + query, literal)


def _not_allowed(target: Target) -> str:
    return f"{target.authority} is not an allowed host"


def _is_localhost(host: str) -> bool:
    """Return whether a name means the loopback without being looked up (RFC 6761, section 6.3)."""
    name = host.removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def _is_listed(target: Target, policy: FetchPolicy) -> bool:
    names = [host_in_url(target.host)]
    labels = target.host.split(".")
    names += [f"*.{'.'.join(labels[start:])}" for start in range(1, len(labels))]
    if target.port in DEFAULT_PORTS.values():
        names += [target.host, *(f"{name}:{target.port}" for name in names)]
    else:
        names = [f"{name}:{target.port}" for name in names]
    return not policy.allowed_hosts.isdisjoint(names)
