"""A limit that is found: against a simulated vendor with token buckets, with and without headers."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, PromptCache
from clawft_trio.errors import BulkheadFull, RateLimited
from clawft_trio.resilience import AdaptiveLimit, Cost, Failover, Resilient
from clawft_trio.resilience.adaptive_limit import BoundAdaptiveLimit
from clawft_trio.resilience.pacing import Window
from clawft_trio.retry_hints import RateLimit
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.sweep import cancel_everywhere

REQUEST = ChatRequest([Message.user("hello " * 20)], max_tokens=70)
TOKENS = 100


@attrs.define(eq=False)
class Bucket:
    per_minute: float
    burst: float
    left: float = attrs.field(default=attrs.Factory(lambda self: self.burst, takes_self=True))
    as_of: float = 0.0

    def fill(self) -> None:
        now = trio.current_time()
        self.left = min(self.burst, self.left + (now - self.as_of) * self.per_minute / 60)
        self.as_of = now


class Vendor:
    """Takes what its buckets allow and refuses the rest with 429 after *refuses_in* seconds."""

    keeps_records = True
    name = "vendor"

    def __init__(
        self,
        *,
        requests: float = 600,
        tokens: float = 100_000,
        headers: bool = False,
        latency: float = 1.0,
        refuses_in: float = 0.05,
        burst: float = 10.0,
    ) -> None:
        # A vendor's bucket refills by the second: OpenAI's does so for 600 a minute.
        self.buckets = {"requests": Bucket(requests, burst), "tokens": Bucket(tokens, tokens * burst / requests)}
        self.headers = headers
        self.latency = latency
        self.refuses_in = refuses_in
        self.answered: list[float] = []
        self.refused: list[float] = []
        self.running = self.peak = 0

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            return await self._complete(call)
        finally:
            self.running -= 1

    async def _complete(self, call: Call) -> ChatResponse:
        needs = {"requests": 1.0, "tokens": float(TOKENS)}
        for bucket in self.buckets.values():
            bucket.fill()
        admitted = all(bucket.left >= needs[kind] for kind, bucket in self.buckets.items())
        if admitted:
            for kind, bucket in self.buckets.items():
                bucket.left -= needs[kind]
        stated = self._stated() if self.headers else ()
        if not admitted:
            self.refused.append(trio.current_time())
            await trio.sleep(self.refuses_in)
            call.limits(stated)
            raise RateLimited("slow down", provider=self.name, status=429)
        self.answered.append(trio.current_time())
        await trio.sleep(0.1)
        call.limits(stated)
        await trio.sleep(self.latency - 0.1)
        return ChatResponse(content="ok", provider=self.name, usage=Usage(input_tokens=30, output_tokens=70))

    def _stated(self) -> tuple[RateLimit, ...]:
        return tuple(
            RateLimit(
                kind=kind,
                limit=int(bucket.burst),
                remaining=int(bucket.left),
                resets_after=(bucket.burst - bucket.left) * 60 / bucket.per_minute,
            )
            for kind, bucket in self.buckets.items()
        )

    def share_used(self, start: float, end: float) -> float:
        allowed = min(self.buckets["requests"].per_minute, self.buckets["tokens"].per_minute / TOKENS)
        return sum(start <= time < end for time in self.answered) / (allowed * (end - start) / 60)

    def share_refused(self, start: float, end: float) -> float:
        answered = sum(start <= time < end for time in self.answered)
        refused = sum(start <= time < end for time in self.refused)
        return refused / max(answered + refused, 1)


async def load(vendor: Vendor, seconds: float, callers: int = 60, policy: AdaptiveLimit | None = None) -> Resilient:
    """Ask without pause, from *callers* tasks."""
    model = Resilient(vendor, policy or AdaptiveLimit(cost=lambda _: Cost(input_tokens=30, output_tokens=70)))

    async def ask() -> None:
        while True:
            try:
                await model.complete(REQUEST, Call())
            except (RateLimited, BulkheadFull):
                await trio.lowlevel.checkpoint()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(ask)
    return model


@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize(("requests", "tokens"), [(600, 100_000), (600, 30_000)])
async def test_a_vendors_limit_is_found_and_used(
    requests: float, tokens: float, headers: bool, autojump_clock: trio.testing.MockClock
) -> None:
    vendor = Vendor(requests=requests, tokens=tokens, headers=headers)
    await load(vendor, 180.0)
    assert vendor.share_used(60, 180) >= 0.95
    assert vendor.share_refused(0, 180) <= 0.01


@pytest.mark.parametrize("headers", [False, True])
async def test_a_limit_that_halves_is_followed(headers: bool, autojump_clock: trio.testing.MockClock) -> None:
    vendor = Vendor(headers=headers)

    async def halve() -> None:
        await trio.sleep(60.0)
        vendor.buckets["requests"].per_minute /= 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(halve)
        await load(vendor, 120.0)
    assert vendor.share_used(75, 120) >= 0.95
    assert vendor.share_refused(75, 120) <= 0.01


@settings(deadline=None, max_examples=10)
@given(
    per_second=st.sampled_from([3.0, 10.0, 20.0]),
    latency=st.sampled_from([0.3, 1.0, 5.0]),
    refuses_in=st.sampled_from([0.02, 0.2]),
    burst=st.sampled_from([1.0, 5.0]),
)
@in_mock_time
async def test_any_vendors_limit_is_found(per_second: float, latency: float, refuses_in: float, burst: float) -> None:
    vendor = Vendor(
        requests=per_second * 60, tokens=1e9, latency=latency, refuses_in=refuses_in, burst=burst * per_second
    )
    callers = int(per_second * latency * 3) + 10
    await load(vendor, 150.0, callers)
    assert vendor.share_used(60, 150) >= 0.9
    assert vendor.share_refused(60, 150) <= 0.03


@pytest.mark.parametrize(("headers", "within"), [(False, 30), (True, 75)])
async def test_after_a_storm_of_refusals_the_limit_is_used_again(
    headers: bool, within: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Everything is refused for 20 s. Its headers state that this lasts for hours, and are wrong."""
    vendor = Vendor(headers=headers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, vendor, 200.0)
        await trio.sleep(40.0)
        for bucket in vendor.buckets.values():
            bucket.fill()
            bucket.per_minute, bucket.left = bucket.per_minute / 1e6, 0.0
        await trio.sleep(20.0)
        refused = vendor.share_refused(45, 60)
        for bucket in vendor.buckets.values():
            bucket.fill()
            bucket.per_minute *= 1e6
        await trio.sleep(within + 15.0)
        nursery.cancel_scope.cancel()
    assert refused == 1.0 or headers
    assert sum(45 <= time < 60 for time in vendor.refused) <= 15
    assert vendor.share_used(60 + within, 60 + within + 15) >= 0.85
    assert vendor.share_refused(60 + within, 60 + within + 15) <= 0.03


