"""What the command line prints, at its limits: widths, cells, cut texts, times, words for events."""

from __future__ import annotations

import io
import json
import signal
import sys

import pytest
import trio
import trio.testing

from clawft_trio.chat import Message, ToolCall
from clawft_trio.cli import main, output, slash, transcript
from clawft_trio.cli.output import csv_cell, sanitize, terminal_width, write_json
from clawft_trio.cli.progress import LateNotes, progress
from clawft_trio.cli.signals import open_interrupts
from clawft_trio.errors import InvalidData, RateLimited
from clawft_trio.observe import FailedOver, HedgeStarted, RetryScheduled
from clawft_trio.tools import ToolResult


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a␍b"),
        ("\x00\x1f\x7f", "␀␟␡"),
        ("\x7e\x80\x9f\xa0", "~\ufffd\ufffd\xa0"),
        ("\u061c\u200e\u200f\u202a\u202e\u2066\u2069", "\ufffd" * 7),
        # The neighbours of those stay.
        ("\u061b\u2010\u2029x"[:2], "\u061b\u2010"),
        ("\ud800", "\ufffd"),
        ("e" + "\u0301" * 8, "e" + "\u0301" * 8),
        ("e" + "\u0301" * 9, "e" + "\u0301" * 8 + "\ufffd"),
        ("e" + "\u0301" * 900 + "x", "e" + "\u0301" * 8 + "\ufffdx"),
    ],
    ids=ascii,
)
def test_a_text_is_safe_for_a_terminal(text: str, safe: str) -> None:
    assert sanitize(text) == safe


@pytest.mark.parametrize(
    "text", ["é", "\x7f\x80\x9f", "\u202e", "\U000e0041", "e" + "\u0301" * 12, "\u0301" * 8, "\x1b"], ids=ascii
)
def test_json_is_read_back_unchanged_and_holds_no_unsafe_character(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json({"a": text})
    line = capsys.readouterr().out
    assert json.loads(line) == {"a": text}
    assert sanitize(line) == line


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\uff1d", "\uff0b", "\uff0d", "\uff20"], ids=ascii)
def test_a_cell_that_would_be_a_formula_has_an_apostrophe(first: str) -> None:
    assert csv_cell(f"{first}1") == f"'{first}1"
    assert csv_cell(f"1{first}") == f"1{first}"
    assert csv_cell("") == ""


@pytest.mark.parametrize(("columns", "width"), [("30", 30), ("1", 1), ("0", 80), ("", 80), ("-5", 80), ("x", 80)])
def test_the_width_is_what_columns_holds_or_else_eighty(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width(io.StringIO()) == width


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_line_of_the_width_stays_and_a_longer_one_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    output.write_line("x" * 9 + " " + "y" * 10)
    output.write_line("  " + "x" * 9 + " " + "y" * 10)
    output.write_line("z" * 50)
    output.write_line("well-known " + "y" * 12)
    assert shown.getvalue().split("\n") == [
        "x" * 9 + " " + "y" * 10,
        "  " + "x" * 9,
        "    " + "y" * 10,
        "z" * 50,
        "well-known",
        "  " + "y" * 12,
        "",
    ]


def test_a_terminal_narrower_than_twenty_columns_is_treated_as_twenty_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "5")
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    output.write_line("x" * 9 + " " + "y" * 10 + " z")
    assert shown.getvalue() == "x" * 9 + " " + "y" * 10 + "\n  z\n"


def test_errors_go_to_stderr_and_answers_are_unchanged_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_line("wrong", error=True)
    output.write_line("right")
    output.write_answer("a\x1b")
    output.write_status("busy")
    output.write_verbatim("code\x1b")
    out, err = capsys.readouterr()
    assert out == "right\na\x1bcode␛\n"
    assert err == "wrong\n\r\x1b[Kbusy"


async def test_an_event_of_resilience_has_a_line() -> None:
    error = RateLimited("slow", provider="p", model="m")
    retry = RetryScheduled(retry=2, wait=1.26, error=error)
    assert transcript.trouble(retry) == "↻ RateLimited at p/m: retry 2 in 1.3 s"
    assert transcript.trouble(FailedOver(failed="a/b", target="c/d")) == "→ c/d takes over from a/b"
    assert (
        transcript.trouble(HedgeStarted(target="c/d", slow="a/b"))
        == "→ c/d is asked beside a/b, which has not answered"
    )
    assert transcript.trouble(object()) == ""


@pytest.mark.parametrize(("length", "shown"), [(59, 59), (60, 60), (61, 60), (500, 60)])
def test_a_result_of_a_tool_has_at_most_sixty_characters(length: int, shown: int) -> None:
    line = transcript._short("x" * length)
    assert len(line) == shown
    assert line.endswith("...") is (length > 60)
    assert transcript._short(" a\n\n b ") == "a b"


def test_a_result_of_a_tool_is_marked_by_its_outcome() -> None:
    lines = transcript._tool_lines(
        [ToolResult("1", name="look", text="seen"), ToolResult("2", name="go", text="no", outcome="error")]
    )
    assert lines.plain == "  ✓ look seen\n  ✗ go no"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("12", 12), ("", slash._LATEST)])
