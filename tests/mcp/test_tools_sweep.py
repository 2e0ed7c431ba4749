"""A turn with every kind of tool in it, cancelled anywhere, leaves nothing: here, in threads, processes or at servers."""

from __future__ import annotations

import json
import os
import time

import attrs
import pytest
import trio
from mcp_wired import cancelled_ids, wired

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.mcp.toolset import open_toolset
from clawft_trio.observe import Recorder, ToolEnded, ToolStarted
from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.mcp_server import ScriptedMcpServer, scripted_server
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import FanOutPolicy, ToolContext, ToolRegistry, tool
from clawft_trio.tools.builtin import BuiltinPolicy, ChildPolicy, CommandPolicy, register_builtins


@tool(writes="path")
async def change(path: str) -> str:
    """Change a file."""
    await trio.lowlevel.checkpoint()
    return "changed"


@tool(mode="read_only", reads="path")
def look(path: str) -> str:
    """Look at a file, in a thread."""
    time.sleep(0.0005)
    return "seen"


def make_registry(folder, *more):
    """Async, thread and child-process tools."""
    registry = ToolRegistry([change, look, *more], threads=1, policy=FanOutPolicy(concurrency=4))
    commands = CommandPolicy(allow=("cat",), child=ChildPolicy(grace=0.2))
    register_builtins(registry, folder, BuiltinPolicy(unapproved=True, commands=commands))
    return registry


def calls_of(*calls):
    return [ToolCall(id=f"c{n}", name=name, arguments=json.dumps(made)) for n, (name, made) in enumerate(calls)]


def mixed(*mcp):
    """Every kind of tool, two of a kind for the same path, so that some wait for locks and for the thread."""
    (first, *others) = mcp
    return calls_of(
        ("change", {"path": "a"}),
        first,
        ("look", {"path": "a"}),
        ("run_command", {"argv": ["cat"], "stdin": "x" * 10}),
        ("look", {"path": "b"}),
        ("change", {"path": "a"}),
        *others,
    )


def no_dead_children():
    """Asserts that no child has ended unseen; one that lives is for the end of the test to find."""
    try:
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        pass


def no_children():
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@attrs.define
class Turns:
    """How the turns of a sweep ended."""

    answered: int = 0
    cancelled: int = 0


async def sweep(registry, calls, clients, folder, *, children, seed=0):
    """Cancel a turn everywhere, and after each one look everywhere."""
    recorder = Recorder()
    context = ToolContext(auth=AuthContext.local(), workspace=folder, observer=recorder)
    turns = Turns()
    nothing_more = nothing_left()

    async def turn():
        recorder.events.clear()
        try:
            answers = await registry.execute_all(calls, context)
        except trio.Cancelled:
            turns.cancelled += 1
            raise
        turns.answered += 1
        assert [(answer.call_id, answer.outcome) for answer in answers] == [(call.id, "ok") for call in calls]

    async def check():
        now = registry.statistics()
        assert (now.locks.holders, now.locks.waiters, now.locks.paths) == (0, 0, 0)
        assert (now.threads.running, now.threads.waiting, now.threads.abandoned) == (0, 0, 0)
        started = [event.tool_call_id for event in recorder.of(ToolStarted)]
        ended = [event.tool_call_id for event in recorder.of(ToolEnded)]
        assert len(set(ended)) == len(ended)
        assert set(started) <= set(ended)
        for client in clients:
            held = client.statistics()
            assert (held.in_flight, held.waiting) == (0, 0)
            # The conversation goes on, and everything before this has been written.
            with trio.fail_after(20):
                await client.ping()
            held = client.statistics()
            assert (held.in_flight, held.waiting, held.outgoing, held.malformed) == (0, 0, 0, 0)
            assert client.restarts == 0
        await nothing_more()
        children()

    delivered = await cancel_everywhere(turn, check, seed=seed)
    # Two runs are those in which no step was left to be cancelled at.
    assert turns.answered + turns.cancelled == delivered + 2
    assert turns.answered >= 2
    assert turns.cancelled > delivered / 2
    return delivered


@pytest.mark.parametrize("seed", range(3))
async def test_a_turn_with_every_kind_of_tool_leaves_nothing_wherever_it_is_cancelled(tmp_path, seed):
    async with wired(hold=()) as (client, server):

        @tool(mode="read_only")
        async def ask_server(text: str) -> str:
            """Ask the server."""
            return (await client.call_tool("echo", {"text": text})).text

        registry = make_registry(tmp_path, ask_server)
        calls = mixed(("ask_server", {"text": "a"}), ("ask_server", {"text": "b"}))
        assert await sweep(registry, calls, [client], tmp_path, children=no_children, seed=seed) > 40
        asked = [message["id"] for message in server.received if message.get("method") == "tools/call"]
        given_up = cancelled_ids(server)
        assert len(set(given_up)) == len(given_up) > 0
        assert set(given_up) < set(asked)


async def test_a_server_that_never_answers_is_told_of_every_call_that_was_given_up(tmp_path):
    silent = ScriptedMcpServer(hold=["tools/call"])
    async with wired(silent) as (client, _):

        @tool(mode="read_only")
        async def ask_server(text: str) -> str:
            """Ask the server."""
            return (await client.call_tool("echo", {"text": text})).text

        registry = ToolRegistry([ask_server, change])
        calls = calls_of(("ask_server", {"text": "a"}), ("change", {"path": "a"}), ("ask_server", {"text": "b"}))
        context = ToolContext(auth=AuthContext.local(), workspace=tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.execute_all, calls, context)
            held = [await silent.wait_held() for _ in range(2)]
            nursery.cancel_scope.cancel(reason="seen enough")
        await client.ping()
        asked = [message["id"] for message in silent.received if message.get("method") == "tools/call"]
        assert sorted(cancelled_ids(silent)) == sorted(asked)
        assert len(asked) == 2
        # An answer that comes now is nobody's.
        for one in held:
            await one.answer({"content": []})
        await client.ping()
        now = client.statistics()
        assert (now.in_flight, now.waiting, now.outgoing, now.stray_answers) == (0, 0, 0, 2)
        assert registry.statistics().locks.holders == 0


async def test_a_turn_with_a_real_server_leaves_nothing_wherever_it_is_cancelled(tmp_path):
    registry = make_registry(tmp_path)
    async with open_toolset({"one": scripted_server(), "two": scripted_server()}, registry) as toolset:
        calls = mixed(("one__echo", {"text": "a"}), ("two__echo", {"text": "b"}), ("one__echo", {"text": "c"}))
        clients = list(toolset.clients.values())
        assert len(clients) == 2
        assert await sweep(registry, calls, clients, tmp_path, children=no_dead_children) > 40
    no_children()
