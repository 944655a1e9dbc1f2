"""What arrives through the fetcher, what is recorded of what does not, and how long it takes."""

import gzip
import http.server
import itertools
import logging
import socket
import threading
import time
from email.utils import formatdate

import pytest

from curation.fetch import Fetcher, FetchPolicy, FetchStoppedError
from manifests.errors import InputError
from manifests.workspace import tool_version
from tests import fault_server
from tests.waiting import wait_until

BODY = bytes(range(256)) * 40


def policy(**changes):
    quick = {
        "allow_private": True, "max_attempts": 3, "socket_timeout_s": 10, "deadline_s": 30, "max_bytes": 100_000,
        "first_wait_s": 0.01, "longest_wait_s": 0.02,
    }  # fmt: skip
    return FetchPolicy(**(quick | changes))


def fetch_from(script, path="/a.jpg", **changes):
    """Return what came of one picture, the seconds it took and the server that played it."""
    with fault_server.serving({}, script) as server, Fetcher(policy(**changes)) as fetcher:
        started = time.monotonic()
        fetched = fetcher.fetch(f"{server.base_url}{path}")
        return fetched, time.monotonic() - started, server


def summary(fetched):
    return fetched.status, fetched.reason, fetched.http_status, fetched.attempts


ARRIVES = {
    "announced length": (fault_server.body(BODY), 1),
    "chunks": (fault_server.chunked(BODY), 1),
    "gzip though identity was asked for": (fault_server.encoded(gzip.compress(BODY)), 1),
    "two gzip members": (fault_server.encoded(gzip.compress(BODY[:999]) + gzip.compress(BODY[999:])), 1),
    "408 once": (fault_server.first_then(fault_server.status(408), fault_server.body(BODY)), 2),
    "425 once": (fault_server.first_then(fault_server.status(425), fault_server.body(BODY)), 2),
    "500 twice": (fault_server.first_then(fault_server.status(500), fault_server.body(BODY), 2), 3),
    "503 with a broken Retry-After": (
        fault_server.first_then(fault_server.status(503, Retry_After="soon"), fault_server.body(BODY)), 2,
    ),
    "short body once": (fault_server.first_then(fault_server.reset_in_body(BODY), fault_server.body(BODY)), 2),
    "last chunk missing once": (
        fault_server.first_then(fault_server.chunked(BODY, ends=False), fault_server.body(BODY)), 2,
    ),
    "reset once": (fault_server.first_then(fault_server.reset, fault_server.body(BODY)), 2),
    "silence once": (fault_server.first_then(fault_server.stalled, fault_server.body(BODY)), 2),
}  # fmt: skip


@pytest.mark.parametrize("fault", ARRIVES)
def test_what_passes_is_retried_until_the_whole_body_is_there(fault):
    script, attempts = ARRIVES[fault]
    fetched, _, _ = fetch_from(script, socket_timeout_s=1.5)
    assert summary(fetched) == ("ok", None, 200, attempts)
    assert fetched.content == BODY


