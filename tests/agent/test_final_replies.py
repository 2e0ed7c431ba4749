"""A final reply to a cancelled message is bounded: a store that never answers delays the end by the grace."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from clawft_trio import InboundMessage
from clawft_trio.agent.final_replies import FinalReplies
from clawft_trio.agent.journal import LoopJournal
from clawft_trio.agent.refusals import Refusals
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.bus import MessageBus
from clawft_trio.messages import OutboundMessage

MESSAGE = InboundMessage(channel="ch", sender_id="a", chat_id="1", content="q", id="m")
GRACE = 3.0


class HangingJournal:
    """A journal whose store never answers."""

    async def replied(self, *_: object) -> None:
        await trio.sleep_forever()


def replies(bus: MessageBus) -> FinalReplies:
    journal = cast("LoopJournal", HangingJournal())
    return FinalReplies(bus, journal, None, policy=LoopPolicy(final_reply_grace=GRACE), observer=lambda _: None)


async def test_the_reply_to_a_cancelled_turn_waits_for_the_store_for_the_grace(autojump_clock: Any) -> None:
    reply = OutboundMessage(channel="ch", chat_id="1", content="x")
    with trio.move_on_after(1.0):
        await replies(MessageBus()).send(MESSAGE, reply, "answered")
    assert trio.current_time() == pytest.approx(1.0 + GRACE)


async def test_the_reply_to_a_message_that_was_stopped_waits_for_the_store_for_the_grace(autojump_clock: Any) -> None:
    refusals = Refusals(replies(MessageBus()))
    refusals.add(MESSAGE, "stopped")
    await refusals.reply_to_all()
    assert trio.current_time() == pytest.approx(GRACE)
    refusals.add(MESSAGE, "stopped")
    with trio.CancelScope() as scope:
        scope.cancel()
        await refusals.reply_to_all()
    assert trio.current_time() == pytest.approx(GRACE)
    await refusals.reply_to_all()
    assert trio.current_time() == pytest.approx(2 * GRACE)
