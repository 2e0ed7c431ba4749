from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.agent.error_replies import duration, failure_reply
from clawft_trio.agent.journal import MIGRATIONS, Journal, turn_id_of
from clawft_trio.agent.loop import AgentLoop, serve_sessions
from clawft_trio.agent.turn_context import LoopPolicy, Turn, TurnContext
from clawft_trio.bus import BusConfig, MessageBus, StoredUndelivered
from clawft_trio.errors import (
    AllProvidersExhausted,
    BudgetExceeded,
    BusClosed,
    BusFull,
    PermissionDenied,
    RateLimitExceeded,
    ServerError,
    StoreError,
)
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import MessageDropped, Recorder
from clawft_trio.store import open_store
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.sweep import cancel_everywhere


def asks(content: str, *, chat: str = "1", **fields: object) -> InboundMessage:
    return InboundMessage(channel="test", sender_id="ana", chat_id=chat, content=content, **fields)


def answer(message: InboundMessage, content: str = "") -> OutboundMessage:
    return OutboundMessage(channel="?", chat_id="?", content=content or f"re: {message.content}")


async def echo(message: InboundMessage, context: TurnContext) -> OutboundMessage:
    """Answers after as many seconds as the message says in its metadata; raises what it finds there."""
    await trio.sleep(message.metadata.get("takes", 0))
    if "raises" in message.metadata:
        raise message.metadata["raises"]
    return answer(message)


@attrs.define
class Seen:
    """What came out of the bus, with the time at which it did."""

    replies: list[OutboundMessage] = attrs.field(factory=list)
    times: dict[str, float] = attrs.field(factory=dict)

    @property
    def texts(self) -> list[str]:
        return [reply.content for reply in self.replies]

    @property
    def errors(self) -> list[str | None]:
        return [reply.metadata.get("error") for reply in self.replies]


@asynccontextmanager
async def running(
    turn: Turn = echo, *, config: BusConfig | None = None, listen: bool = True, **kwargs: object
) -> AsyncGenerator[tuple[MessageBus, AgentLoop, Seen], None]:
    """A loop that is shut down gracefully at the end, and what its channel saw."""
    bus, seen = MessageBus(config), Seen()

    async def collect() -> None:
        async for message in bus.outbound("test"):
            seen.replies.append(message)
            seen.times[message.reply_to or ""] = trio.current_time()

    async with trio.open_nursery() as nursery:
        if listen:
            nursery.start_soon(collect)
        async with trio.open_nursery() as serving:
            kwargs.setdefault("policy", LoopPolicy(grace=100.0))
            loop = await serving.start(lambda **kw: serve_sessions(bus, turn, **kwargs, **kw))
            yield bus, loop, seen
            await loop.shutdown()
        bus.close()


async def test_every_message_gets_one_final_reply_to_its_id() -> None:
    async with running() as (bus, loop, seen):
        asked = [asks(str(number), chat=str(number % 3)) for number in range(10)]
        for message in asked:
            await bus.publish_inbound(message)
    assert {reply.reply_to: reply.content for reply in seen.replies} == {
        message.id: f"re: {message.content}" for message in asked
    }
    assert len(seen.replies) == 10
    assert {(reply.channel, reply.kind) for reply in seen.replies} == {("test", "final")}
    assert all(reply.chat_id == str(int(reply.content[4:]) % 3) for reply in seen.replies)
    assert loop.statistics().answered == 10


async def test_a_session_is_answered_in_order_and_sessions_side_by_side(autojump_clock: object) -> None:
    async with running() as (bus, _, seen):
        for content, chat, takes in [("a1", "a", 5), ("a2", "a", 1), ("b1", "b", 2), ("b2", "b", 2)]:
            await bus.publish_inbound(asks(content, chat=chat, metadata={"takes": takes}))
    assert seen.texts == ["re: b1", "re: b2", "re: a1", "re: a2"]
    assert list(seen.times.values()) == [2.0, 4.0, 5.0, 6.0]


