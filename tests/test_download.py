import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from curation.download import download_pictures
from curation.fetch import Fetcher, FetchPolicy
from curation.sample import mirror
from manifests import schema
from manifests.errors import InputError, OpenImageOError, StageMissingError, TableError
from manifests.workspace import Workspace, tool_version
from tests import fault_server
from tests.conftest import REPOSITORY
from tests.download_world import (
    GOOD,
    QUICK,
    finish,
    many_pictures,
    picture,
    propose,
    run_download,
    start_download,
    tables_of,
)
from tests.png_world import png_header_of
from tests.waiting import wait_until

FAULTS = {
    # script, status, reason, HTTP status, attempts
    "good": (fault_server.body(GOOD), "ok", None, 200, 1),
    "gone404": (fault_server.status(404), "missing", "HTTP 404", 404, 1),
    "gone410": (fault_server.status(410), "missing", "HTTP 410", 410, 1),
    "denied": (fault_server.status(403), "failed", "HTTP 403", 403, 1),
    "html": (fault_server.body(b"<html>photo unavailable</html>"), "not_an_image",
             "the file starts with <html>photo unav", 200, 1),
    "empty": (fault_server.body(b""), "not_an_image", "the file is empty", 200, 1),
    "truncated": (fault_server.body(GOOD[:-300]), "undecodable", None, 200, 1),
    "bomb": (fault_server.body(png_header_of(8000, 7000)), "too_large",
             "8000 x 7000 px is over the cap of 50000000 px", 200, 1),
    "endless": (fault_server.endless, "too_large", "over 300000 bytes", 200, 1),
    "busy": (fault_server.first_then(fault_server.status(503), fault_server.body(GOOD), 2), "ok", None, 200, 3),
    "limited": (fault_server.first_then(fault_server.status(429, Retry_After="0"), fault_server.body(GOOD)),
                "ok", None, 200, 2),
    "down": (fault_server.status(500), "failed", "HTTP 500", 500, 3),
    "reset": (fault_server.first_then(fault_server.reset_in_body(GOOD), fault_server.body(GOOD)),
              "ok", None, 200, 2),
    "always_reset": (fault_server.reset_in_body(GOOD), "failed", "the body did not arrive whole", None, 3),
    "slow": (fault_server.slow(GOOD, 0.05), "failed", "not done within 5 s", 200, 1),
    "redirect": (fault_server.status(302, Location="http://169.254.169.254/"), "refused",
                 "the server redirects elsewhere", 302, 1),
}  # fmt: skip


def test_each_fault_becomes_its_status_and_the_run_goes_on(tmp_path):
    workspace = propose(Workspace(tmp_path), FAULTS)
    scripts = {f"/test/{image_id}.jpg": fault[0] for image_id, fault in FAULTS.items()}
    with fault_server.serving(scripts) as server:
        counts = run_download(workspace, server, policy=replace(QUICK, deadline_s=5.0))
    rows = {row["image_id"]: row for row in workspace.read(schema.DOWNLOADS).to_pylist()}
    for image_id, (_, status, reason, http_status, attempts) in FAULTS.items():
        row = rows[image_id]
        found = (row["status"], row["http_status"], row["attempts"])
        assert found == (status, http_status, attempts), image_id
        assert reason is None or row["reason"].startswith(reason), image_id
        assert (status == "ok") == (row["reason"] is None)
        assert (tmp_path / "images" / image_id[:2] / f"{image_id}.jpg").exists() == (status == "ok"), image_id
    assert sum(counts.values()) == len(FAULTS)
    assert server.user_agents == {f"openimage-o-toolkit/{tool_version()}"}
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_arrived_picture_is_recorded_as_it_lies_on_disk(tmp_path):
    workspace = propose(Workspace(tmp_path), ["good"])
    with fault_server.serving({}, fault_server.body(GOOD)) as server:
        run_download(workspace, server)
    (row,) = workspace.read(schema.DOWNLOADS).to_pylist()
    assert (tmp_path / row["path"]).read_bytes() == GOOD
    assert row["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert (row["size_bytes"], row["width_px"], row["height_px"]) == (len(GOOD), 96, 96)


def test_retry_after_is_waited_for(tmp_path):
    script = fault_server.first_then(fault_server.status(429, Retry_After="1"), fault_server.body(GOOD))
    with fault_server.serving({}, script) as server:
        started = time.monotonic()
        assert Fetcher(QUICK).fetch(f"{server.base_url}/a").status == "ok"
        assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "the scheme 'file' is not http or https"),
        ("ftp://example.org/a.jpg", "the scheme 'ftp'"),
        ("data:image/png;base64,AAAA", "the scheme 'data'"),
        ("http://127.0.0.1/a", "127.0.0.1 is not a public address"),
        ("http://localhost/a", "localhost is not a public address"),
        ("http://[::1]/a", "::1 is not a public address"),
        ("http://169.254.169.254/latest", "169.254.169.254 is not a public address"),
        ("http://10.0.0.1/a", "10.0.0.1 is not a public address"),
        ("http://[bad/a", "not a valid URL"),
        (f"http://{'a' * 64}.example/a", "not a valid URL"),
        ("http://2130706433/a", "2130706433 is not a public address"),
    ],
)
def test_what_may_not_be_fetched_is_refused_before_a_request(url, reason):
    fetched = Fetcher(FetchPolicy()).fetch(url)
    assert (fetched.status, fetched.attempts) == ("refused", 0)
    assert fetched.reason.startswith(reason)


