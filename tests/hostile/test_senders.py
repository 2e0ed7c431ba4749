"""Whatever a sender sends costs its own message at most: one reply each, others answered, and no stall."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest
import trio
from hostile.loop_time import bounded_loop
from hypothesis import HealthCheck, given, settings, strategies as st

from clawft_trio import ClawftError, InboundMessage, OutboundMessage, open_agent
from clawft_trio.agent.serialization import MAX_METADATA
from clawft_trio.config import parse_config
from clawft_trio.errors import InvalidData
from clawft_trio.keys import MAX_NAMES
from clawft_trio.testing import Finish, Say, ScriptedProvider

HOSTILE = {
    "a lone surrogate": "\ud800",
    "a byte of a file name": "caf\udce9",
    "NUL": "a\0b",
    "markup": "[/x][red]",
    "an escape sequence": "\x1b]0;title\x07\x1b[2J",
    "a bidirectional override": "\u202egpj.exe",
    "separators": "a:b%3A/../..",
    "a million characters": "x" * 1_000_000,
    "lines": "\r\n" * 1000,
    "only a space": " ",
    "empty": "",
    "SQL": "'; drop table sessions; --",
    "a prototype": "__proto__",
    "half a JSON document": '{"a": [',
}

CONFIG = '{"routing": {"permissions": {"channels": {"ch": {"level": 1, "rateLimit": 0, "costBudgetDailyUsd": 0}}}}}'


def model() -> ScriptedProvider:
    return ScriptedProvider(choose=lambda _: [Say("fine"), Finish()], name="p")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("field", ["sender_id", "chat_id", "content", "id", "media", "metadata"])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "sqlite"])
async def test_a_message_with_hostile_text_gets_one_reply_and_so_does_the_next(tmp_path, field, text, stored) -> None:
    value = {"media": (text,), "metadata": {text: text}}.get(field, text)
    fields = {"channel": "ch", "sender_id": "eve", "chat_id": "1", "content": "q", "id": "m1", field: value}
    store = tmp_path / "s.db" if stored else None
    async with open_agent(["p/m"], providers={"p": model()}, config=parse_config(CONFIG), store=store) as agent:
        async with bounded_loop():
            await agent.bus.publish_inbound(InboundMessage(**fields))
            await agent.bus.publish_inbound(
                InboundMessage(channel="ch", sender_id="ana", chat_id="2", content="q", id="m2")
            )
            replies = Counter()
            with trio.fail_after(20):
                async for reply in agent.bus.outbound("ch"):
                    if reply.kind == "final":
                        replies[reply.chat_id] += 1
                        # A blank message and one beyond the sender's limits are refused, with the reason.
                        assert reply.content == "fine" or (reply.chat_id != "2" and reply.metadata.get("error"))
                    if sum(replies.values()) == 2:
                        break
    assert replies["2"] == 1
    assert replies.total() == 2


@pytest.mark.parametrize("text", ["", " \t\r\n"], ids=["empty", "white space"])
async def test_a_message_without_content_is_told_what_it_lacks(text: str) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, config=parse_config(CONFIG)) as agent:
        message = InboundMessage(channel="ch", sender_id="eve", chat_id="1", content=text, id="m1")
        await agent.bus.publish_inbound(message)
        reply = await anext(agent.bus.outbound("ch"))
    assert reply.content == "Your message has no text, image or file that I can read. Please write what you need."
    assert reply.metadata["error"] == "EmptyQuestion"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("field", ["sender_id", "session"])
async def test_an_ask_with_hostile_names_is_answered(tmp_path, field, text) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, store=tmp_path / "s.db") as agent:
        async with bounded_loop():
            assert (await agent.ask("q", **{field: text})).text == "fine"
            assert (await agent.ask("q")).text == "fine"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_question_is_answered_or_refused_with_a_typed_error(tmp_path, text) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, store=tmp_path / "s.db") as agent:
        async with bounded_loop():
            try:
                assert (await agent.ask(text, session="s")).text == "fine"
            except ClawftError as exc:
                assert not text.strip() or len(text) > 100_000, exc
            assert (await agent.ask("q", session="s")).text == "fine"


WRONG_TYPES = {
    "channel": None,
    "sender_id": 5,
    "chat_id": 5,
    "content": None,
    "id": 3,
    "timestamp": "2026-01-01",
    "media": "a.png",
    "metadata": None,
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_message_with_a_field_of_another_type_is_refused_where_it_is_made(field: str) -> None:
    fields = {"channel": "ch", "sender_id": "eve", "chat_id": "1", "content": "q", field: WRONG_TYPES[field]}
    with pytest.raises(TypeError, match=f"'{field}' must be "):
        InboundMessage(**fields)
    if field in attrs.fields_dict(OutboundMessage):
        with pytest.raises(TypeError, match=f"'{field}' must be "):
            OutboundMessage(**{name: value for name, value in fields.items() if name != "sender_id"})


def test_attachments_are_texts() -> None:
    with pytest.raises(TypeError, match="'media' must be a list of addresses and paths"):
        InboundMessage(channel="ch", sender_id="eve", chat_id="1", content="q", media=(5,))


def nested(depth: int) -> dict[str, object]:
    notes: dict[str, object] = {}
    for _ in range(depth):
        notes = {"a": notes}
    return notes


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (nested(100_000), "nested too deeply"),
        (nested(1000) | {"b": "\ud800"}, "nested too deeply"),
        ({"a": "x" * MAX_METADATA}, "metadata: more than 4194304 bytes or 100000 values"),
        (dict.fromkeys(range(100_002), 1), "metadata: more than 4194304 bytes or 100000 values"),
    ],
    ids=["deep", "deep with a surrogate", "long", "many"],
)
async def test_metadata_that_cannot_be_stored_are_refused_and_the_next_message_is_answered(
    tmp_path, metadata, problem
) -> None:
    async with open_agent(
        ["p/m"], providers={"p": model()}, config=parse_config(CONFIG), store=tmp_path / "s.db"
    ) as agent:
        message = InboundMessage(channel="ch", sender_id="eve", chat_id="1", content="q", metadata=metadata)
        async with bounded_loop():
            with pytest.raises(InvalidData, match=problem):
                await agent.bus.publish_inbound(message)
            await agent.bus.publish_inbound(attrs.evolve(message, metadata={"a": "x" * (MAX_METADATA - 8)}))
            assert (await anext(agent.bus.outbound("ch"))).content == "fine"


@pytest.mark.parametrize("field", ["channel", "sender_id", "chat_id", "id"])
def test_names_are_limited_together(field: str) -> None:
    names = {"channel": "cc", "sender_id": "ss", "chat_id": "tt", "id": "ii"}
    room = MAX_NAMES - 6
    InboundMessage(content="q", **(names | {field: "x" * room}))
    with pytest.raises(InvalidData) as caught:
        InboundMessage(content="q", **(names | {field: "x" * (room + 1)}))
    assert [problem.path for problem in caught.value.problems] == [f"$.{field}"]
    assert str(MAX_NAMES) in str(caught.value)


@pytest.mark.parametrize("field", ["sender_id", "session", "turn_id"])
async def test_names_of_a_question_are_limited_together(tmp_path, field: str) -> None:
    async with open_agent(["p/m"], providers={"p": model()}, store=tmp_path / "s.db") as agent:
        names = {"sender_id": "s", "session": "t", "turn_id": "i", field: "x" * (MAX_NAMES - 1)}
        with pytest.raises(InvalidData, match=rf"question: \$\.{field}: "):
            await agent.ask("q", **names)
        with pytest.raises(TypeError, match=f"'{field}' must be of type str"):
            await agent.ask("q", **(names | {field: 5}))
        async with bounded_loop():
            assert (await agent.ask("q", **(names | {field: "x" * (MAX_NAMES - 2)}))).text == "fine"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(st.characters(categories=None), max_size=30), min_size=2, max_size=2, unique=True))
def test_two_senders_never_share_an_account_or_a_conversation(names: list[str]) -> None:
    one, other = (InboundMessage(channel="ch", sender_id=name, chat_id=name, content="") for name in names)
    assert one.session_key != other.session_key

    async def main() -> None:
        scripted = ScriptedProvider(choose=lambda r: [Say(str(len(r.messages))), Finish()], name="p")
        async with open_agent(["p/m"], providers={"p": scripted}) as agent:
            seen = [(await agent.ask("q", session=f"s{name}")).text for name in names]
        assert seen[0] == seen[1]

    trio.run(main)
