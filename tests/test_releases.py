"""Official files by name, from a server on the loopback that breaks off, resumes, changes files and is away."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import cli
from curation.fetch_file import fetch_file
from curation.releases import ReleaseCache, class_names_file, label_files, metadata_file
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.test_labels import NAMES, as_csv
from tests.test_open_images import V3, cells
from tests.test_open_images import as_csv as images_csv

BODY = bytes(range(256)) * 40
NAME = "2018_04/test/test-images-with-rotation.csv"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        begin = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == etag:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("ETag", etag)
        self.end_headers()
        part = body[begin:]
        self.wfile.write(part[: server.cut_after.pop(0)] if server.cut_after else part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.requests, made.statuses, made.cut_after, made.files = [], [], [], {f"/{NAME}": BODY, "/x": BODY}
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def cache(server, tmp_path):
    return ReleaseCache(tmp_path / "cache", server.url, lambda _: None)


def test_a_file_is_fetched_once_and_its_digest_recorded(server, cache):
    path = cache.fetch(NAME)
    assert path.read_bytes() == BODY
    assert (
        path.with_name(f"{path.name}.sha256").read_text() == f"{hashlib.sha256(BODY).hexdigest()}  {path.name}\n"
    )
    assert cache.fetch(NAME) == path
    assert len(server.requests) == 1
    assert sorted(one.name for one in path.parent.iterdir()) == [
        path.name,
        f"{path.name}.lock",
        f"{path.name}.sha256",
    ]


def test_a_file_that_changed_on_disk_is_refused_and_left(cache):
    path = cache.fetch(NAME)
    path.write_bytes(b"other")
    with pytest.raises(
        InputError, match=f"expected the file first seen, sha256 {hashlib.sha256(BODY).hexdigest()}"
    ):
        cache.fetch(NAME)
    assert path.read_bytes() == b"other"


def test_a_file_that_changed_at_its_publisher_is_refused(server, cache):
    path = cache.fetch(NAME)
    path.unlink()
    server.files[f"/{NAME}"] = b"other"
    with pytest.raises(InputError, match=r"if the publisher changed it, delete .*\.sha256 to accept"):
        cache.fetch(NAME)
    assert not path.exists()
    assert not path.with_name(f"{path.name}.partial").exists()


def test_a_fetch_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.cut_after = [1_000, 3_000]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", first_pause_s=0)
    assert (tmp_path / "x.partial").read_bytes() == BODY
    assert [each[1] for each in server.requests] == [None, "bytes=1000-", "bytes=4000-"]


def test_a_half_of_another_version_is_not_continued(server, tmp_path):
    server.cut_after = [1_000]
    with pytest.raises(InputError, match="cannot be fetched after 1 attempts"):
        fetch_file(f"{server.url}/x", tmp_path / "x.partial", n_attempts=1)
    assert (tmp_path / "x.partial").stat().st_size == 1_000
    server.files["/x"] = BODY[::-1]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", n_attempts=1)
    assert (tmp_path / "x.partial").read_bytes() == BODY[::-1]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server, tmp_path):
    server.statuses = [503, 429]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", first_pause_s=0)
    assert len(server.requests) == 3
    for status in (404, 403, 302):
        server.requests.clear()
        server.statuses = [status]
        with pytest.raises(InputError, match=f"the server answered {status}"):
            fetch_file(f"{server.url}/x", tmp_path / "y.partial", first_pause_s=0)
        assert len(server.requests) == 1


def test_without_a_network_there_is_one_clear_error(tmp_path, capsys):
    arguments = [
        "candidates",
        "--release",
        "v7",
        "--base-url",
        "http://127.0.0.1:9",
        "--cache",
        str(tmp_path / "c"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curation.fetch_file.time.sleep", lambda _: None)
        assert cli.run([*arguments, "--workspace", str(tmp_path / "ws")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: http://127.0.0.1:9/2018_04/image_ids_and_rotation.csv: cannot be fetched after 5"
    )
    assert "download the file yourself" in error
    with pytest.raises(InputError, match="expected an https:// or http:// address"):
        fetch_file("file:///etc/passwd", tmp_path / "x")


def test_releases_name_their_files():
    assert metadata_file("v3") == "2017_11/images_2017_11.tar.gz"
    assert metadata_file("v7", "test") == NAME
    assert metadata_file("v7") == metadata_file("v7", "train") == "2018_04/image_ids_and_rotation.csv"
    assert label_files("v7", "human", ["validation"]) == ["v7/oidv7-val-annotations-human-imagelabels.csv"]
    assert label_files("v3", "machine", ["train", "test"]) == ["2017_11/annotations_machine_2017_11.tar.gz"]
    assert class_names_file("v7") == "v7/oidv7-class-descriptions.csv"
    with pytest.raises(InputError, match="--release: expected v3 or v7, found 'v9'"):
        metadata_file("v9")
    with pytest.raises(InputError, match="--subset: expected one of train, validation, test, found 'dev'"):
        label_files("v7", "human", ["dev"])


def test_candidates_and_labels_come_by_name_of_release(server, tmp_path, capsys):
    rows = [cells("0a", Rotation="0.0"), cells("0b", Rotation="nan")]
    server.files = {
        f"/{NAME}": images_csv(rows, [*V3, "Rotation"]).encode(),
        "/v7/oidv7-test-annotations-human-imagelabels.csv": as_csv(
            [("0a", "verification", "/m/0449p", "1")]
        ).encode(),
        "/v7/oidv7-class-descriptions.csv": as_csv(NAMES, ["LabelName", "DisplayName"]).encode(),
    }
    common = ["--release", "v7", "--subset", "test", "--base-url", server.url, "--cache", str(tmp_path / "cache")]
    common += ["--workspace", str(tmp_path / "ws")]
    assert cli.run(["candidates", *common]) == 0
    assert cli.run(["labels", "--source", "human", *common]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "candidates: original_duplicates 1, test 2, withdrawn 1",
        "labels: human 1, of_imagenet_classes 1, of_other_images 0, repeated 0, without_name 0",
    ]
    (label,) = Workspace(tmp_path / "ws").read(schema.LABELS).to_pylist()
    assert (label["image_id"], label["label_name"], label["wnid"]) == ("0a", "Jaguar", "n02128925")
    assert cli.run(["labels", "--source", "robot", *common]) == 1
    assert "--source: expected one of human, machine, found 'robot'" in capsys.readouterr().err
