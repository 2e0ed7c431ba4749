"""HTTP responses that no model server sends: each is a typed error, within the bounds of memory and of the loop."""

from __future__ import annotations

import gzip
import zlib

import pytest
import trio
from hostile.loop_time import bounded_loop
from llm.asking import asking
from net.servers import open_server

from clawft_trio import errors
from clawft_trio.chat import Call
from clawft_trio.llm import OpenAICompatible

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
