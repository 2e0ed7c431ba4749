"""What users ran into, and what must not come back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import IO

import pytest
import trio
from rich.console import Console
from typer.testing import CliRunner

from clawft_trio.agent.turn_types import ToolsAnswered
from clawft_trio.chat import Discarded, Reset, TextDelta
from clawft_trio.cli.commands import app
from clawft_trio.cli.transcript import Transcript
from clawft_trio.errors import ServerError
from clawft_trio.testing import Finish, Say, open_fault_server
from clawft_trio.tools import ToolResult

WORDS = [f"word{number} " for number in range(100)]


def terminal(*, height: int = 8) -> tuple[Console, StringIO]:
    written = StringIO()
    return Console(file=written, force_terminal=True, width=40, height=height, legacy_windows=False), written


async def test_a_paragraph_wider_than_the_terminal_is_wrapped_and_not_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    console, written = terminal(height=100)
    with Transcript(console) as transcript:
        for word in WORDS:
            transcript(TextDelta(word))
    last = written.getvalue().rpartition("word0 ")[2]
    assert all(word.strip() in last for word in WORDS[1:])


async def test_an_answer_longer_than_the_terminal_shows_its_end_while_it_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    console, written = terminal()
    with Transcript(console) as transcript:
        for word in WORDS:
            transcript(TextDelta(word))
        frame = written.getvalue()[-400:]
    assert "word99" in frame
    assert all(word.strip() in written.getvalue().rpartition("word0 ")[2] for word in WORDS[1:])


async def test_a_model_moves_no_cursor(autojump_clock: trio.testing.MockClock) -> None:
    console, written = terminal()
    with Transcript(console) as transcript:
        transcript(TextDelta("a\x1b]52;c;aGk=\x1b\\b\x9b2J"))
        transcript(Reset(Discarded("a\x1b]52;c;aGk=\x1b\\b\x9b2J"), ServerError("down")))
        transcript(ToolsAnswered((ToolResult("1", name="x\x1b]0;t", text="y\x1b]0;t", outcome="ok", error=None),)))
    assert "␛]52" in written.getvalue()
    assert "\x1b]" not in written.getvalue()
    assert "\x9b" not in written.getvalue()


async def test_what_is_piped_on_is_what_the_model_said() -> None:
    written = StringIO()
    said = "all:\tmain.o\n\tcc :on: [bold]x[/bold] " + "long " * 100
    with Transcript(Console(file=written)) as transcript:
        for start in range(0, len(said), 3):
            transcript(TextDelta(said[start : start + 3]))
    assert written.getvalue() == said + "\n"


@pytest.mark.skipif(os.name != "posix", reason="terminals")
async def test_a_long_answer_stands_whole_on_the_terminal() -> None:
    ours, theirs = os.openpty()
    async with open_fault_server([*map(Say, WORDS), Finish()]) as server:
        with trio.fail_after(60), os.fdopen(ours, "rb", buffering=0) as read_end:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "clawft_trio", "ask", "hi", "--base-url", server.url],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "40", "LINES": "8"},
            )
            os.close(theirs)
            written = await trio.to_thread.run_sync(_all_of, read_end)
            assert await process.wait() == 0
    assert [word for word in WORDS if word.strip() not in written.rpartition("word0 ")[2]] == ["word0 "]


def _all_of(terminal: IO[bytes]) -> str:
    pieces = []
    # Once nobody holds the other end, Linux says EIO and others end the file.
    with contextlib.suppress(OSError):
        while piece := terminal.read(65536):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_a_workspace_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "typo"
    result = CliRunner().invoke(app, ["ask", "hi", "--base-url", "http://127.0.0.1:1/v1", "--workspace", str(missing)])
    assert result.exit_code == 2
    assert not missing.exists()
