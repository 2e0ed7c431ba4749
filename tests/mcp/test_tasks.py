"""Tool calls as tasks (2025-11-25), our client against our server: over streams and over HTTP."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from clawft_trio.errors import PeerError, RequestTimeout
from clawft_trio.mcp import (
    Host,
    HttpServer,
    McpOptions,
    McpServer,
    ServeOptions,
    TaskOptions,
    call_tool_as_task,
    open_mcp,
    serve_mcp,
    serve_mcp_http,
    wrap_mcp,
)
from clawft_trio.mcp.types import ElicitResult
from clawft_trio.testing import cancel_everywhere
from clawft_trio.tools import ToolContext, tool

TASKS = TaskOptions()


class Work:
    """Tools that say what happened to them."""

    def __init__(self):
        self.gate = trio.Event()
        self.log = []

        @tool
        async def slow(text: str, context: ToolContext) -> str:
            """Wait for the gate."""
            self.log.append("began")
            try:
                context.progress(1, 2, "half")
                await self.gate.wait()
            except trio.Cancelled:
                self.log.append("cancelled")
                raise
            return text

        @tool
        async def fails() -> str:
            """Fail."""
            raise ValueError("broken")

        @tool
        async def asks(context: ToolContext) -> str:
            """Ask the person."""
            answer = await context.client.elicit(
                "size?", {"type": "object", "properties": {"size": {"type": "string"}}}
            )
            return f"{answer.action} {answer.content.get('size')}"

        self.server = McpServer([slow, fails, asks])


async def elicit(_):
    await trio.lowlevel.checkpoint()
    return ElicitResult(action="accept", content={"size": "M"})


@asynccontextmanager
async def over_streams(work, tasks=TASKS, **options):
    here, there = trio.testing.memory_stream_pair()
    options = McpOptions(host=Host(elicit=elicit), protocol="handshake", **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_mcp, work.server, (there, there), options=ServeOptions(tasks=tasks)))
        async with wrap_mcp(here, here, options=options) as client:
            await client.list_tools()
            yield client
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_http(work, tasks=TASKS, **options):
    options = McpOptions(host=Host(elicit=elicit), protocol="handshake", **options)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_mcp_http, work.server, "127.0.0.1:0", options=ServeOptions(tasks=tasks))
        address = await nursery.start(serve)
        async with open_mcp(HttpServer(address), options=options) as client:
            await client.list_tools()
            yield client
        nursery.cancel_scope.cancel()


BOTH = pytest.mark.parametrize("connected", [over_streams, over_http])
FAST = TaskOptions(poll=0.05)
REQUIRED = TaskOptions(required=("*",), poll=0.05)


@BOTH
async def test_a_task_is_created_polled_and_its_result_fetched(connected):
    work = Work()
    seen = []

    def note(task):
        seen.append(task.status)
        if len(seen) > 1:
            work.gate.set()

    async with connected(work, FAST) as client:
        assert client.agreement.capabilities.tasks["requests"] == {"tools": {"call": {}}}
        result = await call_tool_as_task(client, "slow", {"text": "hi"}, on_status=note)
    assert result.text == "hi"
    assert set(result.meta) == {"io.modelcontextprotocol/related-task"}
    assert (seen[0], seen[-1]) == ("working", "completed")


@BOTH
async def test_a_tool_that_demands_it_is_called_as_a_task_without_more_ado(connected):
    work = Work()
    reports = []
    work.gate.set()
    async with connected(work, REQUIRED) as client:
        result = await client.call_tool("slow", {"text": "hi"}, on_progress=reports.append)
        assert result.text == "hi"
        failed = await client.call_tool("fails")
        assert failed.is_error
        assert "broken" in failed.text
    assert [(report.progress, report.message) for report in reports] in ([], [(1, "half")])


@BOTH
async def test_a_task_can_ask_the_person(connected):
    async with connected(Work(), REQUIRED) as client:
        assert (await client.call_tool("asks")).text == "accept M"


@BOTH
async def test_cancelling_the_caller_cancels_the_task_and_its_tool(connected):
    work = Work()
    async with connected(work, REQUIRED) as client:
        with trio.move_on_after(0.3):
            await client.call_tool("slow", {"text": "x"})
        with trio.fail_after(5):
            while "cancelled" not in work.log:
                await trio.sleep(0.01)
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", {"text": "x"}, total=0.2)
        assert [task["status"] for task in await listed(client)] == ["cancelled", "cancelled"]


async def listed(client):
    return await client.call("tasks/list", {}, decode=lambda raw: decode(raw)["tasks"])


decode = msgspec.json.decode


async def create(client, name="slow", arguments=None, **task):
    params = {"name": name, "arguments": arguments or {"text": "x"}, "task": task}
    return (await client.call("tools/call", params, decode=decode))["task"]


async def test_a_task_has_the_fields_of_the_protocol():
    work = Work()
    async with over_streams(work) as client:
        task = await create(client, ttl=60_000)
        assert task | {"createdAt": "", "lastUpdatedAt": "", "taskId": ""} == {
            "taskId": "",
            "status": "working",
            "createdAt": "",
            "lastUpdatedAt": "",
            "ttl": 60_000,
            "pollInterval": 1000,
        }
        assert task["createdAt"].endswith("Z")
        assert (await client.call("tasks/get", {"taskId": task["taskId"]}, decode=decode))["taskId"] == task["taskId"]


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
async def test_an_unknown_task_and_a_task_of_another_client_are_invalid_params(method):
    work = Work()
    async with over_streams(work) as client, over_streams(work) as other:
        of_the_other = (await create(other))["taskId"]
        for key in ("nope", of_the_other):
            with pytest.raises(PeerError) as caught:
                await client.call(method, {"taskId": key}, decode=decode)
            assert caught.value.code == -32602
        with pytest.raises(PeerError) as caught:
            await client.call(method, {}, decode=decode)
        assert caught.value.code == -32602


async def test_a_task_that_has_ended_cannot_be_cancelled_and_a_cancelled_one_has_no_result():
    work = Work()
    async with over_streams(work) as client:
        key = {"taskId": (await create(client))["taskId"]}
        assert (await client.call("tasks/cancel", key, decode=decode))["status"] == "cancelled"
        for method in ("tasks/cancel", "tasks/result"):
            with pytest.raises(PeerError) as caught:
                await client.call(method, key, decode=decode)
            assert caught.value.code == -32602


async def test_a_task_is_forgotten_and_cancelled_after_its_time(autojump_clock):
    work = Work()
    async with over_streams(work) as client:
        key = {"taskId": (await create(client, ttl=5000))["taskId"]}
        await trio.sleep(4.9)
        assert (await client.call("tasks/get", key, decode=decode))["status"] == "working"
        await trio.sleep(0.2)
        with pytest.raises(PeerError):
            await client.call("tasks/get", key, decode=decode)
        assert work.log == ["began", "cancelled"]


@pytest.mark.parametrize("ttl", [0, -1, "soon", True, {}])
async def test_a_time_that_is_none_is_refused(ttl):
    async with over_streams(Work()) as client:
        with pytest.raises(PeerError) as caught:
            await create(client, ttl=ttl)
        assert caught.value.code == -32602


@pytest.mark.parametrize("ttl", [10**400, 1e308, 2**63])
async def test_a_time_that_no_clock_has_is_cut_to_the_longest(ttl):
    async with over_streams(Work()) as client:
        assert (await create(client, ttl=ttl))["ttl"] == TaskOptions().max_ttl * 1000


async def test_only_tools_that_allow_it_run_as_tasks_and_required_ones_only_so():
    tasks = TaskOptions(optional=("slow",), required=("asks",))
    async with over_streams(Work(), tasks) as client:
        support = {one.name: one.execution["taskSupport"] for one in await client.list_tools()}
        assert support == {"slow": "optional", "asks": "required", "fails": "forbidden"}
        for call in ({"name": "fails", "task": {}}, {"name": "asks"}):
            with pytest.raises(PeerError) as caught:
                await client.call("tools/call", call, decode=decode)
            assert caught.value.code == -32601
        with pytest.raises(PeerError) as caught:
            await client.call("tools/call", {"name": "nothing", "task": {}}, decode=decode)
        assert caught.value.code in (-32601, -32602)


async def test_tasks_are_bounded_and_fetched_ones_make_room():
    work = Work()
    async with over_streams(work, TaskOptions(max_tasks=2)) as client:
        first = await create(client, "fails", {})
        with pytest.raises(PeerError):
            await create(client, "fails", {}) and await create(client)
        await client.call("tasks/result", {"taskId": first["taskId"]}, decode=decode)
        await create(client)


async def test_without_task_options_there_are_no_tasks():
    async with over_streams(Work(), None) as client:
        assert client.agreement.capabilities.tasks is None
        with pytest.raises(PeerError) as caught:
            await client.call("tasks/list", {}, decode=decode)
        assert caught.value.code == -32601


async def test_calling_as_a_task_cancelled_everywhere_leaves_no_tool_running(autojump_clock):
    work = Work()
    work.gate.set()
    living = trio.lowlevel.current_statistics().tasks_living

    async def call():
        async with over_streams(work, REQUIRED) as client:
            await client.call_tool("slow", {"text": "x"})

    async def check():
        assert trio.lowlevel.current_statistics().tasks_living == living

    assert await cancel_everywhere(call, check) > 20
