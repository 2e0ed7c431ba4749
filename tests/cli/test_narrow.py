"""Every command on narrow and plain terminals: its help and what it prints."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from cli.program import run_on_terminal
from cli.terminal import _CODES
from cli.test_new_user import COMMANDS

from clawft_trio.testing import Finish, Say, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")


async def on_terminal(commands: list[list[str]], columns: int, **env: str) -> dict[str, list[str]]:
    """The lines that each of *commands* prints on a terminal that is *columns* wide."""
    found: dict[str, list[str]] = {}
    for command in commands:
        written = await run_on_terminal(*command, columns=columns, env=env)
        # A status line is written over itself.
        text = re.sub(r"[^\n]*\r(?!\n)", "", _CODES.sub("", written.decode()))
        found.setdefault(" ".join(command), []).extend(text.replace("\r", "").split("\n"))
    return found


def too_wide(lines: list[str], columns: int) -> list[str]:
    """Those of *lines* that are wider than the terminal and could have been broken: at a space between words."""
    return [line for line in lines if len(line) > columns and " " in line.strip().rstrip("│").strip()]


GROUPS = sorted({path[:1] for path in COMMANDS if len(path) > 1})
HELP = [[*path, "--help"] for path in [(), *GROUPS, *COMMANDS]]
TERMINALS = pytest.mark.parametrize(
    ("columns", "env"),
    [
        (60, {"TERM": "xterm", "LANG": "C.UTF-8"}),
        (40, {"TERM": "xterm", "LANG": "C.UTF-8"}),
        (60, {"TERM": "dumb", "LANG": "C"}),
    ],
    ids=["60", "40", "dumb"],
)

# These do not end by themselves.
LASTING = {("chat",), ("worker",), ("mcp", "serve")}


@TERMINALS
async def test_no_help_is_wider_than_the_terminal(columns: int, env: dict[str, str]) -> None:
    shown = await on_terminal(HELP, columns, **env)
    assert len(shown) == len(HELP)
    assert [command for command, lines in shown.items() if not any("Usage" in line for line in lines)] == []
    check(shown, columns, env)


@TERMINALS
async def test_nothing_a_command_prints_is_wider_than_the_terminal(
    columns: int, env: dict[str, str], tmp_path: Path
) -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        commands = prepared(tmp_path, server.url)
        shown = await on_terminal(commands, columns, HOME=str(tmp_path), **env)
    begun = {path for path in COMMANDS for command in commands if tuple(command[: len(path)]) == path}
    assert begun == set(COMMANDS) - LASTING
    assert [command for command, lines in shown.items() if not any(line.strip() for line in lines)] == []
    # Code and the exact prompt, which a wrapped line would change.
    shown.pop("config schema")
    shown = {
        command: [line for line in lines if not line.startswith("Workspace: ")] for command, lines in shown.items()
    }
    check(shown, columns, env)


def check(shown: dict[str, list[str]], columns: int, env: dict[str, str]) -> None:
    """That no line is too wide; and in the locale C, that all is ASCII and nothing is replaced by a `?`."""
    wide = {command: lines for command, printed in shown.items() if (lines := too_wide(printed, columns))}
    assert wide == {}
    if env["LANG"] == "C":
        text = {command: "\n".join(lines) for command, lines in shown.items()}
        assert [command for command, printed in text.items() if not printed.isascii()] == []
        assert [command for command, printed in text.items() if re.search(r"(?<!\w)\?", printed)] == []


def prepared(folder: Path, url: str) -> list[list[str]]:
    """A line for each command that ends by itself, with a workspace, a store and a recording to work on."""
    workspace = folder / "w"
    (workspace / ".clawft" / "skills" / "greet").mkdir(parents=True)
    (workspace / ".clawft" / "skills" / "greet" / "SKILL.md").write_text(
        "---\nname: greet\ndescription: Greet a guest of the house in the language of the country that he comes from.\n---\nHi.\n"
    )
    (workspace / "SOUL.md").write_text("You are Nora.\n")
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {"agents": {"defaults": {"model": "local/m"}}, "providers": {"local": {"apiBase": url}}, "wrong_key": 1}
        )
    )
    broken = folder / "broken.json"
    broken.write_text('{"agents": {"defaults": {"temperature": "a warm day", "max_tokens": -1}}, "providers": 3}')
    store, turns, copy = (str(folder / name) for name in ("s.db", "t.jsonl", "c.db"))
    at = ["--workspace", str(workspace)]
    agent = ["--config", str(config), "--store", store, *at]
    mcp = [sys.executable, "-c", "from clawft_trio.cli.main import main; main()", "mcp", "serve", str(workspace)]
    return [
        ["demo", "--speed", "50"],
        ["ask", "hi", *agent, "--record", turns],
        ["ask", "hi", "-m", "m", "--base-url", "http://127.0.0.1:9/v1"],
        ["ask", "hi", "-m", "groq/some-model"],
        ["ask", "hi", "--config", str(broken)],
        ["ask", "hi", "-m", "no-slash-in-it"],
        ["doctor", *agent],
        ["doctor"],
        ["doctor", "--config", str(broken)],
        ["context", *at],
        ["skills", *at],
        ["skills", *at, "--trust-workspace"],
        ["costs", store],
        ["costs", store, "--by", "day", "--by", "sender", "--by", "target"],
        ["costs", store, "--by", "nothing"],
        ["workers", store],
        ["requeue", store, "no-such-turn"],
        ["store", "upgrade", store],
        ["store", "check", store],
        ["store", "copy", store, copy],
        ["timeline", turns],
        ["timeline", store],
        ["config", "init", str(folder / "new.json"), "-m", "openai/gpt-5-mini", "-m", "ollama/llama3.2"],
        ["config", "init", str(folder / "new.json")],
        ["config", "show"],
        ["config", "show", str(config)],
        ["config", "show", str(broken)],
        ["config", "schema"],
        ["mcp", "list", "--", *mcp],
        ["mcp", "list", "--", "no-such-command-at-all"],
        ["mcp", "call", "read_file", "-a", '{"path": "SOUL.md"}', "--", *mcp],
        ["no-such-command"],
        ["ask"],
        ["ask", "hi", "--max-tokens", "none"],
    ]
