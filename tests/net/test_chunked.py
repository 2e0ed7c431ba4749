from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given, settings, strategies as st
from net.servers import Conversation, open_server

from clawft_trio.errors import TransportFailed
from clawft_trio.net import HttpEndpoint
from clawft_trio.net.chunked import BadChunk, ChunkedDecoder

both = pytest.mark.parametrize("library", ["httpx", "httpx2"])


def by_h11(data: bytes) -> tuple[bytes, bool, bytes] | None:
    """Content, whether it ended, and the rest, as h11 sees them; None when it refuses."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    parser.next_event()
    parser.receive_data(data)
    content = b""
    try:
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return content, True, parser.trailing_data[0]
            content += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return content, False, b""


def by_us(chunks: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    decoder = ChunkedDecoder()
    try:
        content = b"".join(map(decoder.feed, chunks))
    except BadChunk:
        return None
    return content, decoder.ended, decoder.leftover


PIECES = st.sampled_from([
    b"5\r\nhello\r\n", b"5\r\nhell\r\n", b"A;x=y\r\n0123456789\r\n", b"a \r\n0123456789\r\n", b"0\r\n\r\n", b"0\r\n", b"\r\n", b"3\r\n\r\n\r\r\n",
    b"1\r\n\n\r\n", b"000\r\n", b"x: y\r\n", b"-1\r\n", b"+1\r\na\r\n", b"1_0\r\n", b"0x1\r\na\r\n", b"\n", b"\r", b"g\r\n", b" 1\r\na\r\n", b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
])  # fmt: skip
STREAMS = st.lists(PIECES, max_size=8).map(b"".join)


@given(STREAMS, st.data())
@settings(deadline=None, max_examples=500)
def test_any_cut_of_the_bytes_gives_what_h11_gives(data, draw):
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=6)))
    ours = by_us([data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)])
    theirs = by_h11(data)
    if ours is not None and theirs is not None:
        assert ours == theirs
    elif ours is not None:
        # h11 sees some faults a byte earlier, and reads trailers, which are none of our business.
        assert not ours[1] or re.search(rb"0+\r\n(?!\r\n)", data)
    else:
        # What we refuse, h11 refuses, too, or waits for more of.
        assert theirs is None or not theirs[1]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.integers(1, 9))
@settings(deadline=None, max_examples=200)
def test_what_was_framed_comes_back(contents, size):
    data = b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents) + b"0\r\n\r\n"
    assert by_us([data[i : i + size] for i in range(0, len(data), size)]) == (b"".join(contents), True, b"")


@pytest.mark.parametrize(
    "bad",
    [
        b"g\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"1_0\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"f" * 17 + b"\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(bad):
    with pytest.raises(BadChunk):
        ChunkedDecoder().feed(bad)


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 100, b"x" * 100, b"0\r\n" + b"a: b\r\n" * 100, b"1\r\nabc"])
def test_lines_without_an_end_are_refused(endless):
    decoder = ChunkedDecoder()
    with pytest.raises(BadChunk):
        decoder.feed(endless)
        for _ in range(200):
            decoder.feed(b"y: z\r\n" * 100 if endless.startswith(b"0") else b"x" * 1000)


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@both
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "early", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 2]
)
async def test_head_and_body_are_separated_for_every_split_of_the_bytes(library, size, early):
    """Blank lines in the content, too, and the connection serves again."""
    body = b"6\r\na\r\n\r\nb\r\n3\r\n\n\nc\r\n0\r\n\r\n"

    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            raw = early + HEAD + body
            for i in range(0, len(raw), size):
                await peer.send(raw[i : i + size])

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        for _ in range(2):
            async with http.request("GET") as answer:
                assert await answer.read() == b"a\r\n\r\nb\n\nc"
        assert server.accepted == 1


@both
@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n4\r\nx\r\n\r\r\n0\r\n\r\n", b"x\r\n\r"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\na: b\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n\n\nab\n\n", b"\n\nab\n\n"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\n\nab", b"\n\nab"),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", b""),
    ],
)
async def test_every_way_to_frame_a_body_is_read(library, raw, content):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(raw)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        async with http.request("GET") as answer:
            assert await answer.read() == content


@both
async def test_the_head_of_a_chunked_answer_has_no_body(library):
    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(HEAD)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        for _ in range(2):
            async with http.request("HEAD") as answer:
                assert await answer.read() == b""
        assert server.accepted == 1


@both
@pytest.mark.parametrize(("tail", "again"), [(b"", 1), (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 2)])
async def test_a_connection_with_more_on_it_than_was_asked_for_is_not_used_again(library, tail, again):
    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(HEAD + b"1\r\nx\r\n0\r\n\r\n" + tail)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        for _ in range(2):
            async with http.request("GET") as answer:
                assert await answer.read() == b"x"
        assert server.accepted == again


@both
@pytest.mark.parametrize("bad", [b"zz\r\n", b"1\r\nxx\r\n"])
async def test_a_badly_chunked_body_is_a_transport_failure(library, bad):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(HEAD + bad)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        async with http.request("GET") as answer:
            with pytest.raises(TransportFailed):
                await answer.read()
        await server.wait_open(0)
        assert http.statistics().busy == 0


@pytest.mark.parametrize("lines", [1, 4, 64])
def test_trailers_of_64_kib_are_accepted_and_of_a_byte_more_refused(lines: int) -> None:
    size = 64 * 1024 // lines
    trailers = (b"x" * size + b"\r\n") * lines
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\na\r\n0\r\n" + trailers + b"\r\nmore") == b"a"
    assert (decoder.ended, decoder.leftover) == (True, b"more")
    with pytest.raises(BadChunk, match="no end"):
        ChunkedDecoder().feed(b"0\r\ny" + trailers + b"\r\n")


@pytest.mark.parametrize(("longer", "refused"), [(0, False), (1, True)])
def test_a_size_line_without_an_end_is_kept_up_to_64_kib(longer: int, refused: bool) -> None:
    decoder = ChunkedDecoder()
    line = b"1;".ljust(64 * 1024 + longer, b"x")
    if refused:
        with pytest.raises(BadChunk, match="no end"):
            decoder.feed(line)
    else:
        assert decoder.feed(line) == b""
        assert decoder.feed(b"\r\na") == b"a"


def test_after_a_chunk_only_its_line_end_is_waited_for() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\na\r") == b"a"
    assert decoder.feed(b"\n0\r\n\r\n") == b""
    assert decoder.ended
    with pytest.raises(BadChunk):
        ChunkedDecoder().feed(b"1\r\nabc")
