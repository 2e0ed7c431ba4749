"""A turn that is cancelled anywhere leaves nothing: no task, no thread, no process, no lock."""

from __future__ import annotations

import json
import os
import sys
import time

import attrs
import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.observe import Recorder, ToolEnded, ToolStarted
from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import FanOutPolicy, ToolContext, ToolRegistry, tool
from clawft_trio.tools.builtin import BuiltinPolicy, ChildPolicy, CommandPolicy, register_builtins

CONTEXT = ToolContext(auth=AuthContext.local())


def call(name, **arguments):
    return ToolCall(id="", name=name, arguments=json.dumps(arguments))


@tool(writes="path")
async def change(path: str) -> str:
    await trio.lowlevel.checkpoint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
    return "changed"


@tool(mode="read_only", reads="path")
def look(path: str) -> str:
    time.sleep(0.0005)
    return "seen"


@tool(mode="exclusive")
async def alone() -> str:
    await trio.lowlevel.checkpoint()
    return "alone"


def no_children():
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def sweep(registry, calls, context=CONTEXT, limit=500, **more):
    """Cancel everywhere; whatever finished must have answered everything."""
    recorder = Recorder()
    context = attrs.evolve(context, observer=recorder)
    nothing_more = nothing_left()
    answered = []

    async def operation():
        recorder.events.clear()
        answered.append(await registry.execute_all(calls, context, **more))

    async def check():
        now = registry.statistics()
        assert (now.locks.holders, now.locks.waiters, now.locks.paths) == (0, 0, 0)
        assert (now.threads.running, now.threads.waiting, now.threads.abandoned) == (0, 0, 0)
        await nothing_more()
        no_children()
        # What began, ended, and was told so.
        assert {e.tool_call_id for e in recorder.of(ToolStarted)} <= {e.tool_call_id for e in recorder.of(ToolEnded)}

    delivered = await cancel_everywhere(operation, check, limit=limit)
    assert answered
    assert all(len(answers) == len(calls) for answers in answered)
    assert all(answer.outcome == "ok" for answers in answered for answer in answers)
    return delivered


async def test_async_tools_and_their_locks_are_gone_wherever_a_turn_is_cancelled(tmp_path):
    registry = ToolRegistry([change, alone], policy=FanOutPolicy(concurrency=3))
    calls = [call("change", path="a"), call("change", path="a"), call("alone"), call("change", path="")]
    context = attrs.evolve(CONTEXT, workspace=tmp_path)
    assert await sweep(registry, calls, context) > 30


async def test_threads_are_awaited_wherever_a_turn_is_cancelled(tmp_path):
    registry = ToolRegistry([look, change], threads=1)
    calls = [call("look", path="a"), call("change", path="a"), call("look", path="b"), call("look", path="a")]
    assert await sweep(registry, calls, attrs.evolve(CONTEXT, workspace=tmp_path)) > 15


async def test_file_tools_leave_no_half_file_wherever_a_turn_is_cancelled(tmp_path):
    registry = ToolRegistry()
    register_builtins(registry, tmp_path, BuiltinPolicy(unapproved=True))
    calls = [call("write_file", path="d/f", content="x"), call("read_file", path="d/f"), call("list_directory")]
    assert await sweep(registry, calls) > 10
    assert {path.name for path in tmp_path.rglob("*")} == {"d", "f"}


async def test_child_processes_are_gone_wherever_a_turn_is_cancelled(tmp_path):
    registry = ToolRegistry()
    commands = CommandPolicy(allow=("cat", "sh -c **"), child=ChildPolicy(grace=0.2))
    register_builtins(registry, tmp_path, BuiltinPolicy(unapproved=True, commands=commands))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    calls = [
        call("run_command", argv=["cat"], directory="a", stdin="x" * 10),
        call("run_command", argv=["sh", "-c", "sleep 9 & echo; exit 0"], directory="b"),
    ]
    assert await sweep(registry, calls) > 20


async def test_approvals_and_journals_are_left_wherever_a_turn_is_cancelled(tmp_path):
    async def approve(request):
        await trio.lowlevel.checkpoint()
        return True

    class Journal:
        def __init__(self):
            self.open = set()

        async def started(self, call, tool):
            await trio.lowlevel.checkpoint()

        async def ended(self, answer):
            await trio.lowlevel.checkpoint()

    registry = ToolRegistry([change], approve=approve)
    calls = [call("change", path="a"), call("change", path="a"), call("change", path="b")]
    context = attrs.evolve(CONTEXT, workspace=tmp_path)
    assert await sweep(registry, calls, context, journal=Journal()) > 30


async def test_a_cancelled_call_is_told_as_cancelled(autojump_clock):
    @tool
    async def hang() -> None:
        await trio.sleep_forever()

    seen = Recorder()
    with trio.move_on_after(3):
        await ToolRegistry([hang]).execute_all([call("hang"), call("hang")], attrs.evolve(CONTEXT, observer=seen))
    assert [(ended.outcome, ended.duration) for ended in seen.of(ToolEnded)] == [("cancelled", 3)] * 2


async def test_a_turn_that_is_cancelled_before_it_begins_runs_nothing():
    @tool
    async def act() -> None:
        raise AssertionError("it ran")

    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        await ToolRegistry([act]).execute_all([call("act")], CONTEXT)
    assert scope.cancelled_caught
    assert sys.exc_info() == (None, None, None)
