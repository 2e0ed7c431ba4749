from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import httpx
import httpx2
import pytest
import trio
from net.servers import (
    CHUNKED,
    Conversation,
    answering,
    chunk,
    hear_nothing,
    open_server,
    response,
    streaming,
)

import clawft_trio
from clawft_trio.attempts import AttemptInProgress
from clawft_trio.errors import (
    BulkheadFull,
    InvalidResponse,
    NotConfigured,
    ProviderTimeout,
    TransportFailed,
)
from clawft_trio.net import AddressPolicy, Clocks, HttpEndpoint, SSEDecoder, bearer

both = pytest.mark.parametrize("library", ["httpx", "httpx2"])

KEY = "sk-do-not-show-me"


def in_progress() -> AttemptInProgress:
    return AttemptInProgress("t", trio.current_time())


@both
async def test_an_answer_arrives_with_status_headers_and_body(library):
    raw = response(
        b'{"ok":true}', status="418 I'm a teapot", headers="Content-Type: Application/JSON; charset=utf-8\r\n"
    )
    async with open_server(answering(raw)) as server, HttpEndpoint(f"{server.url}/v1", library=library) as http:
        async with http.request("POST", "chat", content=b"{}") as answer:
            assert answer.status == 418
            assert answer.headers["content-type"].startswith("Application/JSON")
            assert answer.content_type == "application/json"
            assert answer.url == f"{server.url}/v1/chat"
            assert await answer.read() == b'{"ok":true}'


@both
async def test_what_is_sent_is_what_was_asked(library):
    seen = []

    async def talk(peer: Conversation) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request)
            await peer.send(response())

    async with open_server(talk) as server:
        async with HttpEndpoint(f"{server.url}/v1/", library=library, headers={"X-Team": "a"}) as http:
            async with http.request("POST", "/chat?x=1", content=b"{}", headers={"x-team": "b", "X-More": "c"}):
                pass
            async with http.request("GET"):
                pass
    (head, body), (other, _) = seen
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/chat?x=1 http/1.1"
    assert {"x-team: b", "x-more: c", "accept-encoding: identity"} <= set(lines)
    assert body == b"{}"
    assert other.decode().lower().startswith("get /v1/ http/1.1\r\n")
    assert b"x-team: a" in other.lower()


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("", "", "/"),
        ("/mcp/", "", "/mcp/"),
        ("/mcp?key=1", "", "/mcp?key=1"),
        ("/v1/?key=1", "/chat", "/v1/chat?key=1"),
        ("/v1?key=1", "chat?x=2", "/v1/chat?x=2&key=1"),
        ("/v1", "//evil.example/x", "/v1/evil.example/x"),
    ],
)
async def test_a_path_goes_behind_the_base_and_before_its_query(base, path, target):
    async def talk(peer: Conversation) -> None:
        head, _ = await peer.request()
        await peer.send(response(head.split()[1]))

    async with (
        open_server(talk) as server,
        HttpEndpoint(server.url + base) as http,
        http.request("GET", path) as answer,
    ):
        assert (await answer.read()).decode() == target


@both
async def test_a_body_that_another_task_reads_is_closed(library, nursery):
    async with open_server(streaming([b"x"], end=False)) as server, HttpEndpoint(server.url, library=library) as http:
        ended = trio.Event()

        async def read(answer) -> None:
            with pytest.raises(TransportFailed):
                async for _ in answer.chunks():
                    pass
            ended.set()

        async with http.request("GET") as answer:
            nursery.start_soon(read, answer)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await ended.wait()
        await server.wait_open(0)
        assert http.statistics().busy == http.statistics().admission.in_use == 0


@both
async def test_a_finished_connection_serves_the_next_request(library):
    async with open_server(answering(response(b"hello"))) as server, HttpEndpoint(server.url, library=library) as http:
        for _ in range(3):
            async with http.request("GET") as answer:
                await answer.read()
        async with http.request("GET"):
            pass  # a small body is there already; leaving it costs nothing
        assert server.accepted == 1
        assert (http.statistics().busy, http.statistics().idle) == (0, 1)


