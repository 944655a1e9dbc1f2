import hashlib
import http.client
import io
import re
import shutil
import sys
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from PIL import Image

import cli
from curation.bench import clients
from curation.bench.bodies import light_body, photo_body
from curation.bench.clients import ClientRun, Load, run_ours
from curation.bench.limits import Limits
from curation.bench.machine import Machine
from curation.bench.process import run_measured
from curation.bench.raw_client import fetch_raw
from curation.bench.report import DownloadBench, Section, bench_table
from curation.bench.run import bench_download, make_room
from curation.bench.server import image_id_of, serving
from manifests.errors import InputError, OpenImageOError

LIGHT = light_body()


def ask(server, index, connection=None):
    """Return status, headers and body of one picture, as a client that knows nothing of the server gets them."""
    parts = urlsplit(server.base_url)
    own = connection or http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        own.request("GET", f"/test/{image_id_of(index)}.jpg")
        response = own.getresponse()
        return response.status, response.headers, response.read()
    finally:
        if connection is None:
            own.close()


@pytest.mark.parametrize(
    ("body", "size", "kind"), [(LIGHT, (309, 309), "PNG"), (photo_body(), (1024, 768), "JPEG")]
)
def test_pictures_are_whole_of_287_kb_and_no_two_have_one_digest(body, size, kind):
    contents = [body.content(image_id_of(index)) for index in range(3)]
    assert len({hashlib.sha256(content).digest() for content in contents}) == 3
    pictures = [Image.open(io.BytesIO(content)) for content in contents]
    assert {(picture.size, picture.format) for picture in pictures} == {(size, kind)}
    assert len({picture.convert("RGB").tobytes() for picture in pictures}) == 1
    for content in contents:
        assert abs(len(content) - 287_000) < 2_870


def test_the_server_answers_all_requests_of_a_connection_and_counts_them():
    with serving(LIGHT) as server:
        parts = urlsplit(server.base_url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        before = time.monotonic()
        for index in (0, 20, 7):
            assert ask(server, index, connection)[::2] == (200, LIGHT.content(image_id_of(index)))
        connection.close()
        counts = server.counts
        assert (counts.n_requests, counts.n_connections, counts.n_faults) == (3, 1, 0)
        assert before <= counts.first_request_at <= time.monotonic()


def test_one_picture_in_twenty_faults_once_and_each_kind_in_its_turn():
    with serving(LIGHT, has_faults=True) as server:
        status, headers, _ = ask(server, 0)
        limited_at = time.monotonic()
        assert (status, headers["Retry-After"]) == (429, "1")
        assert ask(server, 0)[0] == 429, "who does not wait is told so again"
        assert ask(server, 20)[0] == 503
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            ask(server, 40)
        started = time.monotonic()
        assert ask(server, 60)[2] == LIGHT.content(image_id_of(60))
        assert time.monotonic() - started >= 1.0
        with pytest.raises(http.client.IncompleteRead):
            ask(server, 80)
        assert ask(server, 100)[0] == 429, "the sixth is of the first kind again"
        assert server.counts.n_faults == 7
        time.sleep(max(0.0, limited_at + 1.0 - time.monotonic()))
        for index in (0, 20, 40, 60, 80, 1, 19, 21):
            assert ask(server, index)[::2] == (200, LIGHT.content(image_id_of(index)))
        assert server.counts.n_faults == 7


def test_the_raw_client_stores_what_was_served_over_as_many_connections_as_asked_for(tmp_path):
    with serving(LIGHT) as server:
        fetch_raw(server.base_url, 12, 4, n_processes=2, store_dir=tmp_path)
        assert (server.counts.n_requests, server.counts.n_connections) == (12, 4)
    stored = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert stored == {f"{image_id_of(index)}.jpg": LIGHT.content(image_id_of(index)) for index in range(12)}


def test_the_raw_client_refuses_a_server_with_faults():
    with serving(LIGHT, has_faults=True) as server, pytest.raises(OpenImageOError, match="the raw client failed"):
        fetch_raw(server.base_url, 1, 1)


def test_memory_is_that_of_a_process_and_its_children_together():
    child = "import time; held = bytearray(100_000_000); time.sleep(1.5)"
    program = (
        f"import subprocess, sys; held = bytearray(100_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    alone = run_measured([sys.executable, "-c", child])
    both = run_measured([sys.executable, "-c", program])
    assert (alone.exit_code, both.exit_code) == (0, 0)
    assert 100 < alone.peak_mb < 140
    assert 200 < both.peak_mb < 260
    assert alone.ended_at - alone.started_at >= 1.5


def test_a_client_that_fails_is_one_error_with_its_last_words(tmp_path):
    with pytest.raises(OpenImageOError, match=r"python cli\.py download ended with exit code 2: .*--nonsense"):
        run_ours(Load(LIGHT, 1, 1), tmp_path, options=["--nonsense"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("n_images", "n_workers", "message"),
    [
        (0, 1, "--images, --workers: expected 1 or more, found 0, 1"),
        (1, 0, "--images, --workers: expected 1 or more, found 1, 0"),
        (10**12, 1, r"the longest run stores 2870000000\.0 GB"),
    ],
)
def test_a_count_that_cannot_be_is_refused_before_anything_runs(tmp_path, n_images, n_workers, message):
    with pytest.raises(InputError, match=message):
        bench_download(workdir=tmp_path, n_images=n_images, n_workers=n_workers)


def test_the_command_prints_every_client_and_leaves_nothing_but_its_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clients, "_IMG2DATASET_BIN", tmp_path / "nowhere")
    arguments = ["bench", "download", "--images", "30", "--workers", "4", "--quick", "--workspace", str(tmp_path)]
    assert cli.run(arguments) == 0
    text = capsys.readouterr().out
    _, light, photographs, faults, memory, note = text.strip().split("\n\n")
    rows = [line.split("  ")[0] for line in light.splitlines() if line.startswith(("raw, ", "raw +", "ours  "))]
    assert rows[0] == "raw, 1 process"
    assert "raw + sha256 + write, 1 process" in rows
    assert rows[-1] == "ours"
    for block in (light, photographs):
        assert re.search(r"^ours +[\d,]+ +[\d,]+ +[\d,]+ +\d+% +all +[\d.]+ +\d+$", block, re.MULTILINE)
    # 60 pictures: numbers 0, 20 and 40 fault, with 429, 503 and a reset, and each is asked for once more.
    assert re.search(r"^ours +[\d.]+ +[\d.]+ +[\d.]+ x +all +63 +3$", faults, re.MULTILINE)
    assert re.search(r"^60 +\d+ +[\d,]+\nDifference: [+-]\d+ MB$", memory, re.MULTILINE)
    assert note == "img2dataset is not installed and was not timed: make bench-peers"
    assert [path.name for path in tmp_path.iterdir()] == ["bench_download.json"]


@pytest.mark.parametrize(("free_bytes", "is_kept"), [(2_000, True), (1_999, False)])
def test_what_a_run_stored_is_kept_until_the_next_needs_the_room(tmp_path, monkeypatch, free_bytes, is_kept):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free_bytes))
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "a.jpg").write_bytes(b"a")
    make_room(tmp_path, 1_000)
    assert (tmp_path / "earlier" / "a.jpg").exists() == is_kept


