"""Turns outlive the process: killed at every boundary of the journal, each message has its one reply in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio

from clawft_trio.agent import journal as journal_room, journal_sql, sessions as sessions_room
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.sessions import Sessions
from clawft_trio.bus import StoredUndelivered
from clawft_trio.chat import ChatResponse, ToolCall
from clawft_trio.errors import OutcomeUnknown, StoreCorrupt
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import open_store
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import ToolResult, tool

CHILD = Path(__file__).with_name("journal_child.py")


def run_child(folder: Path, step: int) -> int | None:
    """Run it; the number of its boundaries, or None when it was killed."""
    child = subprocess.run(
        [sys.executable, str(CHILD), str(folder), str(step)], capture_output=True, text=True, timeout=60
    )
    if child.returncode == -signal.SIGKILL:
        return None
    assert child.returncode == 0, child.stderr
    return int(child.stdout)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def check_the_world(folder: Path, *, killed: int) -> None:
    """Exactly one reply to each message, and nothing that cannot be taken back twice."""
    replies = lines(folder / "replies")
    by_message = {line.split(" ", 1)[0]: line for line in replies}
    assert set(by_message) == {"m1", "m2"}
    # Delivery and its receipt are not one step: in between, a reply may be shown again, but never another one.
    assert len(set(replies)) == 2
    assert len(replies) <= 2 + killed
    effects = Counter(lines(folder / "effects"))
    for number in (1, 2):
        assert effects[f"paid {number}"] <= 1
        known = by_message[f"m{number}"].split(" ", 1)[1].startswith("paid")
        if known:
            assert effects[f"paid {number}"] == 1
        else:
            assert "outcome_unknown" in by_message[f"m{number}"]
        assert 1 <= effects[f"switched on {number}"] <= 1 + killed
        for stage in (1, 2):
            assert 1 <= effects[f"bought q{number} round {stage}"] <= 1 + killed

    async def look_inside() -> None:
        migrations = (*journal_room.MIGRATIONS, *sessions_room.MIGRATIONS)
        async with open_store(folder / "store.db", migrations=migrations) as store:
            assert await Journal(store).unfinished() == ()
            assert await StoredUndelivered(store).waiting() == {}
            history = await Sessions(store).history("test:1")
            assert Counter(message.role for message in history) == {"user": 2, "assistant": 4, "tool": 4}
            for table in ("answers", "tool_calls"):
                assert await store.read(lambda c, t=table: c.execute(f"SELECT count(*) FROM {t}").fetchone()) == (0,)

    trio.run(look_inside)


def test_without_a_crash_everything_happens_once(tmp_path: Path) -> None:
    assert run_child(tmp_path, 0) == 2 * (2 * (1 + 2 + 4 + 1 + 1 + 1)) + 2
    check_the_world(tmp_path, killed=0)
    assert Counter(lines(tmp_path / "effects")).most_common(1)[0][1] == 1
    assert len(lines(tmp_path / "replies")) == 2


def kill_at(folder: Path, steps: list[int]) -> bool:
    """Kill one child after the other, then let one live. Whether the first was killed at all."""
    first = run_child(folder, steps[0])
    for step in steps[1:]:
        run_child(folder, step)
    assert run_child(folder, 0) is not None
    return first is None


@pytest.mark.parametrize("step", [8, 9, 15, 20])
def test_killed_at_a_boundary_every_message_has_one_reply_and_no_effect_is_repeated(tmp_path: Path, step: int) -> None:
    assert kill_at(tmp_path, [step])
    check_the_world(tmp_path, killed=1)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_at_every_boundary(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        if not kill_at(folder, [step]):
            break
        check_the_world(folder, killed=1)
    assert step > 40


@pytest.mark.long
@pytest.mark.parametrize("first", range(1, 22, 2))
def test_killed_again_while_it_recovers(tmp_path: Path, first: int) -> None:
    for second in range(1, 16, 3):
        folder = tmp_path / str(second)
        folder.mkdir()
        kill_at(folder, [first, second])
        check_the_world(folder, killed=2)


@tool
async def pay() -> str:
    """Not idempotent."""
    return ""


@tool(mode="read_only")
async def look() -> str:
    """Idempotent, because it only reads."""
    return ""


MESSAGE = InboundMessage(channel="test", sender_id="ana", chat_id="1", content="hello", id="m1")
REPLY = OutboundMessage(channel="test", chat_id="1", content="done", reply_to="m1")


async def test_a_call_that_was_started_is_unknown_unless_it_is_idempotent() -> None:
    calls = [ToolCall(id=name, name=name) for name in ("done", "pay", "look", "fresh")]
    async with open_store(None, migrations=journal_room.MIGRATIONS) as store:
        journal = Journal(store)
        steps = journal.tools("t", 1)
        for call, offered in zip(calls, (pay, pay, look), strict=False):
            await steps.started(call, offered)
        await steps.ended(ToolResult("done", name="pay", text="paid"))
        known = await journal.tool_answers("t", 1, calls)
        assert set(known) == {"done", "pay"}
        assert known["done"].text == "paid"
        assert isinstance(known["pay"].error, OutcomeUnknown)
        assert "outcome_unknown" in known["pay"].text
        assert await journal.tool_answers("t", 2, calls) == {}
        assert await journal.tool_answers("t", 1, calls[2:]) == {}


async def test_the_end_of_a_turn_forgets_its_steps_and_keeps_its_reply_in_one_step() -> None:
    async with open_store(None, migrations=journal_room.MIGRATIONS) as store:
        journal, undelivered = Journal(store), StoredUndelivered(store)
        assert await journal.accepted(MESSAGE)
        assert not await journal.accepted(MESSAGE)
        turn = journal_room.turn_id_of(MESSAGE)
        await journal.answered(turn, 1, ChatResponse(content="a"))
        await journal.answered(turn, 2, ChatResponse(content="b"))
        assert [response.text for response in await journal.answers(turn)] == ["a", "b"]
        await journal.tools(turn, 1).started(ToolCall(id="c", name="pay"), pay)

        await journal.replied(MESSAGE, REPLY)
        assert await journal.answers(turn) == ()
        assert await journal.tool_answers(turn, 1, [ToolCall(id="c", name="pay")]) == {}
        assert await journal.unfinished() == ()
        [[key]] = (await undelivered.waiting()).values()
        assert [kept.message for kept in await undelivered.fetch([key])] == [REPLY]


async def test_old_ids_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_sql, "_REMEMBERED", 2)
    async with open_store(None, migrations=journal_room.MIGRATIONS) as store:
        journal = Journal(store)
        messages = [InboundMessage(channel="t", sender_id="a", chat_id="1", content="x", id=f"{n}") for n in range(5)]
        for message in messages:
            await journal.accepted(message)
            if message is not messages[0]:
                await journal.replied(message, REPLY)
        [left] = await journal.unfinished()
        assert left.message == messages[0]
        assert [await journal.accepted(message) for message in messages] == [False, True, True, False, False]


async def test_an_unreadable_journal_is_a_typed_error() -> None:
    async with open_store(None, migrations=journal_room.MIGRATIONS) as store:
        journal = Journal(store)
        await journal.accepted(MESSAGE)
        await store.transact(lambda connection: connection.execute("UPDATE turns SET message = x'5b5d'"))
        with pytest.raises(StoreCorrupt):
            await journal.unfinished()


async def test_cancelled_means_not_written() -> None:
    written: list[str] = []

    async with open_store(None, migrations=journal_room.MIGRATIONS) as store:
        journal = Journal(store)

        async def operation() -> None:
            written.clear()
            with trio.CancelScope(shield=True):
                await store.transact(
                    lambda c: [c.execute(f"DELETE FROM {t}") for t in ("turns", "answers", "tool_calls")]
                )
            await journal.accepted(MESSAGE)
            written.append("accepted")
            await journal.answered("t", 1, ChatResponse(content="a"))
            written.append("answered")
            await journal.tools("t", 1).started(ToolCall(id="c", name="pay"), pay)
            written.append("started")
            await journal.tools("t", 1).ended(ToolResult("c", name="pay", text="paid"))
            written.append("ended")
            await journal.replied(MESSAGE, REPLY)
            written.append("replied")

        async def the_journal_says_what_returned() -> None:
            known = await journal.tool_answers("t", 1, [ToolCall(id="c", name="pay")])
            unfinished = await journal.unfinished()
            found = []
            if unfinished or "replied" in written:
                found.append("accepted")
            if await journal.answers("t"):
                found.append("answered")
            if known:
                found.append("started")
            if known and known["c"].text == "paid":
                found.append("ended")
            if written and not unfinished:
                found.append("replied")
            assert found == written

        assert await cancel_everywhere(operation, the_journal_says_what_returned) >= 10
