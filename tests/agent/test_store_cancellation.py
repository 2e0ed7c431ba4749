"""Every operation of a worker on its store, cancelled at every step: what returned is written, and nothing else is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from clawft_trio.agent.durable_asks import DurableAsks
from clawft_trio.agent.journal import Journal, turn_id_of
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.session_view import Compaction
from clawft_trio.agent.sessions import Sessions
from clawft_trio.agent.turn_types import Reply, TurnRequest
from clawft_trio.agent.workers import requeue, summarize_work
from clawft_trio.attempts import Latency
from clawft_trio.auth import ADMIN
from clawft_trio.bus import LeasedUndelivered
from clawft_trio.chat import Message, ToolCall
from clawft_trio.costs import Bill, Claim, CostTracker, Ledger
from clawft_trio.mcp.tool_pinning import StoredPins
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.store.copying import copy_store, tables_of
from clawft_trio.store.ownership import Ownership, open_ownership, session_name
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import ToolResult, tool

ASKED = InboundMessage(channel="ch", sender_id="u", chat_id="s", id="m1", content="pay")
NEXT = attrs.evolve(ASKED, id="m2")
TURN = turn_id_of(ASKED)
NAME = session_name(ASKED.session_key)
REPLY = OutboundMessage(channel="ch", chat_id="s", content="paid", reply_to="m1")
CALL = ToolCall(id="c", name="pay")


@tool
async def pay(n: str) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    return n


class Process:
    """What one process has on its store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ownership = Ownership(store)
        self.journal = Journal(store, ownership=self.ownership)
        self.sessions = Sessions(store, ownership=self.ownership)
        self.replies = LeasedUndelivered(self.ownership)
        self.tracker = CostTracker(Ledger(store))

    async def count(self, rest: str) -> int:
        (number,) = await self.store.read(lambda c: c.execute(f"SELECT count(*) FROM {rest}").fetchone())
        return int(number)

    async def sql(self, query: str, *values: Any) -> None:
        await self.store.transact(lambda c: c.execute(query, values).rowcount)


@attrs.frozen
class Case:
    """An operation, what was there before it, and how often its effect is in the store."""

    run: Callable[[Process], Awaitable[object]]
    effects: Callable[[Process], Awaitable[int]]
    prepare: Callable[[Process], Awaitable[object]]
    #: what `effects` counts when it has not run
    before: int = 0
    #: and when it has
    after: int = 1


async def nothing(process: Process) -> None:
    await trio.lowlevel.checkpoint()


async def accepted(process: Process) -> None:
    await process.journal.accept(ASKED, claim=False)


async def claimed(process: Process) -> None:
    """The turn of ASKED is begun, with another message behind it."""
    await process.journal.accept(ASKED, claim=True)
    await process.journal.accept(NEXT, claim=False)
    lease = process.ownership.lease_of(NAME)
    assert lease is not None
    process.ownership.guard(TURN, lease)


async def started(process: Process) -> None:
    await claimed(process)
    await process.journal.tools(TURN, 1).started(CALL, pay)


async def ended(process: Process) -> None:
    await process.journal.tools(TURN, 1).ended(ToolResult("c", name="pay", text="paid"))
    await process.ownership.write(TURN, lambda _: None)


async def given_up(process: Process) -> None:
    await claimed(process)
    await process.journal.end(ASKED, REPLY, go_on=False, given_up="too often")


async def kept(process: Process) -> None:
    await process.replies.keep("key", REPLY)


async def said(process: Process) -> None:
    await process.sessions.append("s", [Message.user("hello")], turn_id="t")


async def reserved(process: Process) -> None:
    process.reservation = await process.tracker.ledger.reserve(Claim(sender_id="u", target="p/m"), None)


async def settled(process: Process) -> None:
    # Cancelled, the settlement is owed.
    try:
        await process.tracker.update(process.reservation, Bill())
    finally:
        with trio.CancelScope(shield=True):
            await process.tracker.settle_owed()


async def ask(process: Process) -> None:
    async def answer(question: TurnRequest) -> Reply:
        await trio.lowlevel.checkpoint()
        return Reply(
            text="paid",
            finish_reason="stop",
            provider="p",
            model="m",
            usage=None,
            cost=None,
            latency=Latency(total=0.0),
            attempts=(),
            tools=(),
            rounds=(),
            session=question.session,
            turn_id=question.turn_id,
        )

    question = TurnRequest(content=Message.user("pay"), auth=ADMIN, session="s", turn_id="asked")
    await DurableAsks(process.journal, process.ownership).ask(question, answer)


