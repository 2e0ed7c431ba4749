"""Keeping to a vendor's limits: an adaptive limit, a fixed bulkhead and none, on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio
import trio.testing

from benchmarks.bench import Bench, Case, Figure, Goal, Open, PlainRound, Setting, Stopwatch
from clawft_trio import Retry, compose
from clawft_trio.attempts import Usage
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import ProviderError, RateLimited
from clawft_trio.resilience import AdaptiveLimit, Bulkhead, Policy, Resilient
from clawft_trio.retry_hints import RateLimit

REQUESTS, TOKENS = 600.0, 100_000.0
"""That the vendor takes a minute. Its buckets hold a minute's sixtieth, as OpenAI's do."""

INPUT, OUTPUT = 30, 70
"""Tokens of a request and of its answer: the requests are the closer limit."""

CALLERS = 60
"""Tasks that ask without pause."""

USED = Figure("used", "of the limit used, %")
REFUSED = Figure("refused", "refused (429), %", 2)


@attrs.define(eq=False)
class _Bucket:
    per_second: float
    left: float
    burst: float
    as_of: float = 0.0

    def fill(self) -> None:
        now = trio.current_time()
        self.left = min(self.burst, self.left + (now - self.as_of) * self.per_second)
        self.as_of = now


class Vendor:
    """Answers within a second what its two token buckets allow, and refuses the rest by 429 after 50 ms."""

    name = "vendor"

    def __init__(self, *, headers: bool) -> None:
        self._buckets = {
            kind: _Bucket(limit / 60, burst, burst)
            for kind, limit, burst in (("requests", REQUESTS, 10.0), ("tokens", TOKENS, TOKENS / 60))
        }
        self._headers = headers
        self.answered: list[float] = []
        self.refused: list[float] = []

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        for bucket in self._buckets.values():
            bucket.fill()
        cost = {"requests": 1.0, "tokens": float(INPUT + OUTPUT)}
        admitted = all(bucket.left >= cost[kind] for kind, bucket in self._buckets.items())
        (self.answered if admitted else self.refused).append(trio.current_time())
        if admitted:
            for kind, bucket in self._buckets.items():
                bucket.left -= cost[kind]
        stated = self._stated() if self._headers else ()
        await trio.sleep(0.1 if admitted else 0.05)
        call.limits(stated)
        if not admitted:
            raise RateLimited("slow down", provider=self.name, status=429)
        await trio.sleep(0.9)
        usage = Usage(input_tokens=INPUT, output_tokens=OUTPUT)
        return ChatResponse(content="ok", provider=self.name, usage=usage)

    def _stated(self) -> tuple[RateLimit, ...]:
        return tuple(
            RateLimit(
                kind=kind,
                limit=int(bucket.burst),
                remaining=int(bucket.left),
                resets_after=(bucket.burst - bucket.left) / bucket.per_second,
            )
            for kind, bucket in self._buckets.items()
        )


async def _load(vendor: Vendor, policy: Policy, seconds: float) -> None:
    model = Resilient(vendor, compose(Retry(), policy) if policy is not NONE else Retry())
    request = ChatRequest([Message.user("hello " * (INPUT * 4 // 6))], max_tokens=OUTPUT)

    async def ask() -> None:
        while True:
            try:
                await model.complete(request, Call())
            except ProviderError:
                await trio.sleep(0.1)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(ask)


NONE = Retry()


def loading(policy: Callable[[], Policy], *, headers: bool = False) -> Open:
    """Two minutes of load after one to find the limit."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        warm, end = setting.sized(60, 5), setting.sized(180, 10)

        def one_round(watch: Stopwatch) -> None:
            vendor = Vendor(headers=headers)
            clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(_load, vendor, policy(), float(end), clock=clock)
            answered, refused = (sum(time >= warm for time in times) for times in (vendor.answered, vendor.refused))
            watch.note(USED.key, 100.0 * answered / (REQUESTS / 60 * (end - warm)))
            watch.note(REFUSED.key, 100.0 * refused / max(answered + refused, 1))

        yield one_round

    return opened


OURS, STATED = "AdaptiveLimit, no headers", "AdaptiveLimit, limits in headers"

BENCH = Bench(
    title=f"{CALLERS} callers of a simulated vendor with 600 requests and 100 000 tokens a minute",
    item="answer",
    limit="600 answers a minute and no refusal.",
    against=OURS,
    figures=(USED, REFUSED),
    rounds=3,
    cases=(
        Case(OURS, loading(AdaptiveLimit), loop="none"),
        Case(STATED, loading(AdaptiveLimit, headers=True), loop="none"),
        Case("Bulkhead of 5", loading(lambda: Bulkhead(max_concurrent=5, queue=100, queue_for=None)), loop="none"),
        Case("Bulkhead of 20", loading(lambda: Bulkhead(max_concurrent=20, queue=100, queue_for=None)), loop="none"),
        Case("no limit", loading(lambda: NONE), loop="none"),
    ),
    goals=(
        Goal(
            says="of a vendor's limit used, found without headers",
            of=OURS,
            figure="used",
            at_least=95,
            unit="%",
        ),
        Goal(says="refused (429) meanwhile", of=OURS, figure="refused", at_most=1, unit="%"),
    ),
)
