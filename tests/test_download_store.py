import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curation.download import download_pictures
from curation.download_log import DownloadLog
from manifests import schema
from manifests.errors import InputError, OpenImageOError, TableError
from manifests.workspace import Workspace
from tests import fault_server
from tests.conftest import REPOSITORY
from tests.download_world import finish, many_pictures, picture, propose, run_download, start_download
from tests.waiting import HANGS_S, wait_until

PLACEHOLDER = picture(1000)


def serving_pictures(names, **special):
    scripts = {f"/test/{name}.jpg": fault_server.body(picture(i)) for i, name in enumerate(names)}
    return scripts | {f"/test/{name}.jpg": script for name, script in special.items()}


def rows_of(workspace):
    return {row["image_id"]: row for row in workspace.read(schema.DOWNLOADS).to_pylist()}


def test_bytes_that_come_for_five_images_are_a_placeholder_for_all_of_them(tmp_path):
    workspace = propose(Workspace(tmp_path), "abcdefg")
    stand_in = fault_server.body(PLACEHOLDER)
    with fault_server.serving(dict.fromkeys([f"/test/{name}.jpg" for name in "bcde"], stand_in)) as server:
        server.default = fault_server.status(404)
        server.scripts |= {f"/test/{name}.jpg": fault_server.body(picture(i)) for i, name in enumerate("ag")}
        assert run_download(workspace, server) == {"ok": 6, "missing": 1}, "four may be equal uploads"
        server.scripts["/test/f.jpg"] = stand_in
        assert run_download(workspace, server, retry=["missing"]) == {"ok": 2, "placeholder": 5}
        first = workspace.path_of(schema.DOWNLOADS).read_bytes()
        assert rows_of(workspace)["b"]["reason"] == "the same bytes came for 5 images"
        assert rows_of(workspace)["b"]["sha256"] == hashlib.sha256(PLACEHOLDER).hexdigest()
        assert (tmp_path / "images" / "b" / "b.jpg").read_bytes() == PLACEHOLDER
        server.requests.clear()
        assert run_download(workspace, server) == {"ok": 2, "placeholder": 5}
        assert not server.requests
    assert workspace.path_of(schema.DOWNLOADS).read_bytes() == first


def test_a_placeholder_is_fetched_again_where_asked_or_from_another_mirror(tmp_path):
    workspace = propose(Workspace(tmp_path), "abcdef")
    with fault_server.serving({}, fault_server.body(PLACEHOLDER)) as server:
        with pytest.raises(OpenImageOError, match=r"no picture arrived, of 6: 6 placeholder \(the same bytes"):
            run_download(workspace, server)
        server.scripts = serving_pictures("abcdef")
        assert run_download(workspace, server, retry=["placeholder"]) == {"ok": 6}
    assert len(list((tmp_path / "quarantine").iterdir())) == 6