def request_of(sender: str) -> ChatRequest:
    return attrs.evolve(REQUEST, auth=AuthContext(sender_id=sender, channel="test"))


async def test_waiting_is_fair_between_senders(autojump_clock: trio.testing.MockClock) -> None:
    order: list[str] = []

    class Slow:
        name = "slow"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            order.append(request.sender_id or "")
            await trio.sleep(1.0)
            return ChatResponse(content="ok")

    model = Resilient(Slow(), AdaptiveLimit(initial=1, max_concurrent=1))
    async with trio.open_nursery() as nursery:
        for sender in ["ana"] * 6 + ["bob"] * 2:
            nursery.start_soon(model.complete, request_of(sender), Call())
            await trio.testing.wait_all_tasks_blocked()
    assert [name.split(":")[-1] for name in order] == ["ana", "ana", "bob", "ana", "bob", "ana", "ana", "ana"]


async def test_a_wait_that_is_too_long_goes_to_the_next_target(autojump_clock: trio.testing.MockClock) -> None:
    first, second = Vendor(latency=30.0), Vendor()
    second.name = "second"
    chain = Failover(
        Resilient(first, AdaptiveLimit(initial=1, max_concurrent=1, elsewhere_after=10.0)), second, hedge_after=None
    )
    providers: list[str] = []

    async def one() -> None:
        providers.append((await chain.complete(REQUEST, Call())).provider)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert sorted(providers) == ["second", "second", "vendor"]
    assert trio.current_time() == 30.0