async def test_no_more_turns_run_at_once_than_allowed(autojump_clock: object) -> None:
    now, most = 0, 0

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(1)
        now -= 1
        return answer(message)

    async with running(turn, policy=LoopPolicy(max_concurrent_turns=3, grace=100)) as (bus, _, seen):
        for number in range(10):
            await bus.publish_inbound(asks(str(number), chat=str(number)))
    assert most == 3
    assert trio.current_time() == 4.0
    assert len(seen.replies) == 10


async def test_a_session_that_floods_does_not_delay_the_others(autojump_clock: object) -> None:
    policy = LoopPolicy(max_concurrent_turns=1, grace=1000)
    async with running(policy=policy) as (bus, _, seen):
        for number in range(30):
            await bus.publish_inbound(asks(f"flood {number}", chat="flood", metadata={"takes": 1}))
        await bus.publish_inbound(asks("hello", chat="other", metadata={"takes": 1}))
    # One of the flood was being answered, and at most one more had its turn before.
    assert seen.texts.index("re: hello") <= 2


async def test_a_full_session_delays_only_its_own_publishers(autojump_clock: object) -> None:
    policy = LoopPolicy(session_buffer_size=2, grace=0, turn=None)
    async with running(policy=policy) as (bus, loop, seen), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(bus.publish_inbound, asks(str(number), chat="hangs", metadata={"takes": 1e9}))
        await trio.testing.wait_all_tasks_blocked()
        assert bus.statistics().inbound.waiting == 2
        await bus.publish_inbound(asks("quick", chat="other"))
        await trio.testing.wait_all_tasks_blocked()
        assert seen.texts == ["re: quick"]
        assert loop.cancel_session("test:hangs") == 3
        await trio.testing.wait_all_tasks_blocked()
        assert bus.statistics().inbound.waiting == 0


async def test_of_a_thousand_sessions_one_hangs_for_ever_and_the_others_are_on_time(autojump_clock: object) -> None:
    policy = LoopPolicy(max_concurrent_turns=1000, turn=None, grace=0)
    due: dict[str, float] = {}
    async with running(policy=policy) as (bus, _, seen):
        for number in range(1000):
            takes = 1e9 if number == 500 else 1 + number % 7
            for place in (1, 2):
                message = asks("hello", chat=str(number), metadata={"takes": takes})
                await bus.publish_inbound(message)
                due[message.id] = takes * place
        await trio.sleep(20)
        on_time = {message_id: when for message_id, when in due.items() if when < 1e9}
        assert len(on_time) == 1998
        assert seen.times == on_time


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ServerError("secret key sk-123"), "No model could answer"),
        (
            AllProvidersExhausted("x", retry_after=90.0),
            "No model could answer just now. Please try again in 90 seconds.",
        ),
        (RateLimitExceeded("x", retry_after=1.0), "1 second."),
        (
            BudgetExceeded("x", retry_after=7200.0),
            "budget for your questions is spent. Please try again in 2 hours",
        ),
        (PermissionDenied("x"), "permission"),
        (ZeroDivisionError("secret"), "Something went wrong here"),
        (ExceptionGroup("g", [ValueError("v"), ServerError("s")]), "No model could answer"),
        (trio.TooSlowError(), "Something went wrong"),
    ],
)
async def test_a_failure_is_a_helpful_reply_with_the_errors_name(error: Exception, said: str) -> None:
    recorder = Recorder()
    async with running(observer=recorder) as (bus, loop, seen):
        await bus.publish_inbound(asks("hello", metadata={"raises": error}))
        await bus.publish_inbound(asks("again"))
    failed, fine = seen.replies
    assert said in failed.content
    assert "secret" not in failed.content
    expected = error.exceptions[1] if isinstance(error, ExceptionGroup) else error
    assert failed.metadata["error"] == type(expected).__name__
    assert fine.content == "re: again"
    assert (loop.statistics().failed, loop.statistics().answered) == (1, 1)
    [noted] = [event for event in recorder.events if getattr(event, "what", "") == "turn failed"]
    assert noted.details["error"] is error