@both
async def test_one_task_may_have_several_requests_open(library):
    async with open_server(streaming([b"x"], end=False)) as server, HttpEndpoint(server.url, library=library) as http:
        async with http.request("GET") as one, http.request("GET") as two:
            assert await anext(one.chunks()) == await anext(two.chunks()) == b"x"
            assert http.statistics().admission.in_use == 2


@both
async def test_a_connection_that_its_server_has_closed_is_not_used_again(library):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(response(b"bye"))

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        for count in (1, 2):
            async with http.request("GET") as answer:
                assert await answer.read() == b"bye"
            await server.wait_open(0)
            assert server.accepted == count


@both
async def test_events_of_a_stream_come_one_by_one(library):
    """As for a long-lived GET of an MCP server: each event is there before the next is sent."""
    received = trio.Event()

    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"id: 1\ndata: one\n\n"))
        await received.wait()
        await peer.send(chunk(b"data: t") + chunk(b"wo\n\n") + b"0\r\n\r\n")

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        decoder = SSEDecoder()
        seen = []
        async with http.request("GET", headers={"accept": "text/event-stream"}) as answer:
            assert answer.content_type == "text/event-stream"
            async for data in answer.chunks():
                seen += [event.data for event in decoder.feed(data)]
                if seen == [b"one"]:
                    received.set()
        assert seen == [b"one", b"two"]


@both
async def test_five_megabytes_of_error_page_are_read_as_far_as_wanted(library):
    page = response(b"<html>" + b"e" * 5_000_000, status="502 Bad Gateway", headers="content-type: text/html\r\n")
    async with open_server(answering(page)) as server, HttpEndpoint(server.url, library=library) as http:
        async with http.request("GET") as answer:
            assert answer.content_type == "text/html"
            assert len(await answer.read(limit=2048, cut=True)) == 2048
            assert answer._chunks.received < 200_000
        await server.wait_open(0)
        async with http.request("GET") as answer:
            with pytest.raises(InvalidResponse, match="limit=2048") as caught:
                await answer.read(limit=2048)
            assert caught.value.status == 502
        await server.wait_open(0)


async def test_a_body_of_exactly_the_limit_is_read():
    async with open_server(answering(response(b"12345"))) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            assert await answer.read(limit=5) == b"12345"
        async with http.request("GET") as answer:
            with pytest.raises(InvalidResponse):
                await answer.read(limit=4)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b"hello" * 100_000)), ("deflate", zlib.compress(b"hello" * 100_000))],
    ids=["gzip", "deflate"],
)
async def test_a_compressed_body_comes_in_small_pieces_however_it_grows(encoding, body):
    raw = response(body, headers=f"content-encoding: {encoding}\r\n")
    async with open_server(answering(raw)) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            pieces = [piece async for piece in answer.chunks()]
        assert b"".join(pieces) == b"hello" * 100_000
        assert max(map(len, pieces)) <= 65536


def deflate(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


# With these sizes, zlib has read all of its input while a part of its output waits for the next piece.
@pytest.mark.parametrize("size", [65_536, 65_539, 65_591, 65_793, 131_072])
@pytest.mark.parametrize("wbits", [-15, 15, 31], ids=["raw", "zlib", "gzip"])
async def test_of_a_compressed_body_of_any_size_no_byte_is_missing(wbits, size):
    raw = response(deflate(b"a" * size, wbits), headers="content-encoding: deflate\r\n")
    async with open_server(answering(raw)) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            assert await answer.read() == b"a" * size


@pytest.mark.parametrize(
    "after", [b"", b"\x1f", b"no gzip \x1f\x8b", b"\0" * 100], ids=["nothing", "half a mark", "other data", "zeros"]
)
@pytest.mark.parametrize("step", [1, 100_000], ids=["byte by byte", "at once"])
async def test_the_members_of_a_gzip_body_are_one_body(step, after):
    body = deflate(b"one ", 31) + deflate(b"", 31) * 50 + deflate(b"two", 31) + after

    async def talk(peer):
        await peer.request()
        await peer.send(f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), step):
            await peer.send(body[at : at + step])

    async with open_server(talk) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            assert await answer.read() == b"one two"


