"""The log of one response: bounded, and whoever comes back gets exactly what is missing."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import wait_all_tasks_blocked

from clawft_trio.mcp.server.event_stream import EventStream

messages = st.lists(st.binary(min_size=1, max_size=120) | st.binary(min_size=1, max_size=20), max_size=40)


def stream(**kwargs):
    return EventStream("s", **{"max_events": 8, "max_bytes": 100, **kwargs})


@given(messages)
def test_the_log_is_bounded_and_keeps_the_last_message(sent):
    log = stream()
    for message in sent:
        log.put(message)
    # The longest end of the log that fits, and the last message whatever its size.
    ends = [sent[start:] for start in range(len(sent))]
    fitting = [end for end in ends if len(end) <= 8 and sum(map(len, end)) <= 100]
    kept = (fitting or ends[-1:] or [[]])[0]
    assert [message for _, message in log._events] == kept
    assert (len(log), log.size, log.last) == (len(kept), sum(map(len, kept)), len(sent))


@given(messages, st.integers(0, 45))
def test_a_reader_gets_what_is_kept_behind_its_number(sent, after):
    async def read():
        log = stream()
        for message in sent:
            log.put(message)
        kept = list(log._events)
        log.finish()
        got = await log.read(log.attach(), after)
        assert got == [event for event in kept if event[0] > after]
        # The same again: what was read is kept.
        assert await log.read(log.attach(), after) == got

    trio.run(read)


async def test_what_was_read_is_dropped_when_nobody_can_come_back():
    log = stream(replay=False)
    log.put(b"one")
    log.put(b"two")
    reader = log.attach()
    assert [message for _, message in await log.read(reader, 0)] == [b"one", b"two"]
    assert (len(log), log.size) == (0, 0)
    log.put(b"three")
    assert await log.read(reader, 2) == [(3, b"three")]


async def test_a_displaced_reader_gets_nothing_more():
    log = stream()
    got = []

    async def read(name):
        got.append((name, await log.read(log.attach(), 0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "old")
        await wait_all_tasks_blocked()
        nursery.start_soon(read, "new")
        await wait_all_tasks_blocked()
        assert got == [("old", [])]
        log.put(b"x")
    assert got[1] == ("new", [(1, b"x")])


async def test_the_same_notification_is_queued_once_until_it_is_read():
    log = stream()
    log.put_once(b"changed")
    log.put_once(b"changed")
    assert log.last == 1
    await log.read(log.attach(), 0)
    log.put_once(b"changed")
    assert log.last == 2


async def test_after_the_end_nothing_is_added():
    log = stream()
    log.finish()
    log.put(b"late")
    assert len(log) == 0
    assert await log.read(log.attach(), 0) == []


@pytest.mark.parametrize("wake", ["put", "finish", "detach"])
async def test_waiting_for_anything_ends_with_any_of_it(wake):
    log = stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.wait_any)
        await wait_all_tasks_blocked()
        {"put": lambda: log.put(b"x"), "finish": log.finish, "detach": log.detach}[wake]()
