"""Official files by name, from a server on the loopback that breaks off, resumes, changes files and is away."""

import contextlib
import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import cli
from curation.fetch import FetchPolicy
from curation.fetch_file import FileLimits, fetch_file
from curation.releases import ReleaseCache, class_names_file, label_files, metadata_file
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.open_images_world import CLASS_NAMES, V3, cells, images_csv, labels_csv

BODY = b"ImageID," + bytes(range(256)) * 40
NAME = "2018_04/test/test-images-with-rotation.csv"
POLICY = FetchPolicy(allow_private=True)
AT_ONCE = FileLimits(first_pause_s=0)
ONCE = FileLimits(n_attempts=1)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        if server.raw:
            self.wfile.write(server.raw.pop(0))
            self.close_connection = True
            return
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
    made.raw = []
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
    return ReleaseCache(tmp_path / "cache", server.url, POLICY, lambda _: None)


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
    path.write_bytes(b"ImageID,other")
    with pytest.raises(
        InputError, match=f"expected the file first seen, sha256 {hashlib.sha256(BODY).hexdigest()}"
    ):
        cache.fetch(NAME)
    assert path.read_bytes() == b"ImageID,other"


def test_a_record_of_the_first_digest_that_is_no_text_is_as_one_of_other_bytes(cache):
    path = cache.fetch(NAME)
    path.with_name(f"{path.name}.sha256").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"expected the file first seen, sha256 .*, found"):
        cache.fetch(NAME)
    assert path.read_bytes() == BODY


def test_a_file_that_changed_at_its_publisher_is_refused(server, cache):
    path = cache.fetch(NAME)
    path.unlink()
    server.files[f"/{NAME}"] = b"ImageID,other"
    with pytest.raises(InputError, match=r"if the publisher changed it, delete .*\.sha256 to accept"):
        cache.fetch(NAME)
    assert not path.exists()
    assert not path.with_name(f"{path.name}.partial").exists()


def test_a_fetch_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    server.cut_after = [1_000, 3_000]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert (tmp_path / "x.partial").read_bytes() == BODY
    assert [each[1] for each in server.requests] == [None, "bytes=1000-", "bytes=4000-"]


def test_a_half_of_another_version_is_not_continued(server, tmp_path):
    server.cut_after = [1_000]
    with pytest.raises(InputError, match="cannot be fetched after 1 attempts"):
        fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, ONCE)
    assert (tmp_path / "x.partial").stat().st_size == 1_000
    server.files["/x"] = BODY[::-1]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, ONCE)
    assert (tmp_path / "x.partial").read_bytes() == BODY[::-1]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server, tmp_path):
    server.statuses = [503, 429]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert len(server.requests) == 3
    for status in (404, 403, 302):
        server.requests.clear()
        server.statuses = [status]
        with pytest.raises(InputError, match=f"the server answered {status}"):
            fetch_file(f"{server.url}/x", tmp_path / "y.partial", POLICY, AT_ONCE)
        assert len(server.requests) == 1


def test_an_answer_that_says_when_to_come_back_is_obeyed(server, tmp_path):
    server.raw = [b"HTTP/1.0 503 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"]
    started = time.monotonic()
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert time.monotonic() - started >= 1.0
    server.raw = [b"HTTP/1.0 429 x\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"]
    with pytest.raises(InputError, match="asks to come back in 86,400 s: run the same command then"):
        fetch_file(f"{server.url}/x", tmp_path / "y.partial", POLICY, AT_ONCE)


def test_a_file_whose_end_cannot_be_told_is_refused(server, tmp_path):
    server.raw = [b"HTTP/1.0 200 OK\r\n\r\nImageID,half"]
    with pytest.raises(InputError, match="does not say how long the file is"):
        fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)


def test_a_chunked_file_is_whole_only_with_its_last_chunk(server, tmp_path):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nImag\r\n"
    server.raw = [head, head + b"4\r\neID,\r\n0\r\n\r\n"]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert (tmp_path / "x.partial").read_bytes() == b"ImageID,"
    assert len(server.requests) == 2


def test_a_part_that_ends_before_the_file_does_is_gone_on_with(server, tmp_path):
    (tmp_path / "x.partial").write_bytes(b"Ima")
    (tmp_path / "x.partial.etag").write_text('"e"')
    head = b'HTTP/1.1 206 x\r\nETag: "e"\r\n'
    server.raw = [
        head + b"Content-Range: bytes 3-4/8\r\nContent-Length: 2\r\n\r\ngeI",
        head + b"Content-Range: bytes 5-7/8\r\nContent-Length: 3\r\n\r\nID,",
    ]
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert (tmp_path / "x.partial").read_bytes() == b"ImageID,"
    assert [each[1] for each in server.requests] == ["bytes=3-", "bytes=5-"]