async def test_thousands_of_empty_members_of_a_gzip_body_let_other_tasks_run():
    raw = response(deflate(b"", 31) * 3000, headers="content-encoding: gzip\r\n")
    passes = 0

    async def count():
        nonlocal passes
        while True:
            passes += 1
            await trio.lowlevel.checkpoint()

    async with open_server(answering(raw)) as server, HttpEndpoint(server.url) as http, trio.open_nursery() as nursery:
        async with http.request("GET") as answer:
            nursery.start_soon(count)
            assert await answer.read() == b""
            nursery.cancel_scope.cancel()
    assert passes > 2900


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("utf-8", b"hello"), ("none", b"hello"), ("aws-chunked", b"hello"), ("", b"hello"), ("Identity", b"hello"),
     ("aws-chunked, gzip", gzip.compress(b"hello")), ("X-GZIP, utf-8", gzip.compress(b"hello"))],
    # The bytes of gzip hold the time: as ids they would differ between the processes that run the tests.
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_content_encoding_that_names_no_compression_costs_no_answer(encoding, body):
    raw = response(body, headers=f"content-encoding: {encoding}\r\n")
    async with open_server(answering(raw)) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            assert await answer.read() == b"hello"


@pytest.mark.parametrize(
    ("encoding", "body", "error"),
    [
        ("gzip", b"not gzip at all", InvalidResponse),
        ("br", b"x", InvalidResponse),
        ("gzip", gzip.compress(b"hello" * 1000)[:30], TransportFailed),
        ("gzip", gzip.compress(b"one") + gzip.compress(b"two")[:-3], TransportFailed),
        ("gzip", gzip.compress(b"one") + b"\x1f\x8bno member", InvalidResponse),
    ],
    ids=["not gzip", "unknown encoding", "cut off", "second member cut off", "no second member"],
)
async def test_a_badly_compressed_body_is_a_typed_error(encoding, body, error):
    raw = response(body, headers=f"content-encoding: {encoding}\r\n")
    async with open_server(answering(raw)) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            with pytest.raises(error):
                await answer.read()


