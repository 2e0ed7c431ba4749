"""What is kept of connections, and what counts as sent."""

from __future__ import annotations

import errno
import math
import os
import socket
from functools import partial

import httpcore
import httpx
import pytest
import trio
from net.servers import open_server
from trio.testing import memory_stream_pair

from clawft_trio.attempts import AttemptInProgress
from clawft_trio.errors import TransportFailed
from clawft_trio.net import AddressPolicy, HttpEndpoint
from clawft_trio.net.connections import Connections
from clawft_trio.net.network import Network, SocketConnection


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


class Names:
    """Finds no address for any name."""

    async def getaddrinfo(self, host, port, *_):
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "no such name here")


async def test_the_reason_of_a_failed_connection_is_the_one_of_the_system() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    with pytest.raises(TransportFailed, match="no connection to nowhere:80: no such name here"):
        await Network().connect_tcp("nowhere", 80)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TransportFailed) as caught:
            await Network().connect_tcp("127.0.0.1", port)
    assert str(caught.value).endswith(f"no connection to 127.0.0.1:{port}: {os.strerror(errno.ECONNREFUSED)}")


HEADS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
]


@pytest.mark.parametrize("head", HEADS, ids=["one", "two", "bare line feeds"])
async def test_a_head_is_read_without_its_body_however_the_bytes_are_cut(head: bytes) -> None:
    whole = head + b"\r\nbody\r\n\r\n"
    for first in range(1, len(whole)):
        for second in (first + 1, first + 2, len(whole)):
            near, far = memory_stream_pair()
            wire = SocketConnection(near, connect_by=math.inf, network=Network())
            await wire.write(b"GET / HTTP/1.1\r\n\r\n")
            # One chunk of a memory stream is one read.
            cuts = [whole[:first], whole[first:second], whole[second:]]
            near.receive_stream.receive_some = _one_by_one(cuts)
            read = b""
            while read != head:
                read += await wire.read(1000)
                assert head.startswith(read), (first, second)
            assert wire.at_body
            wire.begin_body()
            while data := await wire.read(1000):
                read += data
            assert read == whole
            await far.aclose()


def _one_by_one(chunks):
    left = [chunk for chunk in chunks if chunk]

    async def receive_some(max_bytes=None):
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else b""

    return receive_some


async def test_a_connection_shows_its_socket() -> None:
    async def answer(stream) -> None:
        await stream.send_all(b"x")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        wire = await Network().connect_tcp("127.0.0.1", listener.socket.getsockname()[1])
        sock = wire.get_extra_info("socket")
        assert wire.get_extra_info("server_addr") == sock.getpeername() == listener.socket.getsockname()
        assert wire.get_extra_info("client_addr") == sock.getsockname()
        assert wire.get_extra_info("ssl_object") is None
        assert wire.get_extra_info("other") is None
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(sock)
        assert wire.get_extra_info("is_readable") is True
        await wire.read(10)
        assert wire.get_extra_info("is_readable") is False
        wire.replay(b"again")
        assert wire.get_extra_info("is_readable") is True
        await wire.aclose()
        nursery.cancel_scope.cancel(reason="seen")
    near, _ = memory_stream_pair()
    assert SocketConnection(near, connect_by=math.inf, network=Network()).get_extra_info("socket") is None
