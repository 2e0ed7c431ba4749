"""What a complete client does: tasks, forms, roots, sampling with tools, extensions, old servers over HTTP+SSE."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
import trio
import trio.testing
from mcp_http import http_script, initialize as greet
from mcp_wired import wired

from clawft_trio.auth import AuthContext
from clawft_trio.errors import PeerError, PeerGone, RequestTimeout
from clawft_trio.mcp import Host, HttpServer, McpOptions, call_tool_as_task, open_mcp, wrap_mcp
from clawft_trio.mcp.tool_call import call_for
from clawft_trio.mcp.types import ElicitResult, Implementation, Root
from clawft_trio.testing.mcp_server import Failure, ScriptedMcpServer
from clawft_trio.tools import ToolContext

HANDSHAKE = McpOptions(protocol="handshake", supervision=None)


def task_server(states, *, result=None):
    """Answers of a server whose one task goes through *states*, the last one for ever."""
    left = list(states)

    async def call(params):
        await trio.lowlevel.checkpoint()
        assert params["task"] in ({}, {"ttl": 60_000})
        return {"task": {"taskId": "t1", "status": "working", "pollInterval": 500}}

    async def get(_):
        await trio.lowlevel.checkpoint()
        state = left.pop(0) if len(left) > 1 else left[0]
        return {"taskId": "t1", "status": state, "pollInterval": 500}

    async def give(_):
        await trio.lowlevel.checkpoint()
        return result or {"content": [{"type": "text", "text": "done"}]}

    async def cancel(_):
        await trio.lowlevel.checkpoint()
        return {"taskId": "t1", "status": "cancelled"}

    return {"tools/call": call, "tasks/get": get, "tasks/result": give, "tasks/cancel": cancel}


def methods(server):
    return [message["method"] for message in server.received if "id" in message and "method" in message]


async def test_a_task_is_polled_at_the_servers_interval_until_it_has_ended(autojump_clock):
    seen = []
    async with wired(answers=task_server(["working", "completed"]), hold=()) as (client, server):
        began = trio.current_time()
        result = await call_tool_as_task(client, "t", {}, ttl=60, on_status=lambda task: seen.append(task.status))
        assert trio.current_time() - began == pytest.approx(1.0)
    assert result.text == "done"
    assert seen == ["working", "working", "completed"]
    assert methods(server)[-4:] == ["tools/call", "tasks/get", "tasks/get", "tasks/result"]


async def test_a_task_that_takes_too_long_or_is_not_wanted_any_more_is_cancelled(autojump_clock):
    async with wired(answers=task_server(["working"]), hold=()) as (client, server):
        with pytest.raises(RequestTimeout):
            await call_tool_as_task(client, "t", total=3)
        assert methods(server).count("tasks/cancel") == 1
        with trio.move_on_after(2):
            await call_tool_as_task(client, "t")
        assert methods(server).count("tasks/cancel") == 2


async def test_a_task_that_the_server_cancels_is_an_error(autojump_clock):
    async with wired(answers=task_server(["cancelled"]), hold=()) as (client, _):
        with pytest.raises(PeerError, match="cancelled"):
            await call_tool_as_task(client, "t")


FORM = {
    "message": "Who?",
    "requestedSchema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "default": 7}},
        "required": ["name"],
    },
}


def answering(result):
    async def elicit(_):
        await trio.lowlevel.checkpoint()
        return result

    return McpOptions(protocol="handshake", supervision=None, host=Host(elicit=elicit))


async def test_a_form_that_is_filled_in_right_goes_to_the_server_with_its_defaults():
    options = answering(ElicitResult(action="accept", content={"name": "Ana"}))
    async with wired(options=options) as (_, server):
        answer = await server.ask("elicitation/create", FORM)
        assert answer["result"] == {"action": "accept", "content": {"name": "Ana", "age": 7}}


@pytest.mark.parametrize("content", [{}, {"name": 7}, {"name": "secret", "age": "old"}])
async def test_a_form_that_is_filled_in_wrong_is_an_error_without_its_values(content):
    async with wired(options=answering(ElicitResult(action="accept", content=content))) as (_, server):
        answer = await server.ask("elicitation/create", FORM)
        assert "does not fit the form" in answer["error"]["message"]
        assert "secret" not in json.dumps(answer)


async def test_a_refusal_needs_no_form():
    async with wired(options=answering(ElicitResult(action="decline"))) as (_, server):
        assert (await server.ask("elicitation/create", FORM))["result"] == {"action": "decline"}


@pytest.mark.parametrize(
    "params",
    [
        {"mode": "url", "url": "file:///etc/passwd"},
        {"mode": "url", "url": "javascript:alert(1)"},
        {"mode": "url"},
        {"mode": "url", "url": "https://a.com/\u202e"},
        {"mode": "url", "url": "https://a.com/".ljust(4097, "x")},
        {"mode": "dance"},
        {**FORM, "requestedSchema": {"description": "x" * 300_000}},
        {**FORM, "message": "x" * 20_000},
        {"mode": "url", "url": "https://example.com", "message": "x" * 20_000},
    ],
)
async def test_what_no_person_can_be_shown_is_refused(params):
    async with wired(options=answering(ElicitResult(action="accept", content={}))) as (_, server):
        assert (await server.ask("elicitation/create", {"message": "?", **params}))["error"]["code"] == -32602


@pytest.mark.parametrize("url", ["http://a.com", "https://a.com/".ljust(4096, "x")])
async def test_a_person_may_visit_a_web_page(url):
    async with wired(options=answering(ElicitResult(action="accept"))) as (_, server):
        answer = await server.ask("elicitation/create", {"message": "?", "mode": "url", "url": url})
        assert answer["result"] == {"action": "accept"}


@pytest.mark.parametrize("method", ["roots/list", "sampling/createMessage", "elicitation/create", "no/such"])
async def test_what_a_host_does_not_offer_is_an_unknown_method(method):
    async def never(_):
        pytest.fail("it was not asked for this")

    offers = {
        "roots/list": {"roots": ()},
        "sampling/createMessage": {"sample": never},
        "elicitation/create": {"elicit": never},
    }
    others = {name: value for one, offer in offers.items() if one != method for name, value in offer.items()}
    for host in (Host(), Host(**others)):
        async with wired(options=McpOptions(protocol="handshake", supervision=None, host=host)) as (_, server):
            assert (await server.ask(method, {"message": "?", "messages": []}))["error"]["code"] == -32601


async def test_the_application_and_its_extensions_are_declared():
    roots = [Root(uri="file:///a")]
    host = Host(roots=lambda: roots, extensions={"com.example/x": {"v": 1}})
    client_info = Implementation(name="my-app", version="9")
    options = McpOptions(protocol="handshake", supervision=None, host=host, client=client_info)
    async with wired(options=options) as (client, server):
        asked = server.received[0]["params"]
        assert asked["clientInfo"] == {"name": "my-app", "version": "9"}
        assert asked["capabilities"] == {"roots": {"listChanged": True}, "extensions": {"com.example/x": {"v": 1}}}
        assert (await server.ask("roots/list"))["result"] == {"roots": [{"uri": "file:///a"}]}
        roots.append(Root(uri="file:///b"))
        client.notify_roots_changed()
        assert len((await server.ask("roots/list"))["result"]["roots"]) == 2
        assert server.received[-2] == {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    async with wired(options=McpOptions(protocol="handshake", supervision=None)) as (_, server):
        assert server.received[0]["params"]["clientInfo"] == {"name": "clawft-trio", "version": version("clawft-trio")}


async def test_tools_in_a_sampling_request_are_refused_unless_they_were_offered():
    async def sample(params):
        await trio.lowlevel.checkpoint()
        return {"role": "assistant", "content": {"type": "text", "text": str(len(params.tools))}, "model": "m"}

    params = {"messages": [], "maxTokens": 1, "tools": [{"name": "t", "inputSchema": {"type": "object"}}]}
    for offered in (False, True):
        host = Host(sample=sample, sample_tools=offered)
        async with wired(options=McpOptions(protocol="handshake", supervision=None, host=host)) as (_, server):
            assert ("tools" in server.received[0]["params"]["capabilities"]["sampling"]) is offered
            answer = await server.ask("sampling/createMessage", params)
            assert ("result" in answer) is offered


async def test_a_server_that_speaks_only_the_newest_revision_is_found_by_default():
    async def discover(_):
        await trio.lowlevel.checkpoint()
        return {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"}

    async with wired(options=McpOptions(supervision=None), answers={"server/discover": discover}) as (client, server):
        assert client.agreement.protocol_version == "2026-07-28"
        assert "initialize" not in methods(server)


async def test_a_silent_server_is_greeted_the_old_way_in_time(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    server = ScriptedMcpServer(hold=["server/discover"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, far, far)
        began = trio.current_time()
        async with wrap_mcp(near, near, options=McpOptions(start=4.0)) as client:
            assert client.agreement.protocol_version == "2025-11-25"
            assert trio.current_time() - began == pytest.approx(2.0)
        nursery.cancel_scope.cancel(reason="the test is over")


class OldServer:
    """A server of HTTP+SSE: answers go to the stream."""

    def __init__(self, endpoint="/messages?session=1"):
        self.endpoint = endpoint
        self.stream = None
        self.lock = trio.Lock()

    async def answer(self, request):
        if request.method == "GET":
            self.stream = request
            await request.events()
            await request.stream.send_all(f"event: endpoint\ndata: {self.endpoint}\n\n".encode())
            await trio.sleep_forever()
        elif self.stream is None:
            await request.respond(405)
        else:
            await request.respond(202)
            if "id" in request.message:
                result = {"initialize": {"protocolVersion": "2024-11-05", "capabilities": {}}}
                given = result.get(request.message["method"], {"content": [{"type": "text", "text": "old"}]})
                async with self.lock:
                    await self.stream.event(request.result(given))


async def test_a_server_of_http_and_sse_is_reached_by_fallback():
    old = OldServer()
    async with http_script(old.answer) as script:
        async with open_mcp(HttpServer(script.url), options=McpOptions(supervision=None)) as client:
            assert client.agreement.protocol_version == "2024-11-05"
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(client.call_tool, "x")
            assert (await client.call_tool("x")).text == "old"


@pytest.mark.parametrize(
    "endpoint", ["http://evil.example/x", "//evil.example/x", "http://[::1", "file:///x", "/" + "ä" * 4096]
)
async def test_messages_are_not_sent_to_another_origin(endpoint, caplog):
    caplog.set_level("INFO", logger="clawft_trio.mcp")
    old = OldServer(endpoint)
    async with http_script(old.answer) as script:
        with pytest.raises((PeerError, PeerGone)):
            async with open_mcp(HttpServer(script.url), options=HANDSHAKE):
                pass
        assert [request.method for request in script.requests] == ["POST", "GET"]
    assert "HTTP+SSE failed: " in caplog.text
    assert "an address of another origin" in caplog.text


@pytest.mark.parametrize(("status", "kind"), [(200, "text/html"), (404, "text/event-stream"), (204, "")])
async def test_what_is_no_stream_is_no_fallback(status, kind):
    async def answer(request):
        if request.method == "GET":
            await request.respond(status, b"event: endpoint\ndata: /m\n\n", content_type=kind)
        else:
            await request.respond(405)

    async with http_script(answer) as script:
        with pytest.raises(PeerError, match="HTTP status 405"):
            async with open_mcp(HttpServer(script.url), options=HANDSHAKE):
                pass
        assert [request.method for request in script.requests] == ["POST", "GET"]


async def test_the_end_of_the_old_stream_is_the_end_of_the_connection():
    old = OldServer()
    async with http_script(old.answer) as script, open_mcp(HttpServer(script.url), options=HANDSHAKE) as client:
        await client.call_tool("x")
        await old.stream.stream.aclose()
        with trio.fail_after(5), pytest.raises(PeerGone):
            while True:
                await client.call_tool("x")


async def test_a_refused_get_leaves_the_first_refusal():
    async def answer(request):
        await request.respond(404)

    async with http_script(answer) as script:
        with pytest.raises(PeerError, match="initialize: HTTP status 404"):
            async with open_mcp(HttpServer(script.url), options=HANDSHAKE):
                pass


async def test_a_result_carries_images_audio_and_resources_as_what_they_are():
    content = [
        {"type": "text", "text": "see"},
        {"type": "image", "data": "YWJj", "mimeType": "image/png"},
        {"type": "audio", "data": "YWJj", "mimeType": "audio/wav"},
        {"type": "resource", "resource": {"uri": "file:///a.pdf", "mimeType": "application/pdf", "blob": "YWJj"}},
        {"type": "image", "data": "?", "mimeType": "image/png"},
    ]

    async def call(_):
        await trio.lowlevel.checkpoint()
        return {"content": content, "structuredContent": {"n": 1}}

    async with wired(answers={"tools/call": call}, hold=()) as (client, _):
        value = await call_for(client, "t", {}, ToolContext(auth=AuthContext.local()))
    assert [type(part).__name__ for part in value] == ["str", "Image", "File", "File", "str"]
    assert [part.data for part in value[1:4]] == [b"abc"] * 3


async def test_greeting_is_not_repeated_to_a_server_that_is_reached():
    async def answer(request):
        if not await greet(request):
            await request.json(request.result({"content": []}))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=HANDSHAKE) as client:
        await client.call_tool("x")
        assert script.methods().count("initialize") == 1


async def test_streams_without_options_are_greeted_the_old_way_first():
    async def refuse(_):
        await trio.lowlevel.checkpoint()
        raise Failure(code, "no")

    async def discover(_):
        await trio.lowlevel.checkpoint()
        return {"supportedVersions": ["2026-07-28"], "capabilities": {}}

    for code in (None, -32601, -32000):
        answers = {"server/discover": discover} | ({} if code is None else {"initialize": refuse})
        server = ScriptedMcpServer(answers=answers)
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, far, far)
            async with wrap_mcp(near, near) as client:
                expected = "2025-11-25" if code is None else "2026-07-28"
                assert client.agreement.protocol_version == expected
            nursery.cancel_scope.cancel(reason="the test is over")
        assert methods(server) == ["initialize", *([] if code is None else ["server/discover"])]


async def test_a_refusal_that_names_the_newest_revision_is_enough_to_speak_it():
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def serve():
            line = json.loads(bytes(await far.receive_some()))
            data = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
            error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
            await far.send_all(json.dumps({"jsonrpc": "2.0", "id": line["id"], "error": error}).encode() + b"\n")

        nursery.start_soon(serve)
        async with wrap_mcp(near, near) as client:
            assert client.agreement.protocol_version == "2026-07-28"
            # This revision lets a server send no requests.
            await far.send_all(b'{"jsonrpc":"2.0","id":"s1","method":"ping"}\n')
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as calls:
                calls.start_soon(client.ping)
                sent = json.loads(bytes(await far.receive_some()).splitlines()[0])
                calls.cancel_scope.cancel(reason="seen")
            assert sent["method"] == "server/discover"
            sender = sent["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]
            assert sender == {"name": "clawft-trio", "version": version("clawft-trio")}
        nursery.cancel_scope.cancel(reason="the test is over")
