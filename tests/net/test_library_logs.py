"""What httpx and httpcore log about requests of this package holds no header, no query and no password."""

from __future__ import annotations

import logging

import httpx
import pytest
from net.servers import open_server

from clawft_trio.net import HttpEndpoint
from clawft_trio.net.library_logs import protected_logs

MARK = "hunter2Zq9x"


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_no_header_of_a_response_and_no_address_of_a_redirect_is_logged(library, logs) -> None:
    async def talk(conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(
                f"HTTP/1.1 302 {MARK}1\r\nLocation: /next?code={MARK}2\r\nSet-Cookie: s={MARK}3\r\n"
                f"X-Echo: {MARK}4\r\nContent-Length: 0\r\n\r\n".encode()
            )

    headers = {"x-key": f"{MARK}6", "authorization": f"Bearer {MARK}7"}
    async with open_server(talk) as server:
        url = f"{server.url}/v1?key={MARK}5"
        async with HttpEndpoint(url, headers=headers, redirects=2, library=library) as endpoint:
            async with endpoint.request("GET") as response:
                assert response.status == 302
    assert MARK not in logs.text
    # The address without its query, the status and the steps are there.
    assert "/v1" in logs.text
    assert logs.text.count(" 302 ") == 3
    assert "receive_response_headers.complete" in logs.text
    assert "connect_tcp.started host='127.0.0.1'" in logs.text


async def test_no_password_of_a_socks_proxy_is_logged(logs) -> None:
    async with HttpEndpoint("http://example.org"):
        pass
    line = f"setup_socks5_connection.started stream=<S> host='h' auth=(b'ana', b'{MARK}')"
    with protected_logs():
        logging.getLogger("httpcore.socks").debug(line)
    assert MARK not in logs.text
    assert "setup_socks5_connection.started" in logs.text


async def test_lines_about_requests_of_others_are_left_as_they_are(logs) -> None:
    async def talk(conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(b"HTTP/1.1 200 OK\r\nX-Own: value\r\nContent-Length: 0\r\n\r\n")

    async with open_server(talk) as server:
        async with HttpEndpoint(server.url) as endpoint, endpoint.request("GET"):
            pass
        assert "X-Own" not in logs.text
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"{server.url}/x?own=value")
    assert "x?own=value" in logs.text
    assert "X-Own" in logs.text
