"""How often one host is asked: a gate that all threads pass, and that closes a little or wholly when told to."""

import math
import random
import threading
import time
from enum import Enum

from curation.network.failures import FetchStoppedError, OutOfTimeError, UnreachableError
from curation.network.policy import FetchPolicy
from curation.network.sockets import Patience

_THROTTLED_WEIGHT = 1 / 64
"""Weight of the newest answer in the running share of those that say "later"."""

_THROTTLED_SHARE = 0.2
"""Above this share the host as a whole is slowed down. A host that is merely flaky at one in twenty stays far
below it (5.5 standard deviations), and one that refuses everything passes it after 15 answers."""

_RECOVERY_DOUBLING_S = 10.0
"""A rate that was cut doubles in this time, as long as the host answers."""

_LOWEST_REQUESTS_PER_S = 1.0
_SECONDS_BETWEEN_CUTS = 1.0

_LONGEST_PROBE_GAP_S = 5.0
"""Between two looks whether a host that is down is back: no load for it, and no long wait for everyone."""

_FAILURES_UNTIL_DOWN = 10
"""Connections that fail one after the other until the host counts as down, and all wait together; with few threads
one image's attempts would be spent before."""


class Admission(Enum):
    """How a request was let through."""

    OPEN = "open"
    PROBE = "probe"
    """The host is down, and this one request finds out whether it still is."""