async def test_of_a_refusal_is_read_what_arrives_within_five_seconds(autojump_clock):
    async def talk(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nno")
        await hear_nothing(peer)

    async with open_server(talk) as server, HttpEndpoint(server.url) as http:
        async with http.request("GET") as answer:
            began = trio.current_time()
            assert await answer.read_refusal(limit=100) == b"no"
            assert trio.current_time() - began == 5


async def test_of_a_refusal_that_breaks_off_is_read_what_had_arrived_and_at_most_the_limit():
    async def talk(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nbroken")

    async with open_server(talk) as server, HttpEndpoint(server.url) as http:
        for limit, seen in ((100, b"broken"), (4, b"brok")):
            async with http.request("GET") as answer:
                assert await answer.read_refusal(limit=limit) == seen


@both
async def test_a_server_that_is_not_there_is_a_transport_failure_and_nothing_was_sent(library):
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        attempt = in_progress()
        async with HttpEndpoint(url, library=library, name="acme") as http:
            with pytest.raises(TransportFailed, match="no connection to 127.0.0.1") as caught:
                async with http.request("GET", attempt=attempt):
                    pass
        assert caught.value.provider == "acme"
        assert caught.value.retryable
        assert isinstance(caught.value.__cause__, OSError)
        assert attempt.admitted is not None
        assert not attempt.sent
        assert attempt.first_byte is None


@both
async def test_a_host_that_does_not_exist_is_a_transport_failure(library):
    async with HttpEndpoint("http://nowhere.invalid", library=library, trust_env=False) as http:
        with pytest.raises(TransportFailed, match="nowhere.invalid"):
            async with http.request("GET"):
                pass


@both
async def test_a_reset_before_the_headers_is_a_transport_failure(library):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        peer.reset()

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        attempt = in_progress()
        with pytest.raises(TransportFailed):
            async with http.request("GET", attempt=attempt):
                pass
        assert attempt.sent
        assert http.statistics().busy == http.statistics().idle == 0


@both
@pytest.mark.parametrize("raw", [b"", b"\x16\x03\x01\x02", b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n"])
async def test_what_is_not_http_is_a_transport_failure(library, raw):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(raw)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        with pytest.raises(TransportFailed, match=server.url) as caught:
            async with http.request("GET", "models?key=secret"):
                pass
        assert "secret" not in str(caught.value)
        assert http.statistics().busy == 0


@both
@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_that_is_cut_off_is_a_transport_failure(library, reset):
    async def talk(peer: Conversation) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"data: x\n\n"))
        if reset:
            peer.reset()

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library, name="acme") as http:
        async with http.request("GET") as answer:
            with pytest.raises(TransportFailed) as caught:
                await answer.read()
        assert caught.value.provider == "acme"
        assert caught.value.__cause__ is not None
        assert http.statistics().busy == http.statistics().idle == 0


async def test_an_error_of_the_caller_is_not_touched():
    async with open_server(answering(response(b"x"))) as server, HttpEndpoint(server.url) as http:
        with pytest.raises(OSError, match="mine"):
            async with http.request("GET"):
                raise OSError("mine")


@both
async def test_an_answer_that_comes_before_the_body_is_sent_is_read(library):
    async def talk(peer: Conversation) -> None:
        await peer.stream.receive_some(1000)
        await peer.send(response(b"too long", status="413 Content Too Large", headers="connection: close\r\n"))
        await peer.stream.send_eof()
        # Read on, or the reset that follows a close with unread data might overtake the answer.
        for _ in range(40):
            await peer.stream.receive_some(65536)

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        async with http.request("POST", content=b"x" * 20_000_000) as answer:
            assert answer.status == 413


@both
async def test_no_headers_in_time_is_a_timeout_of_the_first_byte(library):
    async with open_server(hear_nothing) as server:
        clocks = Clocks(first_byte=0.3)
        async with HttpEndpoint(server.url, library=library, clocks=clocks, name="acme") as http:
            attempt = in_progress()
            with pytest.raises(ProviderTimeout) as caught:
                async with http.request("GET", attempt=attempt):
                    pass
            assert (caught.value.clock, caught.value.limit, caught.value.provider) == ("first_byte", 0.3, "acme")
            assert attempt.sent
            await server.wait_open(0)


@both
async def test_the_first_byte_clock_ends_with_the_headers(library):
    async with open_server(streaming([b"x"], end=False)) as server, HttpEndpoint(server.url, library=library) as http:
        attempt = in_progress()
        async with http.request("GET", clocks=Clocks(first_byte=0.5), attempt=attempt) as answer:
            assert attempt.first_byte is not None
            with trio.move_on_after(0.6) as scope:
                await answer.read()
            assert scope.cancelled_caught


@both
async def test_a_server_that_stops_reading_is_a_timeout_of_the_write(library):
    async def talk(peer: Conversation) -> None:
        await trio.sleep_forever()

    async with open_server(talk) as server, HttpEndpoint(server.url, library=library) as http:
        with pytest.raises(ProviderTimeout) as caught:
            async with http.request("POST", content=b"x" * 20_000_000, clocks=Clocks(write=0.05, first_byte=None)):
                pass
        assert (caught.value.clock, caught.value.limit) == ("write", 0.05)
        assert http.statistics().busy == 0


async def test_a_slow_reader_that_reads_at_all_gets_everything():
    async def talk(peer: Conversation) -> None:
        received = 0
        while received < 10_000_000:
            received += len(await peer.stream.receive_some(1_000_000))
            await trio.sleep(0.01)
        await peer.send(response(b"thanks"))

    async with open_server(talk) as server, HttpEndpoint(server.url) as http:
        async with http.request("POST", content=b"x" * 10_000_000, clocks=Clocks(write=2.0)) as answer:
            assert await answer.read() == b"thanks"


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_a_clock_of_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="first_byte"):
        Clocks(first_byte=seconds)


