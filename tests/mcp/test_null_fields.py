"""Null where a peer has nothing: accepted on both sides, in every member that may be left out."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
import trio.testing
from mcp_http_drivers import JSON_HEADERS, Driver
from mcp_wired import wired

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp import McpServer, open_mcp_app, serve_mcp
from clawft_trio.mcp.messages import Progress
from clawft_trio.mcp.notifications import decode_cancelled, decode_progress
from clawft_trio.mcp.types import Content, UnknownContent, decode_tool_result
from clawft_trio.tools import tool

TEXT = {"type": "text", "text": "hi"}


def raw(value):
    return msgspec.Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    "result",
    [
        {"content": [TEXT], "isError": None},
        {"content": [TEXT], "_meta": None},
        {"content": [{**TEXT, "annotations": None, "_meta": None}]},
        {"content": [TEXT], "structuredContent": {"a": None}},
        {"content": None},
        {"content": None, "structuredContent": {"a": None}, "isError": None, "_meta": None},
    ],
)
def test_a_tool_result_with_nulls_is_a_result(result):
    found = decode_tool_result(raw(result))
    assert found.text == ("hi" if result["content"] else "")
    if "structuredContent" in result:
        assert found.structured_content == {"a": None}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": "aGk="},
        {"type": "image", "data": None, "mimeType": "image/png"},
        {"type": "text"},
        {"type": "text", "text": 3},
        {"type": None},
        {"type": "resource", "resource": {}},
        {"type": "hologram", "x": 1},
        {},
        None,
        "text",
        [TEXT],
    ],
)
def test_a_block_that_does_not_fit_is_kept_and_costs_no_other(block):
    found = decode_tool_result(raw({"content": [TEXT, block, TEXT]}))
    assert found.text == "hi\nhi"
    assert isinstance(found.content[1], UnknownContent)


def test_a_null_in_a_block_that_may_be_left_out_is_left_out():
    link = {"type": "resource_link", "uri": "a:b", "name": None, "title": None, "size": None}
    [found] = decode_tool_result(raw({"content": [link]})).content
    assert not isinstance(found, UnknownContent)
    assert isinstance(found, Content.__args__)


@pytest.mark.parametrize("result", [None, [], "text", 3, True])
def test_what_is_no_object_is_no_tool_result(result):
    with pytest.raises(msgspec.DecodeError):
        decode_tool_result(raw(result))


def test_progress_and_cancellation_with_nulls_are_read():
    shown = decode_progress(raw({"progressToken": 1, "progress": 2, "total": None, "message": None}))
    assert shown == Progress(progress=2, progress_token=1)
    assert decode_cancelled(raw({"requestId": 4, "reason": None})).request_id == 4


def giving(result):
    async def answer(_):
        await trio.lowlevel.checkpoint()
        return result

    return answer


HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": None},
    "serverInfo": {"name": None, "version": "1", "icons": None},
    "instructions": None,
    "_meta": None,
}


@pytest.mark.parametrize("missing", [{}, {"capabilities": None}, {"serverInfo": None}])
async def test_a_handshake_with_nulls_is_one(missing):
    async with wired(answers={"initialize": giving({**HELLO, **missing})}, hold=()) as (client, _):
        assert client.agreement.protocol_version == "2025-11-25"
        assert client.agreement.instructions == ""


@pytest.mark.parametrize(
    ("method", "result", "call"),
    [
        (
            "resources/read",
            {"contents": [{"uri": "a:b", "text": "x", "blob": None, "mimeType": None}]},
            "read_resource",
        ),
        (
            "prompts/get",
            {"messages": [{"role": "user", "content": TEXT, "_meta": None}], "description": None},
            "get_prompt",
        ),
        ("prompts/get", {"messages": [{"role": "user", "content": {"type": "hologram"}}]}, "get_prompt"),
        ("tools/list", {"tools": None, "nextCursor": None, "_meta": None}, "list_tools"),
        ("prompts/list", {"prompts": [{"name": "p", "arguments": [{"name": "a", "required": None}]}]}, "list_prompts"),
        ("resources/list", {"resources": [{"uri": "a:b", "name": None}]}, "list_resources"),
        (
            "resources/templates/list",
            {"resourceTemplates": [{"uriTemplate": "a:{b}", "name": None}]},
            "list_resource_templates",
        ),
    ],
)
async def test_results_with_nulls_are_read(method, result, call):
    async with wired(answers={method: giving(result)}, hold=()) as (client, _):
        found = await getattr(client, call)(*(["x"] if call in ("read_resource", "get_prompt") else []))
        if method != "tools/list":
            assert found.messages if call == "get_prompt" else len(found) == 1


async def test_a_completion_with_nulls_is_read():
    result = {"completion": {"values": None, "total": None, "hasMore": None}}
    async with wired(answers={"completion/complete": giving(result)}, hold=()) as (client, _):
        assert (await client.complete(argument="a", value="", prompt="p")).values == ()


async def test_a_null_for_a_list_that_has_to_be_there_is_told():
    async with wired(answers={"resources/read": giving({"contents": None})}, hold=()) as (client, _):
        with pytest.raises(ProtocolViolation):
            await client.read_resource("x")


@tool(mode="read_only")
async def echo(text: str = "nothing") -> str:
    """Repeats a text."""
    return text


REQUESTS = [
    {"method": "tools/list", "params": None},
    {"method": "tools/list", "params": {"cursor": None, "_meta": None}},
    {"method": "tools/call", "params": {"name": "echo", "arguments": None, "_meta": None}},
    {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}, "task": None}},
    {"method": "prompts/get", "params": {"name": "p", "arguments": None, "_meta": None}},
    {
        "method": "completion/complete",
        "params": {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}, "context": None},
    },
    {"method": "ping", "params": None},
]


def offered():
    server = McpServer([echo])

    @server.prompt
    def p(a: str = "x") -> str:
        """A prompt."""
        return a

    return server


def hello(**params):
    given = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {**given, **params}}


@pytest.mark.parametrize("greeting", [{}, {"capabilities": None}, {"clientInfo": None, "_meta": None}])
async def test_a_host_over_streams_may_write_nulls(greeting):
    here, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_mcp, offered(), (there, there))
        messages = [hello(**greeting), *({"jsonrpc": "2.0", "id": n, **one} for n, one in enumerate(REQUESTS, 2))]
        await here.send_all(b"".join(json.dumps(one).encode() + b"\n" for one in messages))
        received = b""
        while received.count(b"\n") < len(messages):
            received += await here.receive_some()
        nursery.cancel_scope.cancel()
    answers = [json.loads(line) for line in received.splitlines()]
    assert [answer for answer in answers if "error" in answer] == []


async def test_a_client_over_http_may_write_nulls():
    async with open_mcp_app(offered()) as app:
        driver = Driver(app)
        greeted = await driver.request("POST", json.dumps(hello(capabilities=None)).encode(), JSON_HEADERS)
        assert greeted.status == 200
        own = {**JSON_HEADERS, "mcp-session-id": greeted.headers["mcp-session-id"]}
        for number, one in enumerate(REQUESTS, 2):
            body = json.dumps({"jsonrpc": "2.0", "id": number, **one}).encode()
            answer = await driver.request("POST", body, own)
            assert answer.status == 200
            assert "error" not in answer.json(), one


@pytest.mark.parametrize(("message", "key"), [({}, None), ({"jsonrpc": "2.0", "id": 7}, 7), ({"params": {}}, None)])
async def test_what_is_neither_a_request_nor_an_answer_is_an_invalid_request(message, key):
    here, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_mcp, offered(), (there, there))
        await here.send_all(json.dumps(message).encode() + b"\n")
        answer = json.loads(bytes(await here.receive_some()))
        nursery.cancel_scope.cancel()
    assert (answer["id"], answer["error"]["code"]) == (key, -32600)
