"""How often one host is asked: a gate that all threads pass, and that closes a little or wholly when told to."""

import random
import threading
import time
from enum import Enum

from curation.network.failures import FetchStoppedError, OutOfTimeError, UnreachableError
from curation.network.policy import FetchPolicy

_THROTTLED_WEIGHT = 1 / 64
"""Weight of the newest answer in the running share of answers that say "too many" (429, 503)."""

_THROTTLED_SHARE = 0.2
"""Above this share the host as a whole is slowed down. A host that is merely flaky at one in twenty stays far
below it (5.5 standard deviations), and one that refuses everything passes it after 15 answers."""

_RECOVERY_DOUBLING_S = 10.0
"""A rate that was cut doubles in this time, as long as the host answers."""

_LOWEST_REQUESTS_PER_S = 1.0
_SECONDS_BETWEEN_CUTS = 1.0

_FAILURES_UNTIL_DOWN = 10
"""Connections that fail one after the other until the host counts as down, and all wait together."""


class Admission(Enum):
    """How a request was let through."""

    OPEN = "open"
    PROBE = "probe"
    """The host is down, and this one request finds out whether it still is."""


class HostGate:
    """The one place where all threads wait for one host.

    Three things are kept: how many requests are in flight, how many were let through a second, and whether the
    host is there at all. A host that often says "too many" has its rate halved, and recovers with time. A host
    that cannot be connected to time after time is down: everyone waits while one at a time probes it, with
    growing waits, so that an outage costs no image its attempts.

    Parameters
    ----------
    policy : FetchPolicy
        Limits of the host, and of the waits.
    """

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._slots = threading.BoundedSemaphore(policy.host_concurrency)
        self._changed = threading.Condition()
        self._is_stopped = False
        now = time.monotonic()
        self._requests_per_s = policy.host_requests_per_s
        self._next_start = now
        self._paused_until = now
        self._throttled_share = 0.0
        self._cut_at = self._recovered_at = now
        self._counted_since, self._n_counted = now, 0
        self._n_unreachable = 0
        self._down_since: float | None = None
        self._down_reason = ""
        self._is_probing = False
        self._probe_at = now
        self._probe_bound_s = policy.first_wait_s

    @property
    def requests_per_s(self) -> float:
        """The rate of requests that is let through at present."""
        return self._requests_per_s

    def enter(self, deadline: float) -> Admission:
        """Wait until a request may start; `leave` must follow.

        Raises
        ------
        OutOfTimeError
            The deadline passes first.
        UnreachableError
            The host has been down for longer than one image may wait.
        FetchStoppedError
            The fetcher was stopped.
        """
        if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise OutOfTimeError(self._down_reason or "waited for its turn", costs_attempt=False)
        try:
            with self._changed:
                return self._admitted(deadline)
        except BaseException:
            self._slots.release()
            raise

    def leave(self) -> None:
        """Let the next request in."""
        self._slots.release()

    def reached(self, *, is_throttled: bool = False, retry_after_s: float = 0.0) -> None:
        """Note that the host is there, and whether it said "too many".

        Parameters
        ----------
        is_throttled : bool
            The answer was 429 or 503.
        retry_after_s : float
            What the answer asked to be waited; everyone waits where such answers are common.
        """
        with self._changed:
            now = time.monotonic()
            self._n_unreachable = 0
            if self._down_since is not None:
                self._down_since, self._down_reason, self._is_probing = None, "", False
                self._probe_bound_s = self._policy.first_wait_s
                self._changed.notify_all()
            self._n_counted += 1
            self._throttled_share += _THROTTLED_WEIGHT * (is_throttled - self._throttled_share)
            if not is_throttled:
                self._recover(now)
            elif self._throttled_share > _THROTTLED_SHARE:
                self._cut(now)
                self._paused_until = max(self._paused_until, now + min(retry_after_s, self._policy.deadline_s))

    def unreachable(self, reason: str) -> None:
        """Note that no connection came about; after some of these in a row the host is down."""
        with self._changed:
            now = time.monotonic()
            self._n_unreachable += 1
            if self._down_since is None and self._n_unreachable < _FAILURES_UNTIL_DOWN:
                return
            if self._down_since is None:
                self._down_since = now
            self._down_reason = reason
            self._is_probing = False
            # Half of the wait is fixed: probes of a host that is down must not come in a row.
            self._probe_at = now + self._probe_bound_s * random.uniform(0.5, 1)
            self._probe_bound_s = min(self._probe_bound_s * 2, self._policy.longest_wait_s)
            self._changed.notify_all()

    def stop(self) -> None:
        """End all waits."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _admitted(self, deadline: float) -> Admission:
        while True:
            now = time.monotonic()
            if self._is_stopped:
                raise FetchStoppedError
            if now >= deadline:
                raise OutOfTimeError(self._down_reason or "waited for its turn", costs_attempt=False)
            if self._down_since is None:
                start = max(self._paused_until, self._next_start - self._burst_s())
                if start <= now:
                    self._next_start = max(self._next_start, now) + 1 / self._requests_per_s
                    return Admission.OPEN
            elif not self._is_probing and now >= self._probe_at:
                self._is_probing = True
                return Admission.PROBE
            elif now - self._down_since > self._policy.deadline_s:
                failure = UnreachableError(self._down_reason, costs_attempt=False)
                failure.is_final = True
                raise failure
            else:
                start = deadline if self._is_probing else self._probe_at
            self._changed.wait(min(start, deadline) - now)

    def _burst_s(self) -> float:
        """Return how far requests may run ahead of their even spacing: by one for each that may be in flight."""
        return self._policy.host_concurrency / self._policy.host_requests_per_s

    def _cut(self, now: float) -> None:
        if now - self._cut_at < _SECONDS_BETWEEN_CUTS:
            return
        counted_s = max(now - self._counted_since, 0.05)
        measured = self._n_counted / counted_s
        self._requests_per_s = max(_LOWEST_REQUESTS_PER_S, min(self._requests_per_s, measured) / 2)
        self._cut_at = self._recovered_at = self._counted_since = now
        self._n_counted = 0
        self._throttled_share = 0.0

    def _recover(self, now: float) -> None:
        """Raise a rate that was cut, and keep the count of answers to the last seconds."""
        if now - self._counted_since > _RECOVERY_DOUBLING_S:
            self._counted_since, self._n_counted = now, 0
        if self._requests_per_s < self._policy.host_requests_per_s:
            growth = 2 ** ((now - self._recovered_at) / _RECOVERY_DOUBLING_S)
            self._requests_per_s = min(self._policy.host_requests_per_s, self._requests_per_s * growth)
        self._recovered_at = now
