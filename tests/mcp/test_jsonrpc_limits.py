"""JSON-RPC at its limits: lines around the longest, and what is kept of one that is broken or too long."""

from __future__ import annotations

import json

import msgspec
import pytest

from clawft_trio.mcp import jsonrpc
from clawft_trio.mcp.jsonrpc import (
    Envelope,
    ErrorObject,
    JsonRpcReader,
    LineSplitter,
    Malformed,
    decode_error,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
    parse,
)


def read(data: bytes, limit: int, step: int) -> list[Envelope | Malformed]:
    reader = JsonRpcReader(limit=limit)
    return [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])] + reader.end()


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
@pytest.mark.parametrize("size", [99, 100, 101, 102, 5000])
def test_a_line_of_the_longest_size_is_read_and_one_byte_more_is_refused(size: int, step: int) -> None:
    line = b'{"id":5,"result":"' + b"x" * (size - 20) + b'"}'
    assert len(line) == size
    messages = read(line + b"\n" + b'{"id":6,"result":1}\n', 100, step)
    assert [one.id for one in messages] == [5, 6]
    assert isinstance(messages[0], Malformed if size > 100 else Envelope)
    if size > 100:
        assert messages[0].reason == f"{size} bytes in one message, more than 100"
        # The first pieces, or the whole piece: always the beginning of the line.
        assert line.decode().startswith(messages[0].sample[:20])


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_every_line_has_the_whole_limit_and_not_what_the_one_before_left_of_it(step: int) -> None:
    line = b'{"id":5,"result":"' + b"x" * 80 + b'"}\n'
    assert [one.id for one in read(3 * line, 100, step) if isinstance(one, Envelope)] == [5, 5, 5]


@pytest.mark.parametrize("step", [1, 50, 1000, 100_000])
@pytest.mark.parametrize("before", [0, 3000, 8000])
def test_the_id_of_a_line_that_is_too_long_is_found_at_its_end(step: int, before: int) -> None:
    line = b'{"result":"' + b"x" * (before + 400) + b'","jsonrpc":"2.0","id":"last"}'
    (message,) = read(line, 300, step)
    assert isinstance(message, Malformed)
    assert message.id == "last"
    assert not message.has_method


def test_of_a_line_that_is_too_long_the_head_and_the_tail_are_kept() -> None:
    splitter = LineSplitter(limit=10_000)
    for _ in range(3):
        assert list(splitter.feed(b"y" * 5000)) == []
    assert sum(map(len, splitter._parts)) == 4096
    assert len(splitter._tail) == 512
    (found,) = splitter.feed(b"\n")
    assert isinstance(found, Malformed)
    assert found.sample == "y" * len(found.sample) and 200 <= len(found.sample) <= 4096
    assert list(splitter.feed(b"next\n")) == [b"next"]
    assert splitter.end() == b""


@pytest.mark.parametrize("piece", [b"y" * 5000, b"y" * 20_000])
def test_a_line_whose_first_piece_is_too_long_keeps_its_head(piece: bytes) -> None:
    (found,) = LineSplitter(limit=1000).feed(piece + b"\n")
    assert isinstance(found, Malformed)
    assert found.sample == "y" * len(found.sample) and 200 <= len(found.sample) <= 4096


def test_an_empty_line_is_a_line() -> None:
    assert list(LineSplitter().feed(b"\n\na\n")) == [b"", b"", b"a"]


BROKEN = [
    (b'{"id":7,"method":"m","params":NaN}', 7, True, True),
    (b'{"id":"a b","result":NaN}', "a b", False, True),
    (b'{"id":-3,"result":NaN}', -3, False, True),
    (b'{"id":1.5e,"result":NaN}', None, False, True),
    (b'{"id":true,"result":NaN}', None, False, False),
    (b'{"id":"","result":NaN}', None, False, True),
    (b'{"id":1234567890123456789,"result":NaN}', None, False, True),
    (b'{"id":123456789012345678,"result":NaN}', 123456789012345678, False, True),
    (b'{"params":{"id":4,"method":"x"},"result":NaN}', None, False, True),
    (b'[{"id":4},NaN]', None, False, True),
    (b'{"id":5,"id":6,"result":NaN}', 5, False, True),
    (b'{"id" : 5 , "method" : "x", "params": NaN}', 5, True, True),
    (b'{"params":[{"a":1},[2]],"id":5,"method":"x" NaN', 5, True, True),
    (b'{"result":NaN,"id":8 } ', 8, False, True),
    (b'{"id":[1],"method":"m"}', None, True, False),
    (b'{"id":1,"method":5}', 1, True, False),
    (b'{"method":"m","id":{"id":3}}', None, True, False),
    (b"true", None, False, False),
    (b'"text"', None, False, False),
]