def test_a_server_that_is_not_there_ends_the_run_in_one_error_and_saves_the_rows(tmp_path):
    workspace = propose(Workspace(tmp_path), ["a", "b"])
    with pytest.raises(OpenImageOError, match=r"no picture arrived, of 2: 2 failed \("):
        download_pictures(workspace, base_url="http://127.0.0.1:9", policy=replace(QUICK, deadline_s=0.5))
    assert set(workspace.read(schema.DOWNLOADS).column("status").to_pylist()) == {"failed"}


def test_a_second_run_asks_for_nothing_and_writes_the_same_bytes(tmp_path):
    workspace = propose(Workspace(tmp_path), ["a", "b", "gone"])
    scripts = {f"/test/{name}.jpg": fault_server.body(GOOD) for name in "ab"}
    with fault_server.serving(scripts) as server:
        run_download(workspace, server)
        first = workspace.path_of(schema.DOWNLOADS).read_bytes()
        server.requests.clear()
        assert run_download(workspace, server) == {"ok": 2, "missing": 1}
        assert not server.requests
    assert workspace.path_of(schema.DOWNLOADS).read_bytes() == first


def test_a_picture_gone_from_the_disk_and_a_retried_status_are_fetched_again(tmp_path):
    workspace = propose(Workspace(tmp_path), ["a", "b", "c"])
    flaky = fault_server.first_then(fault_server.status(404), fault_server.body(GOOD))
    scripts = {
        "/test/a.jpg": fault_server.body(GOOD),
        "/test/b.jpg": fault_server.body(GOOD),
        "/test/c.jpg": flaky,
    }
    with fault_server.serving(scripts) as server:
        assert run_download(workspace, server) == {"ok": 2, "missing": 1}
        (tmp_path / "images" / "a" / "a.jpg").unlink()
        assert run_download(workspace, server, retry=["missing"]) == {"ok": 3}
        assert server.requests == {"/test/a.jpg": 2, "/test/b.jpg": 1, "/test/c.jpg": 2}


def test_a_refusal_is_lifted_by_its_flag_without_further_ado(tmp_path):
    workspace = propose(Workspace(tmp_path), ["a"])
    with fault_server.serving({}, fault_server.body(GOOD)) as server:
        with pytest.raises(OpenImageOError, match="is not a public address"):
            run_download(workspace, server, policy=FetchPolicy())
        assert run_download(workspace, server) == {"ok": 1}


def test_what_failed_is_told_of_though_few_enough_failed_and_is_asked_for_where_said_so(tmp_path):
    workspace = propose(Workspace(tmp_path), "abcd")
    lines = []
    with fault_server.serving({"/test/a.jpg": fault_server.status(500)}, fault_server.body(GOOD)) as server:
        assert run_download(workspace, server, announce=lines.append) == {"ok": 3, "failed": 1}
        assert lines == ["download: 1 images failed: 1 failed (HTTP 500); --retry failed asks for them again"]
        del server.scripts["/test/a.jpg"]
        assert run_download(workspace, server) == {"ok": 3, "failed": 1}
        assert run_download(workspace, server, retry=["failed"], announce=lines.append) == {"ok": 4}
    assert len(lines) == 1


def test_what_one_mirror_lacks_is_asked_of_another(tmp_path):
    workspace = propose(Workspace(tmp_path), ["a", "b"])
    with fault_server.serving({"/test/a.jpg": fault_server.body(GOOD)}) as server:
        assert run_download(workspace, server) == {"ok": 1, "missing": 1}
    with fault_server.serving({}, fault_server.body(GOOD)) as server:
        assert run_download(workspace, server) == {"ok": 2}
        assert server.requests == {"/test/b.jpg": 1}


NO_HEX = json.dumps(
    {"image_id": "a", "status": "ok", "url": "x", "attempts": 1, "path": "x", "size_bytes": 1, "sha256": "z" * 64}
)


@pytest.mark.parametrize(
    "line", ["{}", '{"image_id": "a"}', '{"image_id": "a", "status": "ok", "path": "x"}', NO_HEX]
)
def test_a_line_that_is_none_of_the_log_is_named(tmp_path, line):
    workspace = propose(Workspace(tmp_path), ["a"])
    workspace.downloads_log_path.write_text(f"{line}\n")
    with pytest.raises(TableError, match=r"downloads\.jsonl, line 1: not a line of this log"):
        download_pictures(workspace, policy=QUICK)


