"""FiftyOne's own server application behind our guard, run in this process until it is told to stop."""

import asyncio
import atexit
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone.core.odm import database
from fiftyone.server.app import app
from fiftyone.server.events import set_port
from hypercorn.asyncio import serve
from hypercorn.config import Config

from annotation.app.guard import Guard
from annotation.app.policy import Policy
from manifests.errors import InputError

# The event stream of an open page never ends by itself.
_GRACEFUL_TIMEOUT_S = 1.0


@contextlib.contextmanager
def connection(database_uri: str, plugins_dir: Path) -> Iterator[None]:
    """Check that FiftyOne works on this database, and at the end let go of it, so that it may be stopped.

    Raises
    ------
    InputError
        FiftyOne was imported before, with other settings: it reads them only once.
    """
    if fo.config.database_uri != database_uri or fo.config.plugins_dir != str(plugins_dir):
        raise InputError(
            f"FiftyOne is in use in this process with the database {fo.config.database_uri}: run annotate in a "
            "process of its own"
        )
    try:
        yield
    finally:
        # At exit FiftyOne would look for the database again, for the 30 seconds of its timeout.
        atexit.unregister(database._delete_non_persistent_datasets_if_allowed)
        database._disconnect()


def run_server(listener: socket.socket, policy: Policy, *, when_ready: Callable[[], None]) -> None:
    """Serve the App on `listener` until SIGINT or SIGTERM, to those whom `policy` knows.

    Parameters
    ----------
    listener : socket
        Bound and listening; closed at the end.
    policy : Policy
        What passes the guard.
    when_ready : callable
        Called once, when signals are taken and pages are about to be served.
    """
    asyncio.run(_serve(listener, policy, when_ready))


async def _serve(listener: socket.socket, policy: Policy, when_ready: Callable[[], None]) -> None:
    config = Config()
    # Else an error's page shows the code around it.
    app.debug = False
    set_port(listener.getsockname()[1])
    # hypercorn closes what it serves; the caller closes its own.
    config.bind = [f"fd://{listener.dup().detach()}"]
    config.graceful_timeout = _GRACEFUL_TIMEOUT_S
    config.errorlog = None
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    when_ready()
    with contextlib.suppress(asyncio.CancelledError):
        guarded: Any = Guard(app, policy)  # hypercorn's own types of messages are narrower than the protocol's
        await serve(guarded, config, shutdown_trigger=stopping.wait)