@pytest.mark.parametrize(("line", "number", "has_method", "syntax"), BROKEN, ids=[str(one[0]) for one in BROKEN])
def test_what_can_be_read_of_a_broken_line(line: bytes, number: object, has_method: bool, syntax: bool) -> None:
    (message,) = parse(line)
    assert isinstance(message, Malformed)
    assert (message.id, message.has_method, message.syntax) == (number, has_method, syntax)
    assert type(message.id) is type(number)
    assert message.sample == line.decode().strip()
    assert message.reason


@pytest.mark.parametrize("spaces", [0, 65_000, 66_000])
def test_an_id_is_looked_for_in_the_first_bytes_of_a_broken_line(spaces: int) -> None:
    (message,) = parse(b'{"x":"' + b"y" * spaces + b'","id":3,"result":NaN}')
    assert message.id == (3 if spaces < 65_500 else None)


def test_the_sample_of_a_broken_line_is_short() -> None:
    (message,) = parse(b"x" * 1000)
    assert message.sample == "x" * len(message.sample) and 200 <= len(message.sample) <= 4096
    (message,) = parse(b"\xff" * 10)
    assert message.sample == "\ufffd" * 10


@pytest.mark.parametrize(
    ("line", "ids", "kinds"),
    [
        (b"[]", [], []),
        (b' [{"id":1,"result":1}] ', [1], [Envelope]),
        (b'\xef\xbb\xbf[{"id":1,"result":1}]', [1], [Envelope]),
        (b'[{"id":1,"result":1},5,{"id":2,"method":5},{"id":3,"method":"m"}]', [1, None, 2, 3], "EMME"),
        (b'[[{"id":1,"result":1}]]', [None], [Malformed]),
        (b'[{"id":1,"result":1}', [None], [Malformed]),
        (b'\xef\xbb\xbf {"id":4,"result":NaN}', [4], [Malformed]),
        (b"\xef\xbb\xbf", [], []),
    ],
)
def test_batches_and_byte_order_marks(line: bytes, ids: list[object], kinds: object) -> None:
    wanted = [{"E": Envelope, "M": Malformed}[one] for one in kinds] if isinstance(kinds, str) else kinds
    messages = parse(line)
    assert [one.id for one in messages] == ids
    assert [type(one) for one in messages] == wanted
    reader = JsonRpcReader()
    assert [one.id for one in reader.feed(line + b"\n")] == ids


def test_a_batch_that_is_cut_off_is_a_syntax_error_and_one_of_a_wrong_member_is_none() -> None:
    (message,) = parse(b'[{"id":1,')
    assert message.syntax
    (message,) = parse(b"[[1]]")
    assert not message.syntax
    assert message.reason == "a batch inside a batch"


@pytest.mark.parametrize("reads", [parse, lambda line: JsonRpcReader().feed(line + b"\n")])
def test_a_message_is_read_with_its_parts(reads) -> None:
    (message,) = reads(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[1]}}')
    assert (message.id, message.method, bytes(message.params)) == (1, "m", b'{"a":[1]}')
    (message,) = reads(b'{"id":null,"error":{"code":1,"message":"m"}}')
    assert message.id is None
    assert message.method is msgspec.UNSET
    assert bytes(message.error) == b'{"code":1,"message":"m"}'
    (message,) = reads(b'{"method":"m"}')
    assert message.id is msgspec.UNSET