def test_connections_are_kept_through_pictures_and_error_pages(tmp_path):
    names = [f"{number:02x}" for number in range(40)]
    scripts = {f"/test/{name}.jpg": fault_server.body(picture(i)) for i, name in enumerate(names) if i % 2}
    with fault_server.serving(scripts) as server:
        run_download(propose(Workspace(tmp_path), names), server, n_workers=2)
        assert server.n_connections == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_workers": 0}, "--workers: expected 1 or more"),
        ({"n_workers": 8000}, "--workers: expected 1 or more, 256 at most, found 8000"),
        ({"retry": ["bad"]}, "--retry: expected missing, placeholder, .* found 'bad'"),
        ({"retry": ["ok"]}, "found 'ok' .--verify checks what arrived"),
        ({"max_failures": 1.5}, "--max-failures: expected a share from 0 to 1, found 1.5"),
    ],
)
def test_a_bad_option_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        download_pictures(propose(Workspace(tmp_path), ["a"]), policy=QUICK, **options)


def test_without_candidates_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(StageMissingError, match="run the stage 'candidates'"):
        download_pictures(Workspace(tmp_path))


def logged_paths(workspace):
    """Return the paths whose end the log holds; a torn last line holds none."""
    whole_lines = workspace.downloads_log_path.read_text().split("\n")[:-1]
    return {f"/test/{json.loads(line)['image_id']}.jpg" for line in whole_lines}


def test_killed_at_random_moments_and_run_again_it_ends_in_the_same_tables(tmp_path):
    names, scripts = many_pictures()
    with fault_server.serving(scripts) as server:
        undisturbed = propose(Workspace(tmp_path / "undisturbed"), names)
        assert finish(start_download(undisturbed, server.base_url)) == (0, "")
        killed = propose(Workspace(tmp_path / "killed"), names)
        draws = random.Random(0)
        server.requests.clear()
        logged = set()
        for _ in range(12):
            asked = server.requests.copy()
            enough = server.requests.total() + draws.randint(1, 12)
            process = start_download(killed, server.base_url)
            wait_until(lambda enough=enough: server.requests.total() >= enough, process)
            time.sleep(draws.uniform(0, 0.01))
            process.kill()
            assert finish(process)[0] == -signal.SIGKILL, "the run ended before it could be killed"
            assert not [path for path in (server.requests - asked) if path in logged]
            logged = logged_paths(killed)
        asked = server.requests.copy()
        assert finish(start_download(killed, server.base_url)) == (0, "")
        assert not [path for path in (server.requests - asked) if path in logged]
    assert not list(tmp_path.rglob(".*.tmp"))
    assert tables_of(killed) == tables_of(undisturbed)


def test_killed_while_the_mirror_is_busy_the_table_counts_the_same_attempts(tmp_path):
    names = [f"{number:04x}" for number in range(60)]
    (tmp_path / "mirror" / "test").mkdir(parents=True)
    for number, name in enumerate(names):
        (tmp_path / "mirror" / "test" / f"{name}.jpg").write_bytes(picture(number))
    with mirror.serving(tmp_path / "mirror", busy_share=0.2) as base_url:
        undisturbed = propose(Workspace(tmp_path / "undisturbed"), names)
        # The mirror is busy once a connection: with one, a retry meets what an undisturbed run's meets.
        assert finish(start_download(undisturbed, base_url, n_workers=1)) == (0, "")
        killed = propose(Workspace(tmp_path / "killed"), names)
        for n_arrived in (5, 20, 40):
            process = start_download(killed, base_url, n_workers=1)
            wait_until(
                lambda n=n_arrived: len(list(killed.root.glob("images/*/*.jpg"))) >= n, process, gap_s=0.002
            )
            process.kill()
            assert finish(process)[0] == -signal.SIGKILL, "the run ended before it could be killed"
        assert finish(start_download(killed, base_url, n_workers=1)) == (0, "")
    assert set(undisturbed.read(schema.DOWNLOADS).column("attempts").to_pylist()) == {1, 2}
    assert tables_of(killed) == tables_of(undisturbed)


def test_ctrl_c_exits_130_and_loses_no_finished_picture(tmp_path):
    names, scripts = many_pictures()
    workspace = propose(Workspace(tmp_path), names)
    with fault_server.serving(scripts) as server:
        process = start_download(workspace, server.base_url)
        # One more than its four threads have in hand: some are finished.
        wait_until(lambda: server.requests.total() > 20, process)
        process.send_signal(signal.SIGINT)
        message = "interrupted: what was done is saved; run the same command again\n"
        assert finish(process) == (130, message)
        on_disk = len(list(tmp_path.glob("images/*/*.jpg")))
        logged = sum('"ok"' in line for line in workspace.downloads_log_path.read_text().splitlines())
        assert 0 < on_disk == logged < 180
        assert finish(start_download(workspace, server.base_url)) == (0, "")
    assert workspace.read(schema.DOWNLOADS).column("status").to_pylist().count("ok") == 180


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    command = [
        sys.executable,
        "cli.py",
        "candidates",
        "--metadata",
        __file__,
        "--workspace",
        str(tmp_path / "file" / "ws"),
    ]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        f"error: --workspace {tmp_path}/file/ws: cannot be made or written (Not a directory)"
    )
