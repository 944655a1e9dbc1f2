"""Where the App listens, and the settings with which FiftyOne is imported."""

import contextlib
import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from annotation.mongod import URI_VARIABLE
from manifests.errors import InputError
from manifests.workspace import Workspace

LOOPBACK_ADDRESS = "127.0.0.1"

PLUGINS_DIR = Path(__file__).parent / "plugins"
CURATOR_PLUGINS_DIR = Path(__file__).parent / "curator_plugins"

# Below the ports that Linux gives to whoever asks for none in particular (32768 and up).
_FIRST_USUAL_PORT, _N_USUAL_PORTS = 20_000, 12_000


@dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes
    ----------
    address : str
        IP address of one interface.
    port : int
        0 takes the one that is always tried first for this workspace and annotator, so that what waits unsaved
        in the browser is found again after a restart; where it is taken, a free one.
    """

    address: str = LOOPBACK_ADDRESS
    port: int = 0

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    def check(self) -> None:
        """Refuse an address that is not that of one interface.

        Raises
        ------
        InputError
            With what was expected.
        """
        try:
            is_one = not ipaddress.ip_address(self.address).is_unspecified
        except ValueError:
            is_one = False
        if not is_one:
            raise InputError(
                f"--address: expected the IP address of one interface, such as {LOOPBACK_ADDRESS}, found "
                f"{self.address!r}: browsers are served under that name only"
            )

    def hosts(self, listener: socket.socket) -> tuple[str, ...]:
        """Return the names, with port, under which browsers may ask `listener`; the first is for links."""
        port = listener.getsockname()[1]
        own = f"[{self.address}]" if ":" in self.address else self.address
        names = (own, "localhost") if self.is_loopback else (own,)
        # Browsers leave out the port that is the rule.
        return tuple(f"{name}:{port}" for name in names) + (names if port == 80 else ())


@contextlib.contextmanager
def listening(place: Place, workspace: Workspace, annotator_id: str) -> Iterator[socket.socket]:
    """Yield a socket that listens.

    Raises
    ------
    InputError
        The port is taken or not allowed, or the address is not of this machine.
    """
    key = f"{workspace.root.resolve()}\n{annotator_id}".encode()
    usual_port = _FIRST_USUAL_PORT + int(hashlib.sha256(key).hexdigest(), 16) % _N_USUAL_PORTS
    with contextlib.ExitStack() as stack:
        listener = None
        if place.port == 0:
            with contextlib.suppress(OSError):
                listener = stack.enter_context(_bound(place.address, usual_port))
        try:
            listener = listener or stack.enter_context(_bound(place.address, place.port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"{place.address}, port {place.port}: cannot be listened on ({error}); give another port, or 0 "
                "for a free one"
            ) from error
        yield listener


def _bound(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


def fiftyone_settings(database_uri: str, plugins_dir: Path = PLUGINS_DIR) -> dict[str, str]:
    """Return the environment variables that FiftyOne reads when it is imported."""
    return {
        URI_VARIABLE: database_uri,
        "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SERVER": "1",
        # Without an address FiftyOne binds 0.0.0.0 where it believes to be in a container.
        "FIFTYONE_DEFAULT_APP_ADDRESS": LOOPBACK_ADDRESS,
        "FIFTYONE_PLUGINS_DIR": str(plugins_dir),
        # Without the cache every plugin module is executed twice a request.
        "FIFTYONE_PLUGINS_CACHE_ENABLED": "true",
        # Two notices about a MongoDB that is as it should be: version 6, and no replica set.
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_EXECUTION_STORE_NOTIFICATION_SERVICE_DISABLED": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
    }


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there at the end."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