ERRORS = [
    (b'{"code":5,"message":"m","data":{"a":1}}', ErrorObject(5, "m", {"a": 1})),
    (b'{"code":"5","message":"m","data":[1]}', ErrorObject(5, "m", [1])),
    (b'{"code":"-123456789","message":"m"}', ErrorObject(-123456789, "m")),
    (b'{"code":"1234567890","message":"m"}', ErrorObject(-32603, "m (1234567890)")),
    (b'{"code":"E1","message":"m","data":7}', ErrorObject(-32603, "m (E1)", 7)),
    (b'{"code":true,"message":"m"}', ErrorObject(-32603, "m (True)")),
    (b'{"code":2.5,"message":"m"}', ErrorObject(-32603, "m (2.5)")),
    (b'{"code":2.0,"message":"m","data":1}', ErrorObject(2, "m", 1)),
    (b'{"code":null,"message":"m","data":1}', ErrorObject(-32603, "m", 1)),
    (b'{"code":"' + b"x" * 200 + b'","message":"m"}', ErrorObject(-32603, f"m ({'x' * 100})")),
    (b'{"message":5}', ErrorObject(-32603, '{"message":5}')),
    (b'"' + b"x" * 3000 + b'"', ErrorObject(-32603, "x" * 3000)),
    (b"[" + b"1," * 2000 + b"1]", ErrorObject(-32603, ("[" + "1," * 2000)[:2000])),
    (b"NaN\xff", ErrorObject(-32603, "NaN\ufffd")),
]


@pytest.mark.parametrize(("raw", "error"), ERRORS, ids=[str(raw[:40]) for raw, _ in ERRORS])
def test_an_error_of_any_shape_keeps_its_code_text_and_data(raw: bytes, error: ErrorObject) -> None:
    assert decode_error(msgspec.Raw(raw)) == error


def test_the_lines_that_are_sent() -> None:
    assert encode_request(1, "m", {"a": 1}) == b'{"id":1,"method":"m","params":{"a":1},"jsonrpc":"2.0"}\n'
    assert json.loads(encode_request(1, "m")) == {"jsonrpc": "2.0", "id": 1, "method": "m"}
    assert json.loads(encode_notification("m")) == {"jsonrpc": "2.0", "method": "m"}
    assert json.loads(encode_notification("m", [1])) == {"jsonrpc": "2.0", "method": "m", "params": [1]}
    assert json.loads(encode_result("i", None)) == {"jsonrpc": "2.0", "id": "i", "result": None}
    error = {"code": 5, "message": "m"}
    assert json.loads(encode_error(1, 5, "m")) == {"jsonrpc": "2.0", "id": 1, "error": error}
    assert json.loads(encode_error(1, 5, "m", None)) == {"jsonrpc": "2.0", "id": 1, "error": {**error, "data": None}}


def test_the_codes_are_those_of_the_specification() -> None:
    codes = (
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.INVALID_PARAMS,
        jsonrpc.INTERNAL_ERROR,
    )
    assert codes == (-32700, -32600, -32601, -32602, -32603)
    assert jsonrpc.MAX_MESSAGE == 64 * 1024 * 1024


@pytest.mark.parametrize(("halves", "repaired"), [(1, True), (1000, True), (1001, False)])
def test_a_thousand_halves_of_surrogate_pairs_are_replaced_in_one_message(halves: int, repaired: bool) -> None:
    [message] = parse(b'{"id":1,"result":"' + b"\\ud83d" * halves + b'"}')
    assert isinstance(message, Malformed)
    assert (message.repaired is not None) is repaired
    if message.repaired is not None:
        assert msgspec.json.decode(bytes(message.repaired.result)) == "\ufffd" * halves


@pytest.mark.parametrize(("longer", "repaired"), [(0, True), (1, False)])
def test_a_message_of_a_megabyte_is_repaired_and_a_longer_one_is_not(longer: int, repaired: bool) -> None:
    empty = b'{"id":1,"result":"\\ud83d"}'
    line = empty.replace(b'3d"}', b"3d" + b"x" * ((1 << 20) - len(empty) + longer) + b'"}')
    [message] = parse(line)
    assert isinstance(message, Malformed)
    assert (message.repaired is not None) is repaired
