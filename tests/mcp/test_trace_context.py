"""Trace context in `_meta`: the spans of a server are inside of those of its client, also in another process."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from mcp_wired import wired
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clawft_trio.mcp import (
    HttpServer,
    McpOptions,
    McpServer,
    ServeOptions,
    StdioServer,
    TaskOptions,
    open_mcp,
    serve_mcp,
    serve_mcp_http,
    wrap_mcp,
)
from clawft_trio.observe.otel import OtelObserver
from clawft_trio.observe.trace_context import continuing, current_trace
from clawft_trio.tools import tool


class Traced:
    """Spans of one process."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def span(self, name):
        [found] = [one for one in self.exporter.get_finished_spans() if one.name == name]
        return found


def served_tool(traced):
    @tool
    async def work() -> str:
        """Makes a span."""
        with traced.tracer.start_as_current_span("inside"):
            await trio.lowlevel.checkpoint()
        return "done"

    return McpServer([work])


@asynccontextmanager
async def over_streams(traced, protocol, tasks):
    here, there = trio.testing.memory_stream_pair()
    options = ServeOptions(observer=OtelObserver(tracer_provider=traced.provider), tasks=tasks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_mcp, served_tool(traced), (there, there), options=options))
        async with wrap_mcp(here, here, options=McpOptions(protocol=protocol)) as client:
            yield client
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_http(traced, protocol, tasks):
    options = ServeOptions(observer=OtelObserver(tracer_provider=traced.provider), tasks=tasks)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve_mcp_http, served_tool(traced), "127.0.0.1:0", options=options))
        async with open_mcp(HttpServer(address), options=McpOptions(protocol=protocol)) as client:
            yield client
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("connected", [over_streams, over_http])
@pytest.mark.parametrize("protocol", ["handshake", "stateless"])
async def test_the_servers_spans_are_inside_of_the_clients(connected, protocol):
    ours, theirs = Traced(), Traced()
    async with connected(theirs, protocol, None) as client:
        with ours.tracer.start_as_current_span("outside"):
            assert (await client.call_tool("work")).text == "done"
    outside, executed, inside = ours.span("outside"), theirs.span("execute_tool work"), theirs.span("inside")
    assert executed.parent.span_id == outside.context.span_id
    assert executed.parent.is_remote
    assert inside.parent.span_id == executed.context.span_id
    assert {one.context.trace_id for one in (executed, inside)} == {outside.context.trace_id}


@pytest.mark.parametrize("connected", [over_streams, over_http])
async def test_a_task_goes_on_in_the_trace_that_created_it(connected):
    ours, theirs = Traced(), Traced()
    async with connected(theirs, "handshake", TaskOptions(required=("*",), poll=0.05)) as client:
        await client.list_tools()
        with ours.tracer.start_as_current_span("outside"):
            await client.call_tool("work")
    assert theirs.span("execute_tool work").parent.span_id == ours.span("outside").context.span_id


async def test_two_calls_at_once_stay_apart():
    ours, theirs = Traced(), Traced()
    async with over_streams(theirs, "handshake", None) as client:

        async def call(name):
            with ours.tracer.start_as_current_span(name):
                await client.call_tool("work")

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(call, name)
    parents = [one.parent.span_id for one in theirs.exporter.get_finished_spans() if one.name == "execute_tool work"]
    assert sorted(parents) == sorted(ours.span(name).context.span_id for name in ("a", "b"))


SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    else:
        result = {"content": [{"type": "text", "text": json.dumps(message.get("params", {}).get("_meta"))}]}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


async def test_another_process_gets_the_trace_and_only_where_there_is_one():
    ours = Traced()
    options = McpOptions(protocol="handshake")
    async with open_mcp(StdioServer([sys.executable, "-c", SERVER]), options=options) as client:
        assert (await client.call_tool("x")).text == "null"
        with ours.tracer.start_as_current_span("outside") as span:
            meta = json.loads((await client.call_tool("x")).text)
    context = span.get_span_context()
    assert set(meta) == {"traceparent"}
    assert meta["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_what_the_caller_put_there_has_precedence_and_progress_keeps_its_token():
    ours = Traced()
    async with wired(hold=()) as (client, server):
        with ours.tracer.start_as_current_span("outside"):
            own = {"name": "echo", "arguments": {"text": "x"}, "_meta": {"traceparent": "mine", "other": 1}}
            await client.call("tools/call", own, decode=bytes)
            await client.call_tool("echo", {"text": "x"}, on_progress=lambda _: None)
    first, second = [message["params"]["_meta"] for message in server.received if message["method"] == "tools/call"]
    assert first == {"traceparent": "mine", "other": 1}
    assert set(second) == {"traceparent", "progressToken"}


VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"traceparent": None},
        {"traceparent": 3},
        {"traceparent": "x"},
        {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"},
        {"traceparent": VALID + "-" + "x" * 1000},
        {"tracestate": "a=b"},
    ],
)
def test_what_is_no_trace_context_is_ignored(fields):
    with continuing(fields):
        assert not trace.get_current_span().get_span_context().is_valid
        assert current_trace() == {}


def test_a_trace_comes_in_and_goes_out_with_its_state_and_without_baggage():
    with continuing({"traceparent": VALID, "tracestate": "vendor=1", "baggage": "user=ana"}):
        assert current_trace() == {"traceparent": VALID, "tracestate": "vendor=1"}
    assert current_trace() == {}