def test_a_clock_has_any_positive_time_or_none():
    assert Clocks(first_byte=0.5).first_byte == 0.5
    assert Clocks(first_byte=None).first_byte is None


def test_a_policy_of_addresses_is_refused_where_it_could_not_be_kept():
    policy = AddressPolicy()
    with pytest.raises(NotConfigured, match="policy"):
        HttpEndpoint("http://a.com", policy=policy, proxy="http://127.0.0.1:3128")
    with pytest.raises(NotConfigured, match="policy"):
        HttpEndpoint("http://a.com", policy=policy, client=httpx.AsyncClient())
    HttpEndpoint("http://a.com", policy=policy)
    HttpEndpoint("http://a.com", proxy="http://127.0.0.1:3128")


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [
        ("GET", None, None),
        ("HEAD", None, None),
        ("GET", b"abc", b"3"),
        ("POST", None, b"0"),
        ("POST", b"", b"0"),
        ("DELETE", b"ab", b"2"),
    ],
)
async def test_a_request_names_the_length_of_its_body_unless_its_method_has_none(method, content, length):
    async def talk(peer: Conversation) -> None:
        head, _ = await peer.request()
        heads.append(head.lower())
        await peer.send(response())

    heads = []
    async with open_server(talk) as server, HttpEndpoint(server.url) as http:
        async with http.request(method, content=content):
            pass
    found = [line.partition(b": ")[2] for line in heads[0].split(b"\r\n") if line.startswith(b"content-length")]
    assert found == ([] if length is None else [length])


@both
async def test_more_requests_than_connections_wait_and_hold_nothing(library, nursery):
    async with open_server(streaming([b"x"], end=False)) as server:
        async with HttpEndpoint(server.url, library=library, connections=1, max_queue=1, name="acme") as http:
            admitted = in_progress()

            async def second() -> None:
                async with http.request("GET", attempt=admitted):
                    pass

            async with http.request("GET"):
                nursery.start_soon(second)
                await trio.testing.wait_all_tasks_blocked()
                seen = http.statistics().admission
                assert (seen.limit, seen.in_use, seen.waiting) == (1, 1, 1)
                assert admitted.admitted is None
                assert server.accepted == 1
                with pytest.raises(BulkheadFull) as full:
                    async with http.request("GET"):
                        pass
                assert full.value.provider == "acme"
            with trio.fail_after(5):
                while http.statistics().admission.in_use:
                    await trio.sleep(0.001)
            assert admitted.first_byte is not None
            assert http.statistics().admission.refused == http.statistics().admission.most_waiting == 1


async def test_the_key_is_looked_up_before_a_connection_is_taken(nursery):
    async with open_server(answering(response())) as server, HttpEndpoint(server.url) as http:
        looking = trio.Event()

        async def slow_key() -> str:
            looking.set()
            await trio.sleep_forever()
            return ""

        async def ask() -> None:
            async with http.request("GET", headers={"authorization": bearer(slow_key)}):
                pass

        nursery.start_soon(ask)
        await looking.wait()
        assert http.statistics().admission.in_use == 0
        nursery.cancel_scope.cancel()