def counts(rest: str) -> Callable[[Process], Awaitable[int]]:
    return lambda process: process.count(rest)


async def is_claimed(process: Process) -> int:
    begun = await process.count("turns WHERE resumes = 1 AND message IS NOT NULL")
    assert await process.count("leases") == process.ownership.held == begun
    return begun


async def is_replied(process: Process) -> int:
    replies = await process.count("undelivered")
    assert await process.count("turns WHERE message IS NULL") == replies
    assert await process.count("leases") == process.ownership.held == 1 - replies
    return replies


CASES = {
    "accept": Case(lambda p: p.journal.accept(ASKED, claim=False), counts("turns"), nothing),
    "accept and claim": Case(lambda p: p.journal.accept(ASKED, claim=True), is_claimed, nothing),
    "accepted": Case(lambda p: p.journal.accepted(ASKED), counts("turns"), nothing),
    "withdrawn": Case(lambda p: p.journal.withdrawn(ASKED), counts("turns"), accepted, before=1, after=0),
    "claim": Case(lambda p: p.journal.claim(4), is_claimed, accepted),
    "claim_session": Case(lambda p: p.journal.claim_session(ASKED.session_key), is_claimed, accepted),
    "prepare": Case(lambda p: p.journal.prepare(), counts("turns WHERE resumes = 0"), accepted, before=1),
    "unfinished": Case(lambda p: p.journal.unfinished(), counts("turns WHERE resumes = 1"), accepted),
    "started": Case(lambda p: p.journal.tools(TURN, 1).started(CALL, pay), counts("tool_calls"), claimed),
    "ended": Case(ended, counts("tool_calls WHERE answer IS NOT NULL"), started),
    "end": Case(lambda p: p.journal.end(ASKED, REPLY, go_on=False), is_replied, claimed),
    "end and go on": Case(
        lambda p: p.journal.end(ASKED, REPLY, go_on=True), counts("turns WHERE resumes = 1 AND turn LIKE '%m2%'"), claimed
    ),
    "acquire": Case(lambda p: p.ownership.acquire("channel:ch"), counts("leases"), nothing),
    "write": Case(
        lambda p: p.ownership.write(TURN, lambda c: c.execute("DELETE FROM turns").rowcount), counts("turns"), claimed,
        before=2, after=0,
    ),
    "serve a channel": Case(lambda p: p.replies.serve("ch"), counts("leases"), nothing),
    "keep": Case(lambda p: p.replies.keep("key", REPLY), counts("undelivered"), nothing),
    "delivered": Case(lambda p: p.replies.delivered("key"), counts("undelivered"), kept, before=1, after=0),
    "append": Case(lambda p: p.sessions.append("s", [Message.user("hi")], turn_id="x"), counts("messages"), nothing),
    "compact": Case(
        lambda p: p.sessions.compact("s", Compaction(cut=1, cleared=0, summary=""), version=0), counts("compactions"), said
    ),
    "keep_result": Case(lambda p: p.sessions.keep_result("s", "r", "text"), counts("results"), nothing),
    "clear": Case(lambda p: p.sessions.clear("s"), counts("messages"), said, before=1, after=0),
    "requeue": Case(lambda p: requeue(p.store, TURN), counts("turns WHERE message IS NOT NULL"), given_up, 1, 2),
    "pins": Case(lambda p: StoredPins(p.store).keep("files", {"read": "a"}), counts("mcp_pins"), nothing),
    "reserve": Case(reserved, counts("cost_charges"), nothing),
}  # fmt: skip

READS: dict[str, Callable[[Process], Awaitable[object]]] = {
    "answers": lambda p: p.journal.answers(TURN),
    "tool_answers": lambda p: p.journal.tool_answers(TURN, 1, [CALL]),
    "is_left_to_others": lambda p: p.journal.is_left_to_others(ASKED.session_key),
    "fetch": lambda p: p.replies.fetch(["key"]),
    "waiting": lambda p: p.replies.waiting(),
    "keys": lambda p: p.replies.keys("ch", 5),
    "history": lambda p: p.sessions.history("s"),
    "tail": lambda p: p.sessions.tail("s", 5),
    "result": lambda p: p.sessions.result("s", "r"),
    "summaries": lambda p: p.sessions.summaries(),
    "summarize_work": lambda p: summarize_work(p.store),
    "pins": lambda p: StoredPins(p.store).load("files"),
    "entries": lambda p: p.tracker.ledger.entries(),
    "spending": lambda p: p.tracker.ledger.spending(),
}


