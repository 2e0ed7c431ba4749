"""Names of channels, chats and messages come from outside: any text, and none is taken for another."""

from __future__ import annotations

import pytest
import trio

from clawft_trio import open_agent, parse_config, tool
from clawft_trio.agent.journal import Journal, turn_id_of
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.session_view import Compaction
from clawft_trio.agent.sessions import Sessions
from clawft_trio.agent.workers import requeue, summarize_work
from clawft_trio.chat import ToolCall
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import open_store
from clawft_trio.store.ownership import Ownership
from clawft_trio.testing import Finish, Say, ScriptedProvider
from clawft_trio.tools import ToolResult

CONFIG = parse_config('{"routing": {"permissions": {"channels": {"ch": {"level": 1, "rateLimit": 0}}}}}')

ODD = [
    ("a", "b\nc"),
    ("a\nb", "c"),
    ("a", "b:c"),
    ("a:b", "c"),
    ("a%3Ab", "c"),
    ("", "a"),
    ("a", ""),
    ("'; DROP TABLE turns; --", "\\"),
    ("\0", "m"),
    ("%00", "m"),
    ("\U0001f600é", "e\u0301"),
    (" a ", "\t"),
    ("x" * 5000, "y" * 1000),
    ("\U0001f600" * 500, "\U0001f601" * 500),
    ("one chat", "\ud800"),
    ("one chat", "\ufffd"),
    ("one chat", "after a surrogate"),
    ("\udfff", "m"),
]


def choose(request):
    return [Say(request.messages[-1].text), Finish()]


@pytest.mark.timeout(120)
async def test_messages_with_unusual_names_have_separate_replies(place) -> None:
    provider = ScriptedProvider(choose=choose, name="p")
    async with open_agent(["p/m"], providers={"p": provider}, config=CONFIG, store=place) as agent:
        for number, (chat, id_) in enumerate(ODD):
            message = InboundMessage(channel="ch", sender_id="u", chat_id=chat, id=id_, content=f"text {number}")
            assert await agent.bus.publish_inbound(message)
        if place is not None:
            # None has been fetched: all of them wait in the store.
            query = "SELECT count(*) FROM undelivered"
            with trio.fail_after(60):
                while await agent.parts.store.read(lambda c: c.execute(query).fetchone()) != (len(ODD),):
                    await trio.sleep(0.01)
        replies = agent.bus.outbound("ch")
        found: dict[tuple[str, str | None], str] = {}
        with trio.fail_after(60):
            while len(found) < len(ODD):
                reply = await anext(replies)
                if reply.kind == "final":
                    found[reply.chat_id, reply.reply_to] = reply.content
    assert found == {key: f"text {number}" for number, key in enumerate(ODD)}


@pytest.mark.parametrize(
    "channel",
    ["a\0b", "\ud800", "x" * 9000, "\U0001f600" * 500, "a\nb", "a%00"],
    ids=["NUL", "surrogate", "long", "emoji", "line feed", "escape"],
)
async def test_a_channel_may_have_any_name(place, channel: str) -> None:
    provider = ScriptedProvider(choose=choose, name="p")
    config = parse_config('{"routing": {"permissions": {"zero_trust": {"level": 1, "rateLimit": 0}}}}')
    async with open_agent(["p/m"], providers={"p": provider}, config=config, store=place) as agent:
        message, replies = (
            InboundMessage(channel=channel, sender_id="u", chat_id="c", id="m", content="hello"),
            agent.bus.outbound(channel),
        )
        assert await agent.bus.publish_inbound(message)
        with trio.fail_after(60):
            reply = await anext(replies)
            while reply.kind != "final":
                reply = await anext(replies)
        assert (reply.channel, reply.reply_to) == (channel, "m")


@pytest.mark.parametrize("name", ["a\0b\ud800", "x" * 9000, "\U0001f600" * 3000], ids=["unstorable", "long", "emoji"])
async def test_a_session_and_a_turn_may_have_any_name(place, name: str) -> None:
    provider = ScriptedProvider(choose=choose, name="p")
    async with open_agent(["p/m"], providers={"p": provider}, store=place) as agent:
        for _ in range(2):
            assert (await agent.ask("hello", session=name)).text == "hello"
        # Even with texts that differ only at their end.
        assert (await agent.ask("hello", session=name + "other")).text == "hello"
        assert [len(request.messages) for request in provider.requests] == [1, 3, 1]
        if place is not None:
            assert (await agent.ask("hello", session=name, turn_id=name)).text == "hello"
            assert len(await Sessions(agent.parts.store).history(name)) == 6


UNSTORABLE = "a\0b\ud800c"


@tool
async def pay(n: str) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    return n


async def test_texts_with_nul_and_lone_surrogates_are_stored_with_replacements(place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        sessions, journal = Sessions(store), Journal(store)
        await sessions.keep_result("s", UNSTORABLE, UNSTORABLE)
        assert await sessions.result("s", UNSTORABLE) == "a\N{REPLACEMENT CHARACTER}b?c"
        assert await sessions.compact("s", Compaction(cut=1, cleared=0, summary=UNSTORABLE), version=0)
        assert (await sessions.tail("s", 1)).compaction.summary == "a\N{REPLACEMENT CHARACTER}b?c"
        call = ToolCall(id=UNSTORABLE, name="pay")
        await journal.tools("t", 1).started(call, pay)
        known = await journal.tool_answers("t", 1, [call, ToolCall(id="other", name="pay")])
        assert known[UNSTORABLE].outcome == "error"
        await journal.tools("t", 1).ended(ToolResult(UNSTORABLE, name="pay", text="paid"))
        known = await journal.tool_answers("t", 1, [call])
        assert {id_: answer.text for id_, answer in known.items()} == {UNSTORABLE: "paid"}


async def test_a_message_that_is_given_up_with_an_odd_error_is_shown_and_requeued(place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store)
        journal = Journal(store, ownership=ownership)
        message = InboundMessage(channel="ch", sender_id="u", chat_id="a\nb", id="m", content="pay")
        _, claimed = await journal.accept(message, claim=True)
        assert claimed is not None
        ownership.guard(turn_id_of(message), claimed.lease)
        reply = OutboundMessage(channel="ch", chat_id="a\nb", reply_to="m", content="given up")
        await journal.end(message, reply, go_on=False, given_up=UNSTORABLE)
        work = await summarize_work(store)
        assert [one.error for one in work.given_up] == ["a\N{REPLACEMENT CHARACTER}b?c"]
        assert await requeue(store, turn_id_of(message))
        work = await summarize_work(store)
        assert (work.open, work.undelivered, work.given_up) == (1, (), ())