def made_up_run(busy_s, n_images=100, n_lost=0, peak_mb=None):
    return ClientRun(n_images, n_images - n_lost, busy_s, busy_s + 1, peak_mb, 100, 4, 0, 0.01)


def test_shares_are_of_medians_and_of_the_fastest_of_a_kind():
    ours = tuple(made_up_run(seconds, peak_mb=150 + seconds) for seconds in (1.0, 0.5, 0.4))
    result = DownloadBench(
        machine=Machine("a processor", 2, 4.0, "3.11"), n_images=100, n_workers=4, n_rounds=3,
        body_bytes={"light": 287_000, "photo": 287_000}, img2dataset=None,
        limits={"light": Limits(1000.0, 500.0, 500.0), "photo": Limits(80.0, 500.0, 500.0)},
        light=Section("light", {
            "raw, 1 process": (made_up_run(0.25),), "raw, 2 processes": (made_up_run(0.2),),
            "raw + sha256 + write, 1 process": (made_up_run(0.4),), "ours": ours,
        }),
        photo=Section("photo", {"ours": (made_up_run(2.5),)}),
        clean=Section("light", {"ours": (made_up_run(2.0),)}),
        faulty=Section("light", {"ours": (made_up_run(2.5, n_images=100_000, n_lost=1),)}),
        long_run=made_up_run(5.0, peak_mb=155.0), notes=(),
    )  # fmt: skip
    assert result.share_of_raw == pytest.approx(200 / 500)
    assert result.share_of_storing == pytest.approx(200 / 250)
    assert result.times_under_faults == pytest.approx(1.25)
    assert result.peak_growth_mb == pytest.approx(4.0)
    told = result.as_json()
    assert told["images_per_s"]["light"]["ours"] == told["our_images_per_s"] == pytest.approx(200)
    assert told["images_per_s"]["photo"] == {"ours": pytest.approx(40)}
    assert told["goals"]["at_least"]["our_images_per_s"] == 800
    text = bench_table(result)
    assert "Ours is 40% of raw and 80% of raw + sha256 + write (goal: 85%), 200 images/s (goal: 800)" in text
    assert re.search(r"^ours +40 +40 +40 +50% +all", text, re.MULTILINE), "50 % of the 80 that can be decoded"
    assert re.search(r"^ours +2\.00 +2\.50 +1\.25 x +99\.99%", text, re.MULTILINE), "never rounded up"
    assert (
        "write 500; all of it with the server's 0.10 ms: 198" in text
    )  # 1 / (0.001 + 0.002 + 0.002 + 0.0001 / 2)
