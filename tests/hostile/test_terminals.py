"""Foreign text in every table and line of the command line: nothing of it reaches the terminal as a command."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cli.terminal import open_terminal
from hypothesis import given, settings, strategies as st
from rich.text import Text

from clawft_trio import errors
from clawft_trio.agent.turn_types import Reply
from clawft_trio.agent.workers import GivenUp, WorkerSummary, WorkSummary
from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.chat import Discarded, Message, ReasoningDelta, Reset, TextDelta, ToolCall
from clawft_trio.cli import costs, slash, worker
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.errors import explain
from clawft_trio.cli.output import (
    csv_cell,
    sanitize,
    write_answer,
    write_json,
    write_line,
    write_status,
    write_verbatim,
)
from clawft_trio.cli.report import CheckResult, print_report, print_report_json
from clawft_trio.cli.tables import attempts_table, summary, tools_table
from clawft_trio.cli.transcript import Transcript
from clawft_trio.costs import Spending
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.observe import ToolEnded, ToolStarted
from clawft_trio.testing import CallTool, Finish, Say, Status, open_fault_server

CORPUS = {
    "a link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "the clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "the title": "\x1b]0;title\x07\x1b]2;title\x9c",
    "clearing": "\x1b[2J\x1b[3J\x1b[H\x1bc",
    "colours": "\x1b[31;8mhidden\x1b[0m",
    "an answer of the terminal": "\x1b[6n\x1b[c\x05\x1bP$q q\x1b\\",
    "C1 controls": "\x9b2J\x9d52;c;eA==\x9c\x90q\x9c\x85",
    "overwriting": "all is well\rrm -rf / \b\b\b\b\x7f",
    "bidirectional": "\u202egpj.exe\u2066\u2067\u2068\u2069\u200f\u061c",
    "invisible": "pay\u200bpal\u2060\ufeff\u00ad\U000e0041\U000e0101\u180e",
    "line ends": "a\u2028b\u2029c\x0bd\x0ce",
    "marks": "Z" + "\u0300\u0489\u20dd" * 500,
    "joiners": "a" + "\u200d" * 500 + "\ufe0f" * 500,
    "markup": "[/x][red][link=http://x]y[/link][@click=app.bell] [/]",
    "half characters": "caf\udce9\ud83d \udc00",
    "a long line": "word " * 5_000,
    "a long word": "x" * 20_000,
    "a formula": "=HYPERLINK(1)",
    "emoji markup": ":smiley: :boom:",
    "tabs": "\t" * 1000,
}
EACH = pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
ANY_TEXT = st.text(st.characters(categories=None), max_size=60)

# What rich itself writes: colours and links without a target, moves of the cursor and lines of a live display.
_OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\x1b\[2K|\r(?=\x1b|\n|$)|\r\x1b\[K")
_MARKS = re.compile("[\u0300-\u036f\u0489\u20dd\u200d\ufe0f]{9,}")


class Screen(io.StringIO):
    """A terminal that keeps what was written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def assert_harmless(shown: str) -> None:
    for one in _OWN.sub("", shown):
        assert one in "\n\t" or unicodedata.category(one) not in {"Cc", "Cs", "Zl", "Zp"}, ascii(one)
        assert not (
            "\u202a" <= one <= "\u202e" or "\u2066" <= one <= "\u2069" or one in "\u200b\u200e\u200f\u061c\ufeff"
        )
        assert not "\U000e0000" <= one <= "\U000e01ef"
    assert _MARKS.search(shown) is None
    shown.encode()


def written(show: Callable[[str], object], text: str) -> str:
    """Return what *show* writes of *text* to a terminal."""
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        show(text)
    return screen.getvalue()


def record(text: str, **more: Any) -> AttemptRecord:
    return AttemptRecord(target=text, outcome="failed", started=0.0, latency=Latency(total=1.0), why=text, **more)


def reply(text: str) -> Reply[Any]:
    return Reply(
        text=text,
        finish_reason=text,
        provider=text,
        model=text,
        usage=Usage(input_tokens=1, output_tokens=1),
        cost=Decimal(1),
        latency=Latency(total=1.0),
        attempts=(record(text),),
        tools=(),
        rounds=(),
        session=text,
        turn_id=text,
    )


def spending(text: str) -> Spending:
    fields = {field.name: 1 for field in attrs.fields(Spending)}
    return Spending(**{**fields, "group": {"sender": text, "target": text}, "cost": Decimal(1)})


def work(text: str) -> WorkSummary:
    return WorkSummary(
        workers=(WorkerSummary(owner=text, sessions=1, channels=(text, text), expires_in=1.0),),
        open=1,
        sessions=1,
        lag=1.0,
        undelivered=((text, 2),),
        given_up=(GivenUp(turn_id=text, deliveries=3, error=text),),
    )


def tool_events(text: str) -> list[Any]:
    return [
        ToolStarted(at=0.0, tool=text, tool_call_id="1", turn_id="t", waited=0.0),
        ToolEnded(at=1.0, tool=text, tool_call_id="1", turn_id="t", outcome="ok", duration=1.0),
    ]


def transcript(text: str) -> None:
    trio.run(_transcript, text)


async def _transcript(text: str) -> None:
    await trio.lowlevel.checkpoint()
    shown = Transcript(SafeConsole(force_terminal=True))
    with shown:
        for event in tool_events(text):
            shown.notice(event)
        discarded = Discarded(text=text, reasoning=text, tool_calls=())
        for one in (
            ReasoningDelta(text),
            TextDelta(text),
            Reset(discarded, cause=errors.ServerError(text)),
            TextDelta(text),
        ):
            shown(one)


