"""Large JSON, decoded in pieces: the same values as in one go, the same errors, and no stall of the event loop."""

from __future__ import annotations

import gc
import itertools
import json
import time

import msgspec
import pytest
import trio
from hypothesis import given, strategies as st
from mcp_wired import wired

from clawft_trio import large_json
from clawft_trio.errors import ProtocolViolation
from clawft_trio.large_json import LARGE, decode_in_pieces, decode_large

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(large_json, "_WINDOWS", (4, 16))


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_the_value_is_that_of_one_go_for_any_windows(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        expected = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        assert decode_in_pieces(text) == expected
        for windows in ((1,), (3, 7), (50,)):
            patch.setattr(large_json, "_WINDOWS", windows)
            assert decode_in_pieces(text) == expected


BROKEN = [
    b"",
    b"[",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b'{"a"',
    b'{"a":',
    b'{"a":1,',
    b'{"a":1,}',
    b'{"a" 1}',
    b"{a:1}",
    b"{1:1}",
    b"[1 2]",
    b"[1] 2",
    b'"abc',
    b'"a\x01b"',
    b'"\\x"',
    b'"\\u12"',
    b'"\\ud800"',
    b'"\\ud800x"',
    b'"\\udc00"',
    b"[NaN]",
    b"[Infinity]",
    b"[-Infinity]",
    b"[nul]",
    b'"\xff"',
    b"[1}",
    b'{"a":1]',
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_an_error(text, small_windows):
    with pytest.raises(ValueError):
        decode_in_pieces(b"[" + b"1," * 20 + text + b"]" if text else text)


def test_endless_nesting_is_an_error():
    with pytest.raises((ValueError, RecursionError)):
        decode_in_pieces(b"[" * 500_000)


def test_a_number_at_the_end_of_a_window_is_whole(monkeypatch):
    monkeypatch.setattr(large_json, "_WINDOWS", (4,))
    assert decode_in_pieces(b"[123456.5e3, 1234, 12345]") == [123456500.0, 1234, 12345]


async def test_cancelling_stops_the_thread():
    text = json.dumps([[n, "x" * 50] for n in range(50_000)]).encode()
    with trio.move_on_after(0.01) as scope:
        await decode_large(text)
    assert scope.cancelled_caught
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


def answering(result):
    async def answer(_):
        await trio.lowlevel.checkpoint()
        return result

    return {"tools/call": answer}


ROWS = [{"id": n, "name": f"row {n}", "value": n / 3} for n in range(20_000)]


async def test_a_large_result_is_what_the_server_sent():
    result = {
        "content": [{"type": "text", "text": "zoë \\ \n" * 50_000}, {"type": "hologram"}],
        "structuredContent": {"rows": ROWS, "none": None},
        "isError": None,
    }
    assert len(json.dumps(result)) > LARGE
    async with wired(answers=answering(result), hold=()) as (client, _):
        found = await client.call_tool("x")
    assert found.text == "zoë \\ \n" * 50_000
    assert found.structured_content == {"rows": ROWS, "none": None}
    assert not found.is_error


async def test_a_large_result_of_another_shape_is_told():
    async with wired(answers=answering({"content": "x" * LARGE}), hold=()) as (client, _):
        with pytest.raises(ProtocolViolation):
            await client.call_tool("x")


@pytest.mark.parametrize(
    "value",
    [
        [{"id": n, "name": f"row number {n}"} for n in range(200_000)],
        "zoë \\ \n" * 1_000_000,
        {f"key {n}": {"deep": [n] * 3} for n in range(50_000)},
        [["x" * 100_000] * 40] * 3,
    ],
    ids=["rows", "text", "object", "strings"],
)
def test_no_step_takes_long(value):
    text = json.dumps(value).encode()
    # A pass of the garbage collector is over the heap of all tests.
    gc.collect()
    gc.disable()
    try:
        steps = [time.thread_time()]
        found = decode_in_pieces(text, poll=lambda: steps.append(time.thread_time()))
        steps.append(time.thread_time())
    finally:
        gc.enable()
    assert found == value
    # The first step is the decoding of UTF-8. It is the time of this thread, so other programs do not count.
    assert max(later - earlier for earlier, later in itertools.pairwise(steps)) < 0.05


async def test_the_loop_goes_on_while_a_large_text_is_decoded():
    text = json.dumps([{"id": n, "name": f"row number {n}"} for n in range(100_000)]).encode()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await decode_large(text)
        nursery.cancel_scope.cancel()
    assert turns > 3
