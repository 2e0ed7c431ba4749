"""Secrets are masked before a text is cut: wherever the cut is, no part of a secret is left."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence

import pytest
import trio
from hypothesis import given, strategies as st
from llm.asking import asking
from net.servers import open_server

from clawft_trio.chat import Call
from clawft_trio.errors import MAX_BODY, ClawftError, InvalidData, ServerError
from clawft_trio.llm import OpenAICompatible
from clawft_trio.mcp import HttpServer, McpOptions, StdioServer, open_mcp
from clawft_trio.mcp.transports.process import _LINE
from clawft_trio.observe import Noted, make_redactor
from clawft_trio.observe.attributes import attributes_of
from clawft_trio.observe.recording import recorded_line
from clawft_trio.observe.redaction import cut, cut_redacted
from clawft_trio.resilience.failover import _line
from clawft_trio.tools.json_schema import SchemaCheck

SECRET = "Zq9xHunter2Kw7pMonkey4"
PART = 6
"""Characters of a secret that count as a part of it."""

PARTS = [SECRET[at : at + PART] for at in range(len(SECRET) - PART + 1)]


def around(*cuts: int) -> list[int]:
    """Offsets at which a secret ends before, at or behind each cut, or lies across it."""
    return [cut - len(SECRET) + step for cut in cuts for step in range(-2, len(SECRET) + 3, 2)]


def assert_no_part(text: str) -> None:
    assert not [part for part in PARTS if part in text], text[-200:]


@given(st.integers(0, 120), st.integers(0, 100), st.booleans(), st.sampled_from([" ", "", "x"]))
def test_no_part_of_a_secret_is_left_by_a_cut(before: int, limit: int, many: bool, behind: str) -> None:
    text = (f"{SECRET} " * (before // 8) if many else "a" * before) + SECRET + behind
    for end in range(len(text) - len(SECRET), len(text) + 1):
        shown = cut_redacted(text[:end], limit, redact=make_redactor([SECRET]), partial=True)
        assert len(shown) <= limit
        assert_no_part(shown)
    assert_no_part(cut_redacted(text, limit, redact=make_redactor([SECRET])))


async def outputs(code: str, offsets: Sequence[int], caplog: pytest.LogCaptureFixture) -> str:
    """Everything that is shown of a server that runs *code* with the offsets as its arguments."""
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    server = StdioServer([sys.executable, "-c", code, *map(str, offsets)], env={"TOKEN": SECRET})
    with trio.fail_after(60):
        with pytest.raises(ClawftError) as caught:
            async with open_mcp(server, name="s", options=McpOptions(observer=seen.append, supervision=None)):
                raise AssertionError("it was opened")
    return f"{seen!r} {caplog.text} {caught.value} {caught.value!r} {vars(caught.value)}"


LINES: dict[str, Callable[[], list[int]]] = {
    "one": lambda: around(200, 1024, _LINE, 2 * _LINE, 4 * _LINE, 4096, 65_536),
    "many": lambda: around(3 * _LINE, 4 * _LINE, 4096),
}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", LINES)
async def test_no_part_of_a_secret_is_shown_of_a_servers_lines(stream: str, kind: str, caplog) -> None:
    filler = "'a' * at" if kind == "one" else "'a' * (at % 23) + (s + ' ') * (at // 23)"
    code = f"""
import os, sys
s = os.environ["TOKEN"]
for at in map(int, sys.argv[1:]):
    {stream} = sys.{stream}
    {stream}.write({filler} + s + "b" * 5000 + "\\n")
    {stream}.flush()
"""
    shown = await outputs(code, LINES[kind](), caplog)
    assert "aaaa" in shown or "***" in shown
    assert_no_part(shown)


async def test_no_part_of_a_secret_is_shown_of_a_line_that_arrives_in_pieces(caplog) -> None:
    code = """
import os, sys, time
s = os.environ["TOKEN"]
for at in map(int, sys.argv[1:]):
    line = "a" * at + s + " the end\\n"
    os.write(2, line[: at + 10].encode())
    time.sleep(0.02)
    os.write(2, line[at + 10 :].encode())
    time.sleep(0.02)
