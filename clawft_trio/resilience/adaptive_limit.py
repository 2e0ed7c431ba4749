"""An adaptive limit: stated rates if a target's headers have them, measured ones otherwise."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import attrs
import trio
from attrs.validators import ge, gt, le, optional

from clawft_trio.chat import Call, ChatRequest, ChatResponse
from clawft_trio.errors import BulkheadFull, RateLimited, ServerError
from clawft_trio.nursery import leaves
from clawft_trio.resilience.pacing import PROBE_AFTER, Cost, Pace, Window
from clawft_trio.resilience.strategy import Attempt, PerKey, Policy, Strategy, named
from clawft_trio.resilience.verdict import status_of
from clawft_trio.retry_hints import RateLimit

T = TypeVar("T")

# Characters per token, roughly, and output tokens of a request without a limit.
_CHARACTERS = 4
_OUTPUT = 512

_ELSEWHERE_AFTER = 10.0
"""Seconds of `elsewhere_after`, if neither the policy nor a failover sets them."""


def estimated_cost(request: ChatRequest) -> Cost:
    """Estimate the cost of *request*: its text at four characters per token, and its output limit."""
    text = sum(len(message.text) for message in request.messages)
    return Cost(input_tokens=text // _CHARACTERS, output_tokens=request.max_tokens or _OUTPUT)


def is_overload(exc: Exception) -> bool:
    """Whether *exc* reports overload of the target: status 429, 503 or 529."""
    return any(
        isinstance(leaf, RateLimited)
        or (isinstance(leaf, ServerError) and leaf.status in {503, 529})
        or status_of(leaf) in {429, 503, 529}
        for leaf in leaves(exc)
    )


@attrs.frozen(kw_only=True)
class AdaptiveLimit(Policy):
    """Limit concurrent attempts, and attempts started per second, to what the target accepts; other calls wait.

    If the target states its limits in headers (`x-ratelimit-*`, `anthropic-ratelimit-*`, ...), attempts are shaped
    to them: each reserves one request and its estimated tokens, and the answer's usage corrects the estimate.
    Without headers the limits are measured: slow start, then AIMD. An overload (429, 503, 529) of an attempt that began
    after the last cut reduces both the concurrency and the rate to 0.8 of what the target accepted; the rate returns to
    that figure within 3 s and grows by 0.5 % per second after `cool_down` seconds. Both grow only while at least
    `saturation` of them is used.

    Waiting calls hold nothing, and are served fairly between sessions (round robin; between senders if requests have no
    session). A wait counts only for the clock `total`, and ends after `queue_for` seconds. If another target is
    available, a call that would wait longer than `elsewhere_after` seconds goes there (`BulkheadFull`, with the wait as
    `retry_after`).

    Shared: the limits, between all calls of one decorated function, or of one target under `Resilient`. With `by`, a
    function of the call's arguments, there is one limit per key (of the `strategy.MAX_KEYS` keys used last).
    """

    #: concurrent attempts, and attempts per second, at the start
    initial: int = attrs.field(default=10, validator=ge(1))
    #: lower bound on concurrent attempts
    min_concurrent: int = attrs.field(default=1, validator=ge(1))
    #: upper bound on concurrent attempts
    max_concurrent: int = attrs.field(default=1000, validator=ge(1))
    #: factor by which an overload reduces the limits
    decrease: float = attrs.field(default=0.8, validator=[gt(0), le(1)])
    #: share of a limit that must be in use for it to grow
    saturation: float = attrs.field(default=0.8, validator=[gt(0), le(1)])
    #: seconds after an overload during which the limits do not grow
    cool_down: float = attrs.field(default=15.0, validator=ge(0))
    #: largest number of waiting calls
    queue: int = attrs.field(default=1000, validator=ge(0))
    #: largest wait in seconds; None: no limit
    queue_for: float | None = attrs.field(default=60.0)
    #: largest wait in seconds if another target is available; None: the `hedge_after` of the failover, or 10
    elsewhere_after: float | None = attrs.field(default=None, validator=optional(ge(0)))
    #: estimates the cost of a request
    cost: Callable[[ChatRequest], Cost] = attrs.field(default=estimated_cost, repr=False)
    #: a function of the arguments of the call; each value has separate limits
    by: Callable[..., Hashable] | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(attrs.validators.is_callable())
    )
    _own: Strategy = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.queue_for is not None and self.queue_for <= 0:
            raise ValueError("queue_for must be positive, or None")
        object.__setattr__(self, "_own", self.bind(""))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* as soon as the limits allow it.

        Raises:
          BulkheadFull: the queue is full, the wait took too long, or would take too long while another target is free.

        Cancellation: the call leaves the queue, or its attempt is cancelled and its slot freed.
        """
        return await self._own.run(attempt, call)

    def bind(self, target: str) -> BoundAdaptiveLimit | PerKey[BoundAdaptiveLimit]:
        """Make a limit for *target*; with `by`, one for each key."""
        if self.by is None:
            return BoundAdaptiveLimit(self, target)
        return PerKey(self.by, lambda key: BoundAdaptiveLimit(self, named(target, key)))