async def test_keys_may_be_values_or_callables_and_are_asked_for_every_time():
    seen = []

    async def talk(peer: Conversation) -> None:
        while (request := await peer.request()) is not None:
            seen.extend(line for line in request[0].decode().split("\r\n") if line.lower().startswith(("auth", "x-")))
            await peer.send(response())

    keys = iter(["one", "two"])

    async def later() -> str:
        await trio.lowlevel.checkpoint()
        return next(keys)

    async with open_server(talk) as server:
        async with HttpEndpoint(server.url, headers={"authorization": bearer(later), "x-key": lambda: "k"}) as http:
            for _ in range(2):
                async with http.request("GET"):
                    pass
    assert seen == ["authorization: Bearer one", "x-key: k", "authorization: Bearer two", "x-key: k"]


@pytest.mark.parametrize("bad", ["\n", "é", "\x00", " "])
async def test_a_key_that_no_header_may_have_is_refused_without_being_shown(bad):
    async with HttpEndpoint("http://127.0.0.1:9", headers={"x-api-key": KEY + bad}) as http:
        with pytest.raises(NotConfigured, match="x-api-key") as caught:
            async with http.request("GET"):
                pass
        assert KEY not in str(caught.value)
        assert KEY not in repr(caught.value)
        assert caught.value.__cause__ is None


async def test_nothing_shown_holds_a_secret():
    http = HttpEndpoint(
        "http://example.com/v1?key=" + KEY,
        headers={"authorization": f"Bearer {KEY}"},
        proxy=f"http://me:{KEY}@127.0.0.1:9",
    )
    assert KEY not in repr(http)
    assert KEY not in repr(http.statistics())
    assert KEY not in repr(bearer(KEY))
    with pytest.raises(TransportFailed) as caught:
        async with http.request("GET"):
            pass
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "ftp://example.com", "http://", f"https://me:{KEY}@example.com", "http://[::",
        "http://example.com:99999", "http://example.com:0/v1", "http://example.com:x", "http:// example.com", "http://a b",
        "http://*/v1", None, 7, b"http://example.com",
    ],
)  # fmt: skip
def test_a_base_url_that_is_none_is_refused_at_once(url):
    with pytest.raises(NotConfigured) as caught:
        HttpEndpoint(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("url", ["http://example.com/v1 ", "\thttp://example.com/v1\n", "http://example.com/v1#part"])
def test_what_no_request_has_is_left_out_of_a_base_url(url):
    assert HttpEndpoint(url).base_url == "http://example.com/v1"


@pytest.mark.parametrize(
    "url", ["http://my_server:8000", "http://[::1]:8000/v1", "HTTP://Example.COM", "http://xn--bcher-kva.example"]
)
def test_unusual_hosts_are_taken(url):
    assert HttpEndpoint(url).base_url == url


def redirecting(location: str, status: str = "302 Found") -> bytes:
    return response(b"moved", status=status, headers=f"location: {location}\r\n")


@both
async def test_redirects_are_handed_out_unless_they_are_wanted(library):
    async with open_server(answering(redirecting("/elsewhere"))) as server:
        async with HttpEndpoint(server.url, library=library) as http, http.request("GET") as answer:
            assert answer.status == 302
        async with HttpEndpoint(server.url, library=library, redirects=2) as http, http.request("GET") as answer:
            assert answer.status == 302
            assert answer.url == f"{server.url}/elsewhere"
            assert http.statistics().admission.in_use == 1


@both
async def test_a_redirect_to_another_server_takes_no_key_along(library):
    seen = []

    async def talk(peer: Conversation) -> None:
        while (request := await peer.request()) is not None:
            seen.append(request[0].lower())
            await peer.send(response(b"there"))

    async with open_server(talk) as target, open_server(answering(redirecting(f"{target.url}/x"))) as server:
        headers = {"authorization": bearer(KEY), "x-api-key": KEY}
        async with HttpEndpoint(server.url, library=library, redirects=1, headers=headers) as http:
            async with http.request("GET", headers={"x-session": KEY, "accept": "text/html"}) as answer:
                assert await answer.read() == b"there"
                assert answer.url == f"{target.url}/x"
    assert KEY.encode() not in seen[0]
    assert b"accept: text/html" in seen[0]


@pytest.mark.parametrize(
    ("base", "location", "same"),
    [
        ("http://test", "http://test:80/x", True),
        ("https://test", "https://test:443/x", True),
        ("http://test", "https://test/x", False),
        ("http://test", "http://test:443/x", False),
        ("https://test", "https://test:80/x", False),
    ],
)
@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_redirect_within_an_origin_keeps_the_key_and_its_default_port_is_the_same(module, base, location, same):
    seen = []

    def handle(request):
        seen.append(request.headers.get("x-api-key"))
        return module.Response(302, headers={"location": location}) if len(seen) == 1 else module.Response(200)

    async with module.AsyncClient(transport=module.MockTransport(handle)) as client:
        async with HttpEndpoint(base, client=client, redirects=1, headers={"x-api-key": KEY}) as http:
            async with http.request("GET") as answer:
                assert answer.status == 200
    assert seen == [KEY, KEY if same else None]


@pytest.mark.parametrize(("method", "location"), [("GET", "ftp://elsewhere/x"), ("POST", "https://elsewhere/x")])
async def test_a_redirect_that_is_not_followed_is_not_tried_again(method, location):
    def handle(request):
        return httpx.Response(307, headers={"location": location})

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
        async with HttpEndpoint("http://test", client=client, redirects=1) as http:
            with pytest.raises(TransportFailed, match="not followed") as caught:
                async with http.request(method, content=b"secret"):
                    pass
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("", []),
        ("?key=abc&other=d=e", ["abc", "d=e"]),
        ("?bare", ["bare"]),
        ("?key=abc#part?x=y", ["abc"]),
    ],
)
async def test_the_values_of_a_base_urls_query_are_secrets_of_the_response(query, secrets):
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        async with HttpEndpoint(f"http://test/v1{query}", client=client) as http, http.request("GET") as answer:
            assert list(answer.secrets) == secrets


