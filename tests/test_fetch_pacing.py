"""How the fetcher treats a host that is overrun, flaky, or not there for a while."""

import contextlib
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from curation import fetch
from curation.fetch import Fetcher, FetchPolicy
from curation.network import pacing, sockets
from curation.network.exchange import Answer, Exchanges
from curation.network.failures import UnreachableError
from curation.network.pacing import Admission, HostGate
from curation.network.sockets import Patience
from tests import fault_server
from tests.waiting import wait_until

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


@contextlib.contextmanager
def pool_for(fetcher, n_threads):
    """Threads whose waits end with the block, and with the test where it fails."""
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            yield pool
        finally:
            fetcher.stop()


class Clock:
    """Time that passes only while somebody waits for a condition."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in (fetch, pacing, sockets):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(threading.Condition, "wait", self.wait)

    def wait(self, seconds):
        self.now += seconds


def test_no_more_requests_than_allowed_are_in_flight_to_one_host():
    most, lock, three = [], threading.Lock(), threading.Barrier(3)
    now = {"n": 0}

    def script(handler, nth):
        with lock:
            now["n"] += 1
            most.append(now["n"])
        three.wait(10)
        # Long enough for a fourth to come in, were it let through.
        time.sleep(0.02)
        with lock:
            now["n"] -= 1
        handler.answer(200, BODY)

    with (
        fault_server.serving({}, script) as server,
        Fetcher(policy(host_concurrency=3, socket_timeout_s=20, deadline_s=60)) as fetcher,
    ):
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
    assert seconds >= 0.48


def test_two_hosts_do_not_wait_for_each_other():
    with (
        fault_server.serving({}, fault_server.status(503, Retry_After="60")) as busy,
        fault_server.serving({}, fault_server.body(BODY)) as free,
        Fetcher(policy(deadline_s=600)) as fetcher,
        pool_for(fetcher, 21) as pool,
    ):
        # The 15th answer pauses the host itself, and not its pictures alone.
        waiting = [pool.submit(fetcher.fetch, f"{busy.base_url}/{n}") for n in range(20)]
        wait_until(lambda: busy.requests.total() >= 15)
        assert pool.submit(fetcher.fetch, f"{free.base_url}/a").result(30).status == "ok"
        assert not any(future.done() for future in waiting)


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
        "/busy": fault_server.first_then(fault_server.status(429, Retry_After="30"), fault_server.body(BODY))
    }
    with (
        fault_server.serving(scripts, fault_server.body(BODY)) as server,
        Fetcher(policy(host_concurrency=1, deadline_s=60)) as fetcher,
        pool_for(fetcher, 1) as pool,
    ):
        busy = pool.submit(fetcher.fetch, f"{server.base_url}/busy")
        wait_until(lambda: server.requests)
        assert all(fetcher.fetch(f"{server.base_url}/{n}").status == "ok" for n in range(20))
        assert not busy.done()


def test_the_rate_is_halved_when_many_answers_say_too_many_and_comes_back_with_time(monkeypatch):
    clock = Clock(monkeypatch)
    gate = HostGate(policy(host_requests_per_s=100))
    for _ in range(400):
        for is_throttled in (True, *[False] * 19):
            gate.reached(is_throttled=is_throttled)
    assert gate.requests_per_s == 100
    clock.now += 1.1
    for _ in range(64):
        gate.reached(is_throttled=True)
    assert gate.requests_per_s == 50
    clock.now += 5
    gate.reached()
    # Doubling in ten seconds: the root of two in five.
    assert gate.requests_per_s == pytest.approx(50 * 2**0.5)
    clock.now += 9
    gate.reached()
    assert gate.requests_per_s == 100


def test_a_retry_after_that_most_answers_carry_holds_up_the_whole_host(monkeypatch):
    clock = Clock(monkeypatch)
    gate = HostGate(policy())
    for _ in range(40):
        gate.reached(is_throttled=True, retry_after_s=0.4)
    assert gate.enter(Patience(1, 5)) is Admission.OPEN
    assert clock.now == pytest.approx(1000.4)


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
        patient = policy(allowed_hosts=hosts, longest_wait_s=0.2, max_attempts=4, deadline_s=60)
        with Fetcher(patient, resolver=outage) as fetcher:
            fetched = fetch_all(fetcher, [f"http://mirror.test:{server.port}/{n}" for n in range(60)])
        assert server.requests.total() == 60
    assert {one.status for one in fetched} == {"ok"}
    # Eight threads spend some attempts until the host counts as down; then one probes, with growing waits.
    assert outage.n_asked < 40


def test_a_server_that_comes_back_finds_all_pictures_waiting():
    with (
        fault_server.silent_port() as held,
        Fetcher(policy(longest_wait_s=0.2, max_attempts=4, deadline_s=60)) as fetcher,
        pool_for(fetcher, 8) as pool,
    ):
        base_url = f"http://127.0.0.1:{held.getsockname()[1]}"
        waiting = [pool.submit(fetcher.fetch, f"{base_url}/{n}") for n in range(40)]
        time.sleep(0.8)
        assert not any(future.done() for future in waiting)
        with fault_server.serving({}, fault_server.body(BODY), held=held):
            assert {future.result().status for future in waiting} == {"ok"}


def test_an_outage_longer_than_the_deadline_fails_what_is_left_quickly_and_for_another_run():
    hosts = frozenset({"mirror.test"})
    impatient = policy(allowed_hosts=hosts, deadline_s=0.5, longest_wait_s=0.2)
    with Fetcher(impatient, resolver=Outage(600)) as fetcher:
        started = time.monotonic()
        fetched = fetch_all(fetcher, [f"http://mirror.test/{n}" for n in range(1000)])
        # Were each to wait for the deadline by itself, it took 60 s.
        assert time.monotonic() - started < 40
    assert {one.status for one in fetched} == {"failed"}
    assert all("the host name cannot be resolved" in one.reason for one in fetched)
    # No request was made for those: the stage asks for them again without a flag.
    assert sum(one.attempts == 0 for one in fetched) > 950


def take_down(gate):
    """Fail ten connections in a row, of pictures with time and attempts left."""
    is_down = [gate.unreachable("the connection failed", Patience(20, 120)) for _ in range(10)]
    assert is_down == [*[False] * 9, True]


def test_a_host_that_is_down_is_probed_by_one_at_a_time(monkeypatch):
    clock = Clock(monkeypatch)
    gate = HostGate(policy(first_wait_s=0, deadline_s=0.3))
    take_down(gate)
    assert gate.enter(Patience(1, 1)) is Admission.PROBE
    with pytest.raises(UnreachableError, match="the connection failed"):
        gate.enter(Patience(1, 1))
    # The probe began before the 0.3 s were over, and had the second of a socket's timeout to find the host.
    assert clock.now == pytest.approx(1001.3)
    gate.reached()
    assert gate.enter(Patience(1, 1)) is Admission.OPEN


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


class World:
    """What a fetcher meets, on a clock: `ask` stands for requests, and plays no part in the waits."""

    def __init__(self, monkeypatch, seed, *, failing_s=0.0):
        self.clock, self.failing_s = Clock(monkeypatch), failing_s
        self.down_from = self.down_until = self.clock.now
        draws = random.Random(seed)
        monkeypatch.setattr(pacing, "random", draws)
        monkeypatch.setattr(fetch, "random", draws)
        monkeypatch.setattr(Exchanges, "ask", lambda exchanges, target, patience: self.ask(target, patience))

    def ask(self, target, patience):
        if self.down_from <= self.clock.now < self.down_until:
            self.clock.now += min(self.failing_s, patience.left_s)
            raise UnreachableError("the connection failed")
        return Answer(200, BODY, None, 0.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_attempts", [1, 5, 50])
@pytest.mark.parametrize(
    ("outage_s", "failing_s"), [(2.0, 0.0), (30.0, 0.0), (110.0, 0.0), (110.0, 20.0), (90.0, 500.0)]
)
def test_an_outage_costs_one_thread_alone_no_picture(monkeypatch, seed, max_attempts, outage_s, failing_s):
    world = World(monkeypatch, seed, failing_s=failing_s)
    with Fetcher(FetchPolicy(allow_private=True, max_attempts=max_attempts)) as fetcher:
        assert fetcher.fetch("http://127.0.0.1/before").status == "ok"
        world.clock.now += 1
        world.down_from, world.down_until = world.clock.now, world.clock.now + outage_s
        assert {fetcher.fetch(f"http://127.0.0.1/{n}").status for n in range(12)} == {"ok"}


def test_attempts_that_failed_otherwise_before_an_outage_are_not_its_end(monkeypatch):
    world = World(monkeypatch, 0)
    plain, answers = world.ask, iter([503, 503, 503])

    def ask(target, patience):
        if (code := next(answers, None)) is None:
            return plain(target, patience)
        world.down_until = world.clock.now + 60
        return Answer(code, b"", None, 0.0)

    world.ask = ask
    with Fetcher(FetchPolicy(allow_private=True)) as fetcher:
        assert fetcher.fetch("http://127.0.0.1/a").status == "ok"


def test_connections_that_fail_beside_answers_to_others_spend_the_attempts_of_a_picture(monkeypatch):
    world = World(monkeypatch, 0)
    plain = world.ask

    def ask(target, patience):
        if target.path == "/a":
            world.clock.now += 0.1
            assert fetcher.fetch("http://127.0.0.1/other").status == "ok"
            raise UnreachableError("the connection failed")
        return plain(target, patience)

    world.ask = ask
    with Fetcher(FetchPolicy(allow_private=True)) as fetcher:
        fetched = fetcher.fetch("http://127.0.0.1/a")
    assert (fetched.status, fetched.reason, fetched.attempts) == ("failed", "the connection failed", 5)


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_a_burst_of_later_for_everything_costs_no_picture_though_attempts_would_not_last(code):
    asked = itertools.count()

    def script(handler, nth):
        # More than five answers for each of the pictures that 32 threads have in hand.
        is_burst = next(asked) < 200
        handler.answer(code if is_burst else 200, b"" if is_burst else BODY)

    patient = policy(max_attempts=5, deadline_s=120, first_wait_s=0.02, longest_wait_s=1.0)
    with fault_server.serving({}, script) as server, Fetcher(patient) as fetcher:
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(64)], 32)
    assert {one.status for one in fetched} == {"ok"}
    assert sum(one.attempts for one in fetched) == next(asked)
    assert max(one.attempts for one in fetched) > 5


def test_a_host_that_never_has_time_is_left_at_the_deadline_of_each_picture():
    patient = policy(max_attempts=2, deadline_s=1.0)
    with fault_server.serving({}, fault_server.status(503)) as server, Fetcher(patient) as fetcher:
        started = time.monotonic()
        fetched = fetch_all(fetcher, [f"{server.base_url}/{n}" for n in range(64)], 32)
        assert time.monotonic() - started < 60
    assert {one.status for one in fetched} == {"failed"}


def test_a_rate_below_one_a_second_is_never_raised_by_a_cut(monkeypatch):
    clock = Clock(monkeypatch)
    gate = HostGate(policy(host_requests_per_s=0.2))
    clock.now += 1.1
    for _ in range(64):
        gate.reached(is_throttled=True)
    assert gate.requests_per_s <= 0.2
