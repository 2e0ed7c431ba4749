"""What the command line says in the first hour: missing keys, missing prices, skills by name, plurals."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cli.program import run
from cli.terminal import open_terminal

from clawft_trio.testing import Finish, Say, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")

PROMPT = "> "


async def test_a_fallback_without_a_key_is_named_and_the_answer_comes(tmp_path: Path) -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        config = tmp_path / "config.json"
        config.write_text(f'{{"providers": {{"local": {{"apiBase": "{server.url}"}}}}}}')
        models = ["-m", "local/m", "-m", "groq/some-model"]
        done = await run("ask", "hi", *models, "--config", str(config))
    assert (done.returncode, done.stdout) == (0, b"Hello.\n")
    said = done.stderr.decode()
    assert "groq/some-model cannot be asked: groq: no key for 'groq': set GROQ_API_KEY; the other models are." in said


async def test_costs_say_why_something_has_no_price(tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        await run("ask", "hi", "--base-url", server.url, "-m", "m", "--store", store)
    for form in ("table", "csv", "json"):
        done = await run("costs", store, "--format", form)
        assert done.returncode == 0
        assert re.match(r"server/m is unpriced: .*\bprice", done.stderr.decode()), done.stderr
    config = tmp_path / "config.json"
    config.write_text('{"prices": {"server/m": {"input": 1, "output": 2}}}')
    said = (await run("costs", store, "--config", str(config))).stderr.decode()
    assert said.startswith("server/m is unpriced: it has a price now")


async def test_a_skill_goes_before_a_command_of_the_chat_with_its_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("model", "greet"):
        folder = home / ".clawft" / "skills" / name
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: D.\n---\nThe instructions of {name}.\n")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    async with (
        open_fault_server([Say("Done."), Finish()]) as server,
        open_terminal(
            "chat", "--base-url", server.url, "-m", "m", "--workspace", str(workspace), env={"HOME": str(home)}
        ) as terminal,
    ):
        for line in ("/greet the world", "/model ship"):
            await terminal.see(PROMPT)
            await terminal.type(f"{line}\n")
            await terminal.see("Done.")
        await terminal.see(PROMPT)
        await terminal.type("/chat:model other\n")
        await terminal.see("The next messages go to server/other.")
        await terminal.see(PROMPT)
        await terminal.type("/nothing\n")
        await terminal.see("no such command")
        await terminal.type("\x04")
        await terminal.end()
        asked = [exchange.request.body["messages"][-1]["content"] for exchange in server.exchanges]
    assert "The instructions of greet." in str(asked[0])
    assert "The instructions of model." in str(asked[1])
    assert len(asked) == 2


async def test_plurals_are_right(tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    async with (
        open_fault_server([Say("Hello."), Finish()]) as server,
        open_terminal("chat", "--base-url", server.url, "-m", "m", "--store", store) as terminal,
    ):
        await terminal.see(PROMPT)
        await terminal.type("hi\n")
        await terminal.see(PROMPT)
        await terminal.type("/cost\n")
        assert "1 attempt " in await terminal.see(PROMPT)
        await terminal.type("/sessions\n")
        assert "2 messages" in await terminal.see(PROMPT)
        await terminal.type("\x04")
        await terminal.end()
    done = await run("workers", store)
    assert b"No open messages." in done.stdout
