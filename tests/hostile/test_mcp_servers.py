"""Whatever an MCP server sends, over either transport, costs one call at most: no stall, and the turn is answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hostile.loop_time import bounded_loop

from clawft_trio import HttpServer, StdioServer, open_agent
from clawft_trio.testing import CallTool, ScriptedProvider

SERVER = str(Path(__file__).with_name("hostile_mcp_server.py"))

CALLABLE = [
    "pattern",
    "doubling schema",
    "many tools",
    "names",
    "types",
    "list_changed",
    "logs",
    "progress",
    "updates",
    "unknown",
    "answers",
    "requests",
    "sampling",
    "nesting",
    "no JSON",
    "text",
    "escapes",
    "surrogates",
    "parts",
    "picture",
    "objects",
    "large",
]
"""Kinds whose tool can be called all the same."""

REFUSED = ["description", "schema", "deep schema", "pages", "info"]


@asynccontextmanager
async def hostile(kind: str, transport: str) -> AsyncGenerator[StdioServer | HttpServer, None]:
    if transport == "stdio":
        yield StdioServer((sys.executable, SERVER, kind))
        return
    process = await trio.lowlevel.open_process([sys.executable, SERVER, kind, "http"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = int(await process.stdout.receive_some(100))
        yield HttpServer(f"http://127.0.0.1:{port}/mcp")
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


async def turn(server: StdioServer | HttpServer) -> tuple[str, str]:
    model = ScriptedProvider.using_tools(CallTool("h__t", {"a": "a" * 40 + "!"}), then="fine", name="p")
    async with bounded_loop():
        with trio.fail_after(60):
            async with open_agent(["p/m"], providers={"p": model}, mcp={"h": server}) as agent:
                reply = await agent.ask("q")
    (answer,) = reply.tools
    answer.text.encode()
    assert len(answer.text) < 100_000
    return reply.text, answer.outcome


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("kind", CALLABLE)
async def test_a_hostile_server_costs_its_own_call_at_most(kind: str, transport: str) -> None:
    async with hostile(kind, transport) as server:
        text, outcome = await turn(server)
    assert text == "fine"
    assert outcome in {"ok", "error"}


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_too_large_is_not_offered_and_the_turn_goes_on(kind: str, transport: str) -> None:
    async with hostile(kind, transport) as server:
        text, _ = await turn(server)
    assert text == "fine"
