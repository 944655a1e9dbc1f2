"""How the fetcher treats a host that is overrun, flaky, or not there for a while."""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from curation.fetch import Fetcher, FetchPolicy
from curation.network import pacing, sockets
from curation.network.failures import UnreachableError
from curation.network.pacing import Admission, HostGate
from curation.network.sockets import Patience
from tests import fault_server

BODY = b"a picture" * 100


def policy(**changes):
    quick = {
        "allow_private": True, "max_attempts": 3, "socket_timeout_s": 1.0, "deadline_s": 5.0,
        "first_wait_s": 0.01, "longest_wait_s": 0.05,
    }  # fmt: skip
    return FetchPolicy(**(quick | changes))


def fetch_all(fetcher, urls, n_threads=8):
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(fetcher.fetch, urls))


def test_no_more_requests_than_allowed_are_in_flight_to_one_host():
    most, lock = [], threading.Lock()
    now = {"n": 0}

    def script(handler, nth):
        with lock:
            now["n"] += 1
            most.append(now["n"])
        time.sleep(0.02)
        with lock:
            now["n"] -= 1
        handler.answer(200, BODY)

    with fault_server.serving({}, script) as server, Fetcher(policy(host_concurrency=3)) as fetcher:
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(30)])
        assert server.n_connections == 3
    assert {one.status for one in fetched} == {"ok"}
    assert max(most) == 3


def test_requests_come_no_faster_than_the_rate_after_a_first_burst():
    paced = policy(host_concurrency=2, host_requests_per_s=50)
    with fault_server.serving({}, fault_server.body(BODY)) as server, Fetcher(paced) as fetcher:
        started = time.monotonic()
        fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(27)])
        seconds = time.monotonic() - started
    # Two at once and one more at the start; the other 24 at a fiftieth of a second each.
    assert 0.48 <= seconds < 1.2


def test_two_hosts_do_not_wait_for_each_other():
    with (
        fault_server.serving({}, fault_server.status(503, Retry_After="2")) as busy,
        fault_server.serving({}, fault_server.body(BODY)) as free,
        Fetcher(policy(deadline_s=1)) as fetcher,
    ):
        assert fetcher.fetch(f"{busy.base_url}/a").status == "failed"
        started = time.monotonic()
        assert fetcher.fetch(f"{free.base_url}/a").status == "ok"
        assert time.monotonic() - started < 0.5


def test_a_host_that_takes_only_so_many_requests_gets_slower_ones_and_loses_no_picture():
    lock, taken = threading.Lock(), []

    def limited(handler, nth):
        with lock:
            moment = time.monotonic()
            is_over = sum(moment - other < 0.1 for other in taken) >= 10
            if not is_over:
                taken.append(moment)
        handler.answer(429 if is_over else 200, b"" if is_over else BODY)

    patient = policy(max_attempts=20, deadline_s=20, first_wait_s=0.05, longest_wait_s=1.0)
    with fault_server.serving({}, limited) as server, Fetcher(patient) as fetcher:
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(120)], 16)
        asked = server.requests.total()
    assert {one.status for one in fetched} == {"ok"}
    assert sum(one.attempts for one in fetched) == asked


def test_one_image_that_is_told_to_wait_holds_up_no_other():
    scripts = {
        "/busy": fault_server.first_then(fault_server.status(429, Retry_After="1"), fault_server.body(BODY))
    }
    with (
        fault_server.serving(scripts, fault_server.body(BODY)) as server,
        Fetcher(policy(host_concurrency=1)) as fetcher,
        ThreadPoolExecutor(2) as pool,
    ):
        busy = pool.submit(fetcher.fetch, f"{server.base_url}/busy")
        while not server.requests:
            time.sleep(0.01)
        started = time.monotonic()
        assert all(fetcher.fetch(f"{server.base_url}/{n}").status == "ok" for n in range(20))
        assert time.monotonic() - started < 0.9
        assert (busy.result().status, busy.result().attempts) == ("ok", 2)


