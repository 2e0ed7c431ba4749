"""Our tools for other hosts."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair, memory_stream_pump, wait_all_tasks_blocked

from clawft_trio.auth import AuthContext, UserPermissions
from clawft_trio.errors import PeerError, PeerGone
from clawft_trio.mcp.connect import open_mcp, wrap_mcp
from clawft_trio.mcp.server import McpServer, ServeOptions, serve_mcp
from clawft_trio.mcp.server.requests import caching
from clawft_trio.mcp.server.stdio import MAX_LISTENS
from clawft_trio.testing import cancel_everywhere
from clawft_trio.tools import ToolContext, ToolRegistry, tool

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@tool(mode="read_only")
async def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    await trio.lowlevel.checkpoint()
    return a + b


@tool
async def count(steps: int, context: ToolContext) -> str:
    """Counts, and says how far it is."""
    for step in range(1, steps + 1):
        context.progress(step, steps, f"step {step}")
        context.progress(step, steps, "the same again")
        await trio.lowlevel.checkpoint()
    return "counted"


@tool
async def fail() -> None:
    """Fails."""
    raise RuntimeError("no luck")


class Gate:
    def __init__(self):
        self.inside = 0
        self.most = 0

    def tool(self):
        @tool
        async def wait() -> str:
            """Waits for ever."""
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await trio.sleep_forever()
            finally:
                self.inside -= 1

        return wait


@asynccontextmanager
async def served(*tools, server=None, options=None):
    near, far = memory_stream_pair()
    offered = server or ToolRegistry(tools)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: serve_mcp(offered, (far, far), options=options, task_status=task_status)
        )
        yield near
        nursery.cancel_scope.cancel(reason="the test is over")


class RawHost:
    """A host that writes and reads lines."""

    def __init__(self, stream):
        self.stream = stream
        self.buffer = b""

    async def write(self, data):
        await self.stream.send_all(data)

    async def read(self):
        while b"\n" not in self.buffer:
            chunk = await self.stream.receive_some()
            assert chunk
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    async def ask(self, **message):
        await self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        return await self.read()

    async def initialize(self, version="2025-11-25", capabilities=None):
        client = {"capabilities": capabilities or {}, "clientInfo": {"name": "h", "version": "1"}}
        answer = await self.ask(id=0, method="initialize", params={"protocolVersion": version, **client})
        await self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        return answer["result"]


async def test_our_client_and_our_server_understand_each_other():
    async with (
        served(add, count, fail, options=ServeOptions(instructions="be nice")) as near,
        wrap_mcp(near, near) as client,
    ):
        assert client.agreement.instructions == "be nice"
        assert client.agreement.server.name == "clawft-trio"
        assert [one.name for one in await client.list_tools()] == ["add", "count", "fail"]
        assert (await client.call_tool("add", {"a": 2, "b": 3})).text == "5"
        seen = []
        result = await client.call_tool(
            "count", {"steps": 3}, on_progress=lambda p: seen.append((p.progress, p.message))
        )
        assert result.text == "counted"
        assert seen == [(1, "step 1"), (2, "step 2"), (3, "step 3")]
        failed = await client.call_tool("fail")
        assert failed.is_error
        assert "no luck" in failed.text
        invalid = await client.call_tool("add", {"a": "x"})
        assert invalid.is_error
        assert "$.a" in invalid.text
        with pytest.raises(PeerError, match="unknown tool") as caught:
            await client.call_tool("nonsense")
        assert caught.value.code == -32602


async def test_requests_are_answered_side_by_side_and_can_be_cancelled():
    gate = Gate()
    async with served(gate.tool(), add) as near, wrap_mcp(near, near) as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(client.call_tool, "wait")
                await wait_all_tasks_blocked()
                assert gate.inside == 10
                assert (await client.call_tool("add", {"a": 1, "b": 1})).text == "2"
                scope.cancel(reason="enough")
        await wait_all_tasks_blocked()
        assert (gate.inside, gate.most) == (0, 10)
        assert await client.ping() >= 0


async def test_a_host_that_leaves_ends_the_server_and_its_running_tools():
    gate = Gate()
    near, far = memory_stream_pair()
    serve = partial(serve_mcp, ToolRegistry([gate.tool()]), (far, far), options=ServeOptions(drain=0.1))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            host = RawHost(near)
            await host.initialize()
            await host.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait"}}\n')
            await wait_all_tasks_blocked()
            assert gate.inside == 1
            await near.aclose()
    assert gate.inside == 0


async def test_only_what_the_host_may_use_is_offered_and_run():
    permissions = UserPermissions(level=1, tool_access=("add",))
    options = ServeOptions(auth=AuthContext(channel="mcp", sender_id="host", permissions=permissions))
    async with served(add, fail, options=options) as near, wrap_mcp(near, near) as client:
        assert [one.name for one in await client.list_tools()] == ["add"]
        assert (await client.call_tool("fail")).is_error


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_hosts_revision_is_spoken_if_it_is_known(version):
    async with served(add) as near:
        assert (await RawHost(near).initialize(version))["protocolVersion"] == version


async def test_a_host_of_an_unknown_revision_is_offered_the_latest():
    async with served(add) as near:
        assert (await RawHost(near).initialize("2099-01-01"))["protocolVersion"] == "2025-11-25"


BAD = [
    (b"hello\n", -32700, None),
    (b'{"jsonrpc":"2.0","id":5,"method":"tools/list","params":\n', -32700, 5),
    (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n', -32600, None),
    (b'{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"add","arguments":{"a":"\xff"}}}\n', -32700, 4),
    (b'{"jsonrpc":"2.0","id":3,"method":"tools/li\xc0\xaft"}\n', -32700, 3),
    (b'{"jsonrpc":"2.0","id":2,"method":"tools/list","extra":"\xed\xa0\x80"}\n', -32700, 2),
    (b"\xff\xfe\n", -32700, None),
    (b'{"jsonrpc":"2.0","id":6,"method":"no/such"}\n', -32601, 6),
    (b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":7}}\n', -32602, "x"),
    (b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":[1]}\n', -32602, 8),
    (b'{"jsonrpc":"2.0","id":9,"method":"tools/call"}\n', -32602, 9),
]


@pytest.mark.parametrize(("line", "code", "key"), BAD)
async def test_bad_requests_are_answered_by_the_book_and_cost_nothing_else(line, code, key):
    async with served(add) as near:
        host = RawHost(near)
        await host.initialize()
        await host.write(line)
        answer = await host.read()
        assert (answer["error"]["code"], answer["id"]) == (code, key)
        assert code != -32601 or answer["error"]["message"] == "unknown method: no/such"
        assert (await host.ask(id=10, method="ping"))["result"] == {}


@pytest.mark.parametrize("meta", [5, [], None, {"traceparent": 5}])
async def test_a_trace_that_is_none_costs_nothing(meta):
    async with served(add) as near:
        host = RawHost(near)
        await host.initialize()
        assert (await host.ask(id=1, method="ping", params={"_meta": meta, "traceparent": "x"}))["result"] == {}


@pytest.mark.parametrize(
    ("token", "sent"), [("t", True), (0, True), (True, False), (1.5, False), (None, False), ([], False)]
)
async def test_progress_is_reported_by_the_token_of_the_call_as_it_rises(token, sent):
    @tool
    async def steps(context: ToolContext) -> str:
        """Reports some steps."""
        context.progress(1)
        context.progress(1, 3)
        context.progress(0.5)
        context.progress(2, 3, "two")
        return "done"

    async with served(steps) as near:
        host = RawHost(near)
        await host.initialize()
        received = [
            await host.ask(id=1, method="tools/call", params={"name": "steps", "_meta": {"progressToken": token}})
        ]
        while "id" not in received[-1]:
            received.append(await host.read())
        reported = [{"progress": 1}, {"progress": 2, "total": 3, "message": "two"}] if sent else []
        assert [one["params"] for one in received[:-1]] == [{"progressToken": token, **one} for one in reported]
        assert received[-1]["result"]["content"][0]["text"] == "done"


async def test_before_the_handshake_only_pings_are_answered():
    async with served(add) as near:
        host = RawHost(near)
        assert (await host.ask(id=1, method="ping"))["result"] == {}
        assert (await host.ask(id=2, method="tools/list"))["error"]["code"] == -32600


async def test_a_request_before_the_handshake_is_refused_though_both_are_read_at_once():
    lines = [
        {"id": 1, "method": "tools/list"},
        {"id": "p", "method": "ping"},
        {"id": 2, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}},
        {"id": 3, "method": "tools/list"},
        {"id": None, "method": "notifications/initialized"},
    ]
    near, far = memory_stream_pair()
    await near.send_all(b"".join(json.dumps({"jsonrpc": "2.0", **line}).encode() + b"\n" for line in lines))
    await near.send_eof()
    with trio.fail_after(10):
        await serve_mcp(ToolRegistry([add]), (far, far))
    received = b""
    while chunk := await near.receive_some():
        received += chunk
    answers = [json.loads(line) for line in received.splitlines()]
    codes = {answer["id"]: answer.get("error", {}).get("code") for answer in answers}
    assert codes == {1: -32600, "p": None, 2: None, 3: None}


async def test_a_host_of_2026_07_28_needs_no_handshake():
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with served(add) as near:
        host = RawHost(near)
        found = (await host.ask(id=1, method="server/discover", params={"_meta": meta}))["result"]
        assert found["supportedVersions"] == ["2026-07-28"]
        assert found["resultType"] == "complete"
        called = await host.ask(
            id=2, method="tools/call", params={"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta}
        )
        assert called["result"]["content"] == [{"type": "text", "text": "3"}]
        other = {**meta, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
        refused = await host.ask(id=3, method="tools/list", params={"_meta": other})
        assert refused["error"]["code"] == -32022
        assert "2026-07-28" in refused["error"]["data"]["supported"]


async def test_a_host_that_reads_late_gets_every_answer():
    near, far = memory_stream_pair()
    reading = trio.Event()

    async def deliver_late():
        await reading.wait()
        memory_stream_pump(far.send_stream, near.receive_stream)

    far.send_stream.send_all_hook = deliver_late
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_mcp, ToolRegistry([add]), (far, far))
        host = RawHost(near)
        hello = b'{"jsonrpc":"2.0","id":-1,"method":"initialize","params":{}}\n'
        await host.write(hello)
        for wave in range(4):
            await wait_all_tasks_blocked()
            lines = (b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}\n' % (wave * 1000 + n) for n in range(1000))
            await host.write(b"".join(lines))
        await wait_all_tasks_blocked()
        reading.set()
        answers = [await host.read() for _ in range(4001)]
        assert sorted(answer["id"] for answer in answers) == list(range(-1, 4000))
        assert all("result" in answer for answer in answers)
        nursery.cancel_scope.cancel(reason="seen")


async def test_serving_and_calling_cancelled_everywhere_leave_nothing_running():
    gate = Gate()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def operation():
        async with served(add, gate.tool()) as near, wrap_mcp(near, near) as client:
            await client.call_tool("add", {"a": 1, "b": 2})
            with trio.move_on_after(0):
                await client.call_tool("wait")

    async def check():
        await wait_all_tasks_blocked()
        assert gate.inside == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await cancel_everywhere(operation, check) > 20


async def test_a_host_is_notified_of_changes_from_its_handshake_on():
    server = McpServer([add])
    async with served(server=server) as near:
        host = RawHost(near)
        server.tools.add(fail)
        await host.initialize()
        server.tools.add(count)
        assert await host.read() == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}}
        server.resource("a://b")(lambda: "x")
        assert (await host.read())["method"] == "notifications/resources/list_changed"
        server.prompt(name="p")(lambda: "x")
        assert (await host.read())["method"] == "notifications/prompts/list_changed"
        assert (await host.ask(id=1, method="ping"))["result"] == {}


async def test_a_host_is_notified_of_the_resources_that_it_subscribed_to():
    server = McpServer()
    server.resource("a://{name}")(lambda name: name)
    async with served(server=server) as near:
        host = RawHost(near)
        await host.initialize()
        assert (await host.ask(id=1, method="resources/subscribe", params={"uri": "a://b"}))["result"] == {}
        server.resource_changed("a://c")
        server.resource_changed("a://b")
        server.resource_changed("a://b")
        updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "a://b"}}
        assert await host.read() == updated
        assert (await host.ask(id=2, method="resources/unsubscribe", params={"uri": "a://b"}))["result"] == {}
        server.resource_changed("a://b")
        assert (await host.ask(id=3, method="ping"))["id"] == 3


def listen(key, **wanted):
    return {"id": key, "method": "subscriptions/listen", "params": {"_meta": META, "notifications": wanted}}


async def test_a_subscription_of_2026_07_28_gets_what_it_asked_for_until_the_host_leaves():
    server = McpServer([add])
    server.resource("a://{name}")(lambda name: name)
    near, far = memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_mcp, server, (far, far))
            host = RawHost(near)
            acknowledged = await host.ask(**listen("s", toolsListChanged=True, resourceSubscriptions=["a://b"]))
            meta = {"io.modelcontextprotocol/subscriptionId": "s"}
            assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
            honored = {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
            assert acknowledged["params"] == {"_meta": meta, "notifications": honored}
            server.prompt(name="p")(lambda: "x")
            server.resource_changed("a://c")
            server.resource_changed("a://b")
            server.tools.add(fail)
            updated, changed = await host.read(), await host.read()
            assert updated["method"] == "notifications/resources/updated"
            assert updated["params"] == {"_meta": meta, "uri": "a://b"}
            assert changed["method"] == "notifications/tools/list_changed"
            assert changed["params"] == {"_meta": meta}
            await near.send_eof()
            ended = await host.read()
            assert (ended["id"], ended["result"]) == ("s", {"resultType": "complete", "_meta": meta})


async def test_a_connection_has_at_most_16_subscriptions_at_once():
    async with served(add) as near:
        host = RawHost(near)
        for key in range(MAX_LISTENS):
            assert (await host.ask(**listen(key)))["method"] == "notifications/subscriptions/acknowledged"
        assert MAX_LISTENS == 16
        assert (await host.ask(**listen("more")))["error"]["code"] == -32600
        await host.write(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}\n')
        await wait_all_tasks_blocked()
        assert (await host.ask(**listen("again")))["method"] == "notifications/subscriptions/acknowledged"


@pytest.mark.parametrize(("count", "refused"), [(2, False), (3, True)])
async def test_a_subscription_has_a_largest_number_of_resources(count, refused):
    async with served(add, options=ServeOptions(max_subscriptions=2)) as near:
        answer = await RawHost(near).ask(**listen("s", resourceSubscriptions=[f"a://{n}" for n in range(count)]))
        assert answer.get("error", {}).get("code") == (-32602 if refused else None)


@tool
async def report(context: ToolContext) -> str:
    """Sends two messages to the host."""
    await trio.lowlevel.checkpoint()
    context.client.log("info", "small")
    context.client.log("error", "large", logger="l")
    return "done"


@pytest.mark.parametrize(("level", "messages"), [("info", ["small", "large"]), ("error", ["large"]), ("alert", [])])
async def test_a_host_gets_the_messages_of_the_level_that_it_set(level, messages):
    async with served(report) as near:
        host = RawHost(near)
        await host.initialize()
        assert (await host.ask(id=1, method="logging/setLevel", params={"level": level}))["result"] == {}
        wrong = await host.ask(id=2, method="logging/setLevel", params={"level": "loud"})
        assert wrong["error"]["code"] == -32602
        received = [await host.ask(id=3, method="tools/call", params={"name": "report"})]
        while "id" not in received[-1]:
            received.append(await host.read())
        assert [one["params"]["data"] for one in received[:-1]] == messages
        assert received[-1]["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize(("key", "answered"), [("7", 7), ('"x"', "x"), ("1.5", None)])
async def test_a_message_that_is_neither_request_nor_response_is_refused(key, answered):
    async with served(add) as near:
        host = RawHost(near)
        await host.initialize()
        await host.write(b'{"jsonrpc":"2.0","id":%s}\n' % key.encode())
        refused = await host.read()
        assert (refused["id"], refused["error"]["code"]) == (answered, -32600)


@pytest.mark.parametrize("line", [b'{"jsonrpc":"2.0","id":7,"result":{}}', b'{"jsonrpc":"2.0","id":7,"error":{}}'])
async def test_a_response_to_nothing_gets_no_answer(line):
    async with served(add) as near:
        host = RawHost(near)
        await host.initialize()
        await host.write(line + b"\n")
        assert (await host.ask(id=8, method="ping"))["id"] == 8


async def test_text_outside_of_ascii_is_read_and_returned():
    @tool
    async def echo(text: str) -> str:
        """Returns it."""
        await trio.lowlevel.checkpoint()
        return text

    async with served(echo) as near, wrap_mcp(near, near) as client:
        assert (await client.call_tool("echo", {"text": "äöü ☃ 🙂"})).text == "äöü ☃ 🙂"


@tool
async def confirm(context: ToolContext) -> str:
    """Asks the host."""
    try:
        await context.client.list_roots()
    except PeerGone as exc:
        return f"gone: {exc}"
    return "answered"


async def test_a_tool_that_waits_for_an_answer_of_the_host_ends_with_the_input():
    near, far = memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_mcp, ToolRegistry([confirm]), (far, far))
            host = RawHost(near)
            await host.initialize(capabilities={"roots": {}})
            asked = await host.ask(id=1, method="tools/call", params={"name": "confirm"})
            assert asked["method"] == "roots/list"
            await near.send_eof()
            assert (await host.read())["method"] == "notifications/cancelled"
            answer = await host.read()
            assert "the host has closed its end" in answer["result"]["content"][0]["text"]


async def test_a_host_that_has_stopped_reading_is_read_for_a_quarter_of_a_second(autojump_clock):
    gate = Gate()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_mcp, ToolRegistry([gate.tool()]), (far, far))
        host = RawHost(near)
        await host.initialize()
        await host.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait"}}\n')
        await wait_all_tasks_blocked()
        assert gate.inside == 1
        await near.receive_stream.aclose()
        await host.write(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
        began = trio.current_time()
    assert trio.current_time() - began == 0.25
    assert gate.inside == 0


SERVER = """
import subprocess, sys
import trio
from clawft_trio.mcp import serve_mcp
from clawft_trio.tools import ToolRegistry, tool

