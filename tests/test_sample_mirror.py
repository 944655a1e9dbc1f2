import http.client
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from curation.fetch import Fetcher, FetchPolicy
from curation.sample.mirror import is_busy_once, serving

CONTENT = bytes(range(256)) * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    (root / "test").mkdir(parents=True)
    (root / "test" / "0a1b.jpg").write_bytes(CONTENT)
    (root / "test" / "empty.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "test" / "notes.txt").write_bytes(b"notes")
    return root


def connect(base_url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=5)


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def test_one_connection_serves_pictures_errors_and_pictures_again(folder: Path):
    with serving(folder, busy_share=0) as base_url:
        connection = connect(base_url)
        assert ask(connection, "/test/0a1b.jpg") == (200, CONTENT)
        its_socket = connection.sock
        assert ask(connection, "/test/absent.jpg") == (404, b"")
        assert ask(connection, "/test/empty.jpg") == (200, b"")
        assert ask(connection, "/test/0a1b.jpg") == (200, CONTENT)
        assert connection.sock is its_socket
        connection.close()


def test_content_length_is_the_files_size_and_head_sends_no_body(folder: Path):
    with serving(folder, busy_share=0) as base_url:
        connection = connect(base_url)
        connection.request("HEAD", "/test/0a1b.jpg")
        response = connection.getresponse()
        assert response.getheader("Content-Length") == str(len(CONTENT))
        assert response.read() == b""
        assert ask(connection, "/test/0a1b.jpg") == (200, CONTENT)
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/test/../../secret.jpg",
        "/../secret.jpg",
        "/test/%2e%2e/%2e%2e/secret.jpg",
        "/test/..%2f..%2fsecret.jpg",
        "//secret.jpg",
        "/test/notes.txt",
        "/test/",
        "/",
        "/test/0a1b.jpg?x=1",
    ],
)
def test_nothing_but_pictures_below_the_folder_is_served(folder: Path, path: str):
    with serving(folder, busy_share=0) as base_url:
        address = urlsplit(base_url)
        # A raw request: a client library would clean the path first.
        raw = socket.create_connection((address.hostname, address.port), timeout=5)
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
        raw.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in answer


def test_a_busy_id_is_answered_503_once_with_retry_after(folder: Path):
    with serving(folder, busy_share=1) as base_url:
        connection = connect(base_url)
        connection.request("GET", "/test/0a1b.jpg")
        response = connection.getresponse()
        response.read()
        assert (response.status, response.getheader("Retry-After")) == (503, "0")
        assert ask(connection, "/test/0a1b.jpg") == (200, CONTENT)
        assert ask(connection, "/test/0a1b.jpg") == (200, CONTENT)
        connection.close()


def test_the_busy_share_of_ids_is_what_was_asked_for():
    n_busy = sum(is_busy_once(f"{number:016x}", 0.05) for number in range(4000))
    # Binomial: 200 expected, standard deviation 13.8.
    assert 145 < n_busy < 255
    assert not any(is_busy_once(f"{number:016x}", 0) for number in range(1000))
    assert all(is_busy_once(f"{number:016x}", 1) for number in range(1000))


def test_the_downloaders_client_gets_through_a_busy_mirror_on_the_second_attempt(folder: Path):
    with serving(folder, busy_share=1) as base_url:
        fetched = Fetcher(FetchPolicy(allow_private=True)).fetch(f"{base_url}/test/0a1b.jpg")
    assert (fetched.status, fetched.attempts, fetched.content) == ("ok", 2, CONTENT)


def test_many_connections_at_once_are_all_served(folder: Path):
    answers: list[tuple[int, bytes]] = []

    def fetch_once(base_url: str) -> None:
        connection = connect(base_url)
        answers.append(ask(connection, "/test/0a1b.jpg"))
        connection.close()

    with serving(folder, busy_share=0) as base_url:
        threads = [threading.Thread(target=fetch_once, args=(base_url,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [(200, CONTENT)] * 40


def test_leaving_closes_the_port_though_a_connection_is_open(folder: Path):
    with serving(folder, busy_share=0) as base_url:
        connection = connect(base_url)
        ask(connection, "/test/0a1b.jpg")
    with pytest.raises(ConnectionRefusedError):
        connect(base_url).request("GET", "/test/0a1b.jpg")
    connection.close()
