"""What the transports make of single answers, and how servers are shown."""

from __future__ import annotations

import pytest

from clawft_trio.mcp import HttpServer, StdioServer
from clawft_trio.mcp.messages import Outgoing
from clawft_trio.mcp.transports.answer_stream import AnswerStream
from clawft_trio.mcp.transports.http_refusals import means_no_stream, wants_login
from clawft_trio.mcp.types import ImageContent


@pytest.mark.parametrize(
    ("status", "final"),
    [(None, False), (200, False), (302, False), (399, False), (400, True), (404, True), (405, True), (408, False)]
    + [(425, False), (429, False), (499, True), (500, False), (501, True), (502, False), (503, False)],
)
def test_a_get_with_a_final_refusal_is_not_repeated(status, final):
    assert means_no_stream(status) is final


@pytest.mark.parametrize(
    ("status", "challenge", "wanted"),
    [
        (401, "", True),
        (401, "Basic", True),
        (403, "", False),
        (403, "Bearer", False),
        (403, 'Bearer error="invalid_token"', False),
        (403, 'Bearer error="insufficient_scope"', True),
        (400, 'Bearer error="insufficient_scope"', False),
    ],
)
def test_another_token_helps_against_a_401_or_missing_scopes(status, challenge, wanted):
    assert wants_login(status, challenge) is wanted


@pytest.mark.parametrize(
    ("command", "shown"),
    [("server", "'server'"), (("server", "--token", "x"), "'server' with 2 arguments")],
)
def test_a_program_is_shown_without_its_arguments(command, shown):
    assert f"command={shown}" in repr(StdioServer(command))


def test_an_address_is_shown_without_the_values_of_its_query():
    assert "url='https://h/mcp?key=***'" in repr(HttpServer("https://h/mcp?key=secret"))


@pytest.mark.parametrize(("data", "content"), [("eA==", b"x"), ("e*A==", None), ("eA", None), ("ä", None)])
def test_an_image_is_base64_or_an_error(data, content):
    image = ImageContent(data=data, mime_type="image/png")
    if content is None:
        with pytest.raises(ValueError, match="."):
            _ = image.content
    else:
        assert image.content == content


class Mux:
    """Keeps what is delivered."""

    def __init__(self):
        self.delivered = []

    def deliver(self, message):
        self.delivered.append(message)


@pytest.mark.parametrize(
    ("message", "answered"),
    [
        ('{"jsonrpc":"2.0","id":3,"result":{}}', True),
        ('{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"x"}}', True),
        ('{"jsonrpc":"2.0","id":3}', True),
        ('{"jsonrpc":"2.0","id":3,"result":{},"x":', True),
        ('{"jsonrpc":"2.0","id":4,"result":{}}', False),
        ('{"jsonrpc":"2.0","id":4}', False),
        ('{"jsonrpc":"2.0","id":3,"method":"ping"}', False),
        ('{"jsonrpc":"2.0","method":"notifications/x"}', False),
        ("noise", False),
        ('[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":3,"result":{}}]', True),
    ],
)
async def test_a_request_is_answered_by_the_message_with_its_id_even_if_that_cannot_be_read(message, answered):
    mux = Mux()
    frame = Outgoing(b"", "tools/call", key=3)
    stream = AnswerStream(mux, frame, limit=1000, server="s", on_version=lambda _: None)
    stream.deliver(message.encode())
    assert stream.answered is answered
    assert len(mux.delivered) == (2 if message.startswith("[") else 1)
