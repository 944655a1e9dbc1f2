"""Which addresses may be connected to, and the addresses that a host name was found to have."""

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence

from curation.network.failures import RefusedError, UnreachableError
from curation.network.sockets import Patience

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to the addresses of the host, in the order in which they are to be tried; OSError where none."""

UNRESOLVED = "the host name cannot be resolved"

_NUMBER_SPELLING = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?")
# NAT64's well-known prefix stands for the IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# 6to4 (RFC 3056, withdrawn by RFC 7526) and Teredo (RFC 4380) lead to an IPv4 address by way of strangers.
_TUNNELS = (ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("2001::/32"))


def is_public(address: IPAddress) -> bool:
    """Return whether `address` is one of the public network: unicast, assigned, and no disguise of another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or any(address in network for network in _TUNNELS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def not_public(host: str, *, advises: bool = True) -> str:
    """Return the reason for which a host at an address that is not public is refused; with the flag, by choice."""
    return f"{host} is not a public address{' (--allow-private lets it pass)' * advises}"


def host_in_url(host: str) -> str:
    """Return a host as a URL writes it: an IPv6 address in brackets, as its colons are not that of the port."""
    return f"[{host}]" if ":" in host else host


def literal_address(host: str) -> IPAddress | None:
    """Return the address that `host` is, in any spelling that C's ``inet_aton`` takes; None for a name.

    ``2130706433``, ``0x7f.1``, ``0177.0.0.1`` and ``127.1`` are all 127.0.0.1 to the system's resolver, which is
    why they may not pass as names.
    """
    try:
        return ipaddress.ip_address(host.removesuffix("."))
    except ValueError:
        pass
    if _NUMBER_SPELLING.fullmatch(host) is None:
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.removesuffix(".")))
    except OSError:
        return None


def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses of `host` as the operating system finds them, in its order, each once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class _Pin:
    """What is known of one host name; `lock` is held while it is looked up."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.addresses: tuple[str, ...] = ()


class Pins:
    """The addresses of each host, looked up once, checked, and connected to as they are.

    A name is looked up again only after all its addresses failed, and what is then found is checked anew: a
    name that turns private later ("DNS rebinding") is refused like one that always was.

    Parameters
    ----------
    resolver : callable
        Looks a name up.
    allow_private : bool
        Whether addresses that are not public pass.
    """

    def __init__(self, resolver: Resolver, *, allow_private: bool) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._lock = threading.Lock()
        self._pins: dict[str, _Pin] = {}

    def addresses_of(self, host: str, port: int, patience: Patience) -> tuple[str, ...]:
        """Return the addresses of a host name, the one to try first in front.

        Parameters
        ----------
        host : str
            A name, not an address.
        port : int
            Handed to the resolver.
        patience : Patience
            How long the lookup may take.

        Raises
        ------
        RefusedError
            One of the addresses is not public.
        UnreachableError
            The name does not resolve, or not before the deadline.
        """
        with self._lock:
            pin = self._pins.setdefault(host, _Pin())
        if pin.addresses:
            return pin.addresses
        if not pin.lock.acquire(timeout=patience.left_s):
            raise UnreachableError(UNRESOLVED)
        try:
            if not pin.addresses:
                pin.addresses = self._looked_up(host, port, patience)
            return pin.addresses
        finally:
            pin.lock.release()

    def prefer(self, host: str, address: str) -> None:
        """Put the address that could be connected to in front, so that the next connection loses no time."""
        pin = self._pins[host]
        if pin.addresses and pin.addresses[0] != address:
            pin.addresses = (address, *(other for other in pin.addresses if other != address))

    def forget(self, host: str) -> None:
        """Have the name looked up again: nobody answers at any of its addresses."""
        self._pins[host].addresses = ()

    def _looked_up(self, host: str, port: int, patience: Patience) -> tuple[str, ...]:
        found: list[str] = []
        failures: list[OSError] = []

        def look_up() -> None:
            try:
                found.extend(self._resolver(host, port))
            except OSError as error:
                failures.append(error)

        # The system's lookup knows no timeout; a thread that is late is left behind, and ends by itself.
        thread = threading.Thread(target=look_up, name="name lookup", daemon=True)
        thread.start()
        thread.join(min(patience.socket_timeout_s, patience.left_s))
        if thread.is_alive() or failures or not found:
            raise UnreachableError(UNRESOLVED)
        for address in found:
            if not self._allow_private and not is_public(ipaddress.ip_address(address)):
                raise RefusedError(not_public(host))
        return tuple(found)