async def emptied(store: Store) -> Process:
    def empty(connection: Any) -> None:
        for table in tables_of(MIGRATIONS):
            connection.execute(f"DELETE FROM {table}")

    await store.transact(empty)
    return Process(store)


@pytest.mark.parametrize("name", CASES)
async def test_what_returned_is_written_and_what_was_cancelled_is_not(place, name: str) -> None:
    case = CASES[name]
    returned = False
    async with open_store(place, migrations=MIGRATIONS) as store:
        process = await emptied(store)
        await case.prepare(process)

        async def operation() -> None:
            nonlocal returned
            await case.run(process)
            returned = True

        async def check() -> None:
            nonlocal process, returned
            assert await case.effects(process) == (case.after if returned else case.before)
            assert store.statistics().waiting == 0
            process, returned = await emptied(store), False
            await case.prepare(process)

        assert await cancel_everywhere(operation, check) >= 2


@pytest.mark.parametrize("name", READS)
async def test_a_cancelled_read_changes_nothing(place, name: str) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        process = await emptied(store)
        await kept(process)
        await accepted(process)

        async def check() -> None:
            assert store.statistics().waiting == 0
            assert (await process.count("turns"), await process.count("undelivered")) == (1, 1)

        assert await cancel_everywhere(lambda: READS[name](process), check) >= 1


async def test_a_cancelled_settlement_is_written_or_owed(place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        process = Process(store)
        await reserved(process)

        async def check() -> None:
            await process.tracker.settle_owed()
            open_charges = await process.count("cost_charges WHERE state = 'open'")
            # Cancelled before it began, it was neither.
            assert open_charges <= (not tried)
            tried.clear()
            await reserved(process)

        tried: list[bool] = []

        async def operation() -> None:
            tried.append(True)
            await settled(process)

        assert await cancel_everywhere(operation, check) >= 2


@pytest.mark.parametrize("release", ["one", "all", "the end of the block"])
async def test_a_lease_that_is_given_back_is_free_or_not_known_any_more(place, release: str) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        process = await emptied(store)
        await process.ownership.acquire("channel:ch")

        async def operation() -> None:
            if release == "one":
                await process.ownership.release("channel:ch")
            elif release == "all":
                await process.ownership.release_all()
            else:
                async with open_ownership(store, durable=True) as ownership:
                    assert ownership is not None
                    await ownership.acquire("channel:other")

        async def check() -> None:
            nonlocal process
            assert await process.count("leases WHERE name = 'channel:other'") == 0
            if process.ownership.held:
                assert await process.count("leases WHERE name = 'channel:ch'") == 1
            process = await emptied(store)
            await process.ownership.acquire("channel:ch")

        assert await cancel_everywhere(operation, check) >= 2


async def test_a_question_that_was_cancelled_holds_no_lease_and_is_answered_when_it_is_asked_again(place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        process, returned = await emptied(store), False

        async def operation() -> None:
            nonlocal returned
            await ask(process)
            returned = True

        async def check() -> None:
            nonlocal process, returned
            assert process.ownership.held == 0
            assert await process.count("leases") == 0
            assert not returned or await process.count("asks") == 1
            await ask(process)
            assert await process.count("asks") == 1
            process, returned = await emptied(store), False

        assert await cancel_everywhere(operation, check) >= 4


async def test_a_cancelled_copy_leaves_the_target_as_it_was(place) -> None:
    async with open_store(None, migrations=MIGRATIONS) as source, open_store(place, migrations=MIGRATIONS) as target:
        process = Process(source)
        await claimed(process)
        await kept(process)
        await process.ownership.release_all()
        copied = False

        async def operation() -> None:
            nonlocal copied
            await copy_store(source, target, MIGRATIONS)
            copied = True

        async def check() -> None:
            nonlocal copied
            process = Process(target)
            assert await process.count("turns") == (2 if copied else 0)
            assert await process.count("undelivered") == (1 if copied else 0)
            await emptied(target)
            copied = False

        assert await cancel_everywhere(operation, check) >= 2
