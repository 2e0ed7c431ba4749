"""Foreign text never reaches a terminal as it is: one set of functions prints, and makes it safe."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from cli.program import run
from hypothesis import given, strategies as st
from rich.table import Table
from rich.text import Text

import clawft_trio.cli
from clawft_trio import Usage, open_agent
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.output import (
    csv_cell,
    sanitize,
    terminal_width,
    write_answer,
    write_json,
    write_line,
    write_status,
    write_verbatim,
)
from clawft_trio.cli.words import ENCODING_ERRORS, register_ascii_words
from clawft_trio.testing import Finish, Say, ScriptedProvider

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj.exe\u2066[/x][red]\ud800\r over\u200b\U000e0041"

PRINTING = {"output.py", "console.py"}


def writers(path: Path) -> list[str]:
    """The calls in a file that print, other than by `output.py` and `SafeConsole`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        by_stream = called.endswith((".write", ".writelines")) and ("std" in called or "console" in called)
        # A fixed text is not foreign; the entry point writes one before anything else is loaded.
        by_stream = by_stream and not all(isinstance(argument, ast.Constant) for argument in node.args)
        if called in {"print", "Console", "typer.echo", "typer.secho", "rich.print"} or by_stream or ".echo" in called:
            found.append(f"{path.name}:{node.lineno}: {called}")
    return found


def test_no_other_file_of_the_command_line_prints() -> None:
    files = sorted(Path(clawft_trio.cli.__file__).parent.glob("*.py"))
    assert len(files) > 20
    assert [line for path in files if path.name not in PRINTING for line in writers(path)] == []


def test_the_search_for_prints_finds_each_way(tmp_path: Path) -> None:
    ways = ["print(x)", "Console()", "sys.stdout.write(x)", "self.console.file.write(x)", "typer.echo(x)"]
    (tmp_path / "a.py").write_text("\n".join(ways))
    assert len(writers(tmp_path / "a.py")) == len(ways)


def is_safe(text: str) -> bool:
    return not any(
        unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}
        or "\u202a" <= one <= "\u202e"
        or "\u2066" <= one <= "\u2069"
        for one in text
        if one not in "\n\t"
    )


@given(st.text(alphabet=st.characters(categories=None)))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert is_safe(sanitize(text))
    assert sanitize(sanitize(text)) == sanitize(text)


@pytest.mark.parametrize("text", ["plain", "naïve 日本語 العربية", "👩‍👩‍👧", "a\tb\nc", "[brackets]", "e\u0301"])
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert sanitize(text) == text


@given(st.text(alphabet=st.characters(categories=None, exclude_categories=("Cs",))))
def test_json_stays_the_same_value_and_is_safe(text: str) -> None:
    out = io.StringIO()
    before, sys.stdout = sys.stdout, out
    try:
        write_json({"text": text})
    finally:
        sys.stdout = before
    assert json.loads(out.getvalue()) == {"text": text}
    assert is_safe(out.getvalue())


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_is_no_formula(start: str) -> None:
    assert csv_cell(f"{start}HYPERLINK(1)").startswith("'")
    assert csv_cell("ordinary") == "ordinary"


def test_the_console_shows_markup_and_escapes_as_text() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=400, color_system=None)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    console.print(table)
    console.print(HOSTILE)
    console.print(Text(HOSTILE))
    console.rule(HOSTILE)
    shown = out.getvalue()
    assert "\x07" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert shown.count("[/x][red]") == 7


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_answer_is_unchanged_in_a_pipe_and_safe_on_a_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    write_answer("\x1b[2J\u202e", pipe)
    write_answer("\x1b[2J\u202e", terminal)
    assert pipe.getvalue() == "\x1b[2J\u202e"
    assert terminal.getvalue() == "␛[2J\ufffd"


def test_a_lone_surrogate_does_not_stop_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("caf\udce9", error=True)
    assert capsys.readouterr().err == "caf\ufffd\n"


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\x00\x07\x08\x0b\x1b\x1f\x7f", "␀␇␈␋␛␟␡"),
        ("a\r\nb\rc", "a\nb␍c"),
        *(
            (chr(code), "\ufffd")
            for code in (
                *(0x80, 0x9F, 0x061C, 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069, 0x00AD, 0x180E, 0x200B),
                *(0x2060, 0x2064, 0xFEFF, 0xFFF9, 0xFFFB, 0xE0000, 0xE01EF, 0x2028, 0x2029, 0xD800, 0xDFFF),
            )
        ),
        *(
            (chr(code), chr(code))
            for code in (*(0x20, 0x7E, 0xA0, 0x200C, 0x200D, 0x202F, 0x2065, 0x206A), *(0xFFFC, 0xE01F0, 0xE000))
        ),
        ("e" + "\u0301" * 8, "e" + "\u0301" * 8),
        ("e" + "\u0301" * 9 + "f", "e" + "\u0301" * 8 + "\ufffdf"),
        ("a" + "\u200d\ufe0f" * 20, "a" + "\u200d\ufe0f" * 4 + "\ufffd"),
    ],
)
def test_the_bounds_of_what_is_hidden(hidden: str, shown: str) -> None:
    assert sanitize(hidden) == shown


