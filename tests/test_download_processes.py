import contextlib
import io
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation import picture_processes
from curation.download import download_pictures
from curation.picture_store import PictureStore
from manifests import schema
from manifests.errors import OpenImageOError
from manifests.workspace import Workspace
from tests import fault_server
from tests.conftest import REPOSITORY
from tests.download_world import finish, picture, propose, run_download, start_download, tables_of
from tests.png_world import png_header_of
from tests.tar_world import archive_of
from tests.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory without a name is Linux's")

N_IMAGES = 320
NAMES = [f"{number:04x}" for number in range(N_IMAGES)]
PICTURES = {name: picture(number) for number, name in enumerate(NAMES)}
INTERRUPTED = "interrupted: what was done is saved; run the same command again\n"


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(picture_processes, "_n_cores", lambda: 2)


@pytest.fixture(autouse=True)
def _no_process_is_left(monkeypatch):
    # Other tests on this machine may have theirs: ours are known by what they inherit.
    monkeypatch.setenv("PICTURE_PROCESSES_OF", uuid.uuid4().hex)
    yield
    wait_until(lambda: not processes_of_test(), gap_s=0.01)


def processes_of_test():
    """Return the ids of the processes that check pictures for this test, lost ones too."""
    mark = os.environ["PICTURE_PROCESSES_OF"].encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_one = b"curation.picture_worker" in (folder / "cmdline").read_bytes()
            if is_one and mark in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def processes_of(parent):
    """Return the ids of the processes that check pictures for the process `parent`."""
    found = set()
    for process_id in processes_of_test():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent:
                found.add(process_id)
    return found


def both_of(process):
    """Return the ids of the two processes that `process` starts, once both are there."""
    return wait_until(lambda: (found := sorted(processes_of(process.pid)))[1:] and found, process)


def own_two():
    """Return the ids of the two processes of this one: Linux names one a moment after `Popen` has returned."""
    return wait_until(lambda: (found := sorted(processes_of(os.getpid())))[1:] and found)


def asks_no_more(server):
    asked = server.requests.total()
    time.sleep(3)
    return server.requests.total() == asked


def slowly(content):
    def script(handler, nth):
        time.sleep(0.02)
        handler.answer(200, content)

    return script


def serving_slowly():
    return fault_server.serving({f"/test/{name}.jpg": slowly(content) for name, content in PICTURES.items()})


def logged(workspace):
    return [json.loads(line) for line in workspace.downloads_log_path.read_text().splitlines()]


def names_on_disk(workspace):
    return {path.stem for path in workspace.root.glob("images/*/*.jpg")}


def in_this_process_alone(monkeypatch):
    monkeypatch.setattr(picture_processes, "_n_cores", lambda: 1)


def test_processes_give_the_rows_and_files_that_one_process_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_processes, "_SLOT_BYTES", 1 << 17)
    larger_than_a_slot = noise()
    assert len(larger_than_a_slot) > 256 * 256 * 3
    special = {
        "0001": b"<html>", "0002": PICTURES["0002"][:-300], "0003": b"", "0004": png_header_of(20_000, 20_000),
        "0005": PICTURES["0005"] + b"more", "0006": larger_than_a_slot,
    }  # fmt: skip
    scripts = {f"/test/{name}.jpg": fault_server.body(body) for name, body in (PICTURES | special).items()}
    del scripts["/test/0008.jpg"]
    with fault_server.serving(scripts, fault_server.status(404)) as server:
        through = propose(Workspace(tmp_path / "through"), NAMES)
        seen = seen_processes(monkeypatch)
        counts = run_download(through, server)
        assert seen == [2]
        in_this_process_alone(monkeypatch)
        alone = propose(Workspace(tmp_path / "alone"), NAMES)
        assert run_download(alone, server) == counts
    assert counts == {"ok": 314, "missing": 1, "not_an_image": 2, "too_large": 1, "undecodable": 2}
    assert seen == [2, 0]
    assert tables_of(through) == tables_of(alone)
    assert sorted(logged(through), key=str) == sorted(logged(alone), key=str)
    rows = {row["image_id"]: row for row in through.read(schema.DOWNLOADS).to_pylist()}
    assert rows["0004"]["reason"] == "20000 x 20000 px is over the cap of 50000000 px"
    assert (rows["0006"]["width_px"], rows["0006"]["size_bytes"]) == (256, len(larger_than_a_slot))