"""
    shown = await outputs(code, [100, 4 * _LINE - 5, 4 * _LINE + 1, 9 * _LINE], caplog)
    assert "***" in shown
    assert_no_part(shown)


async def echo_at(offsets: list[int], conversation) -> None:
    while (asked := await conversation.request()) is not None:
        offset = offsets.pop(0) if len(offsets) > 1 else offsets[0]
        words = f"{'x' * offset}{SECRET}{'y' * 30_000}" if asked else ""
        body = json.dumps({"error": {"message": words}, "jsonrpc": "2.0", "id": 1}).encode()
        head = f"HTTP/1.1 400 No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        await conversation.send(head.encode() + body)


@pytest.mark.parametrize("offset", [*range(0, 40, 8), *around(300, 500, 1000, MAX_BODY - 24, 4 * MAX_BODY - 24)])
async def test_no_part_of_a_secret_is_left_in_the_error_of_an_mcp_server(offset: int) -> None:
    async def echo(conversation) -> None:
        await echo_at([offset], conversation)

    async with open_server(echo) as server:
        description = HttpServer(server.url, headers={"X-Key": SECRET})
        with trio.fail_after(30), pytest.raises(ClawftError) as caught:
            async with open_mcp(description, name="h", options=McpOptions(supervision=None)):
                raise AssertionError("it was opened")
    error = caught.value
    assert_no_part(f"{error} {error!r} {vars(error)} {error.__cause__!r}")


@pytest.mark.parametrize("offset", [*range(0, 40, 8), *around(200, 300, 500, 1000, MAX_BODY - 24, 65_536 - 24)])
async def test_no_part_of_a_secret_is_left_in_the_error_of_a_provider(offset: int) -> None:
    async def echo(conversation) -> None:
        await echo_at([offset], conversation)

    async with (
        open_server(echo) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key=SECRET, model="m") as provider,
    ):
        with trio.fail_after(30), pytest.raises(ClawftError) as caught:
            await provider.complete(asking(), Call())
    error = caught.value
    assert_no_part(f"{error} {error!r} {vars(error)}")


PAGES = {
    "plain": "{0}",
    "a first line": "{0}\nmore",
    "a web page": "<html><head><title>{0}</title></head></html>",
    "a title without an end": "<title>{0}",
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_no_part_of_a_secret_is_left_of_a_page_in_place_of_an_answer(page: str) -> None:
    offsets = [0, *around(200, 4096 - 7, 4096)]
    left = iter(offsets)

    async def echo(conversation) -> None:
        while await conversation.request() is not None:
            body = page.format("x" * next(left) + SECRET + "y" * 5000).encode()
            await conversation.send(b"HTTP/1.1 502 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with (
        open_server(echo) as server,
        OpenAICompatible(name="p", base_url=f"{server.url}/v1", api_key=SECRET, model="m") as provider,
    ):
        for _ in offsets:
            with trio.fail_after(30), pytest.raises(ClawftError) as caught:
                await provider.complete(asking(), Call())
            assert_no_part(f"{caught.value} {caught.value!r} {vars(caught.value)}")


KEY = f"sk-{SECRET}"
"""A secret that is known by its shape."""


@pytest.mark.parametrize("before", [0, 100, 10_000])
def test_no_part_of_a_secret_is_left_in_a_problem_of_a_schema(before: int) -> None:
    for after in range(230, 310, 3):
        found = SchemaCheck({"type": "integer"}, trusted=False).problems("x" * before + f" {KEY} {'y' * after}")
        assert "is not of type 'integer'" in found[0].message
        assert_no_part(found[0].message)


def test_no_part_of_a_secret_is_left_in_the_error_of_an_unusable_schema() -> None:
    for before in range(0, 310, 3):
        with pytest.raises(InvalidData) as caught:
            SchemaCheck({"type": f"{'x' * before} {KEY}"}, trusted=False).check_schema("s")
        assert_no_part(str(caught.value))


def test_no_part_of_a_secret_is_left_in_the_name_of_an_unknown_argument() -> None:
    check = SchemaCheck({"type": "object", "additionalProperties": False}, trusted=False)
    for before in range(60):
        [problem] = check.problems({"x" * before + f" {KEY}": 1})
        assert_no_part(problem.path)


@pytest.mark.parametrize("size", [2_000, 10_000, 100_000])
def test_no_part_of_a_secret_is_left_of_a_text_of_many(size: int) -> None:
    secret = SECRET * 2
    mask = make_redactor([secret])
    event = Noted(at=1.0, component="x", what="x", details={"text": secret * (size // len(secret))})
    assert_no_part(f"{attributes_of(event, redact=mask)} {recorded_line(event, redact=mask).decode()}")


def test_no_part_of_a_secret_is_left_in_the_errors_of_all_targets() -> None:
    for offset in around(300):
        assert "A1b2" not in _line("p/m", ServerError("x" * offset + " sk-" + "A1b2C3d4" * 4))


@pytest.mark.parametrize(
    ("text", "limit", "shown"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("ab", 1, "…"), ("a", 0, "")]
)
def test_a_text_that_was_cut_is_marked(text: str, limit: int, shown: str) -> None:
    assert cut(text, limit) == cut_redacted(text, limit) == shown


@pytest.mark.parametrize("how", ["value", "function", "async function", "token"])
async def test_a_secret_of_any_header_is_masked_in_the_error(how: str) -> None:
    async def later() -> str:
        await trio.lowlevel.checkpoint()
        return SECRET

    async def echo(conversation) -> None:
        while (asked := await conversation.request()) is not None:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": asked[0].decode()}}).encode()
            for status in (b"401 No", b"200 OK"):
                head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                await conversation.send(head % (status, len(body)) + body)
                asked = await conversation.request()
                if asked is None:
                    return

    value = {"value": SECRET, "function": lambda: SECRET, "async function": later, "token": SECRET}[how]
    options = {"token": value} if how == "token" else {"headers": {"X-Key": value}}
    async with open_server(echo) as server:
        with trio.fail_after(30), pytest.raises(ClawftError) as caught:
            async with open_mcp(HttpServer(server.url, **options), options=McpOptions(supervision=None)):
                raise AssertionError("it was opened")
    assert_no_part(f"{caught.value} {caught.value!r} {vars(caught.value)}")
