"""What the transports make of single answers, and how servers are shown."""

from __future__ import annotations

import pytest

from clawft_trio.mcp import HttpServer, StdioServer
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
