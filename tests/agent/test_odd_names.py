"""Names of channels, chats and messages come from outside: any text, and none is taken for another."""

from __future__ import annotations

import pytest
import trio

from clawft_trio import open_agent, parse_config
from clawft_trio.messages import InboundMessage
from clawft_trio.testing import Finish, Say, ScriptedProvider

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
]


def choose(request):
    return [Say(request.messages[-1].text), Finish()]


@pytest.mark.timeout(120)
async def test_every_message_of_an_odd_name_has_its_own_reply(place) -> None:
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