def test_one_photograph_uploaded_many_times_is_no_placeholder(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.write(
        schema.CANDIDATES,
        [{"image_id": name, "subset": "test", "url": "x", "original_md5": "00" * 16} for name in "abcdef"],
    )
    with fault_server.serving({}, fault_server.body(PLACEHOLDER)) as server:
        assert run_download(workspace, server) == {"ok": 6}


def test_verify_moves_a_changed_picture_aside_and_fetches_it_again(tmp_path):
    workspace = propose(Workspace(tmp_path), "abc")
    lines = []
    with fault_server.serving(serving_pictures("abc")) as server:
        run_download(workspace, server)
        good = (tmp_path / "images" / "b" / "b.jpg").read_bytes()
        changed = bytearray(good)
        changed[-20] ^= 1
        (tmp_path / "images" / "b" / "b.jpg").write_bytes(changed)
        assert run_download(workspace, server) == {"ok": 3}
        assert server.requests["/test/b.jpg"] == 1, "its size is that of the log"
        assert run_download(workspace, server, verify=True, announce=lines.append) == {"ok": 3}
        assert server.requests == {"/test/a.jpg": 1, "/test/b.jpg": 2, "/test/c.jpg": 1}
    assert (tmp_path / "images" / "b" / "b.jpg").read_bytes() == good
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert aside.name == f"b.{hashlib.sha256(changed).hexdigest()[:16]}.jpg"
    assert aside.read_bytes() == changed
    assert lines == ["download: 1 stored pictures to be fetched again were moved to quarantine/"]


def test_a_picture_is_moved_aside_though_the_pictures_lie_on_another_disk(tmp_path, monkeypatch):
    workspace = propose(Workspace(tmp_path), "a")
    rename = Path.replace

    def within_one_disk(path, target):
        if path.is_relative_to(tmp_path / "images") != target.is_relative_to(tmp_path / "images"):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", within_one_disk)
    with fault_server.serving(serving_pictures("a")) as server:
        run_download(workspace, server)
        (tmp_path / "images" / "a" / "a.jpg").write_bytes(b"changed")
        assert run_download(workspace, server, verify=True) == {"ok": 1}
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert aside.read_bytes() == b"changed"
    assert (tmp_path / "images" / "a" / "a.jpg").read_bytes() == picture(0)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_candidates_on_a_disk_that_takes_no_more_names_the_place_and_claims_nothing(tmp_path):
    (tmp_path / "ids.txt").write_text("".join(f"{number:016x}\n" for number in range(5000)))
    program = (
        "import resource, sys, cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    command = ["candidates", "--metadata", str(tmp_path / "ids.txt"), "--workspace", str(tmp_path / "ws")]
    finished = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert finished.returncode == 1
    assert finished.stderr == f"error: {tmp_path}/ws: File too large; no file is left half-written\n"
    assert not (tmp_path / "ws" / "candidates.parquet").exists()


def test_a_run_with_too_many_failures_says_why_after_saving_everything(tmp_path):
    names = [f"{number:02d}" for number in range(20)]
    gone = fault_server.status(404)
    scripts = serving_pictures(names) | {
        "/test/03.jpg": gone,
        "/test/04.jpg": gone,
        "/test/05.jpg": fault_server.body(b"<html>"),
    }
    workspace = propose(Workspace(tmp_path), names)
    message = (
        r"^3 of 20 images \(15\.0%\) are without a picture, over --max-failures 0\.1: 2 missing \(HTTP 404\), "
        r"1 not_an_image \(the file starts with <html>\); everything is saved"
    )
    with fault_server.serving(scripts) as server:
        with pytest.raises(OpenImageOError, match=message):
            run_download(workspace, server, max_failures=0.1)
        assert run_download(workspace, server, max_failures=0.15) == {"ok": 17, "missing": 2, "not_an_image": 1}
        assert server.requests.total() == 20
    assert len(list(tmp_path.glob("images/*/*.jpg"))) == 17


def test_an_id_that_could_be_a_path_is_refused(tmp_path):
    workspace = propose(Workspace(tmp_path), ["../../a"])
    with pytest.raises(TableError, match=r"candidates\.parquet: expected an image id, found '\.\./\.\./a'"):
        download_pictures(workspace)


def full_disk(monkeypatch, n_bytes):
    """Let `os.write` take only so many bytes more, as a disk does that is full."""
    room = [n_bytes]
    one_at_a_time = threading.Lock()
    write = os.write

    def limited(descriptor, content):
        with one_at_a_time:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            n_written = write(descriptor, content[: room[0]])
            room[0] -= n_written
            return n_written

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("n_bytes", [0, 1000, 5000, 9000, 20_000])
def test_a_full_disk_is_one_error_and_leaves_whole_files_and_a_whole_log(tmp_path, monkeypatch, n_bytes):
    names = [f"{number:02d}" for number in range(20)]
    workspace = propose(Workspace(tmp_path), names)
    with fault_server.serving(serving_pictures(names)) as server:
        with monkeypatch.context() as patch:
            full_disk(patch, n_bytes)
            with pytest.raises(OSError, match="No space left on device") as failure:
                run_download(workspace, server, n_workers=2)
        assert failure.value.filename
        for row in map(json.loads, workspace.downloads_log_path.read_text().splitlines()):
            assert (tmp_path / row["path"]).stat().st_size == row["size_bytes"]
        assert not list(tmp_path.rglob("*.tmp"))
        assert run_download(workspace, server) == {"ok": 20}
    for i, name in enumerate(names):
        assert (tmp_path / "images" / name / f"{name}.jpg").read_bytes() == picture(i)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_limit_on_file_size_is_one_line_and_exit_1(tmp_path):
    workspace = propose(Workspace(tmp_path), "abc")
    program = (
        "import resource, sys, cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(cli.run(sys.argv[1:]))"
    )
    with fault_server.serving(serving_pictures("abc")) as server:
        command = ["download", "--workspace", str(tmp_path), "--base-url", server.base_url, "--allow-private"]
        finished = subprocess.run(
            [sys.executable, "-c", program, *command], cwd=REPOSITORY, capture_output=True, text=True
        )
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert "File too large; no file is left half-written" in finished.stderr
    assert not list(workspace.root.rglob("*.jpg"))
    assert not list(workspace.root.rglob(".*.tmp"))


def test_a_torn_last_line_is_cut_off_whatever_its_length(tmp_path):
    line = b'{"attempts": 1, "image_id": "a", "status": "missing", "url": "x"}\n'
    for torn in (b"{", b'{"image_id": ' + b"x" * 200_000):
        (tmp_path / "log").write_bytes(line * 2 + torn)
        with DownloadLog(tmp_path / "log") as log:
            assert [start for start, _ in log.rows()] == [0, len(line)]
            assert log.append([{"attempts": 1}]) == [2 * len(line)]
        assert (tmp_path / "log").read_bytes() == line * 2 + b'{"attempts": 1}\n'


def test_sigterm_exits_143_with_every_finished_picture_in_the_log(tmp_path):
    names, scripts = many_pictures()
    workspace = propose(Workspace(tmp_path), names)
    with fault_server.serving(scripts) as server:
        process = start_download(workspace, server.base_url)
        wait_until(lambda: server.requests.total() >= 20, process)
        process.terminate()
        message = "interrupted: what was done is saved; run the same command again\n"
        assert finish(process) == (143, message)
        logged = workspace.downloads_log_path.read_text().count('"ok"')
        assert 0 < logged == len(list(tmp_path.glob("images/*/*.jpg"))) < 180
        n_left = 200 - len(workspace.downloads_log_path.read_text().splitlines())
        server.requests.clear()
        assert finish(start_download(workspace, server.base_url)) == (0, "")
        assert server.requests.total() == n_left


def test_ctrl_c_does_not_wait_for_a_server_that_says_later(tmp_path):
    workspace = propose(Workspace(tmp_path), "ab")
    with fault_server.serving({}, fault_server.status(503, Retry_After="60")) as server:
        process = start_download(workspace, server.base_url)
        wait_until(lambda: server.requests, process)
        time.sleep(0.2)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert finish(process)[0] == 130
        # The server asks for 60 s.
        assert time.monotonic() - started < 50
    assert workspace.downloads_log_path.read_text() == ""


def test_with_wait_a_second_run_begins_when_the_first_has_ended(tmp_path):
    lines = []
    waiting = threading.Event()

    def announce(line):
        lines.append(line)
        waiting.set()

    ended = []

    def second():
        with Workspace(tmp_path, announce_wait=announce).stage("download", {}):
            ended.append("second")

    thread = threading.Thread(target=second)
    with Workspace(tmp_path).stage("embed", {}):
        thread.start()
        assert waiting.wait(HANGS_S)
        ended.append("first")
    thread.join(HANGS_S)
    assert ended == ["first", "second"]
    assert f"process {os.getpid()}" in lines[0]
    assert lines[0].endswith("waiting for its end")


def test_arguments_of_archives_are_recorded_without_their_folder(tmp_path):
    workspace = propose(Workspace(tmp_path), "a")
    with pytest.raises(InputError):
        download_pictures(workspace, tar_paths=[tmp_path / "none.tar"])
    record = (tmp_path / "provenance" / "download.failed.json").read_text()
    assert json.loads(record)["arguments"]["from_tar"] == ["none.tar"]
