from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from steps import growth

from clawft_trio.errors import EventTooLarge, InvalidResponse
from clawft_trio.net.sse import ServerSentEvent, SSEDecoder


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def reference(data: bytes) -> list[ServerSentEvent]:
    """The text of the WHATWG, step by step, over the whole stream at once."""
    text = data.decode("utf-8", errors="replace")
    if data.startswith(b"\xef\xbb\xbf"):
        text = text[1:]
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    events = []
    values: list[str] = []
    kind, last_id, retry = "", "", None
    *lines, _unfinished = text.split("\n")
    for line in lines:
        if line == "":
            if values:
                events.append(ServerSentEvent("\n".join(values).encode(), kind or "message", last_id, retry))
            values, kind, retry = [], "", None
        elif line.startswith(":"):
            continue
        else:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                values.append(value)
            elif field == "event":
                kind = value
            elif field == "id" and "\0" not in value:
                last_id = value
            elif field == "retry" and value and set(value) <= set("0123456789"):
                retry = int(value)
    return events


PIECES = st.sampled_from([
    b"data: x\n\n", b"data:x\n", b"data:  two\n", b"data\n", b"data:\n", b"data: {}", b"event: a\n", b"event:\n", b"id: 7\n",
    b"id\n", b"id: a\0b\n", b"retry: 30\n", b"retry: x\n", b"retry:\n", b": comment\n", b":\n", b"other: y\n", b"Data: no\n",
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\xef\xbb\xbf", b"\xff", b"\xe2\x82", b"\xe2\x82\xac", b" ", b":", b"data",
    "data: \u2028\u0085\x0b\x0c\x1c é\n\n".encode(), b"\xed\xa0\x80", b"\xf0\x9f\x98",
])  # fmt: skip
STREAMS = st.lists(PIECES | st.binary(max_size=4), max_size=20).map(b"".join)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    data = draw(STREAMS)
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    return data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(cut_streams())
@settings(deadline=None, max_examples=500)
def test_any_cut_of_the_bytes_gives_the_events_of_the_specification(case):
    data, chunks = case
    assert decode(*chunks) == reference(data)


@given(STREAMS)
@settings(deadline=None, max_examples=200)
def test_byte_by_byte_gives_the_same(data):
    assert decode(*(data[i : i + 1] for i in range(len(data)))) == reference(data)


@given(STREAMS)
@settings(deadline=None, max_examples=200)
def test_the_data_of_every_event_is_valid_utf_8(data):
    for event in decode(data):
        event.data.decode()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_is_known_whatever_the_cut(end):
    stream = end.join([b"data: one", b"data: two", b"", b"event: e", b"data: three", b"", b""])
    for size in (1, 2, 3, 7, 1000):
        events = decode(*(stream[i : i + size] for i in range(0, len(stream), size)))
        assert events == [ServerSentEvent(b"one\ntwo"), ServerSentEvent(b"three", "e")]


def test_a_cr_ends_its_line_without_waiting_for_what_comes_next():
    assert decode(b"data: x\r\r") == [ServerSentEvent(b"x")]


def test_a_byte_order_mark_is_skipped_once_and_only_at_the_start():
    for chunks in ([b"\xef\xbb\xbfdata: x\n\n"], [b"\xef", b"\xbb", b"\xbf", b"data: x\n\n"]):
        assert decode(*chunks) == [ServerSentEvent(b"x")]
    assert decode(b"data: a\n\n\xef\xbb\xbfdata: x\n\n") == [ServerSentEvent(b"a")]


def test_blocks_without_data_are_no_events():
    assert decode(b"event: ping\n\nretry: 10\n\n\n\n: hello\n\n") == []


def test_a_blank_line_after_an_id_is_no_event_and_the_id_is_kept():
    decoder = SSEDecoder()
    assert decoder.feed(b"id: 41\n\n\n\n") == []
    assert decoder.last_event_id == "41"
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent(b"x", id="41")]


def test_an_id_counts_only_when_its_block_is_whole():
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n\nid: 2\n")
    assert decoder.last_event_id == "1"