@attrs.frozen(kw_only=True)
class AdaptiveLimitStatistics:
    """State of an adaptive limit."""

    running: int
    waiting: int
    #: limit on concurrent attempts
    concurrency: int
    #: measured limit on attempts started per second; None if stated limits are known
    rate: float | None
    #: remaining amount of each stated limit, by its kind
    stated: dict[str, float]
    #: number of attempts refused for overload
    overloads: int
    #: number of calls that were refused a wait, or waited too long
    refused: int


@attrs.define(eq=False)
class _Waiter:
    cost: Cost
    #: whether the rate or a stated limit blocked it last, and not the concurrency
    paced: bool = False
    turn: trio.Event = attrs.field(factory=trio.Event)


class BoundAdaptiveLimit:
    """The limits of an `AdaptiveLimit` for one target."""

    def __init__(self, policy: AdaptiveLimit, target: str) -> None:
        self._policy = policy
        self._target = target
        self._limit = float(policy.initial)
        self._pace = Pace(float(policy.initial), policy.decrease, policy.cool_down)
        self._windows: dict[str, Window] = {}
        self._running = 0
        self._started = 0
        # Moving average of the duration of attempts in seconds; 0 before the first has ended.
        self._latency = 0.0
        self._last_cut = float("-inf")
        # Time at which one attempt tests a stated limit, if no attempt starts before.
        self._probe_at = float("inf")
        self._overloads = 0
        self._refused = 0
        # One queue per session, served round-robin.
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._waiting = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<AdaptiveLimit {self._target or '(unnamed)'} {now.running} of {now.concurrency}, {now.waiting} waiting>"
        )

    def statistics(self) -> AdaptiveLimitStatistics:
        """Return the current state."""
        now = trio.current_time()
        return AdaptiveLimitStatistics(
            running=self._running,
            waiting=self._waiting,
            concurrency=int(self._limit),
            rate=None if self._windows else self._pace.rate(now),
            stated={kind: window.available(now) for kind, window in self._windows.items()},
            overloads=self._overloads,
            refused=self._refused,
        )

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* as soon as the limits allow it.

        Raises:
          BulkheadFull: as for the policy.

        Cancellation: as for the policy.
        """
        session, cost = self._of(call)
        paced = await self._enter(session, cost, call)
        began = trio.current_time()
        number = self._start(began, cost, paced=paced)
        try:
            result = await attempt(call.replaced(limits=lambda limits: self._note_limits(limits, number)))
        except Exception as exc:
            if is_overload(exc):
                self._note_overload(began)
            raise
        else:
            self._note_success(began, cost, result)
            return result
        finally:
            self._running -= 1
            self._wake_next()

    def _of(self, call: Call) -> tuple[str, Cost]:
        request = next(iter(call.invocation.args), None) if call.invocation is not None else None
        if not isinstance(request, ChatRequest):
            return call.turn_id, Cost()
        session = "" if request.cache is None else request.cache.key
        return session or request.sender_id or call.turn_id, self._policy.cost(request)

    def _elsewhere_after(self, call: Call) -> float:
        own = self._policy.elsewhere_after
        given = call.elsewhere_after if own is None else own
        return _ELSEWHERE_AFTER if given is None else given

    async def _enter(self, session: str, cost: Cost, call: Call) -> bool:
        """Wait until the limits allow an attempt; return whether the rate was the reason for the wait."""
        if not self._waiting and self._time_to_room(cost) <= 0:
            return False
        self._check_wait(cost, call)
        waiter = _Waiter(cost)
        self._queues.setdefault(session, deque()).append(waiter)
        self._waiting += 1
        call.pulse("waiting", 0.0)
        limit = self._policy.queue_for
        if call.elsewhere:
            after = self._elsewhere_after(call)
            limit = after if limit is None else min(after, limit)
        try:
            with trio.move_on_after(float("inf") if limit is None else limit) as scope:
                await self._wait_for_turn(waiter)
        finally:
            self._leave(session, waiter)
        if scope.cancelled_caught:
            raise self._refuse(f"no room within {limit:g} s", cost)
        call.pulse("admitted", 0.0)
        return waiter.paced

    def _check_wait(self, cost: Cost, call: Call) -> None:
        if self._waiting >= self._policy.queue:
            raise self._refuse(f"{self._waiting} calls are waiting already", cost)
        if call.elsewhere and self._expected_wait(cost) > self._elsewhere_after(call):
            raise self._refuse("another target is free sooner", cost)

    async def _wait_for_turn(self, waiter: _Waiter) -> None:
        while True:
            seconds = self._time_to_room(waiter.cost) if self._next() is waiter else float("inf")
            if seconds <= 0:
                return
            waiter.paced = seconds < float("inf")
            waiter.turn = trio.Event()
            with trio.move_on_after(seconds):
                await waiter.turn.wait()

    def _next(self) -> _Waiter | None:
        return next(iter(self._queues.values()))[0] if self._queues else None

    def _leave(self, session: str, waiter: _Waiter) -> None:
        queue, served = self._queues[session], self._next() is waiter
        queue.remove(waiter)
        self._waiting -= 1
        if not queue:
            del self._queues[session]
        elif served:
            # Serve the other sessions first.
            self._queues.move_to_end(session)
        self._wake_next()

    def _wake_next(self) -> None:
        following = self._next()
        if following is not None:
            following.turn.set()

    def _time_to_room(self, cost: Cost) -> float:
        """Return the seconds until an attempt of *cost* may start; infinite when another one has to end first."""
        if self._running >= int(self._limit):
            return float("inf")
        now = trio.current_time()
        if self._windows:
            stated = max(window.time_to(cost.of(kind), now) for kind, window in self._windows.items())
            return stated if self._running else min(stated, max(0.0, self._probe_at - now))
        return self._pace.time_to_start(now)

    def _expected_wait(self, cost: Cost) -> float:
        now = trio.current_time()
        per_second = self._limit / max(self._latency, 1e-3)
        if not self._windows:
            per_second = min(per_second, self._pace.rate(now))
        else:
            per_second = min(
                [per_second, *(w.rate / max(cost.of(kind), 1) for kind, w in self._windows.items() if w.rate > 0)]
            )
        soonest = self._time_to_room(cost)
        return max(0.0 if soonest == float("inf") else soonest, (self._waiting + 1) / per_second)

    def _refuse(self, why: str, cost: Cost) -> BulkheadFull:
        self._refused += 1
        return BulkheadFull(why, provider=self._target, retry_after=max(self._expected_wait(cost), 0.1))

    def _start(self, now: float, cost: Cost, *, paced: bool) -> int:
        self._running += 1
        self._started += 1
        self._probe_at = now + PROBE_AFTER
        # Others wait although a slot is free: the rate limits them.
        self._pace.note_start(now, saturated=self._waiting > 0 and (paced or self._running < int(self._limit)))
        for kind, window in self._windows.items():
            window.reserve(self._started, cost.of(kind), now)
        return self._started

    def _note_success(self, began: float, cost: Cost, result: Any) -> None:
        now = trio.current_time()
        took = now - began
        self._pace.note_answer(began)
        self._latency = self._latency + 0.2 * (took - self._latency) if self._latency else took
        usage = result.usage if isinstance(result, ChatResponse) else None
        if usage is not None:
            actual = Cost(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
            for kind, window in self._windows.items():
                window.settle(cost.of(kind) - actual.of(kind), now)
        policy = self._policy
        if self._running >= policy.saturation * int(self._limit) and now >= self._last_cut + policy.cool_down:
            # While the rate is not reached, the concurrency is the limit, and the target did not refuse because of it.
            fast = self._last_cut == float("-inf") or not self._pace.is_used(now, policy.saturation)
            self._limit = min(self._limit + (1.0 if fast else 1.0 / self._limit), policy.max_concurrent)

    def _note_overload(self, began: float) -> None:
        now = trio.current_time()
        self._overloads += 1
        self._pace.note_refusal(began, now)
        if began <= self._last_cut:
            # The attempt began before the last cut took effect.
            return
        self._last_cut = now
        rate = self._pace.cut(now)
        # The rate is the limit; the concurrency must not hold the rate below the measured one.
        needed = rate * self._latency * 1.5 + 1 if self._latency else self._limit
        floor = max(float(self._policy.min_concurrent), min(self._limit, needed))
        self._limit = max(self._limit * self._policy.decrease, floor)

    def _note_limits(self, limits: Sequence[RateLimit], number: int) -> None:
        now = trio.current_time()
        for limit in limits:
            if limit.limit and limit.remaining is not None and Cost.counts(limit.kind):
                window = self._windows.setdefault(limit.kind, Window())
                window.update(limit, number, now)
        self._wake_next()
