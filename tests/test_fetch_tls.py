"""What the fetcher asks of a server under TLS, and of a proxy on the way to it."""

import base64
import datetime
import select
import socket
import socketserver
import ssl
import threading

import pytest
import trustme

from curation.fetch import Fetcher, FetchPolicy
from manifests.errors import InputError
from tests import fault_server

BODY = b"a picture" * 1000


def policy(**changes):
    quick = {
        "allow_private": True, "max_attempts": 2, "socket_timeout_s": 10, "deadline_s": 30, "max_bytes": 100_000,
        "first_wait_s": 0.01, "longest_wait_s": 0.02,
    }  # fmt: skip
    return FetchPolicy(**(quick | changes))


def at_home(host, port):
    return ["127.0.0.1"]


class GreetingServer(socketserver.ThreadingTCPServer):
    """Says one thing to whoever connects, and then nothing."""

    daemon_threads = True

    def __init__(self, greeting, handler=None):
        super().__init__(("127.0.0.1", 0), handler or self.greet)
        self.greeting = greeting

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def greet(self, request, client_address, server):
        request.sendall(self.greeting)
        while request.recv(4096):
            pass

    def handle_error(self, request, client_address):
        """Say nothing: the client hangs up at will."""


@pytest.fixture(autouse=True)
def no_bundle_of_the_environment(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def bundle(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def fetch_under_tls(certificate, script=None, **changes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    script = script or fault_server.body(BODY)
    with fault_server.serving({}, script, tls=context) as server:
        hosts = frozenset({f"mirror.test:{server.port}"})
        with Fetcher(policy(allowed_hosts=hosts, **changes), resolver=at_home) as fetcher:
            fetched = [fetcher.fetch(f"https://mirror.test:{server.port}/a") for _ in range(2)]
        return fetched[-1], server


def test_under_tls_the_certificate_is_that_of_the_name_though_the_address_is_pinned(authority, bundle):
    fetched, server = fetch_under_tls(authority.issue_cert("mirror.test"), ca_bundle=bundle)
    assert (fetched.status, fetched.content, server.n_connections) == ("ok", BODY, 1)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_bundle_of_the_environment_is_honoured(authority, bundle, name, monkeypatch):
    monkeypatch.setenv(name, bundle)
    assert fetch_under_tls(authority.issue_cert("mirror.test"))[0].status == "ok"


def test_a_certificate_that_is_unknown_expired_or_of_another_name_is_refused(authority, bundle):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    bad = [
        fetch_under_tls(trustme.CA().issue_cert("mirror.test"), ca_bundle=bundle),
        fetch_under_tls(authority.issue_cert("mirror.test")),
        fetch_under_tls(authority.issue_cert("other.test"), ca_bundle=bundle),
        fetch_under_tls(authority.issue_cert("127.0.0.1"), ca_bundle=bundle),
        fetch_under_tls(authority.issue_cert("mirror.test", not_after=past), ca_bundle=bundle),
    ]
    for fetched, server in bad:
        assert (fetched.status, fetched.reason) == ("refused", "the server's certificate is not valid")
        assert (fetched.attempts, server.requests.total()) == (0, 0)


def test_under_tls_too_a_server_that_drips_is_left_at_the_deadline(authority, bundle):
    certificate = authority.issue_cert("mirror.test")
    fetched, _ = fetch_under_tls(certificate, fault_server.dripped_headers, ca_bundle=bundle, deadline_s=1.5)
    assert (fetched.status, fetched.reason) == ("failed", "not done within 1.5 s")


def test_a_server_that_speaks_no_tls_or_never_ends_the_handshake_fails():
    for greeting, reason in ((b"220 mail.test ESMTP\r\n", "no TLS connection came about"), (b"", "timed out")):
        with GreetingServer(greeting) as server, Fetcher(policy(socket_timeout_s=0.5)) as fetcher:
            fetched = fetcher.fetch(f"https://127.0.0.1:{server.server_address[1]}/a")
        assert (fetched.status, fetched.reason, fetched.attempts) == ("failed", reason, 2)


def test_a_bundle_that_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"missing\.pem: expected certificates to trust"):
        Fetcher(policy(ca_bundle=str(tmp_path / "missing.pem")))
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(InputError, match=r"empty\.pem: expected certificates to trust"):
        Fetcher(policy(ca_bundle=str(tmp_path / "empty.pem")))


@pytest.mark.parametrize("proxy", ["socks5://a:1", "proxy.test:3128", "http://", "http://[a"])
def test_a_proxy_that_is_none_is_refused(proxy):
    with pytest.raises(InputError, match="--proxy: "):
        Fetcher(policy(proxy=proxy))


class Tunnel(socketserver.StreamRequestHandler):
    """A proxy that knows CONNECT, and where the one server of this test is."""

    def handle(self):
        lines = list(iter(lambda: self.rfile.readline().strip(), b""))
        self.server.asked.append(lines)
        if self.server.beyond is None:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.beyond)) as beyond:
            ends = {self.connection: beyond, beyond: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)


@pytest.mark.parametrize("lets_through", [True, False])
def test_through_a_proxy_the_certificate_is_still_that_of_the_name(authority, bundle, lets_through):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mirror.test").configure_cert(context)
    with (
        fault_server.serving({}, fault_server.body(BODY), tls=context) as server,
        GreetingServer(b"", Tunnel) as proxy,
    ):
        proxy.asked, proxy.beyond = [], server.port if lets_through else None
        where = f"http://me:s3cret@127.0.0.1:{proxy.server_address[1]}"
        named = policy(
            allow_private=False, allowed_hosts=frozenset({"mirror.test"}), ca_bundle=bundle, proxy=where
        )
        with Fetcher(named) as fetcher:
            fetched = fetcher.fetch("https://mirror.test/a")
    if lets_through:
        assert (fetched.status, fetched.content) == ("ok", BODY)
    else:
        assert (fetched.status, fetched.reason) == ("failed", "the connection failed")
    request, *headers = proxy.asked[0]
    assert request.startswith(b"CONNECT mirror.test:443 ")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:s3cret") in headers
