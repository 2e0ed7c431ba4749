"""Whatever a page holds costs one call of web_fetch at most, and nobody else's turn."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
import trio
from hostile.loop_time import bounded_loop
from net.servers import open_server

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.net import AddressPolicy
from clawft_trio.tools import ToolContext, ToolRegistry, ToolResult
from clawft_trio.tools.builtin import BuiltinPolicy, FetchPolicy, register_builtins

CONTEXT = ToolContext(auth=AuthContext.local())
LOOPBACK = AddressPolicy(allowed_networks=("127.0.0.0/8",))


async def fetch(tmp_path, url: str, **policy: object) -> ToolResult:
    registry = ToolRegistry()
    register_builtins(registry, tmp_path, BuiltinPolicy(fetch=FetchPolicy(addresses=LOOPBACK, **policy)))
    call = ToolCall(id="1", name="web_fetch", arguments=json.dumps({"url": url}))
    (answer,) = await registry.execute_all([call], CONTEXT)
    return answer


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


SIZE = 2_000_000
BODIES = {
    "punycode": ("text/html; charset=punycode", b"-" + b"a9" * (SIZE // 2)),
    "idna": ("text/html; charset=idna", b"xn--" * (SIZE // 4)),
    "utf-7": ("text/html; charset=utf-7", b"+AAA-" * (SIZE // 5)),
    "unicode_escape": ("text/html; charset=unicode_escape", b"\\u0041" * (SIZE // 6)),
    "iso-2022-jp": ("text/html; charset=iso-2022-jp", b"\x1b$B\x1b(B" * (SIZE // 6)),
    "gb18030": ("text/html; charset=gb18030", b"\x81\x30\x81\x30" * (SIZE // 4)),
    "unclosed tags": ("text/html", b"<a <a " * (SIZE // 6)),
    "unclosed quotes": ("text/html", b'<a href="' * (SIZE // 9)),
    "comments": ("text/html", b"<!--" * (SIZE // 4)),
    "scripts": ("text/html", b"<script>" * (SIZE // 8)),
    "entities": ("text/html", b"&amp;#x1F600;&notit;" * (SIZE // 20)),
    "a long entity": ("text/html", b"&" + b"a" * SIZE),
    "nesting": ("text/html", b"<div>" * (SIZE // 5)),
    "links": ("text/html", b"<a href=x>" * (SIZE // 10)),
    "one line": ("text/plain", b"x" * SIZE),
    "spaces": ("text/html", b" " * SIZE),
    "JSON": ("application/json", b"[" * SIZE),
    "no UTF-8": ("text/plain", b"\xff\xfe\xfd" * (SIZE // 3)),
    "surrogates": ("text/plain; charset=utf-16le", b"\x00\xd8" * (SIZE // 2)),
    "zeros": ("text/plain", bytes(SIZE)),
}


@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES)
async def test_a_page_is_read_without_a_stall(tmp_path, kind: str, body: bytes) -> None:
    async def talk(conversation) -> None:
        await conversation.request()
        await conversation.send(head(f"Content-Type: {kind}", f"Content-Length: {len(body)}") + body)

    async with open_server(talk) as server, bounded_loop():
        answer = await fetch(tmp_path, server.url)
    assert len(answer.text) < 100_000
    answer.text.encode()


BOMB = gzip.compress(bytes(20_000_000))


async def endless_body(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain"))
    while True:
        await conversation.send(b"x" * 65536)


async def endless_headers(conversation) -> None:
    await conversation.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await conversation.send(b"X-A: " + b"x" * 1000 + b"\r\n")


async def endless_chunks(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain", "Transfer-Encoding: chunked"))
    while True:
        await conversation.send(b"1\r\nx\r\n" * 1000)


async def endless_chunk_size(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain", "Transfer-Encoding: chunked"))
    while True:
        await conversation.send(b"0" * 1000)


async def endless_interim(conversation) -> None:
    while True:
        await conversation.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


async def drops(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain"))
    while True:
        await conversation.send(b"x")
        await trio.sleep(0.05)


async def bomb(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain", "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}"))
    await conversation.send(BOMB)


async def loop(conversation) -> None:
    await conversation.send(head("Location: /again", "Content-Length: 0", "Connection: close", status="302 Found"))


async def to_a_file(conversation) -> None:
    await conversation.send(head("Location: file:///etc/passwd", "Content-Length: 0", status="302 Found"))


async def to_metadata(conversation) -> None:
    address = "http://169.254.169.254/latest/meta-data/"
    await conversation.send(head(f"Location: {address}", "Content-Length: 0", status="307 T"))


async def long_location(conversation) -> None:
    await conversation.send(head("Location: /" + "x" * 60_000, "Content-Length: 0", status="302 Found"))


async def not_http(conversation) -> None:
    await conversation.send(b"SSH-2.0-OpenSSH_9.6\r\n" + b"\0" * 1000)


async def negative_length(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain", "Content-Length: -1") + b"x")


async def huge_length(conversation) -> None:
    await conversation.send(head("Content-Type: text/plain", "Content-Length: " + "9" * 100) + b"x")


async def hostile_type(conversation) -> None:
    await conversation.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/\xe9\x1b[2J;charset=" + b"x" * 5000 + b"\r\n\r\nbody"
    )


TALKS = [
    endless_body,
    endless_headers,
    endless_chunks,
    endless_chunk_size,
    endless_interim,
    drops,
    bomb,
    loop,
    to_a_file,
    to_metadata,
    long_location,
    not_http,
    negative_length,
    huge_length,
    hostile_type,
]


@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.__name__)
async def test_a_server_costs_one_call_of_bounded_time_and_memory(tmp_path, talk) -> None:
    async def serve(conversation) -> None:
        await conversation.request()
        await talk(conversation)

    async with open_server(serve) as server:
        tracemalloc.start()
        try:
            async with bounded_loop():
                with trio.fail_after(30):
                    answer = await fetch(tmp_path, server.url, total=1.5)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 40_000_000
    assert len(answer.text) < 100_000
    assert "root:" not in answer.text
