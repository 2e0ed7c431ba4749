"""What users ran into, and what must not come back."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, StreamEvent, TextDelta
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import Failover
from clawft_trio.testing.script import Hang
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])


async def test_what_a_callback_raises_keeps_its_cause() -> None:
    def broken(_: StreamEvent) -> None:
        try:
            raise KeyError("why")
        except KeyError as exc:
            raise ValueError("mine") from exc

    with pytest.raises(ValueError, match="mine") as caught:
        await complete(ScriptedProvider.saying("hi"), REQUEST, broken)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__context__ is caught.value.__cause__


async def test_an_answer_stopped_at_its_first_word_is_the_winners(autojump_clock: trio.testing.MockClock) -> None:
    chain = Failover(ScriptedProvider([Hang()], name="a"), ScriptedProvider.saying("hi", name="b"), hedge_after=1.0)
    response = await complete(chain, REQUEST, lambda _: False)
    assert (response.text, response.provider) == ("hi", "b")
    assert [(record.target, record.outcome) for record in response.attempts] == [("b", "aborted"), ("a", "cancelled")]


class _Nursery:
    """A provider that answers from child tasks, and never ends."""

    name = "own"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.emit, TextDelta("hi"))
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)
        raise AssertionError("it never ends")


async def test_a_stream_left_early_has_its_partial_also_from_a_provider_with_a_nursery() -> None:
    async with open_stream(_Nursery(), REQUEST) as stream:
        async for _ in stream:
            break
    assert (stream.response.text, stream.response.finish_reason) == ("hi", "aborted")
