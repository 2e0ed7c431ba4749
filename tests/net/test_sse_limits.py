"""Server-sent events at their limits: events around the largest, byte order marks in pieces, reconnection times."""

from __future__ import annotations

import pytest

from clawft_trio.errors import EventTooLarge
from clawft_trio.net.sse import MAX_EVENT, ServerSentEvent, SSEDecoder

LIMIT = 100


def feed(decoder: SSEDecoder, data: bytes, step: int) -> list[ServerSentEvent]:
    return [one for at in range(0, len(data), step) for one in decoder.feed(data[at : at + step])]


def one_line(size: int) -> bytes:
    return b"data: " + b"x" * (size - 6)


def two_lines(size: int) -> bytes:
    # The line end between them is not counted.
    return b"event: a\n" + b"data: " + b"x" * (size - 14)


@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
@pytest.mark.parametrize("make", [one_line, two_lines], ids=["one line", "two lines"])
@pytest.mark.parametrize("after", [b"\n\n", b"\n\ndata: next\n\n", b"\r\n\r\n"], ids=["alone", "followed", "crlf"])
def test_the_largest_event_is_read_and_one_byte_more_is_refused(make, step: int, after: bytes) -> None:
    (event, *_) = feed(SSEDecoder(max_event=LIMIT), make(LIMIT) + after, step)
    assert set(event.data) == set(b"x")
    with pytest.raises(EventTooLarge) as caught:
        feed(SSEDecoder(max_event=LIMIT), make(LIMIT + 2) + after, step)
    assert caught.value.limit == LIMIT


@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
def test_comments_do_not_count(step: int) -> None:
    comment = b": " + b"c" * (LIMIT - 30) + b"\n"
    data = comment * 20 + b"data: x\n" + comment * 20 + b"data: y\n\n"
    decoder = SSEDecoder(max_event=LIMIT)
    assert feed(decoder, data, step) == [ServerSentEvent(b"x\ny", "message", "")]
    assert repr(decoder) == "<SSEDecoder last_event_id='', 0 bytes open>"


def test_what_was_counted_is_forgotten_with_its_event() -> None:
    decoder = SSEDecoder(max_event=LIMIT)
    for _ in range(10):
        assert len(feed(decoder, b"event: e\ndata: " + b"x" * 80 + b"\n\n", 1)) == 1
    assert feed(decoder, b"data: " + b"x" * 80, 1) == []
    assert [one.data for one in decoder.feed_end()] == [b"x" * 80]
    assert decoder.feed_end() == []


def test_the_usual_limit_is_eight_megabytes() -> None:
    assert MAX_EVENT == 8 * 1024 * 1024
    assert SSEDecoder()._max_event == MAX_EVENT


@pytest.mark.parametrize("step", [1, 2, 3, 4, 100])
@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\ndata: y\n\n", [b"y"]),
        (b"\xef\xbbdata: x\n\ndata: y\n\n", [b"y"]),
        (b"\xef", []),
        (b"\n\xef\xbb\xbfdata: x\n\ndata: y\n\n", [b"y"]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [b"x"]),
    ],
)
def test_one_byte_order_mark_is_skipped_at_the_beginning_only(data: bytes, values: list[bytes], step: int) -> None:
    assert [one.data for one in feed(SSEDecoder(), data, step)] == values


@pytest.mark.parametrize("step", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"data: a\rdata: b\r\rdata: c\n\n", [b"a\nb", b"c"]),
        (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [b"a\nb", b"c"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\n\rdata: b\r\r", [b"a", b"b"]),
        (b"\r\n\r\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\ndata\n\n", [b"a", b""]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata\ndata: \n\n", [b"a\n\n"]),
        (b"id: 1\n\nevent: e\n\ndata: a\n\n", [b"a"]),
    ],
)
def test_lines_end_in_three_ways_however_they_are_cut(data: bytes, values: list[bytes], step: int) -> None:
    assert [one.data for one in feed(SSEDecoder(), data, step)] == values


@pytest.mark.parametrize(
    ("line", "retry"),
    [
        (b"retry: 0", 0),
        (b"retry: 30", 30),
        (b"retry:30", 30),
        (b"retry: 30 ", None),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry:", None),
        (b"retry: " + b"9" * 12, 999_999_999_999),
        (b"retry: " + b"9" * 13, None),
        (b"retry: " + b"9" * 5000, None),
        ("retry: \u0663".encode(), None),
    ],
)
def test_the_reconnection_time_is_a_number_of_few_digits(line: bytes, retry: int | None) -> None:
    decoder = SSEDecoder()
    (event,) = decoder.feed(line + b"\ndata: x\n\n")
    assert event.retry == decoder.retry == retry
    (event,) = decoder.feed(b"data: y\n\n")
    assert event.retry is None
    assert decoder.retry == retry


def test_the_last_id_stays_and_one_with_nul_is_ignored() -> None:
    decoder = SSEDecoder()
    data = b"id: 7\ndata: a\n\ndata: b\n\nid: x\0y\ndata: c\n\nid\ndata: d\n\n"
    assert [one.id for one in decoder.feed(data)] == ["7", "7", "7", ""]


@pytest.mark.parametrize("error_lines", [True, False])
def test_lines_named_error_are_events_where_that_is_wanted(error_lines: bool) -> None:
    found = SSEDecoder(error_lines=error_lines).feed(b'error: {"code":1}\n\nevent: e\ndata: x\n\n')
    wanted = [ServerSentEvent(b"x", "e", "")]
    assert found == ([ServerSentEvent(b'{"code":1}', "error", "")] if error_lines else []) + wanted


@pytest.mark.parametrize(
    "data", [b"data: \xff\xfe\n\n", b"event: \xff\ndata: \xff\xfe\n\n", b"data: \xe2\x82\n\n", b"data: a\xff\n\n"]
)
@pytest.mark.parametrize("step", [1, 100])
def test_bad_bytes_are_replaced_and_the_data_is_utf_8(data: bytes, step: int) -> None:
    (event,) = feed(SSEDecoder(), data, step)
    assert "\ufffd" in event.data.decode()


def test_a_line_feed_after_an_empty_piece_still_belongs_to_its_carriage_return() -> None:
    decoder = SSEDecoder()
    pieces = [b"data: a\r", b"", b"\ndata: b\r", b"\n", b"\r", b"\ndata: c\n\n"]
    assert [one.data for piece in pieces for one in decoder.feed(piece)] == [b"a\nb", b"c"]
    assert [one.data for piece in [b"data: a\n", b"\n"] for one in SSEDecoder().feed(piece)] == []


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_utf8_of_a_large_event_is_checked_across_the_steps(before: int) -> None:
    text = ("a" * before + "\U0001f600" * 300_000).encode()
    [event] = SSEDecoder(max_event=len(text) + 6).feed(b"data: " + text + b"\n\n")
    assert event.data == text
    [event] = SSEDecoder(max_event=len(text) + 7).feed(b"data: " + text + b"\xff\n\n")
    assert event.data == text + "\N{REPLACEMENT CHARACTER}".encode()
    [event] = SSEDecoder(max_event=len(text) + 5).feed(b"data: " + text[:-1] + b"\n\n")
    assert event.data == text[:-4] + "\N{REPLACEMENT CHARACTER}".encode()