FINDING = {"check": "mcp", "advice": "", "seconds": 1.0}

# Everything of the command line that shows foreign text, by what it is.
SHOWS: dict[str, Callable[[str], object]] = {
    "a line": write_line,
    "a line of errors": lambda text: write_line(text, error=True),
    "a result": write_verbatim,
    "an answer": write_answer,
    "a status": write_status,
    "JSON": lambda text: write_json({text: [text]}),
    "printed text": lambda text: SafeConsole().print(text),
    "printed Text": lambda text: SafeConsole(force_terminal=True).print(Text(text, style="bold")),
    "a rule": lambda text: SafeConsole().rule(text),
    "attempts": lambda text: SafeConsole().print(attempts_table([record(text)])),
    "tools": lambda text: SafeConsole().print(tools_table(tool_events(text))),
    "a summary": lambda text: SafeConsole(stderr=True).print(summary(reply(text)), style="dim"),
    "costs": lambda text: costs._table(["sender", "target"], [spending(text)]),
    "costs as CSV": lambda text: costs._csv(["sender", "target"], [spending(text)]),
    "costs as JSON": lambda text: costs._json(["sender", "target"], [spending(text)]),
    "workers": lambda text: worker._print(work(text)),
    "a finding": lambda text: print_report([CheckResult(subject=text, message=text, **{**FINDING, "advice": text})]),
    "a finding as JSON": lambda text: print_report_json([CheckResult(subject=text, message=text, **FINDING)]),
    "history": lambda text: SafeConsole().print(slash._line_of(Message.user(text)), soft_wrap=True),
    "a call in the history": lambda text: SafeConsole().print(
        slash._line_of(Message.assistant(text, tool_calls=(ToolCall(id="1", name=text),)))
    ),
    "a transcript": transcript,
    "a problem": lambda text: explain(InvalidData([Problem(text, text)], source=text)),
    "a file error": lambda text: explain(FileNotFoundError(2, text, text)),
    "a bug": lambda text: explain(ValueError(text)),
}


@pytest.mark.parametrize("show", SHOWS)
def test_nothing_of_the_corpus_commands_the_terminal(show: str) -> None:
    for text in CORPUS.values():
        shown = written(SHOWS[show], text)
        assert shown
        assert_harmless(shown)


@pytest.mark.parametrize("show", SHOWS)
def test_markup_is_shown_as_it_is(show: str) -> None:
    assert "[/x]" in _OWN.sub("", written(SHOWS[show], "[/x][red]"))


def explained(text: str) -> None:
    attempts = (record(text, error=errors.ServerError(text)), record(text, error=errors.TransportFailed(text)))
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.ClawftError) and not issubclass(cls, InvalidData):
            try:
                error = cls(text)
            except TypeError:
                continue
            error.attempts = attempts
            explain(error)


@EACH
def test_every_error_of_the_package_is_explained_safely(text: str) -> None:
    # A hundred errors, each with the text in three places.
    shown = written(explained, text[:4000])
    assert shown.count("\n") > 100
    assert_harmless(shown)


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT)
def test_no_text_commands_the_terminal(text: str) -> None:
    for show in SHOWS.values():
        assert_harmless(written(show, text))


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT | st.sampled_from("=+-@\t\r\n＝＋－＠").flatmap(lambda first: ANY_TEXT.map(lambda rest: first + rest)))
def test_no_cell_is_a_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text)])
    out.seek(0)
    (cell,) = next(iter(csv.reader(out, strict=True)), [""])
    assert not cell.startswith(tuple("=+-@\t\r\n＝＋－＠"))
    assert_harmless(cell)


@pytest.mark.parametrize("text", ["e\u0301\u0323", "कि्षि", "👩‍❤️‍💋‍👨", "ฏ๎๎", "שָׁלוֹם", "❤️", "علی‌رضا"])
def test_marks_of_languages_and_emoji_stay(text: str) -> None:
    assert sanitize(text) == text


ALL = "".join(text[:60] for text in CORPUS.values())


@pytest.mark.skipif(os.name != "posix", reason="terminals")
@pytest.mark.parametrize("command", ["ask", "chat"])
async def test_on_a_real_terminal_nothing_foreign_is_a_command(tmp_path: Path, command: str) -> None:
    scripts = (
        [Say(ALL), Finish()],
        [CallTool(ALL, {ALL: ALL}), Finish()],
        [Say(f"done {ALL}"), Finish()],
        [Status(400, ALL, ALL)],
    )
    # Arguments of a process hold no NUL and no half characters.
    name = ALL.encode(errors="ignore").decode().replace("\0", "")
    options = ("-m", name, "--session", name, "--store", str(tmp_path / "s.db"))
    async with open_fault_server(*scripts[command == "ask" :]) as server:
        with_input = ("q",) if command == "ask" else ()
        async with open_terminal(command, *with_input, "--base-url", server.url, *options, within=60) as terminal:
            if command == "chat":
                for typed in ("q", "q", "q", "/tools", "/attempts", "/history", "/cost", f"/{name[:40]}", "\x04"):
                    await terminal.see("\n> ")
                    await terminal.type(typed if typed == "\x04" else f"{typed}\n".replace("\x05", ""))
            await terminal.end()
    assert "done" in terminal.raw
    assert_harmless(terminal.raw.replace("\r\n", "\n"))
