"""Restarts of an ended server: a pure policy and its history."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import attrs

from clawft_trio.backoff import backoff


@attrs.frozen(kw_only=True)
class Supervision:
    """The policy for restarts of a server.

    The wait before restart number n in a row is uniform between half and all of `first_wait · 2^(n-1)`, at most
    `longest_wait`. After more than `max_restarts` within `window` seconds the server is down: calls fail at once, and
    every `probe_after` seconds it is started once. The history of a server that ran for `window` seconds is cleared.
    """

    #: largest number of restarts within `window`; after more the server is down
    max_restarts: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    #: period in which restarts are counted, in seconds
    window: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    #: longest first wait in seconds; doubled with each further restart
    first_wait: float = attrs.field(default=0.25, validator=attrs.validators.ge(0))
    #: longest wait in seconds
    longest_wait: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    #: seconds after which a server that is down is started once
    probe_after: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    #: seconds in which a server must respond to a ping (or send anything) after a call has timed out; otherwise it is
    #: hung and is restarted. None sends no ping
    ping: float | None = 10.0

    def wait_before(self, restart: int, uniform: Callable[[float, float], float]) -> float:
        """Return the seconds to wait before restart number *restart* in a row (1 is the first)."""
        longest = backoff(restart, first=self.first_wait, longest=self.longest_wait)
        return uniform(longest / 2, longest)


@attrs.frozen
class Verdict:
    """Decision after the end of a server."""

    wait: float
    down: bool


class RestartHistory:
    """History of one server for the policy."""

    def __init__(self, policy: Supervision, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._policy = policy
        self._uniform = uniform
        self._ends: deque[float] = deque()
        self._in_a_row = 0
        self._down = False
        #: number of restarts in all
        self.restarts: int = 0

    def note_end(self, now: float, *, lived: float) -> Verdict:
        """Record an end after *lived* seconds (0 if the start failed), and decide about the restart."""
        policy = self._policy
        if lived >= policy.window:
            self._ends.clear()
            self._in_a_row = 0
            self._down = False
        self._ends.append(now)
        while self._ends[0] < now - policy.window:
            self._ends.popleft()
        self._in_a_row += 1
        self.restarts += 1
        # A probe that fails shows that the server is still down, however long ago its other ends were.
        self._down = self._down or len(self._ends) > policy.max_restarts
        if self._down:
            return Verdict(policy.probe_after, down=True)
        return Verdict(policy.wait_before(self._in_a_row, self._uniform), down=False)
