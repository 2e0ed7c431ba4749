"""What a model is shown of a stored session: the cut, cleared results, and the jumps in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.agent.result_tool import result_tool
from clawft_trio.agent.session_view import (
    Compaction,
    SessionTail,
    StoredMessage,
    first_within,
    place_of,
    presentable,
    reference,
    shown,
    starts_of_turns,
    with_summary,
)
from clawft_trio.agent.sessions import MIGRATIONS, MemorySessions, Sessions
from clawft_trio.chat import Image, Message, ToolCall
from clawft_trio.errors import ToolFailed
from clawft_trio.store import open_store
from clawft_trio.testing import cancel_everywhere
from clawft_trio.tools import ToolContext

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@asynccontextmanager
async def opened(kind: str, tmp_path: Path) -> AsyncGenerator[Sessions | MemorySessions, None]:
    if kind == "memory":
        yield MemorySessions(now=lambda: NOON)
    else:
        async with open_store(tmp_path / "s.db", migrations=MIGRATIONS) as store:
            yield Sessions(store, now=lambda: NOON)


def turn(number: int, size: int = 2) -> list[Message]:
    calls = tuple(ToolCall(id=f"c{number}.{n}", name="look") for n in range(size - 2))
    asked = [Message.assistant("", tool_calls=calls)] if calls else []
    results = [Message.tool("found", tool_call_id=call.id) for call in calls]
    return [Message.user(f"q{number}"), *asked, *results, Message.assistant(f"a{number}")]


kinds = pytest.mark.parametrize("kind", ["memory", "sqlite"])


@kinds
async def test_a_compaction_hides_messages_and_deletes_none(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as sessions:
        for number in range(3):
            await sessions.append("s", turn(number), turn_id=str(number))
        tail = await sessions.tail("s", 100)
        assert (len(tail.rows), tail.version, tail.compaction) == (6, 0, Compaction())
        cut = Compaction(cut=tail.rows[3].place, summary="two turns")
        assert await sessions.compact("s", cut, version=tail.version)
        tail = await sessions.tail("s", 100)
        assert tail.messages == tuple(turn(2))
        assert tail.compaction == cut
        assert len(await sessions.history("s")) == 6


@kinds
async def test_of_two_compactions_on_the_same_version_one_is_stored(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as sessions:
        await sessions.append("s", turn(0))
        assert await sessions.compact("s", Compaction(cut=1), version=0)
        assert not await sessions.compact("s", Compaction(cut=2), version=0)
        tail = await sessions.tail("s", 100)
        assert tail.compaction.cut == 1
        assert await sessions.compact("s", Compaction(cut=2), version=tail.version)


@kinds
async def test_the_tail_has_the_newest_messages(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as sessions:
        for number in range(4):
            await sessions.append("s", turn(number))
        assert (await sessions.tail("s", 3)).messages == (turn(2)[1], *turn(3))
        assert (await sessions.tail("s", 0)).messages == ()
        assert (await sessions.tail("other", 9)).messages == ()


@kinds
async def test_a_result_is_found_whole(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as sessions:
        call = ToolCall(id="c1", name="look")
        found = Message.tool("found", tool_call_id="c1")
        await sessions.append("s", [Message.user("q"), Message.assistant(tool_calls=(call,)), found])
        place = (await sessions.tail("s", 9)).rows[2].place
        assert await sessions.result("s", f"m{place}") == "found"
        assert await sessions.result("s", f"m{place - 1}") is None
        await sessions.keep_result("s", "r1", "whole \udcff")
        await sessions.keep_result("s", "r1", "whole")
        assert await sessions.result("s", "r1") == "whole"
        for unknown in ("r2", "m", "m-1", "m99", "", "m" + "9" * 30, "m²"):
            assert await sessions.result("s", unknown) is None
        # Another session's results are not to be read.
        assert await sessions.result("other", "r1") is None
        assert await sessions.result("other", f"m{place}") is None


@kinds
async def test_clearing_a_session_leaves_nothing_of_it(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as sessions:
        await sessions.append("s", turn(0, 4))
        await sessions.keep_result("s", "c0.0", "whole")
        await sessions.compact("s", Compaction(cut=1, summary="x"), version=0)
        assert await sessions.clear("s") == 5
        assert await sessions.result("s", "c0.0") is None
        assert (await sessions.tail("s", 9)).compaction == Compaction()


async def test_a_cancelled_compaction_is_stored_or_not() -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        sessions = Sessions(store)
        await sessions.append("s", turn(0, 4))
        stored = 0

        async def compact() -> None:
            nonlocal stored
            tail = await sessions.tail("s", 9)
            await sessions.keep_result("s", "c0.0", "whole")
            stored += await sessions.compact("s", Compaction(cut=1), version=tail.version)

        async def it_is_stored() -> None:
            tail = await sessions.tail("s", 9)
            assert (tail.version > 0, len(tail.rows)) == ((True, 4) if stored else (False, 5))

        assert await cancel_everywhere(compact, it_is_stored) >= 3


sizes = st.lists(st.integers(2, 9), min_size=1, max_size=20)


def history(of: list[int]) -> list[Message]:
    return [message for number, size in enumerate(of) for message in turn(number, size)]


@given(sizes, st.integers(0, 30))
@settings(deadline=None)
def test_what_is_shown_is_whole_turns_within_the_limit(of: list[int], limit: int) -> None:
    messages = history(of)
    first = first_within(messages, limit)
    assert first in starts_of_turns(messages)
    assert len(messages) - first <= limit
    assert presentable(messages[first:]) == tuple(messages[first:])


@given(sizes, st.integers(0, 30))
@settings(deadline=None)
def test_the_first_message_moves_in_jumps_of_half_the_limit(of: list[int], limit: int) -> None:
    lengths = [len(history(of[:count])) for count in range(1, len(of) + 1)]
    firsts = [first_within(history(of[:count]), limit) for count in range(1, len(of) + 1)]
    for before, after, length, size in zip(firsts, firsts[1:], lengths[1:], of[1:], strict=False):
        assert after >= before
        if after != before:
            # A jump happens at an overflow only, and goes down to half, unless one turn alone is more than that.
            assert length - before > limit
            assert length - after <= limit // 2 or length - after <= size + 1


def test_half_of_the_limit_stays() -> None:
    assert [first_within(history([2] * count), 10) for count in range(1, 12)] == [0, 0, 0, 0, 0, 8, 8, 8, 8, 16, 16]


def test_the_newest_turn_stays_if_it_fits_by_itself() -> None:
    assert first_within(history([2, 6]), 8) == 2
    assert first_within(history([2, 9]), 8) == len(history([2, 9]))


def tail(messages: list[Message], cleared: int) -> SessionTail:
    rows = [
        StoredMessage(place=n, at="2026-11-28T12:00:00+00:00", message=message) for n, message in enumerate(messages, 1)
    ]
    return SessionTail(compaction=Compaction(cleared=cleared), rows=tuple(rows))


LONG = [
    Message.user("q"),
    Message.assistant(tool_calls=(ToolCall(id="c1", name="look", arguments='{"at": "' + "x" * 200 + '"}'),)),
    Message.tool("y" * 5000, tool_call_id="c1"),
    Message.assistant("a"),
]


def test_a_cleared_result_is_one_line_with_what_when_how_large_and_how_to_get_it_again() -> None:
    (line,) = [message.text for message in shown(tail(LONG, 3), readable=True) if message.role == "tool"]
    assert line.startswith('[Result of look({"at": "xxx')
    for part in ("2026-11-28T12:00Z", "5000 characters", 'read_result(id="m3")'):
        assert part in line
    assert len(line) < 400
    assert "\n" not in line


def test_a_result_that_cannot_be_read_again_is_not_offered_for_reading() -> None:
    assert "read_result" not in str(shown(tail(LONG, 3), readable=False))


def test_only_long_results_up_to_the_place_are_cleared() -> None:
    assert shown(tail(LONG, 2), readable=True) == tuple(LONG)
    short = [*LONG[:2], Message.tool("short", tool_call_id="c1"), LONG[3]]
    assert shown(tail(short, 9), readable=True) == tuple(short)


def test_the_summary_is_a_part_of_the_first_user_message() -> None:
    messages = [Message.system("s"), Message.user("q", Image(url="https://a/b")), Message.assistant("a")]
    summarized = with_summary(messages, "It rained.")
    assert [message.role for message in summarized] == ["system", "user", "assistant"]
    assert "It rained." in summarized[1].text
    assert summarized[1].text.endswith("q")
    assert summarized[1].content[1:] == messages[1].content
    assert with_summary(messages, "") == tuple(messages)
    assert with_summary(messages[:1], "x") == tuple(messages[:1])


class OneResult:
    """A store of one result of 50 000 characters, in the session `s`."""

    text = "".join(chr(0x4E00 + number % 20_000) for number in range(50_000))

    async def result(self, session: str, reference: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.text if (session, reference) == ("s", "r1") else None


@pytest.mark.parametrize(
    ("arguments", "first", "last"),
    [
        ({}, 0, 20_000),
        ({"start": 20_000}, 20_000, 40_000),
        ({"start": 45_000}, 45_000, 50_000),
        ({"start": 60_000}, 60_000, 60_000),
        ({"start": -5, "length": 10}, 0, 10),
        ({"start": 7, "length": 99_999}, 7, 20_007),
        ({"length": 0}, 0, 1),
        ({"length": -3}, 0, 1),
    ],
    ids=str,
)
async def test_a_result_is_read_again_in_parts(arguments: dict[str, int], first: int, last: int) -> None:
    read = result_tool(OneResult())
    text = await read.run({"id": "r1", **arguments}, ToolContext(session="s"))
    assert text == f"{OneResult.text[first:last]}\n[Characters {first} to {last} of 50000.]"
    for session, other in (("other", "r1"), ("s", "r2")):
        with pytest.raises(ToolFailed, match="there is no result"):
            await read.run({"id": other, **arguments}, ToolContext(session=session))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("m1", 1),
        ("m" + "9" * 18, 10**18 - 1),
        # No place of a store has so many digits; SQL would refuse the number.
        ("m" + "9" * 19, None),
        ("r1", None),
        ("1", None),
        ("m", None),
        ("m-1", None),
        ("m²", None),
    ],
)
def test_a_reference_names_a_place_or_a_stored_result(text: str, place: int | None) -> None:
    assert place_of(text) == place
    if place is not None:
        assert reference(place) == text
