"""What a transcript shows of a turn, on a terminal and in a pipe."""

from __future__ import annotations

import re
from io import StringIO

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from clawft_trio.agent.turn_types import RoundStarted, ToolsAnswered
from clawft_trio.chat import Discarded, Reset, TextDelta
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.transcript import Transcript, cause, trouble
from clawft_trio.errors import ServerError
from clawft_trio.observe import Event, ToolEnded, ToolStarted
from clawft_trio.observe.events import FailedOver, HedgeStarted, RetryScheduled, ToolProgress
from clawft_trio.tools import ToolResult

DOWN = ServerError("down", provider="p", model="m")


def opened(*, terminal: bool, height: int = 50) -> tuple[Console, StringIO]:
    written = StringIO()
    return SafeConsole(
        file=written, force_terminal=terminal, width=80, height=height, color_system=None, legacy_windows=False
    ), written


def last_frame(written: StringIO) -> str:
    """What was drawn last, without the movements of the cursor."""
    frames = re.split(r"(?:\x1b\[\d*A|\x1b\[2K|\r)+", written.getvalue())
    return re.sub(r"\x1b\[\?25[hl]", "", frames[-1]).strip("\n")


def started(id: str = "c", at: float = 0.0) -> Event:
    return ToolStarted(at=at, tool="look", tool_call_id=id, turn_id="t")


def ended(id: str = "c") -> Event:
    return ToolEnded(at=0.0, tool="look", tool_call_id=id, turn_id="t", outcome="ok", duration=0.1)


def progress(done: float, total: float | None = None, message: str = "", id: str = "c") -> Event:
    return ToolProgress(at=0.0, tool="look", tool_call_id=id, turn_id="t", done=done, total=total, message=message)


def failed_over() -> Event:
    return FailedOver(at=0.0, turn_id="t", call_id="c", failed="a/m", target="b/m", error=DOWN)


async def test_in_a_pipe_text_is_unchanged_and_retractions_are_noted(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=False)
    with Transcript(console) as transcript:
        transcript(TextDelta("ab"))
        transcript(Reset(Discarded("ab"), DOWN))
        transcript.notice(started())
        transcript.notice(failed_over())
        transcript(TextDelta("cd"))
        transcript(RoundStarted(1))
        transcript(ToolsAnswered((ToolResult("1", name="look", text="rain"),)))
        transcript(TextDelta("ef"))
    assert written.getvalue() == "ab\n  ↩ taken back: ServerError at p/m\ncd\n  ✓ look rain\nef\n"


async def test_on_a_terminal_everything_stays_with_what_was_taken_back(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=True)
    with Transcript(console) as transcript:
        transcript(TextDelta("first"))
        transcript.notice(failed_over())
        transcript(Reset(Discarded("first"), DOWN))
        transcript(TextDelta("second"))
        transcript(ToolsAnswered((ToolResult("1", name="look", text="rain"),)))
        transcript(TextDelta("third"))
    assert [line.rstrip() for line in last_frame(written).splitlines()] == [
        "first",
        "  ↩ taken back: ServerError at p/m",
        "  → b/m takes over from a/m",
        "second",
        "  ✓ look rain",
        "third",
    ]


async def test_a_transcript_that_is_entered_again_begins_empty(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=True)
    transcript = Transcript(console)
    with transcript:
        transcript(TextDelta("one"))
        transcript.notice(started())
    with transcript:
        transcript(TextDelta("two"))
        assert "look" not in last_frame(written)
    assert last_frame(written).strip() == "two"


async def test_a_running_tool_is_shown_with_its_progress_until_it_ends(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=True)
    with Transcript(console) as transcript:
        transcript.notice(started())
        assert last_frame(written).split() == ["⚙", "look"]
        transcript.notice(progress(2, 10, "rows"))
        assert last_frame(written).split() == ["⚙", "look", "2", "of", "10", "rows"]
        transcript.notice(progress(3.5))
        assert last_frame(written).split() == ["⚙", "look", "3.5"]
        transcript.notice(progress(9, id="other"))
        assert last_frame(written).split() == ["⚙", "look", "3.5"]
        transcript.notice(ended("other"))
        assert "look" in last_frame(written)
        transcript.notice(ended())
        assert last_frame(written).strip() == ""


async def test_what_takes_longer_than_a_second_is_shown_with_its_time(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=True)
    transcript = Transcript(console)
    async with transcript.following():
        await trio.sleep(0.9)
        assert "waiting" not in written.getvalue()
        await trio.sleep(2.2)
        assert "… waiting for the model 3 s" in last_frame(written)
        transcript(TextDelta("hello"))
        assert "waiting" not in last_frame(written)
        transcript.notice(started(at=trio.current_time()))
        await trio.sleep(5.1)
        assert "⚙ look 5 s" in last_frame(written)
        assert "waiting" not in last_frame(written)
        transcript(ToolsAnswered(()))
        assert "look" not in last_frame(written)


async def test_in_a_pipe_nothing_is_shown_of_waiting(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=False)
    async with Transcript(console).following() as transcript:
        transcript.notice(started())
        await trio.sleep(10)
    assert written.getvalue() == ""


async def test_an_answer_longer_than_the_terminal_shows_as_many_lines_as_fit(autojump_clock: MockClock) -> None:
    console, written = opened(terminal=True, height=5)
    with Transcript(console) as transcript:
        transcript(TextDelta("\n".join(f"line {number}" for number in range(10))))
        shown = [line.strip() for line in last_frame(written).splitlines()]
        assert shown == ["line 6", "line 7", "line 8", "line 9"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n  b\t c", "a b c"), ("x" * 60, "x" * 60), ("x" * 61, "x" * 57 + "..."), ("", "")],
)
async def test_the_result_of_a_tool_is_one_short_line(text: str, shown: str) -> None:
    console, written = opened(terminal=False)
    with Transcript(console) as transcript:
        transcript(ToolsAnswered((ToolResult("1", name="a", text=text, outcome="error"), ToolResult("2", name="b"))))
    first, second = written.getvalue().splitlines()
    assert (first.rstrip(), second.rstrip()) == (f"  ✗ a {shown}".rstrip(), "  ✓ b")


def test_trouble_is_one_line_and_other_events_are_none() -> None:
    retry = RetryScheduled(at=0.0, turn_id="t", call_id="c", retry=2, wait=1.25, error=DOWN)
    hedge = HedgeStarted(at=0.0, turn_id="t", call_id="c", slow="a/m", target="b/m")
    assert trouble(retry) == "↻ ServerError at p/m: retry 2 in 1.2 s"
    assert trouble(failed_over()) == "→ b/m takes over from a/m"
    assert trouble(hedge) == "→ b/m is asked beside a/m, which has not answered"
    assert trouble(started()) == ""
    assert (cause(DOWN), cause(KeyError("x")), cause(ServerError("x"))) == (
        *("ServerError at p/m", "KeyError", "ServerError"),
    )