def test_the_rate_is_halved_when_many_answers_say_too_many_and_comes_back_with_time():
    gate = HostGate(policy(host_requests_per_s=100))
    for _ in range(400):
        for is_throttled in (True, *[False] * 19):
            gate.reached(is_throttled=is_throttled)
    assert gate.requests_per_s == 100
    time.sleep(1.1)
    for _ in range(64):
        gate.reached(is_throttled=True)
    cut = gate.requests_per_s
    assert cut <= 50
    time.sleep(0.5)
    gate.reached()
    # Doubling in ten seconds: 2 ** 0.05 in half a second.
    assert cut * 1.03 < gate.requests_per_s < cut * 1.2


def test_a_retry_after_that_most_answers_carry_holds_up_the_whole_host():
    gate = HostGate(policy())
    for _ in range(40):
        gate.reached(is_throttled=True, retry_after_s=0.4)
    started = time.monotonic()
    assert gate.enter(Patience(1, 5)) is Admission.OPEN
    assert time.monotonic() - started >= 0.35


class Outage:
    """A resolver that finds nothing until it is over, and counts how often it was asked."""

    def __init__(self, seconds):
        self.until = time.monotonic() + seconds
        self.n_asked = 0

    def __call__(self, host, port):
        self.n_asked += 1
        if time.monotonic() < self.until:
            raise OSError("Temporary failure in name resolution")
        return ["127.0.0.1"]


def test_a_name_server_that_is_away_for_a_while_costs_no_picture_and_few_lookups():
    with fault_server.serving({}, fault_server.body(BODY)) as server:
        hosts = frozenset({f"mirror.test:{server.port}"})
        outage = Outage(1.0)
        patient = policy(allowed_hosts=hosts, longest_wait_s=0.2, max_attempts=4)
        with Fetcher(patient, resolver=outage) as fetcher:
            fetched = fetch_all(fetcher, [f"http://mirror.test:{server.port}/{n}" for n in range(60)])
        assert server.requests.total() == 60
    assert {one.status for one in fetched} == {"ok"}
    # Eight threads spend some attempts until the host counts as down; then one probes, with growing waits.
    assert outage.n_asked < 40


def test_a_server_that_comes_back_finds_all_pictures_waiting():
    with fault_server.serving({}, fault_server.body(BODY)) as server:
        address = server.server_address
    with (
        Fetcher(policy(longest_wait_s=0.2, max_attempts=4)) as fetcher,
        ThreadPoolExecutor(8) as pool,
    ):
        waiting = [pool.submit(fetcher.fetch, f"http://127.0.0.1:{address[1]}/{n}") for n in range(40)]
        time.sleep(0.8)
        assert not any(future.done() for future in waiting)
        with fault_server.serving({}, fault_server.body(BODY), address=address):
            assert {future.result().status for future in waiting} == {"ok"}


def test_an_outage_longer_than_the_deadline_fails_what_is_left_quickly_and_for_another_run():
    hosts = frozenset({"mirror.test"})
    impatient = policy(allowed_hosts=hosts, deadline_s=0.5, longest_wait_s=0.2)
    with Fetcher(impatient, resolver=Outage(60)) as fetcher:
        started = time.monotonic()
        fetched = fetch_all(fetcher, [f"http://mirror.test/{n}" for n in range(200)])
        assert time.monotonic() - started < 3
    assert {one.status for one in fetched} == {"failed"}
    assert all("the host name cannot be resolved" in one.reason for one in fetched)
    # No request was made for those: the stage asks for them again without a flag.
    assert sum(one.attempts == 0 for one in fetched) > 150


def take_down(gate):
    """Fail ten connections in a row, of pictures with time and attempts left."""
    assert [gate.unreachable("the connection failed", Patience(20, 120)) for _ in range(10)] == [False] * 9 + [True]