class HostGate:
    """The one place where all threads wait for one host.

    Three things are kept: how many requests are in flight, how many were let through a second, and whether the
    host is there at all. A host that often says "later" has its rate halved, and recovers with time. A host that
    cannot be connected to is down, be it after many connections in a row, or as soon as one image would be given
    up for it while nobody is answered: everyone waits while one at a time probes it, with growing waits, for as
    long as one image may take. The time for which a host is down is no image's: whoever waited starts anew, so
    that an outage within that bound costs no image its attempts, nor its deadline.

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
        self._throttled_share = self._share_since_cut = 0.0
        self._cut_at = self._recovered_at = now
        self._counted_since, self._n_counted = now, 0
        self._n_unreachable = 0
        self._answered_at = -math.inf
        self._down_since: float | None = None
        self._down_reason = ""
        self._is_probing = False
        self._probe_at = now
        self._probe_bound_s = policy.first_wait_s

    @property
    def requests_per_s(self) -> float:
        """The rate of requests that is let through at present."""
        return self._requests_per_s

    @property
    def is_overrun(self) -> bool:
        """Whether "later" is so common an answer at present that it is the host's, and not one image's."""
        return self._throttled_share > _THROTTLED_SHARE

    def enter(self, patience: Patience) -> Admission:
        """Wait until a request may start; `leave` must follow.

        Parameters
        ----------
        patience : Patience
            Of the image; begun anew where the host was down for a while.

        Raises
        ------
        OutOfTimeError
            The deadline passes first, while the host is there.
        UnreachableError
            The host has been down for longer than one image may wait.
        FetchStoppedError
            The fetcher was stopped.
        """
        while True:
            if self._down_since is not None:
                # Without a place among those in flight: nobody's deadline may pass in the queue for one.
                with self._changed:
                    self._wait_while_down(patience)
            if not self._slots.acquire(timeout=patience.left_s):
                raise OutOfTimeError("waited for its turn", costs_attempt=False)
            admission = None
            try:
                with self._changed:
                    admission = self._admitted(patience)
            finally:
                if admission is None:
                    self._slots.release()
            if admission is not None:
                return admission

    def leave(self) -> None:
        """Let the next request in."""
        self._slots.release()

    def reached(self, *, is_throttled: bool = False, retry_after_s: float = 0.0) -> None:
        """Note that the host is there, and whether it said "later".

        Parameters
        ----------
        is_throttled : bool
            By its status the answer is about the server, not about what was asked for.
        retry_after_s : float
            What the answer asked to be waited; everyone waits where such answers are common.
        """
        with self._changed:
            now = time.monotonic()
            self._n_unreachable = 0
            self._answered_at = now
            if self._down_since is not None:
                self._down_since, self._down_reason, self._is_probing = None, "", False
                self._probe_bound_s = self._policy.first_wait_s
                self._changed.notify_all()
            self._n_counted += 1
            self._throttled_share += _THROTTLED_WEIGHT * (is_throttled - self._throttled_share)
            self._share_since_cut += _THROTTLED_WEIGHT * (is_throttled - self._share_since_cut)
            if not is_throttled:
                self._recover(now)
            elif self._share_since_cut > _THROTTLED_SHARE:
                self._cut(now)
                self._paused_until = max(self._paused_until, now + min(retry_after_s, self._policy.deadline_s))

    def unreachable(self, reason: str, patience: Patience, *, is_probe: bool = False) -> bool:
        """Note that no connection came about, and return whether the host is down.

        Parameters
        ----------
        reason : str
            Why none did; stored with the images that are given up.
        patience : Patience
            Of the image that asked, before this failure is noted in it.
        is_probe : bool
            The request found out whether the host is still down.
        """
        with self._changed:
            now = time.monotonic()
            self._n_unreachable += 1
            if self._down_since is None:
                if self._n_unreachable < _FAILURES_UNTIL_DOWN and not self._would_cost_the_image(patience):
                    return False
                self._down_since = now
            elif not is_probe:
                # Let in before the host counted as down: it says nothing new, and puts off no probe.
                return True
            self._down_reason = reason
            self._is_probing = False
            # Half of the wait is fixed: probes of a host that is down must not come in a row.
            self._probe_at = now + self._probe_bound_s * random.uniform(0.5, 1)
            if now < self._given_up_at():
                # The last look is at the very end of the wait, not some time after it.
                self._probe_at = min(self._probe_at, self._given_up_at())
            longest_gap_s = min(self._policy.longest_wait_s, _LONGEST_PROBE_GAP_S)
            self._probe_bound_s = min(self._probe_bound_s * 2, longest_gap_s)
            self._changed.notify_all()
            return True

    def stop(self) -> None:
        """End all waits."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _would_cost_the_image(self, patience: Patience) -> bool:
        """Whether a failure is the image's last, or near it, and nobody was answered since the one before.

        Half of its time is left for a wait and one attempt more, which fails before the deadline and not at it.
        """
        is_answered = self._answered_at > patience.failed_at
        is_last = patience.n_spent + 1 >= self._policy.max_attempts
        return not is_answered and (is_last or patience.is_half_over)

    def _wait_while_down(self, patience: Patience) -> None:
        """Wait until the host is back, or until it is time for a probe that nobody else makes."""
        while self._down_since is not None:
            now = time.monotonic()
            if self._is_stopped:
                raise FetchStoppedError
            if self._may_probe(now):
                break
            # A probe that is under way is waited for: it began in time.
            until = self._given_up_at() + self._policy.socket_timeout_s * self._is_probing
            if now >= until:
                failure = UnreachableError(self._down_reason, costs_attempt=False)
                failure.is_final = True
                raise failure
            self._changed.wait((until if self._is_probing else min(self._probe_at, until)) - now)
        patience.renew()

    def _admitted(self, patience: Patience) -> Admission | None:
        """Return how a request is let through once its turn has come; None where the host is found to be down."""
        while True:
            now = time.monotonic()
            if self._is_stopped:
                raise FetchStoppedError
            if self._down_since is not None:
                if not self._may_probe(now):
                    return None
                self._is_probing = True
                return Admission.PROBE
            if patience.is_over:
                raise OutOfTimeError("waited for its turn", costs_attempt=False)
            start = max(self._paused_until, self._next_start - self._burst_s())
            if start <= now:
                self._next_start = max(self._next_start, now) + 1 / self._requests_per_s
                return Admission.OPEN
            self._changed.wait(min(start - now, patience.left_s))

    def _may_probe(self, now: float) -> bool:
        return not self._is_probing and now >= self._probe_at

    def _given_up_at(self) -> float:
        """Return when nobody waits any longer for a host that is down."""
        return (self._down_since or 0.0) + self._policy.deadline_s

    def _burst_s(self) -> float:
        """Return how far requests may run ahead of their even spacing: by one for each that may be in flight."""
        return self._policy.host_concurrency / self._policy.host_requests_per_s

    def _cut(self, now: float) -> None:
        if now - self._cut_at < _SECONDS_BETWEEN_CUTS:
            return
        counted_s = max(now - self._counted_since, 0.05)
        measured = self._n_counted / counted_s
        lowest = min(_LOWEST_REQUESTS_PER_S, self._policy.host_requests_per_s)
        self._requests_per_s = max(lowest, min(self._requests_per_s, measured) / 2)
        self._cut_at = self._recovered_at = self._counted_since = now
        self._n_counted = 0
        self._share_since_cut = 0.0

    def _recover(self, now: float) -> None:
        """Raise a rate that was cut, and keep the count of answers to the last seconds."""
        if now - self._counted_since > _RECOVERY_DOUBLING_S:
            self._counted_since, self._n_counted = now, 0
        if self._requests_per_s < self._policy.host_requests_per_s:
            growth = 2 ** ((now - self._recovered_at) / _RECOVERY_DOUBLING_S)
            self._requests_per_s = min(self._policy.host_requests_per_s, self._requests_per_s * growth)
        self._recovered_at = now
