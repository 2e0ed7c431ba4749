"""HTTP responses that no model server sends: each is a typed error, within the bounds of memory and of the loop."""

from __future__ import annotations

import gzip
import zlib

import pytest
import trio
from hostile.loop_time import bounded_loop
from llm.asking import asking
from mcp_http import http_script, initialize
from net.servers import answering, open_server

from clawft_trio import errors
from clawft_trio.chat import Call
from clawft_trio.llm import OpenAICompatible
from clawft_trio.mcp import HttpServer, McpOptions, open_mcp
from clawft_trio.mcp.auth.http import OAuthHttp

KEY = "key-hunter2Zq9x"
BOMB = gzip.compress(b"\0" * 100_000_000)
DEFLATED = zlib.compress(b" " * 100_000_000)


def response(head: str, body: bytes = b"", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


CASES = {
    "a gzip bomb": (response("Content-Encoding: gzip\r\n", BOMB), errors.InvalidResponse),
    "a deflate bomb": (response("Content-Encoding: deflate\r\n", DEFLATED), errors.InvalidResponse),
    "a stream that is a bomb": (
        response("Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n", BOMB),
        errors.InvalidResponse,
    ),
    "a chain of encodings": (response("Content-Encoding: gzip, gzip, deflate\r\n", BOMB), errors.InvalidResponse),
    "an error page that is a bomb": (
        response("Content-Encoding: gzip\r\n", BOMB, "500 No"),
        errors.ServerError,
    ),
    "a long header": (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 2_000_000, errors.TransportFailed),
    "many headers": (
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(100_000)),
        errors.TransportFailed,
    ),
    "a redirect with an account": (
        response("Location: http://user:hunter2@127.0.0.1:1/v1?key=hunter2\r\n", status="307 Moved"),
        errors.ProviderError,
    ),
    "a redirect to a file": (response("Location: file:///etc/passwd\r\n", status="302 Found"), errors.ProviderError),
}


@pytest.mark.parametrize("kind", CASES)
async def test_an_odd_response_is_a_typed_error(kind: str) -> None:
    data, expected = CASES[kind]

    async def talk(conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(data)

    async with (
        open_server(talk) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key=KEY, model="m") as provider,
    ):
        async with bounded_loop():
            with trio.fail_after(30), pytest.raises(expected) as caught:
                await provider.complete(asking(), Call())
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


UNREADABLE = {
    "unannounced": ("Content-Encoding: br\r\n", b"\x8b\x07\x80{}\x03"),
    "stacked": ("Content-Encoding: gzip, gzip\r\n", gzip.compress(gzip.compress(b"{}"))),
    "not compressed": ("Content-Encoding: gzip\r\n", b"slow down"),
    "cut off": ("Content-Encoding: deflate\r\n", zlib.compress(b"{}")[:-4]),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("listing", [False, True], ids=["completion", "list of models"])
async def test_an_error_whose_body_is_badly_compressed_keeps_its_status_and_its_wait(kind: str, listing: bool) -> None:
    head, body = UNREADABLE[kind]
    data = response(f"Retry-After: 7\r\n{head}", body, "429 Slow Down")
    async with (
        open_server(answering(data)) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key=KEY, model="m") as provider,
    ):
        with pytest.raises(errors.RateLimited) as caught:
            await (provider.list_models() if listing else provider.complete(asking(), Call()))
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_an_mcp_refusal_whose_body_is_badly_compressed_keeps_its_status(kind: str) -> None:
    head, body = UNREADABLE[kind]

    async def answer(request) -> None:
        if not await initialize(request):
            name, _, value = head.strip().partition(": ")
            await request.respond(503, body, **{"retry-after": "7", name: value})

    options = McpOptions(supervision=None, protocol="handshake")
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=options) as client:
        with pytest.raises(errors.PeerError) as caught:
            await client.call_tool("x")
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_metadata_that_is_not_there_is_missing_however_the_page_is_compressed(kind: str) -> None:
    head, body = UNREADABLE[kind]
    async with open_server(answering(response(head, body, "404 No"))) as server, OAuthHttp("s") as http:
        assert (await http.get(f"{server.url}/.well-known/x", "metadata")).status == 404


async def test_a_cookie_is_never_sent_back() -> None:
    requests: list[bytes] = []

    async def talk(conversation) -> None:
        while (asked := await conversation.request()) is not None:
            requests.append(asked[0])
            await conversation.send(response("Set-Cookie: session=evil; Path=/\r\n", b"{}"))

    async with (
        open_server(talk) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key=KEY, model="m") as provider,
    ):
        for _ in range(2):
            with pytest.raises(errors.ProviderError):
                await provider.complete(asking(), Call())
    assert len(requests) == 2
    assert not any(b"cookie" in request.lower() for request in requests)
