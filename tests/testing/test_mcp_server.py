"""The scripted MCP server in this process: its built-in tools, and what it does with requests that it does not know."""

from __future__ import annotations

import base64
import json
import os
import sys

import pytest
import trio
from mcp_wired import wired
from trio.testing import wait_all_tasks_blocked

from clawft_trio.errors import PeerError
from clawft_trio.mcp import Host, McpOptions
from clawft_trio.mcp.types import Root
from clawft_trio.testing.mcp_server import Failure, ScriptedMcpServer, main


async def text(client, tool, **arguments):
    return (await client.call_tool(tool, arguments)).text


async def test_simple_tools_answer_with_text():
    async with wired(hold=()) as (client, server):
        assert await text(client, "echo", text=7) == "7"
        assert await text(client, "sleep", seconds=0) == "slept"
        assert await text(client, "big", size=1000) == "x" * 1000
        assert await text(client, "pid") == str(os.getpid())
        assert json.loads(await text(client, "env")) == dict(os.environ)
        seen = json.loads(await text(client, "seen"))
        assert [one["method"] for one in seen].count("tools/call") == 6
        assert seen == server.received
        assert {"echo", "hold", "release", "seen"} < {tool.name for tool in await client.list_tools()}


async def test_a_tool_writes_to_stderr_so_many_bytes_and_a_line(capsys):
    async with wired(hold=()) as (client, _):
        assert await text(client, "stderr", bytes=250) == "written"
    assert capsys.readouterr().err == "e" * 99 + "\n" + ("f" * 99 + "\n") * 2


@pytest.mark.parametrize(("reverse", "order"), [(False, ["a", "b", "c"]), (True, ["c", "b", "a"])])
async def test_calls_are_held_until_they_are_released(reverse, order):
    released = []

    async def hold(name):
        released.append(await text(client, "hold", text=name))

    async with wired(hold=()) as (client, _), trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(hold, name)
            await wait_all_tasks_blocked()
        assert await text(client, "release", count=3, reverse=reverse) == "3"
        await wait_all_tasks_blocked()
        assert released == order
        assert await text(client, "release") == "0"
        # It waits for as many.
        nursery.start_soon(hold, "d")
        assert await text(client, "release", count=1) == "1"


async def test_a_tool_writes_any_bytes_before_its_answer_or_instead_of_it():
    async with wired(hold=()) as (client, server):
        noise = base64.b64encode(b"noise\n").decode()
        assert await text(client, "raw", base64=noise, answer=True) == "written"
        result = {"content": [{"type": "text", "text": "raw"}]}
        line = json.dumps({"jsonrpc": "2.0", "id": server.received[-1]["id"] + 1, "result": result}).encode() + b"\n"
        assert await text(client, "raw", base64=base64.b64encode(line).decode()) == "raw"


async def test_a_tool_reports_so_many_steps():
    reports = []
    async with wired(hold=()) as (client, _):
        result = await client.call_tool("progress", {"steps": 3}, on_progress=reports.append)
        assert result.text == "done"
    assert [(one.progress, one.total, one.message) for one in reports] == [(n, 3, f"step {n}") for n in (1, 2, 3)]


async def test_a_tool_notifies_and_asks_the_client():
    heard = []

    async def listen(method, params):
        await trio.lowlevel.checkpoint()
        heard.append((method, params))

    host = Host(on_notification=listen, roots=[Root(uri="file:///a")])
    async with wired(hold=(), options=McpOptions(host=host, protocol="handshake", supervision=None)) as (client, _):
        assert await text(client, "notify", method="notifications/x", times=2, params={"a": 1}) == "sent"
        assert await text(client, "notify", method="notifications/y") == "sent"
        await wait_all_tasks_blocked()
        assert heard == [("notifications/x", {"a": 1})] * 2 + [("notifications/y", {})]
        for key, used in ((None, "s1"), (None, "s2"), (17, 17)):
            answer = json.loads(await text(client, "ask", method="roots/list", **({} if key is None else {"id": key})))
            assert answer == {"jsonrpc": "2.0", "id": used, "result": {"roots": [{"uri": "file:///a"}]}}


async def test_what_it_does_not_know_is_an_error():
    async def fail(_):
        await trio.lowlevel.checkpoint()
        raise Failure(-7, "broken")

    async with wired(hold=(), answers={"x/fail": fail}) as (client, _):
        for call, code in (
            (client.call_tool("unheard"), -32602),
            (client.call("no/such", decode=bytes), -32601),
            (client.call("x/fail", decode=bytes), -7),
        ):
            with pytest.raises(PeerError) as caught:
                await call
            assert caught.value.code == code


async def test_tools_of_its_own_and_an_answer_of_none():
    async def nothing(_):
        await trio.lowlevel.checkpoint()

    server = ScriptedMcpServer(tools=[{"name": "mine", "inputSchema": {}}], answers={"x/silent": nothing})
    async with wired(server) as (client, _):
        assert [tool.name for tool in await client.list_tools()] == ["mine"]
        with trio.move_on_after(0.05) as scope:
            await client.call("x/silent", decode=bytes)
        assert scope.cancelled_caught


async def test_a_server_without_a_client_says_so():
    server = ScriptedMcpServer()
    for operation in (server.notify("x"), server.close_output()):
        with pytest.raises(AssertionError, match="no client"):
            await operation


def test_its_program_ends_at_once_with_words_and_a_code(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["server", "--die", "3", "--words", "no luck"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert (caught.value.code, capsys.readouterr().err) == (3, "no luck")