async def test_a_turn_that_returns_no_message_is_a_failure() -> None:
    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        await trio.lowlevel.checkpoint()
        return None  # type: ignore[return-value]

    async with running(turn) as (bus, _, seen):
        await bus.publish_inbound(asks("hello"))
    assert seen.errors == ["AttributeError"]


async def test_a_turn_that_takes_too_long_is_given_up(autojump_clock: object) -> None:
    async with running(policy=LoopPolicy(turn=3.0, grace=100)) as (bus, loop, seen):
        await bus.publish_inbound(asks("slow", metadata={"takes": 100}))
        await bus.publish_inbound(asks("next"))
    assert seen.errors == ["TurnTimeout", None]
    assert list(seen.times.values()) == [3.0, 3.0]
    assert loop.statistics().failed == 1


def test_waits_are_rounded_and_written_in_words() -> None:
    told = [duration(seconds) for seconds in (0.0, 1.0, 59.2, 100.0, 3600.0, 86400.0, 10 * 86400.0)]
    assert told == ["1 second", "1 second", "60 seconds", "2 minutes", "60 minutes", "24 hours", "10 days"]


def test_an_infinite_wait_is_left_out_of_the_reply() -> None:
    reply = failure_reply(asks("x"), RateLimitExceeded("x", retry_after=float("inf")))
    assert "retry_after" not in reply.metadata


async def test_a_message_that_comes_twice_is_answered_once() -> None:
    recorder = Recorder()
    async with running(observer=recorder) as (bus, loop, seen):
        message = asks("hello")
        await bus.publish_inbound(message)
        await bus.publish_inbound(message)
        await bus.publish_inbound(attrs.evolve(message, chat_id="2"))
    assert len(seen.replies) == 2  # the same id in another chat is another message
    assert loop.statistics().duplicates == 1
    assert [event.policy for event in recorder.of(MessageDropped)] == ["duplicate"]


async def test_only_so_many_ids_are_remembered() -> None:
    async with running(policy=LoopPolicy(remembered_ids=1, grace=100)) as (bus, loop, seen):
        first, second = asks("1"), asks("2")
        for message in (first, second, second, first):
            await bus.publish_inbound(message)
    assert seen.texts == ["re: 1", "re: 2", "re: 1"]


async def test_pieces_and_retractions_come_before_the_final_reply_and_none_after() -> None:
    contexts: list[TurnContext] = []

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        contexts.append(context)
        await context.show("partial", "Hel", provider="a")
        await context.show("reset")
        await context.show("partial", "Good ")
        return answer(message, "Good day")

    async with running(turn) as (bus, _, seen):
        message = asks("hello")
        await bus.publish_inbound(message)
    assert [(reply.kind, reply.content) for reply in seen.replies] == [
        ("partial", "Hel"),
        ("reset", ""),
        ("partial", "Good "),
        ("final", "Good day"),
    ]
    assert {reply.reply_to for reply in seen.replies} == {message.id}
    assert seen.replies[0].metadata == {"provider": "a"}
    with pytest.raises(BusClosed):
        await contexts[0].show("partial", "late")
    assert repr(contexts[0]).endswith("over>")


async def test_a_channel_that_hangs_takes_no_slot_from_the_others(autojump_clock: object) -> None:
    config = BusConfig(outbound_buffer_size=1, delivery_wait=1000.0)
    policy = LoopPolicy(max_concurrent_turns=1, grace=0)
    async with running(config=config, policy=policy) as (bus, _, seen):
        for number in range(5):
            stuck = InboundMessage(channel="stuck", sender_id="x", chat_id=str(number), content="hello")
            await bus.publish_inbound(stuck)
        await bus.publish_inbound(asks("hello"))
        await trio.testing.wait_all_tasks_blocked()
        assert seen.texts == ["re: hello"]
        assert trio.current_time() == 0.0


async def test_a_stopped_turn_is_reported_and_the_next_one_runs(autojump_clock: object) -> None:
    async with running() as (bus, loop, seen):
        message = asks("long", metadata={"takes": 100})
        await bus.publish_inbound(message)
        await bus.publish_inbound(asks("short"))
        await trio.sleep(1)
        assert loop.cancel_turn(turn_id_of(message))
        assert not loop.cancel_turn("unknown")
    assert seen.errors == ["TurnCancelled", None]
    assert list(seen.times.values()) == [1.0, 1.0]
    assert loop.statistics().cancelled == 1