@tool
async def noisy() -> str:
    '''Prints.'''
    print("this must not reach the host", flush=True)
    subprocess.run(["cat"], check=True)
    return "done"

trio.run(serve_mcp, ToolRegistry([noisy]))
"""


async def test_over_stdio_prints_and_children_of_tools_stay_out_of_the_protocol(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    with trio.fail_after(30):
        async with open_mcp([sys.executable, str(script)]) as client:
            assert (await client.call_tool("noisy")).text == "done"
            assert (await client.call_tool("noisy")).text == "done"
            assert client.statistics().malformed == 0


PIPELINED = b"".join(
    (
        b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n',
        *(
            b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"count","arguments":{"steps":3}}}\n' % n
            for n in range(1, 60)
        ),
        b'{"jsonrpc":"2.0","id":60,"method":"tools/list"}',
    )
)


async def test_everything_that_was_read_before_the_end_of_input_is_answered():
    near, far = memory_stream_pair()
    await near.send_all(PIPELINED)
    await near.send_eof()
    with trio.fail_after(10):
        await serve_mcp(ToolRegistry([count]), (far, far))
    received = b""
    while chunk := await near.receive_some():
        received += chunk
    answers = [json.loads(line) for line in received.splitlines()]
    assert sorted(answer["id"] for answer in answers) == list(range(61))
    assert all("result" in answer for answer in answers)


async def test_requests_that_outlast_the_end_of_input_have_a_bound(autojump_clock):
    gate = Gate()
    near, far = memory_stream_pair()
    await near.send_all(PIPELINED.replace(b'"count"', b'"wait"').replace(b'{"steps":3}', b"{}"))
    await near.send_eof()
    began = trio.current_time()
    await serve_mcp(ToolRegistry([gate.tool()]), (far, far), options=ServeOptions(drain=7.0))
    assert trio.current_time() - began == 7.0
    assert gate.inside == 0


@pytest.mark.parametrize("missing", list(META))
async def test_the_meta_of_2026_07_28_is_required_whole(missing):
    meta = {key: value for key, value in META.items() if key != missing}
    async with served(add) as near:
        host = RawHost(near)
        answer = await host.ask(id=1, method="tools/list", params={"_meta": meta})
        # Without its version a request belongs to the older revisions, which begin with a handshake.
        assert answer["error"]["code"] == (-32602 if missing.endswith("clientCapabilities") else -32600)


@pytest.mark.parametrize("capabilities", [None, [], "x", 1])
async def test_client_capabilities_of_another_type_are_refused(capabilities):
    async with served(add) as near:
        meta = {**META, "io.modelcontextprotocol/clientCapabilities": capabilities}
        answer = await RawHost(near).ask(id=1, method="tools/list", params={"_meta": meta})
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel", "resources/subscribe", "unknown"])
async def test_methods_that_2026_07_28_does_not_have_are_refused(method):
    async with served(add) as near:
        answer = await RawHost(near).ask(id=1, method=method, params={"_meta": META})
        assert answer["error"]["code"] == -32601


async def test_an_unsupported_version_is_named_in_the_refusal():
    async with served(add) as near:
        meta = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
        answer = await RawHost(near).ask(id=1, method="server/discover", params={"_meta": meta})
        assert answer["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


NOISY = """
import ctypes, os, sys, trio
from clawft_trio.mcp import serve_mcp
from clawft_trio.tools import ToolRegistry, tool

@tool
def noisy() -> str:
    '''Prints in every way.'''
    print("print")
    sys.__stdout__.write("dunder")
    os.write(1, b"descriptor")
    ctypes.CDLL(None).puts(b"c library")
    return "done"

trio.run(serve_mcp, ToolRegistry([noisy]))
"""


async def test_nothing_that_a_tool_prints_reaches_the_protocol_also_after_its_end():
    lines = [
        {"id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
        {"id": 1, "method": "tools/call", "params": {"name": "noisy"}},
    ]
    data = b"".join(json.dumps({"jsonrpc": "2.0", **line}).encode() + b"\n" for line in lines)
    with trio.fail_after(30):
        ended = await trio.run_process(
            [sys.executable, "-c", NOISY], stdin=data, capture_stdout=True, capture_stderr=True
        )
    assert [json.loads(line)["id"] for line in ended.stdout.splitlines()] == [0, 1]
    assert all(word in ended.stderr for word in (b"print", b"dunder", b"descriptor", b"c library"))


def test_a_result_states_its_time_in_milliseconds_and_who_may_keep_it() -> None:
    assert caching(ServeOptions(cache=2.5)) == {"ttlMs": 2500, "cacheScope": "private"}
