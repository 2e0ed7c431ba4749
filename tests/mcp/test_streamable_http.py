"""The same client over HTTP, against real sockets."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio
from mcp_http import http_script, initialize, texts_of_concurrent_calls
from trio.testing import wait_all_tasks_blocked

from clawft_trio.errors import PeerError, PeerGone, ProtocolViolation, RequestTimeout, SessionLost
from clawft_trio.mcp import HttpServer, McpOptions, Supervision, open_mcp
from clawft_trio.mcp.transports.param_headers import header_paths, header_value, param_headers
from clawft_trio.testing import cancel_everywhere, no_stall

TEXT = {"content": [{"type": "text", "text": "hi"}]}
ALONE = McpOptions(supervision=None, protocol="handshake")


async def test_json_and_event_answers_reach_their_calls_with_session_and_version_headers():
    async def answer(request):
        if await initialize(request, session="s-1"):
            return
        if request.message["params"]["name"] == "json":
            await request.json(request.result(TEXT))
        else:
            await request.events()
            await request.event(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": {"progressToken": request.message["id"], "progress": 1},
                }
            )
            await request.event(request.result(TEXT))

    seen = []
    async with http_script(answer) as script:
        async with open_mcp(HttpServer(script.url, headers={"x-team": "a"}), options=ALONE) as client:
            assert (await client.call_tool("json")).text == "hi"
            assert (await client.call_tool("events", on_progress=seen.append)).text == "hi"
        posts = [request for request in script.requests if request.method == "POST"]
        assert "mcp-protocol-version" not in posts[0].headers
        assert "mcp-session-id" not in posts[0].headers
        for request in posts[1:]:
            assert request.headers["mcp-protocol-version"] == "2025-11-25"
            assert request.headers["mcp-session-id"] == "s-1"
        assert {request.headers["accept"] for request in posts} == {"application/json, text/event-stream"}
        assert all(request.headers["x-team"] == "a" for request in script.requests)
        assert script.methods()[1] == "notifications/initialized"
        assert script.requests[-1].method == "DELETE"
    assert [progress.progress for progress in seen] == [1]


async def test_many_calls_go_side_by_side():
    waiting = []

    async def answer(request):
        if not await initialize(request):
            waiting.append(request)
            while len(waiting) < 20:
                await trio.sleep(0.001)
            await request.json(
                request.result({"content": [{"type": "text", "text": request.message["params"]["name"]}]})
            )

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        results = {}

        async def call(name):
            results[name] = (await client.call_tool(name)).text

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for n in range(20):
                    nursery.start_soon(call, f"t{n}")
        assert results == {name: name for name in results}
        assert len(results) == 20


async def test_a_token_is_asked_for_before_each_request_and_never_shown():
    tokens = iter(f"secret-{n}" for n in range(100))

    async def token():
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async def answer(request):
        if not await initialize(request):
            await request.json(request.result(TEXT))

    async with http_script(answer) as script:
        server = HttpServer(script.url, token=token)
        async with open_mcp(server, options=ALONE) as client:
            await client.call_tool("x")
        sent = [request.headers["authorization"] for request in script.requests]
        assert sent == [f"Bearer secret-{n}" for n in range(len(sent))] or len(set(sent)) == len(sent)
        assert "secret" not in repr(server)
        assert "secret" not in repr(HttpServer(script.url, token="secret-x", headers={"x": "secret-y"}))


async def test_a_broken_stream_is_taken_up_where_it_broke():
    async def answer(request):
        if request.method == "GET" and "last-event-id" in request.headers:
            await request.events()
            await request.event({"jsonrpc": "2.0", "id": 2, "result": TEXT}, event_id="e2")
        elif not await initialize(request):
            await request.events()
            await request.event(None, event_id="e1", retry=20)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(5):
            assert (await client.call_tool("x")).text == "hi"
        resumed = [request for request in script.requests if "last-event-id" in request.headers]
        assert [request.headers["last-event-id"] for request in resumed] == ["e1"]


async def test_a_stream_that_goes_on_after_its_answer_is_closed():
    async def answer(request):
        if not await initialize(request):
            await request.events()
            await request.event(request.result(TEXT))
            while True:
                await request.stream.send_all(b": still here\n\n")
                await trio.sleep(0.01)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        assert (await client.call_tool("x")).text == "hi"
        with trio.fail_after(5):
            await script.requests[-1].closed.wait()


async def test_headers_of_ones_own_are_sent_whether_they_are_secret_or_not():
    async def answer(request):
        if not await initialize(request):
            await request.json(request.result(TEXT))

    mine = {"accept-language": "de", "x-key": "k"}
    async with http_script(answer) as script:
        async with open_mcp(HttpServer(script.url, headers=mine), options=ALONE) as client:
            await client.call_tool("x")
        assert all(mine.items() <= request.headers.items() for request in script.requests)


async def test_a_stream_that_ends_without_its_answer_fails_its_call_and_no_other():
    async def answer(request):
        if not await initialize(request):
            if request.message["params"]["name"] == "bad":
                await request.events()
            else:
                await request.json(request.result(TEXT))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(5), pytest.raises(PeerGone, match="before the answer"):
            await client.call_tool("bad")
        assert (await client.call_tool("good")).text == "hi"


BAD = {
    "a status": ({"status": 500, "body": b"<html>"}, PeerError, "500"),
    "too many": ({"status": 429, "retry_after": "7"}, PeerError, "429"),
    "HTML": ({"status": 200, "body": b"<html>", "content_type": "text/html"}, ProtocolViolation, "text/html"),
    "no JSON": ({"status": 200, "body": b"{", "content_type": "application/json"}, ProtocolViolation, "x"),
    "nothing": ({"status": 200, "body": b"", "content_type": "application/json"}, ProtocolViolation, "no answer"),
    "accepted": ({"status": 202}, PeerGone, "before the answer"),
}


@pytest.mark.parametrize(("response", "error", "said"), BAD.values(), ids=BAD)
async def test_what_is_no_answer_fails_its_call_with_a_typed_error(response, error, said):
    async def answer(request):
        if not await initialize(request):
            await request.respond(**response)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(5), pytest.raises(error) as caught:
            await client.call_tool("x")
        if said != "x":
            assert said in str(caught.value)
        if response["status"] == 429:
            assert caught.value.retryable
            assert caught.value.retry_after == 7.0


async def test_an_error_object_behind_a_status_is_the_answer():
    async def answer(request):
        if not await initialize(request):
            await request.json(
                {"jsonrpc": "2.0", "id": request.message["id"], "error": {"code": -32602, "message": "no"}}, status=400
            )

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError) as caught:
            await client.call_tool("x")
        assert caught.value.code == -32602


async def test_a_timeout_closes_the_post_and_posts_a_notice():
    ended = trio.Event()

    async def answer(request):
        if not await initialize(request):
            assert await request.stream.receive_some() == b""
            ended.set()

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(5):
            with pytest.raises(RequestTimeout):
                await client.call_tool("slow", total=0.2)
            await ended.wait()
            while "notifications/cancelled" not in script.methods():
                await trio.sleep(0.01)


def forgetful(sessions, *, lost=("s0",)):
    """Answers for a server that has forgotten the sessions *lost* as soon as they are used."""

    async def answer(request):
        if request.message and request.message.get("method") == "initialize":
            assert "mcp-session-id" not in request.headers
            sessions.append(f"s{len(sessions)}")
        if await initialize(request, session=sessions[-1]):
            return
        if request.headers["mcp-session-id"] in lost:
            await request.respond(404)
        else:
            await request.json(request.result(TEXT))

    return answer


SUPERVISED = McpOptions(supervision=Supervision(first_wait=0.01), protocol="handshake")


async def test_a_call_that_a_forgotten_session_refused_is_sent_again_in_a_new_one():
    sessions = []
    async with (
        http_script(forgetful(sessions)) as script,
        open_mcp(HttpServer(script.url), options=SUPERVISED) as client,
    ):
        with trio.fail_after(10):
            assert (await client.call_tool("x")).text == "hi"
        assert sessions == ["s0", "s1"]
        assert client.restarts == 1


async def test_all_calls_of_a_forgotten_session_are_sent_again():
    sessions = []
    async with (
        http_script(forgetful(sessions)) as script,
        open_mcp(HttpServer(script.url), options=SUPERVISED) as client,
    ):
        assert await texts_of_concurrent_calls(client, 20) == ["hi"] * 20
        assert sessions == ["s0", "s1"]


async def test_a_call_that_two_sessions_refuse_fails():
    sessions = []
    answer = forgetful(sessions, lost=("s0", "s1"))
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:
        with trio.fail_after(10):
            with pytest.raises(SessionLost, match="forgotten"):
                await client.call_tool("x")
            assert (await client.call_tool("x")).text == "hi"
        assert sessions == ["s0", "s1", "s2"]


async def test_a_call_that_the_server_had_when_it_forgot_the_session_is_not_repeated():
    began, sessions, errors = trio.Event(), [], []
    forget = forgetful(sessions)

    async def answer(request):
        if request.message and request.message.get("params", {}).get("name") == "slow":
            began.set()
            await trio.sleep_forever()
        await forget(request)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:

        async def call_slow():
            try:
                await client.call_tool("slow")
            except SessionLost as exc:
                errors.append(exc)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_slow)
                await began.wait()
                assert (await client.call_tool("x")).text == "hi"
        assert [error.refused for error in errors] == [False]
        assert script.methods().count("tools/call") == 3


async def test_an_answer_that_comes_after_the_session_was_forgotten_still_counts():
    began, refused, sessions = trio.Event(), trio.Event(), []
    forget = forgetful(sessions)

    async def answer(request):
        if request.message and request.message.get("params", {}).get("name") == "slow":
            began.set()
            await refused.wait()
            await request.json(request.result(TEXT))
            return
        await forget(request)
        if "id" in (request.message or {}) and request.headers.get("mcp-session-id") == "s0":
            refused.set()

    texts = []
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=SUPERVISED) as client:

        async def call_slow():
            texts.append((await client.call_tool("slow")).text)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_slow)
                await began.wait()
                assert (await client.call_tool("x")).text == "hi"
    assert texts == ["hi"]


async def test_without_supervision_a_forgotten_session_fails_the_call():
    sessions = []
    async with http_script(forgetful(sessions)) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(10), pytest.raises(SessionLost, match="forgotten"):
            await client.call_tool("x")
    assert sessions == ["s0"]


async def test_the_servers_own_stream_brings_its_requests_and_they_are_answered_by_post():
    answered = trio.Event()

    async def answer(request):
        if request.method == "GET":
            await request.events()
            await request.event({"jsonrpc": "2.0", "id": "q", "method": "ping"})
            await answered.wait()
        elif request.message is not None and request.message.get("id") == "q":
            assert request.message["result"] == {}
            await request.respond(202)
            answered.set()
        else:
            await initialize(request)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE):
        with trio.fail_after(5):
            await answered.wait()


async def test_a_server_that_is_not_there_says_so_at_the_start():
    async with http_script(None) as script:
        url = script.url
    with trio.fail_after(20), pytest.raises(PeerGone, match="initialize"):
        async with open_mcp(HttpServer(url), options=ALONE):
            raise AssertionError("it cannot have started")


async def test_in_2026_07_28_the_headers_repeat_method_name_and_arguments_and_closing_is_cancelling():
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    bad = {"type": "object", "properties": {"x": {"type": "object", "x-mcp-header": "X"}}}
    tools = [{"name": "t", "inputSchema": schema}, {"name": "bad", "inputSchema": bad}]
    closed = trio.Event()

    async def answer(request):
        match request.message["method"]:
            case "server/discover":
                await request.json(request.result({"supportedVersions": ["2026-07-28"], "capabilities": {}}))
            case "tools/list":
                await request.json(request.result({"tools": tools}))
            case "tools/call" if request.message["params"]["arguments"]:
                await request.json(request.result(TEXT))
            case _:
                assert await request.stream.receive_some() == b""
                closed.set()

    options = McpOptions(supervision=None, protocol="stateless")
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=options) as client:
        assert [tool.name for tool in await client.list_tools()] == ["t"]
        await client.call_tool("t", {"region": "ø"})
        last = script.requests[-1].headers
        assert (last["mcp-method"], last["mcp-name"], last["mcp-protocol-version"]) == ("tools/call", "t", "2026-07-28")
        assert last["mcp-param-region"] == "=?base64?w7g=?="
        with trio.fail_after(5):
            with pytest.raises(RequestTimeout):
                await client.call_tool("t", total=0.2)
            await closed.wait()
        assert "notifications/cancelled" not in script.methods()


@pytest.mark.long
async def test_connect_call_and_close_over_http_cancelled_everywhere_leave_no_task_and_no_connection():
    async def answer(request):
        if not await initialize(request, session="s"):
            await request.json(request.result(TEXT))

    async with http_script(answer) as script:

        async def operation():
            async with open_mcp(HttpServer(script.url), options=ALONE) as client:
                await client.call_tool("x")

        await operation()
        await wait_all_tasks_blocked(0.01)
        tasks, descriptors = trio.lowlevel.current_statistics().tasks_living, len(list(Path("/proc/self/fd").iterdir()))

        async def check():
            with trio.fail_after(5):
                while trio.lowlevel.current_statistics().tasks_living > tasks:
                    await trio.sleep(0.001)  # the server's own tasks see the end of their connections
            assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors

        assert await cancel_everywhere(operation, check) > 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        (" x", "=?base64?IHg=?="),
        ("a\nb", "=?base64?YQpi?="),
        ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
    ],
)
def test_a_header_value_is_plain_or_marked_base64(text, value):
    assert header_value(text) == value


def test_annotated_arguments_become_headers():
    schema = json.loads(
        '{"type":"object","properties":{"a":{"type":"integer","x-mcp-header":"A"},'
        '"b":{"type":"object","properties":{"c":{"type":"boolean","x-mcp-header":"C"}}},"d":{"default":{"x-mcp-header":7}}}}'
    )
    paths = header_paths(schema)
    assert paths == {("a",): "A", ("b", "c"): "C"}
    assert param_headers(paths, {"a": 5, "b": {"c": True}}) == {"Mcp-Param-A": "5", "Mcp-Param-C": "true"}
    assert param_headers(paths, {"a": None, "b": 7}) == {}


def annotated(count):
    return {f"a{number}": {"type": "string", "x-mcp-header": f"H{number}"} for number in range(count)}


async def test_at_most_64_arguments_have_headers_and_thousands_cost_milliseconds():
    most = header_paths({"type": "object", "properties": annotated(64)})
    assert most == {(f"a{number}",): f"H{number}" for number in range(64)}
    deep = {"type": "string"}
    for _ in range(400):
        deep = {"type": "object", "properties": {"p": deep, **dict.fromkeys(map(str, range(20)), {})}}
    async with no_stall(0.2):
        for schema in ({"type": "object", "properties": annotated(5000)}, deep):
            await trio.lowlevel.checkpoint()
            with nullcontext() if schema is deep else pytest.raises(ValueError, match="more than 64 arguments"):
                header_paths(schema)


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "number", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": ""}},
        {"a": {"type": "string", "x-mcp-header": "no good"}},
        {"a": {"type": "string", "x-mcp-header": 7}},
        {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}},
        {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}},
    ],
)
def test_annotations_that_make_no_sense_are_refused(properties):
    with pytest.raises(ValueError, match="."):
        header_paths({"type": "object", "properties": properties})