@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_given_client_is_used_and_stays_open(module):
    def handle(request):
        if request.url.path == "/late":
            raise module.ConnectTimeout("late")
        if request.url.path == "/broken":
            raise module.ReadError("broken")
        if request.url.path == "/fault":
            raise module.LocalProtocolError("no such header")
        return module.Response(200, stream=module.ByteStream(b"mine"))

    async with module.AsyncClient(transport=module.MockTransport(handle)) as client:
        async with HttpEndpoint("http://test", client=client) as http:
            assert f"by {module.__name__}" in repr(http)
            async with http.request("GET", "x") as answer:
                assert await answer.read() == b"mine"
            with pytest.raises(ProviderTimeout) as late:
                async with http.request("GET", "late"):
                    pass
            assert late.value.clock == "connect"
            for path, again in (("broken", True), ("fault", False)):
                with pytest.raises(TransportFailed) as caught:
                    async with http.request("GET", path):
                        pass
                assert caught.value.retryable is again
        assert not client.is_closed


@both
async def test_closing_ends_requests_under_way_and_refuses_new_ones(library, nursery):
    async with open_server(streaming([b"x"], end=False)) as server:
        http = HttpEndpoint(server.url, library=library)
        async with http.request("GET") as answer:
            chunks = answer.chunks()
            assert await anext(chunks) == b"x"
            nursery.start_soon(http.aclose)
            with pytest.raises(TransportFailed):
                await anext(chunks)
        await server.wait_open(0)
        with pytest.raises(trio.ClosedResourceError):
            async with http.request("GET"):
                pass
        assert "closed" in repr(http)
        assert http.statistics().admission.in_use == 0


def test_httpx_is_imported_in_one_file_only():
    root = Path(clawft_trio.__file__).parent
    users = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import httpx", "from httpx", "import httpcore", "from httpcore"))
    }
    assert users == {"net/http.py"}
