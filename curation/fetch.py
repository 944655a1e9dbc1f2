"""Fetching one picture over HTTP.

What this file promises: only hosts that are allowed, at addresses that were checked; every redirect checked like
the first URL; a cap on bytes; a deadline over all of it; retries of what may pass, with full jitter and
Retry-After; reasons that are the same words on every run. How each is done stands in `curation.network`.
"""

import random
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Self

from curation.network.addresses import Resolver, system_resolver
from curation.network.connections import Connections
from curation.network.exchange import Answer, Exchanges
from curation.network.failures import (
    BusyError,
    FetchStoppedError,
    GoneError,
    NetworkFailure,
    OutOfTimeError,
    RefusedError,
    UnreachableError,
    UnusableAnswerError,
)
from curation.network.pacing import Admission, HostGate
from curation.network.policy import FetchPolicy
from curation.network.sockets import Patience
from curation.network.targets import Target, first_target, redirect_target
from manifests.workspace import DISTRIBUTION_NAME, tool_version

__all__ = ["FetchPolicy", "FetchStoppedError", "Fetched", "Fetcher"]

_OK = 200
# These are about the server; where they are common they say nothing of the picture.
_THROTTLED_STATUSES = (429, 500, 502, 503, 504)
_BUSY_STATUSES = (408, 425, *_THROTTLED_STATUSES)
_GONE_STATUSES = (404, 410)
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one picture: `content` where it arrived, else a download status and its reason.

    `attempts` is 0 where no request was made for this picture, because a rule forbids it or its host is down.
    """

    status: str
    reason: str | None
    http_status: int | None
    attempts: int
    content: bytes = b""


class Fetcher:
    """Fetches pictures with kept-alive connections; may be shared by any number of threads.

    Parameters
    ----------
    policy : FetchPolicy
        How hard to try, and what to refuse.
    resolver : callable, optional
        Looks host names up; the operating system by default.

    Raises
    ------
    InputError
        The policy's proxy or file of certificates cannot be used.
    """

    def __init__(self, policy: FetchPolicy, *, resolver: Resolver = system_resolver) -> None:
        self._policy = policy
        self._connections = Connections(policy, resolver)
        headers = {"User-Agent": user_agent(policy.contact), "Accept-Encoding": "identity"}
        self._exchanges = Exchanges(self._connections, headers, policy.max_bytes)
        self._gates: dict[str, HostGate] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    def stop(self) -> None:
        """End all waits, now and later: a picture that waits raises, one whose bytes come is finished."""
        self._stopped.set()
        with self._lock:
            for gate in self._gates.values():
                gate.stop()

    def fetch(self, url: str) -> Fetched:
        """Return the body at `url`, or why there is none; never raises for what a server does.

        Raises
        ------
        FetchStoppedError
            `stop` was called, and this picture would have had to wait.
        """
        policy = self._policy
        try:
            first = first_target(url, policy)
        except RefusedError as refusal:
            return Fetched(refusal.status, refusal.reason, None, 0)
        patience = Patience(policy.socket_timeout_s, policy.deadline_s)
        bound_s = policy.first_wait_s
        n_attempts = 0
        while True:
            try:
                content = self._content(first, patience)
            except NetworkFailure as failure:
                n_attempts += failure.costs_attempt
                patience.note_failure(is_spent=failure.costs_attempt and not failure.is_excused)
                wait_s = self._wait_s(failure, bound_s)
                is_late = wait_s is not None and time.monotonic() + wait_s > patience.deadline
                if failure.is_final or patience.n_spent >= policy.max_attempts or is_late:
                    return Fetched(failure.status, self._reason(failure), failure.http_status, n_attempts)
            else:
                return Fetched("ok", None, _OK, n_attempts + 1, content)
            bound_s = min(bound_s * 2, policy.longest_wait_s)
            if self._stopped.wait(wait_s or 0.0):
                raise FetchStoppedError

    @staticmethod
    def _wait_s(failure: NetworkFailure, bound_s: float) -> float | None:
        """Return how long to wait before the next attempt; None for a host that is down, as the gate waits."""
        if isinstance(failure, UnreachableError) and (failure.is_excused or not failure.costs_attempt):
            return None
        retry_after_s = failure.retry_after_s if isinstance(failure, BusyError) else 0.0
        return retry_after_s + random.uniform(0, bound_s)

    def _reason(self, failure: NetworkFailure) -> str:
        if not isinstance(failure, OutOfTimeError):
            return failure.reason
        waited_for = f": {failure.reason}" if failure.reason else ""
        return f"not done within {self._policy.deadline_s:g} s{waited_for}"

    def _content(self, first: Target, patience: Patience) -> bytes:
        """Return the body at the end of the redirects, or raise a NetworkFailure."""
        answer = self._asked(first, patience)
        target = first
        for _ in range(self._policy.max_redirects):
            if answer.http_status not in _REDIRECT_STATUSES or answer.location is None:
                return self._judged(answer, target)
            try:
                target = redirect_target(target, answer.location, first, self._policy)
                answer = self._asked(target, patience)
            except RefusedError as refusal:
                reason = f"the server redirects elsewhere: {refusal.reason}"
                raise RefusedError(reason, answer.http_status, costs_attempt=True) from refusal
        if answer.http_status in _REDIRECT_STATUSES:
            reason = f"the server redirects more than {self._policy.max_redirects} times"
            raise RefusedError(reason, answer.http_status, costs_attempt=True)
        return self._judged(answer, target)

    def _asked(self, target: Target, patience: Patience) -> Answer:
        """Return the answer to one request, and tell the gate of the host how it went."""
        gate = self._gate_of(target)
        admission = gate.enter(patience)
        try:
            answer = self._exchanges.ask(target, patience)
        except (UnreachableError, OutOfTimeError) as failure:
            is_probe = admission is Admission.PROBE
            if is_probe or isinstance(failure, UnreachableError):
                failure.is_excused = gate.unreachable(failure.reason, patience, is_probe=is_probe)
            # What a probe finds out says something of the host, and nothing of this picture.
            failure.costs_attempt = not is_probe
            raise
        except NetworkFailure:
            gate.reached()
            raise
        else:
            is_throttled = answer.http_status in _THROTTLED_STATUSES
            gate.reached(is_throttled=is_throttled, retry_after_s=answer.retry_after_s)
            return answer
        finally:
            gate.leave()

    def _judged(self, answer: Answer, target: Target) -> bytes:
        status = answer.http_status
        if status == _OK:
            return answer.content
        if status in _GONE_STATUSES:
            raise GoneError(f"HTTP {status}", status)
        if status in _BUSY_STATUSES:
            too_long = ", and the server asks for a longer wait than the deadline"
            is_too_long = answer.retry_after_s > self._policy.deadline_s
            failure = BusyError(f"HTTP {status}{too_long * is_too_long}", status, answer.retry_after_s)
            failure.is_excused = status in _THROTTLED_STATUSES and self._gate_of(target).is_overrun
            raise failure
        raise UnusableAnswerError(f"HTTP {status}", status)

    def _gate_of(self, target: Target) -> HostGate:
        gate = self._gates.get(target.authority)
        if gate is None:
            with self._lock:
                gate = self._gates.setdefault(target.authority, HostGate(self._policy))
                if self._stopped.is_set():
                    gate.stop()
        return gate


def user_agent(contact: str | None = None) -> str:
    """Return who asks: the toolkit, its version, and where whoever is asked can turn to, where that is known.

    Parameters
    ----------
    contact : str, optional
        URL or address of whoever runs this; by default the project's own URL, where the package names one.
    """
    if contact is None:
        urls = metadata.metadata(DISTRIBUTION_NAME).get_all("Project-URL") or []
        # An entry is a label, a comma and the URL.
        contact = next((entry.partition(",")[2].strip() for entry in urls), None)
    about = f" (+{contact})" if contact else ""
    return f"{DISTRIBUTION_NAME}/{tool_version()}{about}"