def noise():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def seen_processes(monkeypatch):
    """Return a list that grows by the number of processes when pictures begin to come."""
    seen = []
    shown = picture_processes.picture_processes

    @contextlib.contextmanager
    def counted(*arguments):
        with shown(*arguments) as processes:
            seen.append(0 if processes is None else len(own_two()))
            yield processes

    monkeypatch.setattr("curation.download.picture_processes", counted)
    return seen


def test_for_a_few_pictures_no_process_is_started(tmp_path, monkeypatch):
    seen = seen_processes(monkeypatch)
    few = NAMES[:299]
    workspace = propose(Workspace(tmp_path), few)
    with fault_server.serving({f"/test/{name}.jpg": fault_server.body(PICTURES[name]) for name in few}) as server:
        assert run_download(workspace, server) == {"ok": 299}
    assert seen == [0]


def test_where_no_process_can_be_started_this_one_stores_them(tmp_path, monkeypatch):
    seen = seen_processes(monkeypatch)
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    workspace = propose(Workspace(tmp_path), NAMES)
    path = archive_of(tmp_path / "test.tar", PICTURES, "w")
    assert download_pictures(workspace, tar_paths=[path]) == {"ok": N_IMAGES}
    assert seen == [0]


def test_pictures_of_an_archive_go_through_the_processes_too(tmp_path, monkeypatch):
    # What lies where the user stands is no module of ours.
    (tmp_path / "json.py").write_text("raise SystemExit('this is not the library')")
    monkeypatch.chdir(tmp_path)
    seen = seen_processes(monkeypatch)
    workspace = propose(Workspace(Path("workspace")), NAMES)
    path = archive_of(tmp_path / "test.tar", PICTURES, "w")
    assert download_pictures(workspace, tar_paths=[path]) == {"ok": N_IMAGES}
    assert seen == [2]
    for name, content in PICTURES.items():
        assert (tmp_path / "workspace" / "images" / name[:2] / f"{name}.jpg").read_bytes() == content