@pytest.mark.parametrize("etag", [b"\xff\xfe", b'"e"\r\nX: y', b""])
def test_a_part_whose_etag_is_damaged_is_fetched_from_its_beginning(server, tmp_path, etag):
    (tmp_path / "x.partial").write_bytes(b"something else")
    (tmp_path / "x.partial.etag").write_bytes(etag)
    fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, AT_ONCE)
    assert (tmp_path / "x.partial").read_bytes() == BODY


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_file_over_the_cap_is_refused_and_not_kept(server, tmp_path, is_announced):
    length = b"Content-Length: 4000" if is_announced else b"Transfer-Encoding: chunked"
    body = b"x" * 4000 if is_announced else b"fa0\r\n" + b"x" * 4000 + b"\r\n0\r\n\r\n"
    server.raw = [b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n" + body]
    with pytest.raises(InputError, match="over 3,999 bytes, more than any file of Open Images"):
        fetch_file(f"{server.url}/x", tmp_path / "x.partial", POLICY, FileLimits(most_bytes=3_999))
    assert not (tmp_path / "x.partial").exists()


def test_a_server_that_sends_a_byte_at_a_time_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(InputError, match=r"after 1 attempts \(over 0\.5 s for 256 KiB\)"):
            fetch_file(url, tmp_path / "x.partial", POLICY, FileLimits(n_attempts=1, block_s=0.5))
        thread.join(10)
        assert not thread.is_alive()


def test_private_addresses_and_environment_proxies_need_the_users_word(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    command = ["candidates", "--release", "v7", "--subset", "test", "--base-url", server.url]
    command += ["--cache", str(tmp_path / "cache"), "--workspace", str(tmp_path / "ws")]
    assert cli.run(command) == 1
    assert "127.0.0.1 is not a public address (--allow-private lets it pass)" in capsys.readouterr().err
    assert server.requests == []
    server.files = {f"/{NAME}": images_csv([cells("0a", Rotation="0.0")], [*V3, "Rotation"]).encode()}
    assert cli.run([*command, "--allow-private"]) == 0
    assert "http_proxy is set and not used" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["http://ana:secret@{}", "http://{}/?key=secret", "http://{}/#secret"])
def test_a_base_url_that_carries_a_secret_is_refused_and_not_shown(server, tmp_path, capsys, address):
    base_url = address.format(server.url.removeprefix("http://"))
    command = ["labels", "--release", "v7", "--base-url", base_url, "--allow-private"]
    assert cli.run([*command, "--cache", str(tmp_path / "c"), "--workspace", str(tmp_path / "ws")]) == 1
    output = "".join(capsys.readouterr())
    assert "--base-url: expected no user name, query or fragment in it" in output
    assert "secret" not in output
    assert server.requests == []


def test_a_page_in_place_of_a_file_is_refused_before_its_digest_is_recorded(server, cache):
    server.files[f"/{NAME}"] = b"<!doctype html><title>Sign in</title>"
    with pytest.raises(
        InputError, match=r"begins with 'ImageID,' .*, found '<!doctype html>.*name it by its path"
    ):
        cache.fetch(NAME)
    assert not list(cache.folder.rglob("*.sha256"))
    server.files[f"/{NAME}"] = BODY
    assert cache.fetch(NAME).read_bytes() == BODY


def test_a_page_that_lies_in_the_cache_is_refused_with_the_way_out(cache):
    path = cache.folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"delete it and .*\.csv\.sha256 to fetch it again"):
        cache.fetch(NAME)


def test_without_a_network_there_is_one_clear_error(tmp_path, capsys):
    arguments = [
        "candidates",
        "--release",
        "v7",
        "--base-url",
        "http://127.0.0.1:9",
        "--cache",
        str(tmp_path / "c"),
        "--allow-private",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curation.fetch_file.time.sleep", lambda _: None)
        assert cli.run([*arguments, "--workspace", str(tmp_path / "ws")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: http://127.0.0.1:9/2018_04/image_ids_and_rotation.csv: cannot be fetched after 5"
    )
    assert "download the file yourself" in error
    with pytest.raises(InputError, match="the scheme 'file' is not http or https"):
        fetch_file("file:///etc/passwd", tmp_path / "x", POLICY)


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
        "/v7/oidv7-test-annotations-human-imagelabels.csv": labels_csv(
            [("0a", "verification", "/m/0449p", "1")]
        ).encode(),
        "/v7/oidv7-class-descriptions.csv": labels_csv(CLASS_NAMES, ["LabelName", "DisplayName"]).encode(),
    }
    common = ["--release", "v7", "--subset", "test", "--base-url", server.url, "--cache", str(tmp_path / "cache")]
    common += ["--allow-private", "--workspace", str(tmp_path / "ws")]
    assert cli.run(["candidates", *common]) == 0
    assert cli.run(["labels", "--source", "human", *common]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "candidates: original_duplicates 1, test 2, withdrawn 1",
        "labels: human 1, images_verified_in_class 1, of_imagenet_classes 1, of_other_images 0, repeated 0, "
        "without_name 0",
    ]
    (label,) = Workspace(tmp_path / "ws").read(schema.LABELS).to_pylist()
    assert (label["image_id"], label["label_name"], label["wnid"]) == ("0a", "Jaguar", "n02128925")
    assert cli.run(["labels", "--source", "robot", *common]) == 1
    assert "--source: expected one of human, machine, found 'robot'" in capsys.readouterr().err