def test_a_history_has_as_many_messages_as_are_asked_for(text: str, number: int) -> None:
    assert slash._number(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_a_history_of_no_messages_is_refused(text: str) -> None:
    with pytest.raises(InvalidData, match="expected how many messages"):
        slash._number(text)


@pytest.mark.parametrize(("length", "shown"), [(500, 500), (501, 500), (9000, 500)])
def test_a_message_of_a_history_has_at_most_five_hundred_characters(length: int, shown: int) -> None:
    line = slash._line_of(Message.user("x" * length)).plain
    assert len(line) == len("user: ") + shown
    assert line.endswith("...") is (length > 500)


def test_a_message_of_a_history_names_its_calls_and_a_result_is_one_line() -> None:
    calls = (ToolCall(id="1", name="look"), ToolCall(id="2", name="go"))
    assert slash._line_of(Message.assistant("so", tool_calls=calls)).plain == "assistant: so [calls look, go]"
    assert slash._line_of(Message.assistant("", tool_calls=calls)).plain == "assistant: [calls look, go]"
    assert slash._line_of(Message.tool("a\n b", tool_call_id="1")).plain == "tool: a b"
    assert slash._line_of(Message.user("a\n b")).plain == "user: a\n b"


async def shown_of(seconds: float, monkeypatch: pytest.MonkeyPatch, *, stops_at: float = 100.0) -> list[str]:
    """The lines of progress that a terminal gets of work that takes so long."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    async with progress("Checking") as done:
        await trio.sleep(min(seconds, stops_at))
        if stops_at < seconds:
            done()
            await trio.sleep(seconds - stops_at)
    return terminal.getvalue().split("\r\x1b[K")[1:]


async def test_progress_is_shown_after_a_second_and_erased(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await shown_of(0.9, monkeypatch) == []
    assert await shown_of(1.6, monkeypatch) == ["Checking … 1 s", "Checking … 1 s", "Checking … 2 s", ""]
    assert await shown_of(5, monkeypatch, stops_at=1.1) == ["Checking … 1 s", ""]
    monkeypatch.undo()
    async with progress("Checking"):
        await trio.sleep(5)
    assert capsys.readouterr().err == ""


async def test_notes_of_the_first_second_are_held_back_and_dropped_if_it_ends_before(
    autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = LateNotes()
    notes("before")
    async with notes.running():
        notes("quick")
        await trio.sleep(0.9)
    notes("between")
    await trio.sleep(5)
    assert capsys.readouterr().err == ""
    notes = LateNotes()
    async with notes.running():
        await trio.sleep(0.5)
        notes("early")
        await trio.sleep(0.4)
        assert capsys.readouterr().err == ""
        await trio.sleep(0.2)
        assert capsys.readouterr().err == "early\n"
        notes("late")
        assert capsys.readouterr().err == "late\n"
    notes("after")
    assert capsys.readouterr().err == ""


async def test_ctrl_c_ends_the_block_that_it_may_end_and_nothing_else() -> None:
    async with open_interrupts(take=True) as taken:
        signal.raise_signal(signal.SIGINT)
        await trio.testing.wait_all_tasks_blocked()
        with taken.ending() as scope:
            signal.raise_signal(signal.SIGINT)
            with trio.fail_after(5):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        signal.raise_signal(signal.SIGINT)
        await trio.testing.wait_all_tasks_blocked()
        with taken.ending() as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancel_called
    before = signal.getsignal(signal.SIGINT)
    async with open_interrupts(take=False) as taken:
        assert signal.getsignal(signal.SIGINT) is before
        with taken.ending() as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancelled_caught


@pytest.mark.parametrize(
    ("environ", "ascii_only"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        # Python has set this itself, because LANG is C.
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, False),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LANG": "C", "PYTHONUTF8": "1"}, False),
        ({"LANG": "C", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}, False),
    ],
    ids=str,
)
def test_a_terminal_has_only_ascii_in_the_locale_c(environ: dict[str, str], ascii_only: bool) -> None:
    assert main._wants_ascii(environ) is ascii_only