def test_a_full_disk_is_one_error_with_everything_saved_and_no_half_file(tmp_path):
    workspace = propose(Workspace(tmp_path), NAMES)
    with serving_slowly() as server:
        process = start_download(workspace, server.base_url)
        processes = both_of(process)
        wait_until(lambda: len(names_on_disk(workspace)) >= 20, process)
        for process_id in processes:
            resource.prlimit(process_id, resource.RLIMIT_FSIZE, (1000, 1000))
        exit_code, errors = finish(process)
        assert exit_code == 1
        assert errors.count("\n") == 1
        assert "File too large; no file is left half-written" in errors
        assert f"{tmp_path}/images/" in errors
        assert not list(tmp_path.rglob("*.tmp"))
        assert {row["image_id"] for row in logged(workspace)} == names_on_disk(workspace)
        assert finish(start_download(workspace, server.base_url)) == (0, "")
    assert names_on_disk(workspace) == set(NAMES)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_saves_every_finished_picture(tmp_path, number, exit_code):
    workspace = propose(Workspace(tmp_path), NAMES)
    with serving_slowly() as server:
        # As from a terminal, or a service manager: all processes of the group get it.
        process = subprocess.Popen(
            [sys.executable, "cli.py", "download", "--workspace", str(tmp_path), "--base-url", server.base_url,
             "--allow-private", "--workers", "4"],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        both_of(process)
        wait_until(lambda: len(names_on_disk(workspace)) >= 20, process)
        os.killpg(process.pid, number)
        assert finish(process) == (exit_code, INTERRUPTED)
        rows = logged(workspace)
        assert 20 <= len(rows) < N_IMAGES
        assert {row["image_id"] for row in rows} == names_on_disk(workspace)
        server.requests.clear()
        assert finish(start_download(workspace, server.base_url)) == (0, "")
        assert server.requests.total() == N_IMAGES - len(rows)


def test_killed_at_random_moments_it_leaves_no_process_and_ends_in_the_same_tables(tmp_path):
    undisturbed = propose(Workspace(tmp_path / "undisturbed"), NAMES)
    killed = propose(Workspace(tmp_path / "killed"), NAMES)
    draws = random.Random(0)
    with serving_slowly() as server:
        assert finish(start_download(undisturbed, server.base_url)) == (0, "")
        for most in (0, 2, 5, 8):
            process = start_download(killed, server.base_url)
            processes = both_of(process)
            enough = len(names_on_disk(killed)) + draws.randint(0, most)
            wait_until(lambda enough=enough: len(names_on_disk(killed)) >= enough, process, gap_s=0.002)
            process.kill()
            assert finish(process) == (-signal.SIGKILL, "")
            wait_until(lambda processes=processes: not processes_of_test() & set(processes), gap_s=0.01)
        assert finish(start_download(killed, server.base_url)) == (0, "")
    assert not list(tmp_path.rglob(".*.tmp"))
    assert tables_of(killed) == tables_of(undisturbed)


@pytest.mark.parametrize(
    "written", [b"", b'{"root": "/', b'{"root": "/", "known_digests": {}, "parent": 0}\n{"slot": 0, "off']
)
def test_a_parent_killed_while_it_writes_a_line_is_no_error(written):
    memory = os.memfd_create("pictures")
    ours, its_end = socket.socketpair()
    with ours, its_end:
        process = picture_processes._start(memory, its_end)
        ours.sendall(written)
    os.close(memory)
    assert process.wait(HANGS_S) == 0


def test_a_process_killed_from_outside_is_one_error_with_everything_saved(tmp_path):
    workspace = propose(Workspace(tmp_path), NAMES)
    with serving_slowly() as server:
        process = start_download(workspace, server.base_url)
        first, second = both_of(process)
        wait_until(lambda: len(names_on_disk(workspace)) >= 20, process)
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGSTOP)
        # Stopped, both have pictures in work as soon as no other is asked for.
        wait_until(lambda: asks_no_more(server), process)
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGCONT)
        exit_code, errors = finish(process)
        assert exit_code == 1
        assert errors.count("\n") == 1
        assert "was ended from outside with the picture of 0" in errors
        assert "(exit code -9)" in errors
        rows = logged(workspace)
        unlogged = names_on_disk(workspace) - {row["image_id"] for row in rows}
        assert len(names_on_disk(workspace)) == len(rows) + len(unlogged)
        assert len(unlogged) <= 1, "the one that it had renamed and not yet told of"
        server.requests.clear()
        assert finish(start_download(workspace, server.base_url)) == (0, "")
        assert server.requests.total() == N_IMAGES - len(rows)
    assert not list(tmp_path.rglob(".*.tmp"))


def test_without_its_processes_nothing_waits_and_every_picture_fails_by_the_same_error(tmp_path):
    workspace = Workspace(tmp_path)
    with picture_processes.picture_processes(workspace, PictureStore(workspace), N_IMAGES) as processes:
        for process_id in own_two():
            os.kill(process_id, signal.SIGKILL)
        for _ in range(20):
            with pytest.raises(OpenImageOError, match="ended from outside"):
                processes.take("a", PICTURES["0000"], {"image_id": "a"}).result(timeout=HANGS_S)


def test_a_process_that_hangs_is_killed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_processes, "_GRACE_S", 0.2)
    workspace = Workspace(tmp_path)
    with picture_processes.picture_processes(workspace, PictureStore(workspace), N_IMAGES) as processes:
        assert processes.take("a", PICTURES["0000"], {"image_id": "a"}).result(timeout=HANGS_S)["status"] == "ok"
        for process_id in own_two():
            os.kill(process_id, signal.SIGSTOP)
        future = processes.take("b", PICTURES["0001"], {"image_id": "b"})
        started = time.monotonic()
    assert time.monotonic() - started < 60
    with pytest.raises(OpenImageOError, match="with the picture of b in work"):
        future.result()
    assert names_on_disk(workspace) == {"a"}
    with pytest.raises(ValueError, match="closed"):
        processes.take("c", PICTURES["0002"], {"image_id": "c"})
