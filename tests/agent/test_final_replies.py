"""A final reply to a cancelled message is bounded: a store that never answers delays the end by the grace."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest
import trio

from clawft_trio import InboundMessage
from clawft_trio.agent.final_replies import FinalReplies
from clawft_trio.agent.journal import LoopJournal
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.agent.refusals import Refusals
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.bus import MessageBus
from clawft_trio.errors import LeaseLost, StoreBusy
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


class Ends:
    """Sessions whose turns end as *errors* say, one for each attempt, and then without an error."""

    def __init__(self, *errors: Exception, server: bool = True) -> None:
        self.accepting = True
        self.stopping = False
        self.attempts: list[tuple[float, OutboundMessage | None]] = []
        self._errors = list(errors)
        self._server = server

    def is_of_server(self, error: BaseException) -> bool:
        return self._server

    async def end(self, message: InboundMessage, reply: OutboundMessage | None) -> None:
        await trio.lowlevel.checkpoint()
        self.attempts.append((trio.current_time(), reply))
        if self._errors:
            raise self._errors.pop(0)


REPLY = OutboundMessage(channel="ch", chat_id="1", content="x", reply_to="m")
AWAY = StoreBusy("away", path="store")


class Sending:
    """Final replies over sessions that are shared with other processes, and what was sent and reported."""

    def __init__(self, shared: Ends) -> None:
        self.bus = MessageBus()
        self.reports: list[Any] = []
        self.shared = shared
        self.replies = FinalReplies(
            self.bus,
            cast("LoopJournal", HangingJournal()),
            cast("OwnedSessions", shared),
            policy=LoopPolicy(final_reply_grace=GRACE, poll=2.0),
            observer=self.reports.append,
        )

    @property
    def sent(self) -> int:
        return self.bus.statistics().outbound["ch"].depth if "ch" in self.bus.statistics().outbound else 0


async def test_a_turn_that_a_server_cannot_end_now_is_ended_again_every_half_second(autojump_clock: Any) -> None:
    sending = Sending(Ends(AWAY, AWAY))
    await sending.replies.send(MESSAGE, REPLY, "answered")
    assert sending.shared.attempts == [(0.0, REPLY), (0.5, REPLY), (1.0, REPLY)]
    assert (sending.sent, sending.replies.endings["answered"], sending.replies.abandoned) == (1, 1, 0)
    assert not sending.replies.was_sent(MESSAGE)


async def test_a_turn_that_a_server_cannot_end_for_half_a_minute_is_left_to_another_run(autojump_clock: Any) -> None:
    sending = Sending(Ends(*[AWAY] * 100))
    await sending.replies.send(MESSAGE, REPLY, "answered")
    assert trio.current_time() == 30.0
    assert len(sending.shared.attempts) == 61
    # Its reply is that of the other run.
    assert (sending.sent, sending.replies.endings["answered"], sending.replies.abandoned) == (0, 0, 1)


async def test_a_process_that_stops_leaves_a_turn_that_it_cannot_end_at_once(autojump_clock: Any) -> None:
    sending = Sending(Ends(AWAY))
    sending.shared.stopping = True
    await sending.replies.send(MESSAGE, REPLY, "failed")
    assert (trio.current_time(), sending.sent, sending.replies.abandoned) == (0.0, 0, 1)
    assert not await Sending(Ends(LeaseLost("taken", path=""))).replies.send_cancelled(MESSAGE, "stopped")


async def test_a_turn_of_a_lost_session_ends_without_a_reply(autojump_clock: Any) -> None:
    sending = Sending(Ends(LeaseLost("taken", path="")))
    await sending.replies.send(MESSAGE, REPLY, "answered")
    assert (len(sending.shared.attempts), sending.sent, sending.replies.abandoned) == (1, 0, 1)
    assert sending.replies.endings["answered"] == 0


async def test_a_reply_that_cannot_be_stored_in_a_file_is_sent_and_its_turn_ends_later(autojump_clock: Any) -> None:
    sending = Sending(Ends(AWAY, AWAY, AWAY, server=False))
    await sending.replies.send(MESSAGE, REPLY, "answered")
    assert (sending.sent, sending.replies.endings["answered"]) == (1, 1)
    assert sending.replies.was_sent(MESSAGE)
    assert [note.what for note in sending.reports] == ["reply not stored"]
    await sending.replies.end_sent(MESSAGE)
    assert sending.shared.attempts == [(0.0, REPLY), (0.0, None), (2.0, None), (4.0, None)]
    # Reported once, and not with each attempt.
    assert [note.what for note in sending.reports] == ["reply not stored", "turn not ended in the journal"]
    assert sending.reports[-1].details == {"error": AWAY}


async def test_a_turn_that_has_ended_already_or_of_a_process_that_stops_is_not_ended_again(autojump_clock: Any) -> None:
    ended = Sending(Ends(LeaseLost("the turn is over", path="")))
    await ended.replies.end_sent(MESSAGE)
    assert len(ended.shared.attempts) == 1
    stopping = Sending(Ends())
    stopping.shared.accepting = False
    await stopping.replies.end_sent(MESSAGE)
    assert stopping.shared.attempts == []


async def test_a_cancelled_message_is_ended_in_the_journal_and_has_its_reply() -> None:
    sending = Sending(Ends())
    assert await sending.replies.send_cancelled(MESSAGE, "stopped")
    assert (sending.sent, sending.replies.endings["cancelled"]) == (1, 1)
    [(_, reply)] = sending.shared.attempts
    assert reply is not None
    assert reply.metadata["error"] == "TurnCancelled"
    assert not sending.replies.was_sent(MESSAGE)
    unstored = Sending(Ends(AWAY, server=False))
    assert not await unstored.replies.send_cancelled(MESSAGE, "stopped")
    assert unstored.sent == 1
    assert unstored.replies.was_sent(MESSAGE)


async def test_after_the_bus_is_closed_a_reply_is_still_handed_over() -> None:
    sending = Sending(Ends())
    sending.bus.close()
    await sending.replies.send(MESSAGE, REPLY, "answered")
    # It was stored once, before the bus refused it.
    assert len(sending.shared.attempts) == 1
    assert sending.replies.endings["answered"] == 1


def test_only_where_processes_share_a_journal_is_a_sent_reply_remembered() -> None:
    alone = replies(MessageBus())
    alone.remember(MESSAGE)
    assert not alone.was_sent(MESSAGE)
    shared = Sending(Ends()).replies
    for number in range(10_001):
        shared.remember(attrs.evolve(MESSAGE, id=f"{number}"))
    assert [shared.was_sent(attrs.evolve(MESSAGE, id=name)) for name in ("0", "1", "10000")] == [False, True, True]