async def test_a_stopped_session_answers_what_ran_and_what_waited(autojump_clock: object) -> None:
    async with running() as (bus, loop, seen):
        for number in range(3):
            await bus.publish_inbound(asks(f"{number}", metadata={"takes": 10}))
        await bus.publish_inbound(asks("other", chat="2", metadata={"takes": 10}))
        await trio.sleep(1)
        assert loop.cancel_session("test:1") == 3
        assert loop.cancel_session("test:1") <= 1
    assert sorted(seen.errors, key=str) == [None, "TurnCancelled", "TurnCancelled", "TurnCancelled"]
    assert loop.statistics().cancelled == 3


async def test_a_message_that_came_twice_has_one_reply_when_its_session_is_stopped(autojump_clock: object) -> None:
    async with running() as (bus, loop, seen):
        answered, slow, waits = asks("answered"), asks("slow", metadata={"takes": 10}), asks("waits")
        await bus.publish_inbound(answered)
        await trio.sleep(1)
        for message in (slow, slow, answered, waits, waits):
            await bus.publish_inbound(message)
        await trio.sleep(1)
        assert loop.cancel_session("test:1") == 2
        await trio.sleep(1)
        await bus.publish_inbound(waits)
    assert sorted(reply.reply_to for reply in seen.replies) == sorted(message.id for message in (answered, slow, waits))
    assert loop.statistics().cancelled == 2


async def test_everything_can_be_stopped(autojump_clock: object) -> None:
    async with running(policy=LoopPolicy(max_concurrent_turns=2)) as (bus, loop, seen):
        for number in range(6):
            await bus.publish_inbound(asks(f"{number}", chat=str(number % 3), metadata={"takes": 10}))
        await trio.sleep(1)
        assert loop.cancel_all() == 6
        await trio.sleep(1)
        await bus.publish_inbound(asks("and on"))
    assert Counter(seen.errors) == {"TurnCancelled": 6, None: 1}


async def test_a_publisher_that_waits_while_everything_is_stopped_is_let_in(autojump_clock: object) -> None:
    policy, config = LoopPolicy(max_concurrent_turns=1, grace=100.0), BusConfig(inbound_buffer_size=2)
    async with running(policy=policy, config=config) as (bus, loop, seen), trio.open_nursery() as nursery:
        for number in range(5):  # one runs, two wait in the queue, two for room
            nursery.start_soon(bus.publish_inbound, asks(f"{number}", chat=f"{number}", metadata={"takes": 10}))
        await trio.sleep(1)
        waiting = bus.statistics().inbound.waiting
        assert waiting > 0
        stopped = loop.cancel_all()
        await trio.sleep(1)
        assert bus.statistics().inbound.waiting == 0
    assert Counter(seen.errors) == {"TurnCancelled": stopped, None: 5 - stopped}
    assert 5 - stopped == waiting


async def test_shutdown_finishes_what_is_there_and_takes_nothing_new(autojump_clock: object) -> None:
    async with running() as (bus, loop, seen):
        for number in range(3):
            await bus.publish_inbound(asks(f"{number}", metadata={"takes": 10}))
        await loop.shutdown()
        assert trio.current_time() == 30.0
        with pytest.raises(BusClosed):
            await bus.publish_inbound(asks("late"))
    assert seen.texts == ["re: 0", "re: 1", "re: 2"]


async def test_shutdown_cancels_what_is_not_finished_in_time_and_tells_it(autojump_clock: object) -> None:
    async with running() as (bus, loop, seen):
        for number in range(3):
            await bus.publish_inbound(asks(f"{number}", metadata={"takes": 10}))
        await loop.shutdown(grace=15.0)
        assert trio.current_time() == 15.0
    assert seen.texts[0] == "re: 0"
    assert seen.errors == [None, "TurnCancelled", "TurnCancelled"]
    assert loop.statistics() == attrs.evolve(loop.statistics(), answered=1, cancelled=2, running=0, waiting=0)


