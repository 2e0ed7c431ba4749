"""A stream's memory is that of its text: nothing is kept per delta, in any layer."""

from __future__ import annotations

import tracemalloc

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, StreamEvent, TextDelta
from clawft_trio.errors import ServerError
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import Failover, Hold, Live, Policy, Preview, Resilient, Retry, Timeout, compose

DELTAS = 30_000
EMPTY = TextDelta("")


class Talker:
    """Says nothing, in very many deltas, without end or with one."""

    name = "talker"

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.peak = 0

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await trio.lowlevel.checkpoint()
        tracemalloc.start()
        try:
            for _ in range(DELTAS):
                await call.emit(EMPTY)
            self.peak = max(self.peak, tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        if self.fails:
            raise ServerError("down")
        return ChatResponse(content="x")


@pytest.mark.parametrize("delivery", [Live(), Live(after_content="raise"), Hold(), Preview(characters=5)])
async def test_nothing_is_kept_per_delta(delivery: Policy, autojump_clock: trio.testing.MockClock) -> None:
    first, second = Talker(fails=delivery != Live(after_content="raise")), Talker(fails=False)
    policy = compose(Retry(max_retries=1), Timeout(first_content=60, gap=60), delivery)
    chain = Failover(Resilient(first, policy), Resilient(second, policy), hedge_after=100)
    seen = 0

    def count(event: StreamEvent) -> None:
        nonlocal seen
        seen += 1

    await complete(chain, ChatRequest([Message.user("go")]), count)
    assert max(first.peak, second.peak) < DELTAS  # one pointer each would be eight times as much


async def test_a_reader_that_keeps_up_is_sent_nothing_ahead(autojump_clock: trio.testing.MockClock) -> None:
    talker = Talker(fails=False)
    async with open_stream(talker, ChatRequest([Message.user("go")]), buffer=16) as stream:
        async for _ in stream:
            pass
    assert talker.peak < DELTAS
