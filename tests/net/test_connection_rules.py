"""What is kept of connections, and what counts as sent."""

from __future__ import annotations

from functools import partial

import httpcore
import httpx
import pytest
import trio
from net.servers import open_server

from clawft_trio.attempts import AttemptInProgress
from clawft_trio.errors import TransportFailed
from clawft_trio.net import AddressPolicy, HttpEndpoint
from clawft_trio.net.connections import Connections


class Idle:
    """A connection that has finished its request."""

    closed = False

    def is_idle(self) -> bool:
        return True

    async def aclose(self) -> None:
        self.closed = True


async def test_no_more_connections_are_kept_than_was_set() -> None:
    connections = Connections(httpx, httpcore, lambda origin: Idle(), most_idle=2)
    given = [connections._take(None) for _ in range(3)]
    assert connections.busy == 3
    for connection in given:
        await connections._give_back(connection)
    assert (connections.busy, connections.idle) == (0, 2)
    assert [connection.closed for connection in given] == [False, False, True]


@pytest.mark.parametrize(("answer", "sent"), [(b"", False), (b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", False)])
async def test_a_request_that_its_proxy_refuses_was_not_sent(answer: bytes, sent: bool) -> None:
    async def proxy(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        assert received.startswith(b"CONNECT ")
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listener = (await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), proxy, 0))[0]
        port = listener.socket.getsockname()[1]
        attempt = AttemptInProgress("t", trio.current_time())
        async with HttpEndpoint("https://model.invalid/v1", proxy=f"http://127.0.0.1:{port}") as http:
            with pytest.raises(TransportFailed), trio.fail_after(10):
                async with http.request("GET", attempt=attempt):
                    pass
        assert attempt.sent is sent
        nursery.cancel_scope.cancel()


async def test_a_request_to_a_server_that_hangs_up_was_sent() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listener = (await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), hang_up, 0))[0]
        attempt = AttemptInProgress("t", trio.current_time())
        async with HttpEndpoint(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as http:
            with pytest.raises(TransportFailed), trio.fail_after(10):
                async with http.request("GET", attempt=attempt):
                    pass
        assert attempt.sent
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("policy", [None, AddressPolicy()], ids=["no policy", "a policy"])
@pytest.mark.parametrize("host", ["a" * 64, "x." + "b" * 300, "a" * 5000, "a." * 2000 + "com"], ids=len)
async def test_a_name_that_no_host_can_have_is_no_connection(host: str, policy: AddressPolicy | None) -> None:
    async with HttpEndpoint(f"http://{host}/", policy=policy, trust_env=False) as http:
        with pytest.raises(TransportFailed) as caught:
            async with http.request("GET"):
                pass
    assert len(str(caught.value)) < 500


async def test_a_redirect_to_a_name_that_no_host_can_have_is_no_connection() -> None:
    async def redirect(conversation) -> None:
        await conversation.request()
        location = b"http://" + b"a" * 64 + b"/"
        await conversation.send(b"HTTP/1.1 302 F\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location)

    async with open_server(redirect) as server, HttpEndpoint(server.url, redirects=3) as http:
        with pytest.raises(TransportFailed):
            async with http.request("GET"):
                pass
