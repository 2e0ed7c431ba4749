"""Bytes in, messages out: any split, any rubbish."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from msgspec import UNSET
from steps import growth

from clawft_trio.mcp.jsonrpc import (
    Envelope,
    JsonRpcReader,
    Malformed,
    decode_error,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    parse,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def ids(messages):
    return [message.id for message in messages]


@settings(deadline=None, max_examples=80)
@given(payloads=st.lists(JSON, max_size=6), cuts=st.lists(st.integers(0, 400)), crlf=st.booleans())
def test_any_split_of_the_bytes_gives_the_same_messages(payloads, cuts, crlf):
    end = b"\r\n" if crlf else b"\n"
    data = b"".join(
        json.dumps({"jsonrpc": "2.0", "id": n, "result": payload}, ensure_ascii=False).encode("utf-8", "surrogatepass")
        + end
        for n, payload in enumerate(payloads)
    )
    reader = JsonRpcReader()
    messages = []
    at = 0
    for cut in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        messages += reader.feed(data[at:cut])
        at = cut
    messages += reader.end()
    assert ids(messages) == list(range(len(payloads)))
    assert [json.loads(bytes(message.result)) for message in messages] == payloads


def test_one_byte_at_a_time_is_no_different():
    reader = JsonRpcReader()
    line = encode_result(7, {"text": "blåbær \u2028 \u0085"})
    messages = [message for byte in line for message in reader.feed(bytes([byte]))]
    assert ids(messages) == [7]
    assert json.loads(bytes(messages[0].result)) == {"text": "blåbær \u2028 \u0085"}


def test_only_a_line_feed_ends_a_line():
    reader = JsonRpcReader()
    raw = '{"id":1,"result":"a\u2028b\u2029c\u0085d"}\n'.encode()
    assert ids(reader.feed(raw)) == [1]


def test_a_last_line_without_its_end_is_read_at_the_end():
    reader = JsonRpcReader()
    assert reader.feed(b'{"id":1,"result":{}}') == []
    assert ids(reader.end()) == [1]
    assert reader.end() == []


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"   \n", b"\xef\xbb\xbf\n"])
def test_blank_lines_are_nothing(blank):
    assert JsonRpcReader().feed(blank * 3) == []


def test_a_byte_order_mark_is_skipped():
    assert ids(parse(b'\xef\xbb\xbf{"id":3,"result":{}}')) == [3]


def test_a_batch_is_its_members():
    assert ids(parse(b'[{"id":1,"result":{}},{"id":2,"result":{}}]')) == [1, 2]


def test_a_batch_in_a_batch_is_malformed_and_ends():
    [first, second] = parse(b'[[{"id":1}],{"id":2,"result":{}}]')
    assert isinstance(first, Malformed)
    assert second.id == 2


BROKEN = {
    "a lone surrogate and more": b'{"id":3,"result":"\\ud800\\u12"}',
    "200 000 levels": b'{"id":3,"result":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "not a number": b'{"id":3,"result":NaN}',
    "cut off": b'{"id":3,"result":{"a":[1,2',
    "a bad id elsewhere": b'{"id":3,"result":{"id":4},"x":}',
    "the id last": b'{"result":{"id":4,"t":"\\u12"},"jsonrpc":"2.0","id":3}',
    "the id last, behind very much": b'{"result":"\\u12' + b"x" * 200_000 + b'","jsonrpc":"2.0","id":3}',
    "an id in a string": b'{"a":"\\"id\\":9,","id":3,"result":NaN}',
    "bytes that are not UTF-8 in a name": b'{"id":3,"method\xff":1,"result":NaN}',
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_the_id_of_a_broken_line_is_found(line):
    [message] = parse(line)
    assert isinstance(message, Malformed)
    assert message.id == 3


@pytest.mark.parametrize(
    "line", [b"Server listening on :8080", b"null", b"3", b'"id":3', b"{", b'{"id":{}}', b"\xff\xfe"]
)
def test_what_has_no_id_is_malformed_without_one(line):
    [message] = parse(line)
    assert isinstance(message, Malformed)
    assert message.id is None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(data):
    reader = JsonRpcReader(limit=100)
    for message in [*reader.feed(data), *reader.feed(b"\n"), *reader.end()]:
        assert isinstance(message, Envelope | Malformed)


@settings(deadline=None, max_examples=100)
@given(rubbish=st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")), payload=JSON)
def test_rubbish_costs_its_line_and_no_other(rubbish, payload):
    reader = JsonRpcReader()
    good = encode_result(41, payload)
    messages = reader.feed(good + rubbish + b"\n" + good)
    assert [m.id for m in (messages[0], messages[-1])] == [41, 41]
    assert len(messages) <= 3 or rubbish[:1] in b"[ "


def test_a_line_over_the_limit_costs_that_message_and_keeps_its_id():
    reader = JsonRpcReader(limit=1000)
    long_first = b'{"id":5,"result":"' + b"x" * 5000 + b'"}\n'
    long_last = b'{"result":"' + b"x" * 5000 + b'","jsonrpc":"2.0","id":6}\n'
    short = b'{"id":7,"result":{}}\n'
    data = long_first + long_last + short
    messages = [message for at in range(0, len(data), 64) for message in reader.feed(data[at : at + 64])]
    assert ids(messages) == [5, 6, 7]
    assert [type(message) for message in messages] == [Malformed, Malformed, Envelope]
    assert "more than 1000" in messages[0].reason


def test_what_is_over_the_limit_is_not_kept():
    reader = JsonRpcReader(limit=10_000)
    for _ in range(1000):
        reader.feed(b"x" * 10_000)
    held = sum(map(len, reader._lines._parts)) + len(reader._lines._tail)
    assert held < 20_000


@pytest.mark.parametrize("piece", [b'\\"', b'"', b"[", b'{"id":', b"\\"])
def test_hostile_text_is_scanned_in_linear_time(piece):
    # An unclosed string of escaped quotes: a scanner that backtracks takes minutes.
    limit = 16 * 5  # linear is 16 times, quadratic 256
    assert growth(lambda count: parse(b"{" + piece * count), 2_000, 32_000, below=limit) < limit


def test_a_message_in_pieces_is_read_in_linear_time():
    def read(size):
        reader = JsonRpcReader()
        line = encode_result(1, "x" * size)
        for at in range(0, len(line), 4096):
            messages = reader.feed(line[at : at + 4096])
        assert ids(messages) == [1]

    limit = 16 * 5  # linear is 16 times, quadratic 256
    assert growth(read, 1 << 20, 1 << 24, below=limit) < limit


def test_a_number_of_5000_digits_is_passed_on_and_left_to_its_reader():
    [message] = parse(b'{"id":3,"result":' + b"9" * 5000 + b"}")
    assert message.id == 3
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(message.result)


def test_what_is_encoded_is_one_line():
    lines = [
        encode_request(1, "m", {"text": "a\nb\r\n\u2028"}),
        encode_request(1, "m"),
        encode_notification("n", {"text": "a\nb"}),
        encode_result("x", {"text": "\n"}),
        encode_error(None, -32700, "bad\nline", {"more": "\n"}),
    ]
    for line in lines:
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert json.loads(line)["jsonrpc"] == "2.0"
    assert "params" not in json.loads(lines[1])
    assert json.loads(lines[4])["id"] is None


def test_what_json_does_not_know_is_refused_before_it_is_sent():
    with pytest.raises(TypeError):
        encode_request(1, "m", {"x": object()})


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b'{"code":-1,"message":"m"}', -1, "m"),
        (b"{}", -32603, ""),
        (b'{"code":"-7","message":"quota"}', -7, "quota"),
        (b'{"code":"E42","message":"quota"}', -32603, "quota (E42)"),
        (b'{"code":3.0,"message":"m"}', 3, "m"),
        (b'{"code":null,"message":"m"}', -32603, "m"),
        (b'{"code":1,"message":{"why":"x"}}', 1, '{"code":1,"message":{"why":"x"}}'),
        (b'"boom"', -32603, "boom"),
        (b"7", -32603, "7"),
        (b'["a"]', -32603, '["a"]'),
        (b"[" * 3000, -32603, "[" * 2000),
    ],
)
def test_whatever_is_no_error_object_is_the_text_of_one(raw, code, message):
    error = decode_error(msgspec.Raw(raw))
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"cut \ud83d here", "cut \ufffd here"),
        (r"\uDE00 begins", "\ufffd begins"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\ud83d\\ude00", "\ufffd\\ude00"),
        (r"\\\ud83d", "\\\ufffd"),
        (r"\ud83d and \\ud83d", "\ufffd and \\ud83d"),
    ],
)
def test_half_an_escaped_pair_of_surrogates_is_replaced_in_the_repaired_message(escaped, text):
    [message] = parse(b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + escaped.encode() + b'"}}')
    assert isinstance(message, Malformed)
    assert message.id == 1
    assert message.repaired is not None
    assert msgspec.json.decode(message.repaired.result) == {"text": text}


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":1,"result":"\\ud83d"',
        b'{"id":1,"result":"\\ud83d\\u12"}',
        b'{"id":1,"result":"' + b"\\ud83d" * 5000 + b'"}',
        b'{"id":1,"result":"\\ud83d' + b"x" * 2**20 + b'"}',
    ],
)
def test_what_is_broken_otherwise_is_not_repaired(line):
    [message] = parse(line)
    assert isinstance(message, Malformed)
    assert (message.id, message.repaired) == (1, None)


@pytest.mark.parametrize(
    ("line", "result", "error"),
    [
        (b'{"jsonrpc":"2.0","id":3,"method":null,"params":null,"result":{"a":1},"error":null}', b'{"a":1}', b"null"),
        (b'{"method":null,"id":3,"error":{"code":1}}', b"", b'{"code":1}'),
    ],
)
def test_a_response_with_null_for_the_members_of_a_request_is_one(line, result, error):
    [message] = parse(line)
    assert isinstance(message, Envelope)
    assert (message.id, message.method, bytes(message.result), bytes(message.error)) == (3, UNSET, result, error)
