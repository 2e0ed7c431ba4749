from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.agent import sessions as sessions_module
from clawft_trio.agent.serialization import (
    inbound_from_json,
    inbound_to_json,
    message_from_json,
    message_to_json,
    reply_from_json,
    response_from_json,
    response_to_json,
    tool_result_from_json,
    tool_result_to_json,
)
from clawft_trio.agent.session_view import presentable
from clawft_trio.agent.sessions import MemorySessions, Sessions
from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.bus.undelivered import decode_message
from clawft_trio.chat import ChatResponse, Image, Message, Opaque, Text, ToolCall
from clawft_trio.errors import ServerError, StoreCorrupt
from clawft_trio.messages import InboundMessage
from clawft_trio.store import open_store
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import ToolResult

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
parts = st.one_of(
    st.builds(Text, words),
    st.builds(Image, url=words, data=st.binary(max_size=20), media_type=words),
    st.builds(Opaque, words, st.dictionaries(words, json_values, max_size=3)),
)
tool_calls = st.builds(ToolCall, id=words, name=words, arguments=words)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(parts, max_size=4).map(tuple),
    tool_calls=st.lists(tool_calls, max_size=3).map(tuple),
    tool_call_id=st.none() | words,
)
responses = st.builds(
    ChatResponse,
    content=st.lists(parts, max_size=3).map(tuple),
    tool_calls=st.lists(tool_calls, max_size=2).map(tuple),
    finish_reason=words,
    usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 99), reasoning_tokens=st.integers(0, 99)),
    reasoning=words,
    latency=st.builds(Latency, total=st.floats(0, 9), first_byte=st.none() | st.floats(0, 9)),
    cost=st.none() | st.decimals(0, 99, places=6),
)


@settings(deadline=None, max_examples=150)
@given(messages)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert message_from_json(message_to_json(message)) == message


@settings(deadline=None, max_examples=80)
@given(responses)
def test_an_answer_comes_back_as_it_was(response: ChatResponse) -> None:
    assert response_from_json(response_to_json(response)) == response


def test_of_an_attempts_error_its_outcome_stays() -> None:
    record = AttemptRecord(
        target="a/b", outcome="failed", started=1.0, latency=Latency(total=2.0), error=ServerError("x"), sent=True
    )
    again = response_from_json(response_to_json(ChatResponse(attempts=(record,), cost=Decimal("0.10"))))
    assert again.attempts == (record,)  # errors do not take part in equality
    assert again.attempts[0].error is None
    assert str(again.cost) == "0.10"


def test_a_tools_answer_comes_back_without_its_error() -> None:
    answer = ToolResult("c1", name="t", text="no", outcome="timeout", duration=1.5, error=TimeoutError("late"))
    again = tool_result_from_json(tool_result_to_json(answer))
    assert again == answer
    assert again.error is None


def test_an_inbound_message_comes_back_as_it_was() -> None:
    message = InboundMessage(
        channel="c", sender_id="s", chat_id="spaces/A/æ", content="hi", media=("a", "b"), metadata={"n": [1, None]}
    )
    assert inbound_from_json(inbound_to_json(message)) == message


@pytest.mark.parametrize(
    "data",
    # The last ones are of a column with another type.
    [
        b"",
        b"{",
        b"[]",
        b'{"role":"user","content":[{"type":"laser"}]}',
        b'{"role":"user","nonsense":1}',
        "x",
        None,
        1,
        [1],
    ],
)
def test_what_cannot_be_read_is_a_typed_error(data: Any) -> None:
    for read in (
        message_from_json,
        response_from_json,
        tool_result_from_json,
        inbound_from_json,
        reply_from_json,
        decode_message,
    ):
        with pytest.raises(StoreCorrupt):
            read(data)


def call(name: str) -> ToolCall:
    return ToolCall(id=name, name="tool")


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from("abc").map(lambda i: Message.tool("result", tool_call_id=i)),
            st.lists(st.sampled_from("abc"), unique=True).map(
                lambda ids: Message.assistant("", tool_calls=tuple(map(call, ids)))
            ),
            st.just(Message.user("hi")),
        ),
        max_size=10,
    )
)
def test_every_call_is_answered_once_right_behind_it(said: list[Message]) -> None:
    shown = presentable(said)
    assert [message for message in shown if message.role != "tool"] == [m for m in said if m.role != "tool"]
    unanswered: set[str] = set()
    for message in shown:
        if message.role == "tool":
            unanswered.remove(message.tool_call_id)
        else:
            assert not unanswered
            unanswered = {one.id for one in message.tool_calls}
    assert not unanswered
    assert presentable(shown) == shown