async def test_a_loop_that_never_ran_can_be_shut_down() -> None:
    await AgentLoop(MessageBus(), echo).shutdown()


async def test_a_cancelled_loop_tells_everybody(autojump_clock: object) -> None:
    bus = MessageBus()
    for number in range(6):
        await bus.publish_inbound(asks(f"{number}", chat=str(number % 3), metadata={"takes": 10}))
    with trio.move_on_after(3):
        await serve_sessions(bus, echo, policy=LoopPolicy(max_concurrent_turns=2))
    bus.close()
    replies = [reply async for reply in bus.outbound("test")]
    assert [reply.metadata["error"] for reply in replies] == ["TurnCancelled"] * 6
    assert len({reply.reply_to for reply in replies}) == 6


async def test_what_breaks_in_a_cancelled_turn_is_its_own_affair(autojump_clock: object) -> None:
    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        async def break_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
        raise AssertionError

    bus = MessageBus()
    await bus.publish_inbound(asks("hello"))
    with trio.move_on_after(3):
        await serve_sessions(bus, turn)
    bus.close()
    assert [reply.reply_to async for reply in bus.outbound("test")]


async def test_cancelled_anywhere_every_accepted_message_has_one_reply() -> None:
    accepted: list[str] = []
    bus = MessageBus()

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        await context.show("partial", "so far")
        await trio.lowlevel.checkpoint()
        return answer(message)

    async def operation() -> None:
        nonlocal bus
        bus = MessageBus(BusConfig(inbound_buffer_size=2, outbound_buffer_size=8))
        accepted.clear()

        async def publish(chat: str) -> None:
            for number in range(2):
                message = asks(str(number), chat=chat)
                with suppress(BusClosed):
                    await bus.publish_inbound(message)
                    accepted.append(message.id)

        async with trio.open_nursery() as nursery:
            loop: AgentLoop = await nursery.start(serve_sessions, bus, turn)
            async with trio.open_nursery() as publishing:
                publishing.start_soon(publish, "a")
                publishing.start_soon(publish, "b")
            await loop.shutdown()

    async def everybody_was_told_once() -> None:
        bus.close()
        finals = [reply.reply_to async for reply in bus.outbound("test") if reply.kind == "final"]
        # One whose publisher was cancelled when it was in already may have its reply, too.
        assert set(accepted) <= set(finals)
        assert len(finals) == len(set(finals))
        assert bus.statistics().inbound.depth == 0

    assert await cancel_everywhere(operation, everybody_was_told_once) >= 20


@asynccontextmanager
async def journalled() -> AsyncGenerator[tuple[MessageBus, Journal], None]:
    async with open_store(None, migrations=MIGRATIONS) as store:
        yield MessageBus(undelivered=StoredUndelivered(store)), Journal(store)


async def test_what_was_left_unfinished_is_resumed_ahead_of_new_messages() -> None:
    resumed: list[tuple[str, bool]] = []

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        await trio.lowlevel.checkpoint()
        resumed.append((message.content, context.resumed))
        return answer(message)

    async with journalled() as (bus, journal):
        old = [asks("old 1"), asks("old 2")]
        for message in old:
            assert await journal.accepted(message)
        await bus.publish_inbound(asks("new"))
        await bus.publish_inbound(old[0])  # its channel had no receipt, and sends it again
        bus.close_inbound()
        await serve_sessions(bus, turn, journal=journal, policy=LoopPolicy(max_concurrent_turns=1))
        bus.close()
        assert resumed == [("old 1", True), ("old 2", True), ("new", False)]
        assert [reply.content async for reply in bus.outbound("test")] == ["re: old 1", "re: old 2", "re: new"]
        assert await journal.unfinished() == ()
        assert not await journal.accepted(old[0])


async def test_a_turn_that_no_process_survives_is_given_up() -> None:
    async with journalled() as (bus, journal):
        message = asks("deadly")
        await journal.accepted(message)
        for times in range(3):
            [left] = await journal.unfinished()
            assert left.resumes == times
        bus.close_inbound()
        await serve_sessions(bus, echo, journal=journal, policy=LoopPolicy(max_resumes=3))
        bus.close()
        assert [r.metadata["error"] async for r in bus.outbound("test")] == ["TurnInterrupted"]
        assert await journal.unfinished() == ()