def test_a_host_that_is_down_is_probed_by_one_at_a_time():
    gate = HostGate(policy(first_wait_s=0, deadline_s=0.3))
    take_down(gate)
    assert gate.enter(Patience(1, 1)) is Admission.PROBE
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(gate.enter, Patience(1, 1))
        time.sleep(0.35)
        assert not other.done(), "the probe began in time, and may still find the host"
        with pytest.raises(UnreachableError, match="the connection failed"):
            other.result(5)
    gate.reached()
    assert gate.enter(Patience(1, 1)) is Admission.OPEN


class Clock:
    """Time that passes only while somebody waits for a condition."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(pacing, "time", clock)
        monkeypatch.setattr(sockets, "time", clock)
        monkeypatch.setattr(threading.Condition, "wait", self.wait)

    def wait(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_of_up_to_the_deadline_is_waited_out_by_a_picture_that_had_hardly_time_left(monkeypatch, seed):
    clock, draws = Clock(monkeypatch), random.Random(seed)
    monkeypatch.setattr(pacing, "random", draws)
    as_by_default = FetchPolicy(allow_private=True)
    gate = HostGate(as_by_default)
    patience = Patience(as_by_default.socket_timeout_s, as_by_default.deadline_s)
    clock.now += 119.0
    take_down(gate)
    is_back_at = clock.now + draws.uniform(60, 120)
    probed_at = [clock.now]
    while clock.now < is_back_at:
        assert gate.enter(patience) is Admission.PROBE
        probed_at.append(clock.now)
        if clock.now < is_back_at:
            gate.unreachable("the connection failed", patience, is_probe=True)
        gate.leave()
    assert max(late - early for early, late in itertools.pairwise(probed_at)) <= 5.0
    assert len(probed_at) < 60
    gate.reached()
    assert gate.enter(patience) is Admission.OPEN
    assert patience.left_s > 115


def test_an_outage_longer_than_the_deadline_is_given_up_after_a_last_look(monkeypatch):
    clock = Clock(monkeypatch)
    gate = HostGate(FetchPolicy(allow_private=True))
    take_down(gate)
    probed_at = []
    while clock.now < 1120.0:
        assert gate.enter(Patience(20, 120)) is Admission.PROBE
        probed_at.append(clock.now)
        gate.unreachable("the connection failed", Patience(20, 120), is_probe=True)
        gate.leave()
    with pytest.raises(UnreachableError, match="the connection failed"):
        gate.enter(Patience(20, 120))
    assert probed_at[-1] == 1120.0
    assert clock.now == 1120.0


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_burst_of_later_for_everything_costs_no_picture_though_attempts_would_not_last(code):
    begun = []

    def script(handler, nth):
        begun.append(time.monotonic())
        is_burst = time.monotonic() - begun[0] < 1.5
        handler.answer(code if is_burst else 200, b"" if is_burst else BODY)

    patient = policy(max_attempts=5, deadline_s=20, first_wait_s=0.02, longest_wait_s=1.0)
    with fault_server.serving({}, script) as server, Fetcher(patient) as fetcher:
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(200)], 32)
        asked = server.requests.total()
    assert {one.status for one in fetched} == {"ok"}
    assert sum(one.attempts for one in fetched) == asked
    assert max(one.attempts for one in fetched) > 5


def test_a_host_that_never_has_time_is_left_at_the_deadline_of_each_picture():
    patient = policy(max_attempts=2, deadline_s=1.0)
    with fault_server.serving({}, fault_server.status(503)) as server, Fetcher(patient) as fetcher:
        started = time.monotonic()
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(64)], 32)
        assert time.monotonic() - started < 4
    assert {one.status for one in fetched} == {"failed"}


def test_a_rate_below_one_a_second_is_never_raised_by_a_cut():
    gate = HostGate(policy(host_requests_per_s=0.2))
    time.sleep(1.1)
    for _ in range(64):
        gate.reached(is_throttled=True)
    assert gate.requests_per_s <= 0.2
