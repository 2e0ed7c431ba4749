"""The pending requests of one side: admitted, sent, timed, and settled once."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import outcome
import trio

from clawft_trio.errors import RequestTimeout
from clawft_trio.mcp.deadline_timer import DeadlineTimer
from clawft_trio.mcp.jsonrpc import Envelope, Id, encode_notification
from clawft_trio.mcp.messages import Outgoing, Pending
from clawft_trio.mcp.send_queue import SendQueue


class RequestTable:
    """Pending requests by their ids, and their deadlines.

    Args:
      outgoing: takes the frames of requests and of their cancellations.
      window: largest number of requests that the peer has at once; the others wait here and are sent in order.
      server: name of the peer, for errors.
    """

    def __init__(self, outgoing: SendQueue, window: int, server: str) -> None:
        #: requests that the peer has, or that are about to be written
        self.sent: dict[Id, Pending] = {}
        #: requests that wait for a place in the window
        self.waiting: OrderedDict[Id, Pending] = OrderedDict()
        self._outgoing = outgoing
        self._window = window
        self._server = server
        self._timer = DeadlineTimer(self._expire)
        self._holds = 0
        self._held_since = 0.0

    async def run(self) -> None:
        """Settle requests with `RequestTimeout` when their deadlines have passed.

        Cancellation: deadlines are no longer watched.
        """
        await self._timer.run()

    def admit(self, pending: Pending) -> None:
        """Send *pending*, now or when there is a place in the window, and start its clock."""
        if len(self.sent) < self._window:
            self._launch(pending)
        else:
            self.waiting[pending.key] = pending
        self._timer.notice(pending.deadline)

    def _launch(self, pending: Pending) -> None:
        self.sent[pending.key] = pending
        self._outgoing.put(pending)

    def find(self, key: object) -> Pending | None:
        """Return the request with the id *key* that the peer may have read; None when there is none."""
        # 3.0 finds 3: in JSON they are the same number. Some peers convert all ids to strings.
        pending = self.sent.get(key)  # type: ignore[call-overload]
        if pending is None and isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 19:
            pending = self.sent.get(int(key))
        # A response to a request that was never sent is not valid.
        return None if pending is None or pending.id in self._outgoing else pending

    def settle(self, pending: Pending, result: outcome.Outcome[Envelope]) -> None:
        """Remove a request that was sent, and resume its caller with *result*."""
        self._remove(pending.key)
        pending.settle(result)

    def give_up(self, pending: Pending, reason: str) -> None:
        """Remove a request without resuming its caller; the peer is sent a cancellation if it may have read it."""
        key = pending.key
        if self.waiting.pop(key, None) is not None:
            return
        self._remove(key)
        if not self._outgoing.withdraw(key) and not pending.options.quiet:
            method = "notifications/cancelled"
            line = encode_notification(method, {"requestId": key, "reason": reason})
            self._outgoing.put(Outgoing(line, method, cancels=key))

    def _remove(self, key: Id) -> None:
        del self.sent[key]
        if self.waiting and len(self.sent) < self._window:
            _, following = self.waiting.popitem(last=False)
            self._launch(following)

    def unsent(self) -> set[Pending]:
        """Return the requests that the transport has not taken."""
        return {*self.waiting.values(), *(one for one in self.sent.values() if one.id in self._outgoing)}

    def clear(self) -> list[Pending]:
        """Remove all requests and return them; the caller settles them."""
        left = [*self.sent.values(), *self.waiting.values()]
        self.sent.clear()
        self.waiting.clear()
        return left

    @contextmanager
    def hold_clocks(self) -> Iterator[None]:
        """Stop the clocks of all requests for the duration of the block, because a person is asked on this side."""
        self._holds += 1
        if self._holds == 1:
            self._held_since = trio.current_time()
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0:
                self._extend_all(trio.current_time() - self._held_since)

    def _extend_all(self, held: float) -> None:
        for pending in [*self.sent.values(), *self.waiting.values()]:
            # A call that began in the meantime has lost less time.
            lost = min(held, trio.current_time() - pending.started)
            pending.deadline += lost
            pending.hard_deadline += lost
            self._timer.notice(pending.deadline)

    def _expire(self, now: float) -> float:
        """Settle overdue requests; return the next deadline."""
        if self._holds:
            return math.inf
        following = math.inf
        for pending in [*self.sent.values(), *self.waiting.values()]:
            if pending.deadline <= now:
                self._time_out(pending, now)
            else:
                following = min(following, pending.deadline)
        return following

    def _time_out(self, pending: Pending, now: float) -> None:
        self.give_up(pending, "no answer in time")
        spent = f"{pending.method}: no answer within {now - pending.started:g} s"
        pending.settle(outcome.Error(RequestTimeout(spent, server=self._server)))