async def test_the_last_resumption_that_is_allowed_answers_and_is_counted() -> None:
    async with journalled() as (bus, journal):
        await journal.accepted(asks("left"))
        for _ in range(2):
            await journal.unfinished()
        await bus.publish_inbound(asks("new"))
        bus.close_inbound()
        counted: list[int] = []

        async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
            await trio.lowlevel.checkpoint()
            counted.append(loop.statistics().resumed)
            return answer(message)

        async with trio.open_nursery() as nursery:
            policy = LoopPolicy(max_resumes=3, max_concurrent_turns=1)
            loop: AgentLoop = await nursery.start(
                lambda **kw: serve_sessions(bus, turn, journal=journal, policy=policy, **kw)
            )
        bus.close()
        assert [reply.content async for reply in bus.outbound("test")] == ["re: left", "re: new"]
        assert (counted, loop.statistics().resumed, loop.statistics().failed) == ([1, 1], 1, 0)


async def test_a_reply_is_on_the_shelf_until_its_channel_has_it() -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        undelivered = StoredUndelivered(store)
        bus = MessageBus(undelivered=undelivered)
        await bus.publish_inbound(asks("hello"))
        bus.close_inbound()
        await serve_sessions(bus, echo, journal=Journal(store))
        assert [len(keys) for keys in (await undelivered.waiting()).values()] == [1]
        # The process ends here: the next one finds the reply.
        again = MessageBus(undelivered=undelivered)
        await again.load_undelivered()
        again.close()
        assert [reply.content async for reply in again.outbound("test")] == ["re: hello"]
        assert await undelivered.waiting() == {}


async def test_a_message_that_cannot_be_stored_is_reported() -> None:
    class Broken:
        async def accepted(self, message: InboundMessage) -> bool:
            await trio.lowlevel.checkpoint()
            raise StoreError("disk full")

        async def withdrawn(self, message: InboundMessage) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreError("disk full")

        async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreError("disk full")

        async def unfinished(self) -> tuple[()]:
            await trio.lowlevel.checkpoint()
            return ()

    async with running(journal=Broken()) as (bus, loop, seen):
        with pytest.raises(StoreError):
            await bus.publish_inbound(asks("lost"))
        bus.publish_inbound_nowait(asks("hello"))
    assert seen.errors == ["StoreError"]
    assert loop.statistics() == attrs.evolve(loop.statistics(), failed=1, answered=0, duplicates=0)


async def test_an_accepted_message_is_in_the_journal_before_the_loop_begins() -> None:
    async with journalled() as (bus, journal):
        AgentLoop(bus, echo, journal=journal)
        message = asks("hello")
        assert await bus.publish_inbound(message)
        # The process ends here, before the loop has begun.
        [left] = await journal.unfinished()
        assert left.message == message


async def test_published_before_the_loop_begins_a_message_is_answered_once() -> None:
    async with journalled() as (bus, journal):
        loop = AgentLoop(bus, echo, journal=journal)
        message = asks("hello")
        await bus.publish_inbound(message)
        assert await bus.publish_inbound(message)
        bus.close_inbound()
        await loop.serve()
        bus.close()
        assert [reply.content async for reply in bus.outbound("test")] == ["re: hello"]
        assert loop.statistics() == attrs.evolve(loop.statistics(), answered=1, duplicates=1, resumed=0)


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest", "reject"])
async def test_what_did_not_get_in_is_not_in_the_journal(policy: str) -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        journal = Journal(store)
        config = BusConfig(inbound_buffer_size=1, overflow_policy=policy)
        bus = MessageBus(config, undelivered=StoredUndelivered(store))
        AgentLoop(bus, echo, journal=journal)
        await bus.publish_inbound(asks("first"))
        with trio.move_on_after(0.3), suppress(BusFull):
            await bus.publish_inbound(asks("second"))
        assert [left.message.content for left in await journal.unfinished()] == [
            "second" if policy == "drop_oldest" else "first"
        ]
        bus.close()
        with pytest.raises(BusClosed):
            await bus.publish_inbound(asks("third"))
        assert len(await journal.unfinished()) == 1


