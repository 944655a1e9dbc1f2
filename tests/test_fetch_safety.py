"""What the fetcher may not be talked into: schemes, hosts, addresses and redirects."""

import contextlib
import ipaddress
from urllib.parse import urlsplit

import pytest

from curation.fetch import Fetcher, FetchPolicy
from curation.network.addresses import Pins, is_public
from curation.network.failures import RefusedError
from curation.network.sockets import Patience
from curation.network.targets import first_target, redirect_target
from manifests.errors import InputError
from tests import fault_server

BODY = b"a picture" * 1000
MIRROR = "open-images-dataset.s3.amazonaws.com"
HOSTS = frozenset({"mirror.test", "mirror.test:8080", "*.pictures.test"})


def policy(**changes):
    quick = {
        "allow_private": True, "max_attempts": 2, "socket_timeout_s": 10, "deadline_s": 30, "max_bytes": 100_000,
        "first_wait_s": 0.01, "longest_wait_s": 0.02,
    }  # fmt: skip
    return FetchPolicy(**(quick | changes))


class Lookups:
    """A resolver with given answers, one list a lookup, the last for all that follow."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.hosts = []

    def __call__(self, host, port):
        self.hosts.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


REFUSED = {
    "file:///etc/passwd": "the scheme 'file' is not http or https",
    "ftp://example.org/a.jpg": "the scheme 'ftp' is not http or https",
    "data:image/png;base64,AAAA": "the scheme 'data' is not http or https",
    "gopher://example.org/": "the scheme 'gopher' is not http or https",
    "javascript:alert(1)": "the scheme 'javascript' is not http or https",
    "\\\\server\\share\\a.jpg": "the scheme '' is not http or https",
    f"http://{MIRROR}@evil.test/a": "the URL carries a user name or a password",
    f"http://me:secret@{MIRROR}/a": "the URL carries a user name or a password",
    "http://[bad/a": "not a valid URL",
    "http:///a": "not a valid URL",
    f"http://{'a' * 64}.example/a": "not a valid URL",
    f"http://{MIRROR}:99999/a": "not a valid URL",
    f"http://{MIRROR}:0/a": "not a valid URL",
    f"http://{MIRROR}/a b": "not a valid URL",
    f"http://{MIRROR}/a\r\nHost: evil": "not a valid URL",
    f"http://evil.test\\.{MIRROR}/a": "not a valid URL",
    "http://evil.test/a": "evil.test is not an allowed host (--allow-host evil.test lets it pass)",
    f"http://evil{MIRROR}/a": f"evil{MIRROR} is not an allowed host (--allow-host evil{MIRROR} lets it pass)",
    f"https://{MIRROR}:22/": f"{MIRROR}:22 is not an allowed host (--allow-host {MIRROR}:22 lets it pass)",
    "http://8.8.8.8/": "8.8.8.8 is not an allowed host (--allow-host 8.8.8.8 lets it pass)",
    "http://[2606:2800::1]:81/": (
        "[2606:2800::1]:81 is not an allowed host (--allow-host [2606:2800::1]:81 lets it pass)"
    ),
    **{
        f"http://{'[' * (':' in host)}{host}{']' * (':' in host)}/a": (
            f"{host} is not a public address (--allow-private lets it pass)"
        )
        for host in (
            "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0",
            "localhost", "x.localhost", "10.0.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "240.0.0.1",
            "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1",
            "fc00::1", "ff02::1", "::7f00:1",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_may_not_be_asked_is_refused_before_anything_is_looked_up(url):
    lookups = Lookups(["127.0.0.1"])
    with Fetcher(FetchPolicy(), resolver=lookups) as fetcher:
        fetched = fetcher.fetch(url)
    assert (fetched.status, fetched.reason, fetched.attempts) == ("refused", REFUSED[url], 0)
    assert lookups.hosts == []


PUBLIC = (
    "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34",
    "64:ff9b::5db8:d822",
)  # fmt: skip
NOT_PUBLIC = (
    "0.0.0.0", "10.255.0.1", "100.127.255.255", "127.9.9.9", "169.254.169.254", "172.31.0.1", "192.168.1.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.251", "239.1.1.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2001:0:a00:1::", "2001:db8::1", "2002:a00:1::",
    "fc00::1", "fd00:ec2::254", "fe80::1%1", "fec0::1", "ff0e::1",
)  # fmt: skip


@pytest.mark.parametrize("address", [*PUBLIC, *NOT_PUBLIC])
def test_an_address_in_disguise_counts_as_the_one_it_stands_for(address):
    assert is_public(ipaddress.ip_address(address)) == (address in PUBLIC)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]])
def test_a_name_that_leads_to_a_private_address_is_refused_and_nothing_connected_to(addresses):
    with fault_server.serving({}, fault_server.body(BODY)) as server:
        public_only = FetchPolicy(allowed_hosts=frozenset({f"mirror.test:{server.port}"}))
        with Fetcher(public_only, resolver=Lookups(addresses)) as fetcher:
            fetched = fetcher.fetch(f"http://mirror.test:{server.port}/a")
        assert server.n_connections == 0
    reason = "mirror.test is not a public address (--allow-private lets it pass)"
    assert (fetched.status, fetched.reason, fetched.attempts) == ("refused", reason, 0)


def test_a_name_is_looked_up_once_and_every_connection_goes_to_that_address():
    hang_up = fault_server.hang_up_after(BODY)
    with (
        fault_server.serving({}, hang_up) as first,
        fault_server.serving({}, hang_up, address=("127.0.0.2", first.port)) as second,
    ):
        lookups = Lookups(["127.0.0.1"], ["127.0.0.2"])
        hosts = frozenset({f"mirror.test:{first.port}"})
        with Fetcher(policy(allowed_hosts=hosts), resolver=lookups) as fetcher:
            for _ in range(4):
                assert fetcher.fetch(f"http://mirror.test:{first.port}/a").content == BODY
        assert (first.n_connections, second.n_connections, len(lookups.hosts)) == (4, 0, 1)


def test_a_name_that_turns_private_after_its_address_failed_is_refused():
    pins = Pins(Lookups(["93.184.216.34"], ["127.0.0.1"]), allow_private=False)
    assert pins.addresses_of("mirror.test", 80, Patience(1, 1)) == ("93.184.216.34",)
    pins.forget("mirror.test")
    with pytest.raises(RefusedError, match=r"mirror\.test is not a public address"):
        pins.addresses_of("mirror.test", 80, Patience(1, 1))


def test_where_one_address_does_not_answer_the_next_is_tried_and_kept():
    with fault_server.serving({}, fault_server.hang_up_after(BODY)) as server:
        lookups = Lookups(["127.0.0.3", "::1", "127.0.0.1"])
        hosts = frozenset({f"mirror.test:{server.port}"})
        with Fetcher(policy(allowed_hosts=hosts), resolver=lookups) as fetcher:
            for _ in range(2):
                fetched = fetcher.fetch(f"http://mirror.test:{server.port}/a")
                assert (fetched.status, fetched.attempts) == ("ok", 1)
        assert len(lookups.hosts) == 1


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("http://mirror.test/a", True), ("https://MIRROR.test/a", True), ("http://mirror.test:8080/", True),
        ("http://mirror.test:8081/", False), ("http://a.b.pictures.test/", True), ("http://pictures.test/", False),
        ("http://evilpictures.test/", False), (f"https://{MIRROR}/a", False),
    ],
)  # fmt: skip
def test_a_host_is_allowed_by_name_by_domain_and_by_port(url, is_allowed):
    asked = FetchPolicy(allowed_hosts=HOSTS)
    refusal = (
        contextlib.nullcontext() if is_allowed else pytest.raises(RefusedError, match="is not an allowed host")
    )
    with refusal:
        assert first_target(url, asked).path == urlsplit(url).path


def test_who_names_a_mirror_allows_its_host_at_its_port():
    widened = FetchPolicy().allowing("http://lab.test:8080/copies").allowing("https://[2606:2800::1]/")
    for url in ("http://lab.test:8080/x", "https://[2606:2800::1]/x", f"https://{MIRROR}/x"):
        assert first_target(url, widened).url.startswith(url[:12])
    with pytest.raises(RefusedError, match="not an allowed host"):
        first_target("http://lab.test/x", widened)
    for base_url in (
        "lab.test/copies",
        "ftp://lab.test/",
        "http://me@lab.test/",
        "http://lab.test/?a=b",
        "http://[",
    ):
        with pytest.raises(InputError, match="--base-url: "):
            FetchPolicy().allowing(base_url)


REDIRECTS = {
    "http://169.254.169.254/latest": "169.254.169.254 is not an allowed host",
    "//evil.test/a": "evil.test is not an allowed host",
    "http://127.0.0.1:9/a": "127.0.0.1:9 is not an allowed host",
    "http://localhost/a": "localhost is not an allowed host",
    "http://2852039166/": "2852039166 is not an allowed host",
    "file:///etc/passwd": "the scheme 'file' is not http or https",
    "http://me:secret@127.0.0.1/": "the URL carries a user name or a password",
    "http://[bad/": "not a valid URL",
}


@pytest.mark.parametrize("location", REDIRECTS)
def test_a_redirect_leads_only_where_a_first_url_may_and_to_no_private_place_of_its_own(location):
    with (
        fault_server.serving({}, fault_server.redirect(location)) as server,
        Fetcher(policy()) as fetcher,
    ):
        fetched = fetcher.fetch(f"{server.base_url}/a")
    assert (fetched.status, fetched.http_status, fetched.attempts) == ("refused", 302, 1)
    assert fetched.reason.startswith(f"the server redirects elsewhere: {REDIRECTS[location]}")


def test_a_redirect_to_an_allowed_name_at_a_private_address_is_refused_by_the_address():
    public_only = FetchPolicy(allowed_hosts=HOSTS)
    first = first_target("https://mirror.test/a", public_only)
    target = redirect_target(first, "https://a.pictures.test/b", first, public_only)
    pins = Pins(Lookups(["10.0.0.1"]), allow_private=public_only.allow_private)
    with pytest.raises(RefusedError, match=r"a\.pictures\.test is not a public address"):
        pins.addresses_of(target.host, target.port, Patience(1, 1))
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1 is not a public address"):
        redirect_target(first, "https://10.0.0.1/b", first, public_only)


def test_a_redirect_never_leads_from_https_to_http_but_may_lead_the_other_way():
    allowed = FetchPolicy(allowed_hosts=HOSTS)
    plain, safe = (first_target(f"{scheme}://mirror.test/a", allowed) for scheme in ("http", "https"))
    assert redirect_target(plain, "https://mirror.test/b", plain, allowed).scheme == "https"
    with pytest.raises(RefusedError, match="from https to http"):
        redirect_target(safe, "http://mirror.test/b", safe, allowed)


@pytest.mark.parametrize(("n_redirects", "status"), [(5, "ok"), (6, "refused"), (50, "refused")])
def test_five_redirects_are_followed_and_no_more(n_redirects, status):
    scripts = {f"/{n}": fault_server.redirect(f"/{n + 1}", 301 + n % 2) for n in range(n_redirects)}
    scripts[f"/{n_redirects}"] = fault_server.body(BODY)
    with fault_server.serving(scripts) as server, Fetcher(policy()) as fetcher:
        fetched = fetcher.fetch(f"{server.base_url}/0")
        assert server.requests.total() == 6
    reason = None if status == "ok" else "the server redirects more than 5 times"
    assert (fetched.status, fetched.reason, fetched.attempts) == (status, reason, 1)


@pytest.mark.parametrize("entry", ["[2606:2800::1]:81", "[2606:2800::1]", "2606:2800::1"])
def test_an_ipv6_host_is_allowed_as_the_advice_writes_it(entry):
    allowed = FetchPolicy(allowed_hosts=frozenset({entry}))
    port = 81 if entry.endswith("81") else 80
    assert first_target(f"http://[2606:2800::1]:{port}/a", allowed).port == port
    with pytest.raises(RefusedError, match="not an allowed host"):
        first_target("http://[2606:2800::1]:82/a", allowed)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "localhost", "2852039166"])
def test_nobody_is_advised_to_follow_a_server_to_a_private_place(host, allow_private):
    asked = FetchPolicy(allowed_hosts=HOSTS, allow_private=allow_private)
    first = first_target("http://mirror.test/a", asked)
    with pytest.raises(RefusedError, match="is not") as refusal:
        redirect_target(first, f"http://{host}/latest", first, asked)
    assert "lets it pass" not in refusal.value.reason
