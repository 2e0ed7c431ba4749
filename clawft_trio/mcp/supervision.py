"""When an ended server is started again: a pure policy and its history."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import attrs

from clawft_trio.backoff import backoff


@attrs.frozen(kw_only=True)
class Supervision:
    """How patiently a server is started again.

    The wait before restart number n in a row is uniform between half and all of `first_wait · 2^(n-1)`, at most
    `longest_wait`. More than `max_restarts` within `window` seconds and the server is declared down: calls fail at
    once, and after `probe_after` seconds it is tried once. A server that runs for `window` seconds starts with a clean
    history.
    """

    #: restarts within `window`; with more the server is down
    max_restarts: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    #: seconds
    window: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    #: seconds; the longest first wait, doubled with each further restart
    first_wait: float = attrs.field(default=0.25, validator=attrs.validators.ge(0))
    #: seconds
    longest_wait: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    #: seconds after which a server that is down is tried once
    probe_after: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    #: seconds in which a server must answer a ping (or say anything) after a call has timed out; else it is hung
    #: and is started again. None never asks.
    ping: float | None = 10.0

    def wait_before(self, restart: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait before restart number *restart* in a row (1 is the first)."""
        longest = backoff(restart, first=self.first_wait, longest=self.longest_wait)
        return uniform(longest / 2, longest)


@attrs.frozen
class Verdict:
    """What happens after a server's end."""

    wait: float
    down: bool


class RestartHistory:
    """What the policy has to remember of one server."""

    def __init__(self, policy: Supervision, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._policy = policy
        self._uniform = uniform
        self._ends: deque[float] = deque()
        self._in_a_row = 0
        self._down = False
        #: restarts that were decided on, in all
        self.restarts: int = 0

    def note_end(self, now: float, *, lived: float) -> Verdict:
        """Enter the end of a life of *lived* seconds (0 if it never got going), and decide what comes next."""
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
        # A probe that fails shows that it is still down, however long ago the other ends were.
        self._down = self._down or len(self._ends) > policy.max_restarts
        if self._down:
            return Verdict(policy.probe_after, down=True)
        return Verdict(policy.wait_before(self._in_a_row, self._uniform), down=False)