FAILS = {
    "404": (fault_server.status(404), ("missing", "HTTP 404", 404, 1)),
    "410": (fault_server.status(410), ("missing", "HTTP 410", 410, 1)),
    "403": (fault_server.status(403), ("failed", "HTTP 403", 403, 1)),
    "206": (fault_server.status(206), ("failed", "HTTP 206", 206, 1)),
    "always 502": (fault_server.status(502), ("failed", "HTTP 502", 502, 3)),
    "always short": (
        fault_server.reset_in_body(BODY), ("failed", "the body did not arrive whole", None, 3),
    ),
    "always reset": (fault_server.reset, ("failed", "the connection failed", None, 3)),
    "not HTTP": (fault_server.not_http, ("failed", "the answer is not HTTP", None, 3)),
    "announced 10 GB": (fault_server.announced(10 << 30), ("too_large", "over 100000 bytes", 200, 1)),
    "one byte over the cap": (
        fault_server.body(bytes(100_001)), ("too_large", "over 100000 bytes", 200, 1),
    ),
    "no length and no end": (fault_server.endless, ("too_large", "over 100000 bytes", 200, 1)),
    "chunks without end": (fault_server.endless_chunks, ("too_large", "over 100000 bytes", 200, 1)),
    "gzip bomb": (fault_server.gzip_bomb(50_000_000), ("too_large", "over 100000 bytes", 200, 1)),
    "cut gzip": (
        fault_server.encoded(gzip.compress(BODY)[:-9]), ("failed", "the body did not arrive whole", None, 3),
    ),
    "gzip that is none": (
        fault_server.encoded(BODY), ("failed", "the body is not gzip, as its header says", 200, 1),
    ),
    "brotli": (
        fault_server.encoded(BODY, "br"),
        ("failed", "the body is in an encoding that was not asked for", 200, 1),
    ),
    "302 without a place": (fault_server.status(302), ("failed", "HTTP 302", 302, 1)),
    "Retry-After of a day": (
        fault_server.status(429, Retry_After="86400"),
        ("failed", "HTTP 429, and the server asks for a longer wait than the deadline", 429, 1),
    ),
    "Retry-After beyond all numbers": (
        fault_server.status(503, Retry_After="9" * 400),
        ("failed", "HTTP 503, and the server asks for a longer wait than the deadline", 503, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAILS)
def test_what_does_not_pass_is_recorded_in_the_same_words_on_every_run(fault):
    script, expected = FAILS[fault]
    fetched, seconds, _ = fetch_from(script)
    assert (summary(fetched), fetched.content) == (expected, b"")
    assert seconds < 25, "the deadline was waited for"


@pytest.mark.parametrize(
    ("script", "http_status"), [(fault_server.dripped_headers, None), (fault_server.slow(BODY, 0.02), 200)]
)
def test_a_server_that_drips_is_left_at_the_deadline_though_each_byte_is_in_time(script, http_status):
    fetched, seconds, server = fetch_from(script, deadline_s=1)
    assert summary(fetched) == ("failed", "not done within 1 s", http_status, 1)
    assert seconds >= 1.0
    assert server.n_connections == 1


def test_dripped_redirects_and_waits_share_one_deadline():
    script = fault_server.first_then(fault_server.status(503), fault_server.dripped_headers)
    fetched, seconds, _ = fetch_from(script, deadline_s=1)
    assert summary(fetched) == ("failed", "not done within 1 s", None, 2)
    assert seconds >= 1.0


def test_a_lookup_that_never_ends_is_left_too():
    release = threading.Event()

    def hang(host, port):
        release.wait(60)
        raise OSError

    hosts = frozenset({"mirror.test"})
    with Fetcher(policy(allowed_hosts=hosts, deadline_s=0.5), resolver=hang) as fetcher:
        started = time.monotonic()
        fetched = fetcher.fetch("http://mirror.test/a")
        seconds = time.monotonic() - started
    release.set()
    assert summary(fetched) == ("failed", "the host name cannot be resolved", None, 1)
    # Its own time, and as long again for a host that is down; a probe has a second deadline.
    assert 1.0 <= seconds < 50


def test_retry_after_is_waited_for_in_seconds_and_as_a_date_by_the_servers_own_clock():
    an_hour_ago = time.time() - 3600

    def later(handler, nth):
        handler.date_time_string = lambda: formatdate(an_hour_ago, usegmt=True)
        handler.answer(503, b"", Retry_After=formatdate(an_hour_ago + 1, usegmt=True))

    for refusal in (fault_server.status(429, Retry_After="1"), later):
        script = fault_server.first_then(refusal, fault_server.body(BODY))
        fetched, seconds, _ = fetch_from(script)
        assert summary(fetched) == ("ok", None, 200, 2)
        assert seconds >= 1.0


def test_a_date_that_has_passed_is_no_wait():
    refusal = fault_server.status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
    fetched, seconds, _ = fetch_from(fault_server.first_then(refusal, fault_server.body(BODY)))
    assert (fetched.status, fetched.attempts) == ("ok", 2)
    assert seconds < 25


def test_a_connection_is_kept_through_pictures_error_pages_redirects_and_chunks():
    scripts = {
        "/whole": fault_server.body(BODY), "/empty": fault_server.body(b""), "/gone": fault_server.status(404),
        "/chunks": fault_server.chunked(BODY), "/moved": fault_server.redirect("/whole"),
    }  # fmt: skip
    with fault_server.serving(scripts) as server, Fetcher(policy()) as fetcher:
        for path in itertools.chain(scripts, scripts):
            fetcher.fetch(f"{server.base_url}{path}")
        assert server.n_connections == 1


def test_a_kept_connection_that_the_server_closed_costs_no_attempt():
    with fault_server.serving({}, fault_server.hang_up_after(BODY)) as server, Fetcher(policy()) as fetcher:
        for _ in range(5):
            assert summary(fetcher.fetch(f"{server.base_url}/a")) == ("ok", None, 200, 1)
        assert server.n_connections == 5


def test_stop_ends_the_waits_and_lets_no_new_one_begin():
    script = fault_server.status(503, Retry_After="30")
    with fault_server.serving({}, script) as server, Fetcher(policy(deadline_s=60)) as fetcher:
        raised = []

        def fetch():
            try:
                fetcher.fetch(f"{server.base_url}/a")
            except FetchStoppedError as error:
                raised.append(error)

        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        wait_until(lambda: server.requests)
        fetcher.stop()
        # Long before the server's 30 s are over, on any machine.
        thread.join(20)
        assert len(raised) == 1
        with pytest.raises(FetchStoppedError):
            fetcher.fetch(f"{server.base_url}/a")
        assert server.requests.total() == 1


@pytest.mark.parametrize(
    ("contact", "about"), [(None, ""), ("https://lab.test/crawl", " (+https://lab.test/crawl)")]
)
def test_the_user_agent_names_the_toolkit_and_whom_to_ask(contact, about):
    _, _, server = fetch_from(fault_server.body(BODY), contact=contact)
    assert server.user_agents == {f"openimage-o-toolkit/{tool_version()}{about}"}


def test_what_a_url_hides_shows_in_no_reason_and_no_log(caplog):
    caplog.set_level(logging.DEBUG)

    def malformed_header(handler, nth):
        handler.wfile.write(b"HTTP/1.1 500 no\r\nfine: 1\r\n no colon here\r\n: x\r\nContent-Length: 0\r\n\r\n")
        handler.close_connection = True

    seen = []
    for script in (
        malformed_header, fault_server.status(403), fault_server.reset, fault_server.announced(10 << 30),
        fault_server.redirect("http://elsewhere.test/a?token=s3cret"),
    ):  # fmt: skip
        fetched, _, _ = fetch_from(script, path="/a.jpg?token=s3cret")
        seen.append(fetched.reason)
    with Fetcher(policy()) as fetcher:
        seen.append(fetcher.fetch("http://user:s3cret@127.0.0.1/a").reason)
    assert None not in seen
    assert "s3cret" not in " ".join(seen) + caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_attempts": 0}, "max_attempts: expected 1 or more, found 0"),
        ({"deadline_s": float("inf")}, "deadline_s: expected a number above 0"),
        ({"deadline_s": 1e10}, r"deadline_s: expected a day at most \(86400 s\), found 1e\+10"),
        ({"socket_timeout_s": 1e10}, "socket_timeout_s: expected a day at most"),
        ({"first_wait_s": -1}, "first_wait_s: expected 0 or more, found -1"),
        ({"allowed_hosts": frozenset({"http://a.test/"})}, "--allow-host: expected a host name"),
        ({"contact": "me\r\nX-Evil: 1"}, "--contact: expected printable ASCII"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        FetchPolicy(**changes)


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Answers every request itself, as a caching proxy does."""

    def do_GET(self):
        self.server.lines.append((self.requestline, self.headers["Proxy-Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *arguments):
        pass


def test_a_proxy_is_used_only_where_it_is_named(monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), _Proxy) as proxy:
        proxy.lines = []
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        where = f"127.0.0.1:{proxy.server_address[1]}"
        monkeypatch.setenv("http_proxy", f"http://{where}")
        hosts = frozenset({"mirror.test"})
        unresolved = policy(allowed_hosts=hosts, deadline_s=0.1)

        def no_name(host, port):
            raise socket.gaierror

        with Fetcher(unresolved, resolver=no_name) as fetcher:
            assert fetcher.fetch("http://mirror.test/a").reason == "the host name cannot be resolved"
        assert proxy.lines == []
        named = policy(allowed_hosts=hosts, allow_private=False, proxy=f"http://me:s3cret@{where}")
        with Fetcher(named, resolver=no_name) as fetcher:
            assert fetcher.fetch("http://mirror.test/a?b").content == BODY
            assert fetcher.fetch("http://10.0.0.1/a").status == "refused"
            assert fetcher.fetch("http://elsewhere.test/a").status == "refused"
        # "bWU6czNjcmV0" is me:s3cret in base64.
        assert proxy.lines == [("GET http://mirror.test:80/a?b HTTP/1.1", "Basic bWU6czNjcmV0")]
        proxy.shutdown()


def test_a_proxy_that_is_not_there_is_named_without_its_password():
    hosts = frozenset({"mirror.test"})
    with fault_server.silent_port() as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        named = policy(allowed_hosts=hosts, deadline_s=0.1, proxy=f"http://me:s3cret@{where}")
        for url in ("http://mirror.test/a", "https://mirror.test/a"):
            with Fetcher(named) as fetcher:
                assert fetcher.fetch(url).reason == f"the proxy {where}: the connection failed"