async def test_cancelled_publishing_is_in_the_journal_or_not_at_all() -> None:
    state: dict[str, object] = {}

    async def operation() -> None:
        async with open_store(None, migrations=MIGRATIONS) as store:
            journal = Journal(store)
            bus = MessageBus(BusConfig(inbound_buffer_size=2), undelivered=StoredUndelivered(store))
            AgentLoop(bus, echo, journal=journal)
            state.clear()
            state["returned"] = 0
            try:
                for number in range(3):  # the third waits for ever
                    with trio.move_on_after(0.01):
                        await bus.publish_inbound(asks(str(number)))
                        state["returned"] += 1
            finally:
                with trio.CancelScope(shield=True):
                    state["journalled"] = len(await journal.unfinished())

    async def what_returned_is_there() -> None:
        assert state.get("returned") == state.get("journalled")

    assert await cancel_everywhere(operation, what_returned_is_there) >= 6


@pytest.mark.parametrize("seed", range(4))
async def test_cancelled_anywhere_a_journalled_message_is_answered_or_resumed(seed: int) -> None:
    message = asks("hello")
    # Opened anew for each step: what a step leaves in the journal is what the check is about.
    state: dict[str, object] = {}

    async def operation() -> None:
        async with open_store(None, migrations=MIGRATIONS) as store:
            bus = MessageBus(undelivered=StoredUndelivered(store))
            journal = Journal(store)
            state.clear()
            message_in = attrs.evolve(message)
            try:
                async with trio.open_nursery() as nursery:
                    loop: AgentLoop = await nursery.start(lambda **kw: serve_sessions(bus, echo, journal=journal, **kw))
                    await bus.publish_inbound(message_in)
                    state["published"] = True
                    await loop.shutdown()
            finally:
                with trio.CancelScope(shield=True):
                    state["unfinished"] = len(await journal.unfinished())
                    bus.close()
                    state["finals"] = [reply.reply_to async for reply in bus.outbound("test")]

    async def it_is_one_or_the_other() -> None:
        if state.get("published"):
            assert state["unfinished"] + len(state["finals"]) == 1

    assert await cancel_everywhere(operation, it_is_one_or_the_other, seed=seed) >= 8