@pytest.fixture(params=["memory", "store", "file"])
async def sessions(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "memory":
        yield MemorySessions()
        return
    place = None if request.param == "store" else tmp_path / "store.db"
    async with open_store(place, migrations=sessions_module.MIGRATIONS) as store:
        yield Sessions(store)


async def test_the_history_holds_tool_calls_and_their_results(sessions) -> None:
    said = [
        Message.user("what is the weather?"),
        Message.assistant("", tool_calls=(call("a"), call("b"))),
        Message.tool("rain", tool_call_id="a"),
        Message.tool("wind", tool_call_id="b"),
        Message.assistant("Stay in."),
    ]
    await sessions.append("test:spaces/../x", said[:2])
    await sessions.append("test:spaces/../x", said[2:])
    await sessions.append("test:other", [Message.user("hi")])
    assert await sessions.history("test:spaces/../x") == tuple(said)
    assert await sessions.history("test:spaces/../x", 5) == tuple(said)
    # The limit falls between a call and its results: the results are left out, too.
    assert await sessions.history("test:spaces/../x", 3) == tuple(said[4:])
    assert await sessions.history("test:spaces/../x", 0) == ()
    assert await sessions.history("nobody") == ()


async def test_a_resumed_turn_is_not_reported_twice(sessions) -> None:
    await sessions.append("s", [Message.user("before")])
    await sessions.append("s", [Message.user("q"), Message.assistant("half")], turn_id="t1")
    await sessions.append("s", [Message.user("q"), Message.assistant("whole")], turn_id="t1")
    assert [message.text for message in await sessions.history("s")] == ["before", "q", "whole"]


async def test_a_forgotten_session_is_empty(sessions) -> None:
    await sessions.append("s", [Message.user("a"), Message.user("b")])
    await sessions.append("t", [Message.user("c")])
    assert await sessions.clear("s") == 2
    assert await sessions.clear("s") == 0
    assert await sessions.history("s") == ()
    assert len(await sessions.history("t")) == 1


async def test_all_of_a_turn_is_added_or_nothing(sessions) -> None:
    returned = 0

    async def add() -> None:
        nonlocal returned
        await sessions.append("s", [Message.user("a"), Message.assistant("b")])
        returned += 1

    async def it_is_whole() -> None:
        assert len(await sessions.history("s")) == 2 * returned

    assert await cancel_everywhere(add, it_is_whole) >= 2


async def test_two_sessions_side_by_side_lose_nothing(sessions) -> None:
    async def talk(name: str) -> None:
        for number in range(5):
            await sessions.append(name, [Message.user(f"{number}")])

    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(talk, name)
            nursery.start_soon(talk, name)
    for name in "ab":
        assert sorted(message.text for message in await sessions.history(name)) == sorted("0123401234")


async def test_summaries_tell_of_every_conversation() -> None:
    async with open_store(None, migrations=sessions_module.MIGRATIONS) as store:
        kept = Sessions(store, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
        await kept.append("a", [Message.user("1"), Message.user("2")])
        await kept.append("b", [Message.user("3")])
        found = await kept.summaries()
    assert [(one.session, one.messages, one.first) for one in found] == [
        ("b", 1, "2026-01-02T00:00:00+00:00"),
        ("a", 2, "2026-01-02T00:00:00+00:00"),
    ]


async def test_a_damaged_message_is_a_typed_error_and_stays_where_it_is() -> None:
    async with open_store(None, migrations=sessions_module.MIGRATIONS) as store:
        kept = Sessions(store)
        await kept.append("a", [Message.user("1")])
        await store.transact(lambda connection: connection.execute("UPDATE messages SET message = x'00'"))
        with pytest.raises(StoreCorrupt):
            await kept.history("a")
        assert await store.read(lambda c: c.execute("SELECT count(*) FROM messages").fetchone()) == (1,)
