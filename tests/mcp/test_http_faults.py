"""What a server over HTTP does wrong costs that call, keeps its reason, and is not repeated in a busy loop."""

from __future__ import annotations

import pytest
import trio
from mcp_http import http_script, initialize

from clawft_trio.errors import PeerError, PeerGone
from clawft_trio.mcp import HttpServer, McpOptions, Supervision, open_mcp

TEXT = {"content": [{"type": "text", "text": "hi"}]}
ALONE = McpOptions(supervision=None, protocol="handshake")


@pytest.mark.parametrize("status", [404, 405, 406, 501])
async def test_a_refused_get_is_no_stream_and_no_lost_session(status):
    async def answer(request):
        if request.method == "GET":
            await request.respond(status)
        elif not await initialize(request, session="abc"):
            await request.json(request.result(TEXT))

    options = McpOptions(protocol="handshake", supervision=Supervision(max_restarts=0))
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=options) as client:
        for _ in range(3):
            assert (await client.call_tool("x")).text == "hi"
        assert client.restarts == 0
        assert script.methods().count("GET") == 1


async def test_requests_wait_for_the_listening_stream():
    order = []

    async def answer(request):
        if request.method == "GET":
            await trio.sleep(0.2)
            order.append("stream")
            await request.events()
            await trio.sleep_forever()
        elif not await initialize(request):
            order.append("call")
            await request.json(request.result(TEXT))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        await client.call_tool("x")
    assert order == ["stream", "call"]


async def test_a_server_that_never_answers_the_get_holds_up_requests_for_a_bounded_time():
    async def answer(request):
        if request.method == "GET":
            await trio.sleep_forever()
        elif not await initialize(request):
            await request.json(request.result(TEXT))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        began = trio.current_time()
        await client.call_tool("x")
        assert 0.9 < trio.current_time() - began < 5


async def test_a_listening_stream_that_ends_at_once_is_not_reopened_in_a_busy_loop():
    async def answer(request):
        if request.method == "GET":
            await request.events()
            await request.stream.send_all(b"retry: 0\n\n")
        elif not await initialize(request):
            await request.json(request.result(TEXT))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        await client.call_tool("x")
        await trio.sleep(1.5)
        assert 1 <= script.methods().count("GET") <= 3


async def test_a_refusal_keeps_status_body_and_the_headers_that_matter():
    async def answer(request):
        if not await initialize(request):
            await request.respond(503, b"try later" + b"x" * 5000, **{"retry-after": "7", "x-other": "1"})

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError, match="503: try later") as caught:
            await client.call_tool("x")
    error = caught.value
    assert (error.status, error.code, error.retry_after, error.retryable) == (503, 503, 7.0, True)
    assert error.body.startswith("try later")
    assert len(error.body) == 2048
    assert error.headers == {"retry-after": "7"}


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("5", 5.0),
        ("2.5", 2.5),
        ("Wed, 21 Oct 2093 07:28:00 GMT", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
    ],
)
async def test_the_servers_wait_is_read_in_every_form(header, wait):
    async def answer(request):
        if not await initialize(request):
            await request.respond(429, b"", **{"retry-after": header})

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError, match="429") as caught:
            await client.call_tool("x")
    assert (caught.value.retry_after, caught.value.retryable) == (wait, True)


@pytest.mark.parametrize(("status", "retryable"), [(408, True), (425, True), (503, True), (400, False), (501, False)])
async def test_a_status_says_whether_the_same_request_may_succeed_later(status, retryable):
    async def answer(request):
        if not await initialize(request):
            await request.respond(status, b"")

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError, match=str(status)) as caught:
            await client.call_tool("x")
    assert caught.value.retryable is retryable


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://x/",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://[::1",
        "http://a:99999/",
        "//",
        "http://127.0.0.1:9/elsewhere",
        "data:,x",
        "\xff\xfe",
    ],
)
@pytest.mark.parametrize("when", ["GET", "tools/call"])
async def test_a_redirect_that_leads_nowhere_costs_that_request_only(location, when):
    async def answer(request):
        if (request.message or {}).get("method", request.method) == when:
            head = f"HTTP/1.1 307 X\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            await request.stream.send_all(head.encode("latin-1"))
        elif not await initialize(request):
            await request.json(request.result({}))

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        if when == "tools/call":
            with pytest.raises((PeerGone, PeerError)):
                await client.call_tool("x")
        await client.ping()


async def test_a_body_is_not_carried_to_another_origin():
    async def answer(request):
        if not await initialize(request):
            await request.respond(308, location=other.url)

    async def elsewhere(request):
        await request.json(request.result(TEXT))

    async with http_script(elsewhere) as other, http_script(answer) as script:
        async with open_mcp(HttpServer(script.url), options=ALONE) as client:
            with pytest.raises(PeerGone, match="another origin"):
                await client.call_tool("x")
        assert other.requests == []


@pytest.mark.parametrize("own_id", [True, False])
@pytest.mark.parametrize("status", [400, 403, 404, 422, 429, 500])
async def test_an_error_object_behind_a_status_keeps_both(status, own_id):
    error = {"code": -32602, "message": "no such city", "data": {"near": "Oslo"}}

    async def answer(request):
        if not await initialize(request):
            key = request.message["id"] if own_id else None
            answered = {"jsonrpc": "2.0", "id": key, "error": error}
            await request.json(answered, status=status, **{"retry-after": "7", "www-authenticate": "Basic x"})

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError) as caught:
            await client.call_tool("x")
    found = caught.value
    assert (str(found), found.code, found.data, found.status) == ("no such city", -32602, {"near": "Oslo"}, status)
    assert (found.retry_after, found.headers["www-authenticate"]) == (7.0, "Basic x")


@pytest.mark.parametrize(
    "body", [b'{"error": "invalid_token"}', b'{"jsonrpc": "2.0", "error": null}', b'{"error', b"[]"]
)
async def test_a_body_that_is_no_error_object_is_shown_as_it_is(body):
    async def answer(request):
        if not await initialize(request):
            await request.respond(400, body, **{"content-type": "application/json"})

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with pytest.raises(PeerError, match="HTTP status 400") as caught:
            await client.call_tool("x")
    assert (caught.value.code, caught.value.body) == (400, body.decode())


@pytest.mark.parametrize(("status", "gets"), [(404, 1), (405, 1), (400, 1), (501, 1)])
async def test_a_stream_that_the_server_does_not_resume_fails_its_call_at_once(status, gets):
    async def answer(request):
        if request.method == "GET":
            await request.respond(status)
        elif not await initialize(request):
            await request.events()
            await request.event(None, event_id="e1", retry=20)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=ALONE) as client:
        with trio.fail_after(5), pytest.raises(PeerGone, match=f"cannot be resumed: HTTP {status}"):
            await client.call_tool("x")
        assert len([one for one in script.requests if "last-event-id" in one.headers]) == gets