def test_a_reconnection_time_is_kept():
    decoder = SSEDecoder()
    assert decoder.feed(b"retry: 1500\ndata: x\n\ndata: y\n\n") == [
        ServerSentEvent(b"x", retry=1500),
        ServerSentEvent(b"y"),
    ]
    assert decoder.retry == 1500
    decoder.feed(b"retry: " + b"9" * 5000 + b"\n\n")
    assert decoder.retry == 1500


def test_empty_data_is_an_event_with_nothing_in_it():
    assert decode(b"data\n\n", b"id: 3\ndata:\n\n") == [ServerSentEvent(b""), ServerSentEvent(b"", id="3")]


def test_bad_utf_8_becomes_replacement_characters_and_what_follows_is_untouched():
    [event, after] = decode(b"data: a\xffb\xe2\x82\n\n", b"data: c\n\n")
    assert event.data.decode() == "a\ufffdb\ufffd"
    assert after.data == b"c"


def test_a_character_cut_in_two_is_whole_again():
    data = "data: 😀\n\n".encode()
    assert decode(data[:8], data[8:]) == [ServerSentEvent("😀".encode())]


def test_only_cr_and_lf_end_lines():
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    assert decode(f"data: {text}\n\n".encode())[0].data.decode() == text


def test_what_the_end_of_the_stream_cuts_off_never_was_an_event():
    assert decode(b"data: whole\n\ndata: cut\n") == [ServerSentEvent(b"whole")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_over_the_limit_is_refused_with_an_error_that_names_it(size):
    decoder = SSEDecoder(max_event=100)
    stream = b"data: fine\n\ndata: " + b"x" * 200
    with pytest.raises(EventTooLarge, match="max_event=100 bytes") as caught:
        for i in range(0, len(stream), size):
            decoder.feed(stream[i : i + size])
    assert caught.value.limit == 100
    assert not caught.value.retryable
    assert isinstance(caught.value, InvalidResponse)


@pytest.mark.parametrize("line", [b"data: x\n", b"event: x\n", b"x" * 60])
def test_many_small_lines_do_not_slip_past_the_limit(line):
    decoder = SSEDecoder(max_event=100)
    with pytest.raises(EventTooLarge):
        for _ in range(1000):
            decoder.feed(line)


@pytest.mark.parametrize("cut", [False, True])
def test_an_event_of_exactly_the_limit_passes(cut):
    decoder = SSEDecoder(max_event=100)
    stream = b"data: " + b"x" * 94 + b"\n\n"
    chunks = [stream[:50], stream[50:]] if cut else [stream]
    assert sum(len(decoder.feed(chunk)) for chunk in chunks) == 1
    with pytest.raises(EventTooLarge):
        SSEDecoder(max_event=99).feed(stream)


def test_comments_without_blank_lines_do_not_add_up():
    decoder = SSEDecoder(max_event=100)
    for _ in range(1000):
        assert decoder.feed(b": ping\n") == []
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent(b"x")]


def test_a_large_event_in_many_small_chunks_takes_linear_time():
    def read(size: int) -> None:
        assert len(decode(b"data: ", *([b"x" * 16] * size), b"\n\n")) == 1

    limit = 24  # linear is 8 times, quadratic 64
    assert growth(read, 10_000, 80_000, below=limit) < limit


def test_the_data_is_what_the_json_decoder_reads():
    [event] = decode(b'data: {"a": 1}\n\n')
    assert msgspec.json.decode(event.data) == {"a": 1}


def test_the_decoder_loads_neither_trio_nor_httpx():
    program = """
import sys, types, importlib.util
for name in ("clawft_trio", "clawft_trio.net"):
    spec = importlib.util.find_spec("clawft_trio") if name == "clawft_trio" else None
    package = types.ModuleType(name)
    package.__path__ = [spec.submodule_search_locations[0]] if spec else [sys.modules["clawft_trio"].__path__[0] + "/net"]
    sys.modules[name] = package
from clawft_trio.net.sse import SSEDecoder
assert SSEDecoder().feed(b"data: x\\n\\n")[0].data == b"x"
print(sorted({"trio", "httpx", "httpx2", "httpcore"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