@pytest.mark.parametrize(("hedge_after", "goes"), [(2.0, "second"), (40.0, "vendor"), (None, "second")])
async def test_the_wait_is_compared_with_the_failovers_hedge_after(
    hedge_after: float | None, goes: str, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = Vendor(latency=15.0), Vendor()
    second.name = "second"
    # The first target is at its limit for 15 s; it fell silent for nobody.
    limited = Resilient(first, AdaptiveLimit(initial=1, max_concurrent=1))
    chain = Failover(limited, second, hedge_after=hedge_after)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limited.complete, REQUEST, Call())
        await trio.testing.wait_all_tasks_blocked()
        assert (await chain.complete(REQUEST, Call())).provider == goes


async def test_waiting_is_fair_between_the_sessions_of_one_sender(autojump_clock: trio.testing.MockClock) -> None:
    order: list[str] = []

    class Slow:
        name = "slow"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            assert request.cache is not None
            order.append(request.cache.key)
            await trio.sleep(1.0)
            return ChatResponse(content="ok")

    model = Resilient(Slow(), AdaptiveLimit(initial=1, max_concurrent=1))
    async with trio.open_nursery() as nursery:
        for session in ["a"] * 4 + ["b"] * 2:
            request = attrs.evolve(request_of("ana"), cache=PromptCache(key=session))
            nursery.start_soon(model.complete, request, Call())
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["a", "a", "b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("kind", "cost"),
    [
        ("requests", 1.0),
        ("req-minute", 1.0),
        ("requests-day", 1.0),
        ("", 1.0),
        ("tokens", 100.0),
        ("tokens-minute", 100.0),
        ("input-tokens", 30.0),
        ("tokens-prompt", 30.0),
        ("output-tokens", 70.0),
        ("tokens-generated", 70.0),
    ],
)
def test_each_kind_of_limit_is_counted(kind: str, cost: float) -> None:
    assert Cost.counts(kind)
    assert Cost(input_tokens=30, output_tokens=70).of(kind) == cost


@pytest.mark.parametrize(("kind", "seconds"), [("tokens", 60), ("tokens-5-minute", 300), ("requests-day", 86_400)])
def test_a_limit_without_a_reset_comes_back_in_the_time_of_its_name(kind: str, seconds: float) -> None:
    window = Window()
    window.update(RateLimit(kind=kind, limit=600, remaining=0), 1, 0.0)
    assert window.rate == 600 / seconds
    assert window.time_to(1.0, 0.0) == pytest.approx(seconds / 600)


async def test_a_full_queue_refuses_and_states_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    limit = AdaptiveLimit(initial=1, max_concurrent=1, queue=0).bind("t")

    async def hang(_: Call) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(limit.run, hang, Call())
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull) as caught:
            await limit.run(hang, Call())
        assert caught.value.retry_after is not None
        assert limit.statistics().refused == 1
        nursery.cancel_scope.cancel()


async def test_cancelled_anywhere_no_slot_is_lost(autojump_clock: trio.testing.MockClock) -> None:
    limit = AdaptiveLimit(initial=2, max_concurrent=2).bind("t")
    assert isinstance(limit, BoundAdaptiveLimit)

    async def attempt(_: Call) -> None:
        await trio.sleep(1.0)

    async def operation() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(limit.run, attempt, Call())

    async def check() -> None:
        now = limit.statistics()
        assert (now.running, now.waiting) == (0, 0)

    assert await cancel_everywhere(operation, check, limit=500) > 5