@pytest.mark.parametrize(
    ("columns", "width"), [("40", 40), ("1", 1), ("0", 80), ("", 80), ("-1", 80), ("wide", 80), ("²", 80)]
)
def test_the_width_is_that_of_the_variable_or_eighty(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    # A stream that has no descriptor is no terminal.
    assert terminal_width(io.StringIO()) == width


def lines_on_a_terminal(text: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", terminal)
    write_line(text)
    assert terminal.getvalue().endswith("\n")
    return terminal.getvalue()[:-1].split("\n")


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("a" * 30, 30, ["a" * 30]),
        ("one two three four five six", 27, ["one two three four five six"]),
        ("one two three four five six", 26, ["one two three four five", "  six"]),
        ("  one two three four five six", 26, ["  one two three four five", "    six"]),
        ("a" * 50, 30, ["a" * 50]),
        ("one-two three-four five-six-seven", 30, ["one-two three-four", "  five-six-seven"]),
        ("short\none two three four five six", 26, ["short", "one two three four five", "  six"]),
        ("one two three four five six", 5, ["one two three four", "  five six"]),
    ],
)
def test_a_line_is_broken_between_words_on_a_terminal(
    text: str, columns: int, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines_on_a_terminal(text, columns, monkeypatch) == lines


def test_a_line_in_a_pipe_and_a_verbatim_text_are_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    write_line("word " * 20)
    write_status("busy\x07")
    assert tuple(capsys.readouterr()) == ("word " * 20 + "\n", "\r\x1b[Kbusy␇")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    write_verbatim("word " * 20 + "\x07")
    assert terminal.getvalue() == "word " * 20 + "␇\n"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\u202e", r"\u202e"),
        ("\x7f\x80", r"\u007f\u0080"),
        ("\U000e0041", r"\udb40\udc41"),
        ("e" + "\u0301" * 8, "e" + "\u0301" * 8),
        ("e" + "\u0301" * 9, "e" + r"\u0301" * 9),
    ],
)
def test_unsafe_characters_are_escaped_in_json(text: str, escaped: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"a": text})
    assert capsys.readouterr().out == f'{{"a":"{escaped}"}}\n'


def assert_safe(done: subprocess.CompletedProcess[bytes]) -> None:
    for text in (done.stdout.decode(), done.stderr.decode()):
        assert is_safe(text), text
        assert "Traceback" not in text, text


SERVER = """
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if "id" not in q:
        continue
    evil = "\\x1b]52;c;eA==\\x07\\u202e[/x]\\x9b2J"
    results = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": evil, "version": "1"}},
        "tools/list": {"tools": [{"name": "t" , "description": evil, "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": evil}]},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": q["id"], "result": results.get(q["method"], {})}), flush=True)
"""


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["call", "t"]], ids=" ".join)
async def test_a_servers_text_is_safe(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    done = await run("mcp", *words, "--", sys.executable, str(tmp_path / "server.py"))
    assert done.returncode == 0, done.stderr
    assert "[/x]" in done.stdout.decode()
    assert_safe(done)


async def test_a_servers_last_words_are_safe(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import sys; sys.exit('\\x1b[2J\\u202e[/x]')")
    config = {
        "tools": {"mcpServers": {"[/x]\u202e": {"command": sys.executable, "args": [str(tmp_path / "server.py")]}}}
    }
    (tmp_path / "c.json").write_text(json.dumps(config))
    for words in (["doctor", "--config"], ["config", "show"]):
        assert_safe(await run(*words, str(tmp_path / "c.json")))


async def test_a_file_name_that_is_not_utf_8_is_an_error_like_any_other(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x1b[2J.json")
    for words in (["config", "show", name], ["costs", name]):
        done = await run(*words)
        assert done.returncode in {1, 2}
        assert_safe(done)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
async def test_a_sender_with_markup_or_a_formula_is_shown_as_text(tmp_path: Path, form: str) -> None:
    usage = Usage(input_tokens=1, output_tokens=1)
    model = ScriptedProvider([Say("x"), Finish(usage=usage)], [Say("x"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, store=tmp_path / "s.db") as agent:
        await agent.ask("q", sender_id="[/x]\x1b[2J\u202e")
        await agent.ask("q", sender_id="=HYPERLINK(1)")
    done = await run("costs", str(tmp_path / "s.db"), "--format", form, env={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert_safe(done)
    assert "[/x]" in done.stdout.decode()
    if form == "csv":
        rows = list(csv.reader(io.StringIO(done.stdout.decode())))
        assert not any(cell.startswith(("=", "@", "+")) for row in rows for cell in row)


async def test_a_log_record_is_safe_and_its_secrets_are_masked(tmp_path: Path) -> None:
    folder = f"/nowhere/{HOSTILE.replace(chr(0xD800), '')} sk-{'x' * 40}"
    config = {"agents": {"defaults": {"workspace": folder}}}
    (tmp_path / "c.json").write_text(json.dumps(config))
    done = await run("ask", "q", "--config", str(tmp_path / "c.json"), "--base-url", "http://127.0.0.1:9")
    assert "is not a folder" in done.stderr.decode()
    assert "sk-x" not in done.stderr.decode()
    assert_safe(done)


def test_an_ascii_terminal_gets_letters_and_words() -> None:
    register_ascii_words()
    shown = "Troms\u00f8, 7 \u00b0C \u2014 caf\u00e9 \u2713 \u2764 \u4e2d".encode("ascii", ENCODING_ERRORS)
    assert shown == b"Tromso, 7  deg C - cafe ok [heavy black heart] ?"
    assert "7 \u00b0C \u2713".encode("latin-1", ENCODING_ERRORS) == b"7 \xb0C ok"