async def soak(seed: int, turns: int) -> None:
    """Random faults, cancellations and a full outbound bus: one reply per accepted message, nothing left."""
    chance = random.Random(seed)
    config = BusConfig(
        inbound_buffer_size=16,
        outbound_buffer_size=2,
        delivery_wait=0.5,
        inbound_overflow_policy=chance.choice(["block", "reject", "drop_newest", "drop_oldest"]),
    )
    accepted: set[str] = set()
    finals: Counter[str] = Counter()
    order: dict[str, list[int]] = defaultdict(list)
    dropped = Recorder()
    bus = MessageBus(config, observer=dropped)

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        for _ in range(chance.randrange(3)):
            await context.show(chance.choice(["partial", "reset"]), "x")
            await trio.sleep(chance.random())
        match chance.randrange(8):
            case 0:
                raise ServerError("failed")
            case 1:
                await trio.sleep_forever()
            case 2:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 1)
                    raise ValueError("broken")
        return answer(message)

    async def publish(chat: str) -> None:
        for number in range(turns // 10):
            message = asks(str(number), chat=chat)
            try:
                if await bus.publish_inbound(message):
                    accepted.add(message.id)
            except BusFull:
                await trio.sleep(chance.random())

    async def deliver() -> None:
        async for reply in bus.outbound("test"):
            await trio.sleep(chance.random() / 4)
            if reply.kind == "final":
                finals[reply.reply_to] += 1
                if "error" not in reply.metadata:
                    order[reply.chat_id].append(int(reply.content[4:]))

    async def disturb(loop: AgentLoop) -> None:
        while True:
            await trio.sleep(chance.random() * 5)
            busy = list(loop._running)
            if busy:
                loop.cancel_turn(chance.choice(busy))
            if chance.random() < 0.1:
                loop.cancel_session(f"test:{chance.randrange(10)}")

    async with trio.open_nursery() as delivering:
        delivering.start_soon(deliver)
        async with trio.open_nursery() as disturbing:
            async with trio.open_nursery() as serving:
                policy = LoopPolicy(max_concurrent_turns=6, session_buffer_size=3, turn=10.0, grace=1e6)
                loop = await serving.start(lambda **kw: serve_sessions(bus, turn, policy=policy, **kw))
                disturbing.start_soon(disturb, loop)
                async with trio.open_nursery() as publishing:
                    for chat in range(10):
                        publishing.start_soon(publish, str(chat))
                await loop.shutdown()
            disturbing.cancel_scope.cancel(reason="served everything")
        bus.close()
    lost = {event.message.id for event in dropped.of(MessageDropped) if isinstance(event.message, InboundMessage)}
    assert set(finals) == accepted - lost
    assert set(finals.values()) <= {1}
    assert all(numbers == sorted(numbers) for numbers in order.values())
    books = loop.statistics()
    assert books.answered + books.failed + books.cancelled == len(finals)
    assert (books.running, books.waiting) == (0, 0)
    assert bus.statistics().undelivered == {}
    assert bus.statistics().inbound.depth == bus.statistics().outbound["test"].depth == 0


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_every_message_of_a_soak_has_a_reply(seed: int) -> None:
    in_mock_time(lambda: soak(seed, 200))()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5))
def test_every_message_of_a_long_soak_has_a_reply(seed: int) -> None:
    in_mock_time(lambda: soak(seed, 10_000))()


async def test_a_slot_is_free_again_when_its_message_was_cancelled_meanwhile(autojump_clock) -> None:
    async def slow(message: InboundMessage, _: TurnContext) -> OutboundMessage:
        await trio.sleep(10)
        return answer(message)

    async with running(slow, policy=LoopPolicy(max_concurrent_turns=1, grace=100.0)) as (bus, loop, seen):
        await bus.publish_inbound(asks("first", chat="a"))
        await trio.sleep(1)
        waiting = asks("second", chat="b")
        await bus.publish_inbound(waiting)
        await trio.sleep(1)
        assert loop.cancel_session(waiting.session_key) == 1
        await trio.sleep(10)
        await bus.publish_inbound(asks("third", chat="c"))
        with trio.fail_after(15):
            while len(seen.replies) < 3:
                await trio.sleep(0.1)
    assert loop.statistics() == attrs.evolve(loop.statistics(), answered=2, cancelled=1)


async def test_nothing_is_remembered_of_messages_that_were_answered() -> None:
    async with journalled() as (bus, journal), trio.open_nursery() as nursery:
        loop = await nursery.start(lambda **kw: serve_sessions(bus, echo, journal=journal, **kw))
        asked = [asks(f"{number}", chat=f"{number % 3}") for number in range(20)]
        for message in asked:
            await bus.publish_inbound(message)
        await loop.shutdown()
        assert not any(map(loop._intake.is_waiting, asked))
        assert loop.statistics().running == 0


async def test_a_reply_that_waits_for_its_channel_is_written_once(autojump_clock) -> None:
    ended: list[str] = []

    class Counting(Journal):
        async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
            ended.append(message.id)
            await super().replied(message, reply)

    async with open_store(None, migrations=MIGRATIONS) as store:
        bus = MessageBus(BusConfig(outbound_buffer_size=1), undelivered=StoredUndelivered(store))
        asked = [asks(f"{number}", chat=f"{number}") for number in range(3)]
        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                await nursery.start(lambda **kw: serve_sessions(bus, echo, journal=Counting(store), **kw))
                for message in asked:
                    await bus.publish_inbound(message)
                await trio.sleep_forever()
        bus.close()
        assert sorted(ended) == sorted(message.id for message in asked)
        assert len([reply async for reply in bus.outbound("test")]) == 3
