"""Recordings: written as lines, read back as events."""

from __future__ import annotations

import io
import json
import math
import os
import resource
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from observe.turns import play

from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.errors import InvalidData, ServerError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import (
    AttemptEnded,
    Event,
    MessageDropped,
    Noted,
    RecordedError,
    RoundEnded,
    ServerOutput,
    ToolProgress,
    Undeliverable,
    events,
    open_recording,
    read_recording,
    recording,
    spans_of,
)
from clawft_trio.observe.recording import LONGEST_LINE, recorded_line
from clawft_trio.testing import cancel_everywhere

HEADER = b'{"recording":1,"wall":1.5,"at":2.0}\n'

names = st.text(max_size=8)
times = st.floats(0, 1e9)
errors = st.builds(RecordedError, names, names)
latencies = st.builds(Latency, total=times, queued=times, first_byte=st.none() | times, first_content=st.none())
usages = st.builds(Usage, input_tokens=st.integers(0, 10**9))
records = st.builds(
    AttemptRecord,
    target=names,
    outcome=st.sampled_from(["ok", "failed", "cancelled", "aborted"]),
    started=times,
    latency=latencies,
    usage=st.none() | usages,
    certainty=st.sampled_from([None, "exact", "at_least"]),
)
inbound = st.builds(
    InboundMessage,
    channel=names,
    sender_id=names,
    chat_id=names,
    content=names,
    media=st.just(()),
    metadata=st.just({}),
)
outbound = st.builds(
    OutboundMessage, channel=names, chat_id=names, content=names, media=st.just(()), metadata=st.just({})
)

KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
#: where hypothesis cannot know from the type what comes back as it was
VALUES = {
    float: times,
    float | None: st.none() | times,
    str: names,
    BaseException: errors,
    BaseException | None: st.none() | errors,
    AttemptRecord: records,
    Latency: latencies,
    Decimal | None: st.none() | st.decimals(0, 1000, places=6),
    InboundMessage | OutboundMessage: inbound | outbound,
    OutboundMessage: outbound,
    Mapping[str, int]: st.dictionaries(names, st.integers(0, 9), max_size=2),
    Mapping[str, Any]: st.dictionaries(names, names | st.integers(0, 9) | st.booleans(), max_size=2),
    dict[str, Any]: st.dictionaries(names, names | st.integers(0, 9) | st.booleans(), max_size=2),
}


def fields_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    types = get_type_hints(kind)
    fields = {field.name: types[field.name] for field in attrs.fields(kind)}
    return st.builds(kind, **{name: VALUES[of] if of in VALUES else st.from_type(of) for name, of in fields.items()})


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(KINDS).flatmap(fields_of), max_size=3))
def test_every_event_comes_back_as_it_was(told: list[Event]) -> None:
    lines = [recorded_line(event, texts=True, redact=str) for event in told]
    assert read_recording([HEADER, *lines]).events == tuple(told)


def test_errors_come_back_as_class_and_message() -> None:
    record = AttemptRecord(
        target="a/one", outcome="failed", started=1.0, latency=Latency(), error=ServerError("down", status=500)
    )
    ended = read_recording([HEADER, recorded_line(AttemptEnded(at=1.0, record=record))]).events[0]
    assert isinstance(ended, AttemptEnded)
    assert ended.record.error == RecordedError("ServerError", "down (500)")


async def test_a_troubled_turn_gives_the_same_tree_from_its_recording(tmp_path: Path, autojump_clock: object) -> None:
    async with open_recording(
        tmp_path / "turn.jsonl", grace=math.inf, now=lambda: datetime.fromtimestamp(1.5, UTC)
    ) as record:
        seen = await play(record)
    with (tmp_path / "turn.jsonl").open("rb") as file:
        back = read_recording(file)
    assert (len(back.events), back.cut, back.header.wall) == (len(seen.events), False, 1.5)

    def tree(events: object) -> list[object]:
        told = spans_of(events, texts=True)
        return [(s.kind, s.name, s.role, s.start, s.end, s.status, [m.name for m in s.marks]) for s in told.walk()]

    assert tree(back.events) == tree(seen.events)


def test_texts_are_not_recorded_unless_requested() -> None:
    message = OutboundMessage(channel="c", chat_id="1", content="my diagnosis", metadata={"x": "my diagnosis"})
    told = Undeliverable(at=1.0, message=message)
    assert b"diagnosis" not in recorded_line(told)
    assert b"diagnosis" in recorded_line(told, texts=True)


def test_what_is_in_a_note_is_recorded_whatever_it_is() -> None:
    endless: dict[str, object] = {}
    endless["self"] = endless
    note = Noted(
        at=1.0, component="r", what="w", details={"endless": endless, "object": object(), "error": ValueError("x")}
    )
    back = read_recording([HEADER, recorded_line(note)]).events[0]
    assert isinstance(back, Noted)
    assert back.details["object"] == "object"
    assert back.details["error"] == {"error": "ValueError", "message": "x"}


def test_containers_in_a_note_keep_their_values_down_to_the_eighth_level() -> None:
    def nested(levels: int) -> object:
        return "end" if levels == 0 else [nested(levels - 1)]

    details = {
        "list": [1, (2.5, True, None), {"x"}, frozenset({"y"})],
        "map": {1: Decimal("0.10"), "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "errors": [ValueError("x")]},
        "six": nested(6),
        "seven": nested(7),
    }
    back = read_recording([HEADER, recorded_line(Noted(at=1.0, component="r", what="w", details=details))]).events[0]
    assert isinstance(back, Noted)
    assert back.details["list"] == [1, [2.5, True, None], ["x"], ["y"]]
    assert back.details["map"] == {
        "1": "0.10",
        "when": "2026-01-02T03:04:05+00:00",
        "errors": [{"error": "ValueError", "message": "x"}],
    }
    assert back.details["six"] == nested(6)
    # The event and the note's own map are the first two levels.
    assert json.dumps(back.details["seven"]) == '[[[[[["list"]]]]]]'


def test_a_line_is_never_longer_than_what_is_read() -> None:
    page = "x" * 3_000_000
    said = Noted(at=1.0, component="r", what=page, details={str(n): page for n in range(300)}, turn_id="t")
    lines = [recorded_line(said), recorded_line(attrs.evolve(said, details={}))]
    assert len(recorded_line(attrs.evolve(said, turn_id=page, call_id=page))) <= LONGEST_LINE
    assert max(map(len, lines)) <= LONGEST_LINE
    large, cut = read_recording([HEADER, *lines]).events
    assert (large.what, large.details, large.turn_id) == ("event too large to record", {"event": "noted"}, "t")
    assert (len(cut.what), cut.what[-1]) == (8192, "…")


@pytest.mark.parametrize(("longer", "whole"), [(0, True), (1, False)])
def test_a_line_may_have_exactly_a_megabyte_when_it_is_written_and_read(longer: int, whole: bool) -> None:
    assert LONGEST_LINE == 1 << 20
    note = Noted(at=1.0, component="r", what="w", details={str(n): "x" * 8000 for n in range(130)} | {"last": ""})
    missing = LONGEST_LINE - len(recorded_line(note)) + longer
    line = recorded_line(attrs.evolve(note, details={**note.details, "last": "x" * missing}))
    assert (len(line) == LONGEST_LINE, b"too large" in line) == (whole, not whole)
    short = recorded_line(attrs.evolve(note, details={})).rstrip(b"\n")
    padded = short + b" " * (LONGEST_LINE - len(short) - 1 + longer) + b"\n"
    if whole:
        assert len(read_recording([HEADER, padded]).events) == 1
    else:
        with pytest.raises(InvalidData, match="line 2: longer than"):
            read_recording([HEADER, padded])


def test_halves_of_characters_do_not_cost_the_event() -> None:
    note = Noted(at=1.0, component="r\ud800", what="w", details={"\udcff": "\udcff", "error": ValueError("\udcff")})
    back = read_recording([HEADER, recorded_line(note)]).events[0]
    assert isinstance(back, Noted)
    assert (back.component, back.details["?"]) == ("r?", "?")


def test_a_last_line_that_was_only_begun_is_left_out() -> None:
    line = recorded_line(RoundEnded(at=1.0, ending="ok", sender="", answered_by="a/one", latency=Latency()))
    back = read_recording([HEADER, line, line[:40]])
    assert (len(back.events), back.cut) == (1, True)


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ([], "line 1: empty"),
        ([b'{"some": "json"}\n'], "line 1: $.recording"),
        ([b'{"recording": 7}\n'], "line 1: $.recording: version 7"),
        ([b'{"recording":1,"wall":"x","at":1}\n'], "line 1: $.wall"),
        ([HEADER, b"nonsense\n"], "line 2: $"),
        ([HEADER, b"[]\n"], "line 2: $: expected an object"),
        ([HEADER, b'{"event":"from_the_future"}\n'], "line 2: $.event"),
        ([HEADER, b'{"event":["x"]}\n'], "line 2: $.event"),
        ([HEADER, b'{"event":"attempt_started","at":true,"target":"a"}\n'], "line 2: $.at"),
        ([HEADER, b'{"event":"attempt_started","at":1}\n'], "line 2: $.target"),
        ([HEADER, b'{"event":"message_dropped","at":1,"queue":"q","policy":"p","message":7}\n'], "line 2: $.message"),
        ([HEADER, b'{"event":"failed_over","at":1,"failed":"a","target":"b","error":3}\n'], "line 2: $.error"),
        ([HEADER, b" " * LONGEST_LINE + b"\n"], "line 2: longer than"),
    ],
)
def test_what_is_not_a_recording_is_refused_with_its_place(lines: list[bytes], where: str) -> None:
    with pytest.raises(InvalidData) as caught:
        read_recording(lines, source="x.jsonl")
    assert where in str(caught.value)
    assert str(caught.value).startswith("x.jsonl: ")


async def test_a_recording_is_on_disk_before_it_ends_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    async with open_recording(path) as record:
        record(Noted(at=1.0, component="test", what="one"))
        with trio.fail_after(5):
            while record.statistics().delivered < 1:
                await trio.sleep(0.01)
        assert len(read_recording(path.read_bytes().splitlines(keepends=True)).events) == 1
    assert path.stat().st_mode & 0o077 == 0


async def test_a_line_that_the_disk_has_no_room_for_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def note(what: str, count: int) -> None:
        record(Noted(at=1.0, component="test", what=what))
        with trio.fail_after(5):
            while record.statistics().delivered + record.statistics().failed < count:
                await trio.sleep(0.01)

    async with open_recording(path) as record:
        await note("before", 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, hard))
        try:
            await note("lost", 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await note("after", 3)
    with path.open("rb") as file:
        assert [one.what for one in read_recording(file).events if isinstance(one, Noted)] == ["before", "after"]


class Watched(io.BytesIO):
    """A file that records how much of a line is read at once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.sizes: set[int | None] = set()

    def readline(self, size: int | None = -1, /) -> bytes:
        self.sizes.add(size)
        return super().readline(size)

    def __next__(self) -> bytes:
        return self.readline()


def test_a_line_of_any_length_is_not_read_into_memory() -> None:
    file = Watched(b'{"recording": 1, "wall": 1.0, "at": 1.0}\n' + b"x" * (3 * LONGEST_LINE))
    with pytest.raises(InvalidData, match="line 2: longer than"):
        read_recording(file)
    assert file.sizes == {LONGEST_LINE + 1}


async def test_a_path_that_cannot_be_written_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with open_recording(tmp_path / "no" / "where.jsonl"):
            pass


async def test_cancelled_anywhere_a_recording_is_closed_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    async def operation() -> None:
        async with open_recording(path) as record:
            record(Noted(at=1.0, component="test", what="one"))
            await trio.lowlevel.checkpoint()
            record(Noted(at=2.0, component="test", what="two"))

    async def check() -> None:
        if path.exists() and path.stat().st_size:
            assert read_recording(path.read_bytes().splitlines(keepends=True)).cut is False
            path.unlink()

    assert await cancel_everywhere(operation, check, limit=200) > 3


def test_lines_are_json() -> None:
    note = MessageDropped(
        at=1.0, queue="q", policy="p", message=InboundMessage(channel="c", sender_id="s", chat_id="1", content="x")
    )
    assert json.loads(recorded_line(note))["message"]["sender_id"] == "s"


def test_a_note_recorded_under_its_old_key_is_read() -> None:
    line = b'{"event": "noted", "at": 1.0, "room": "agent", "what": "turn failed", "details": {}}\n'
    (back,) = read_recording([b'{"recording": 1, "wall": 0.0, "at": 0.0}\n', line]).events
    assert back == Noted(at=1.0, component="agent", what="turn failed")


@pytest.mark.parametrize(
    ("event", "hidden"),
    [
        (ServerOutput(at=1.0, server="s", text="my diagnosis"), "text"),
        (ToolProgress(at=1.0, tool="x", tool_call_id="c", done=0.5, message="my diagnosis"), "message"),
    ],
    ids=["output", "progress"],
)
def test_what_servers_and_tools_write_is_not_recorded_unless_requested(event: Event, hidden: str) -> None:
    assert read_recording([HEADER, recorded_line(event)]).events == (attrs.evolve(event, **{hidden: ""}),)
    assert read_recording([HEADER, recorded_line(event, texts=True)]).events == (event,)


def test_a_recording_without_events_is_whole() -> None:
    assert read_recording([HEADER]) == read_recording([HEADER])
    assert (read_recording([HEADER]).events, read_recording([HEADER]).cut) == ((), False)


def test_more_events_than_a_recording_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_EVENTS", 3)
    line = recorded_line(Noted(at=1.0, component="x", what="y"))
    assert len(read_recording([HEADER, *[line] * 3]).events) == 3
    with pytest.raises(InvalidData, match="line 5: more than 3 events"):
        read_recording([HEADER, *[line] * 4])


CHARGED = {"event": "charged", "at": 1.0, "sender": "a", "target": "p/m", "input_tokens": 1, "output_tokens": 1,
           "certainty": "exact"}  # fmt: skip


@pytest.mark.parametrize("cost", ["0.25", "-1E+3", "1" * 20 + "." + "1" * 20])
def test_an_amount_is_read_as_it_was_written(cost: str) -> None:
    (event,) = read_recording([HEADER, json.dumps(CHARGED | {"cost": cost}).encode() + b"\n"]).events
    assert event.cost == Decimal(cost)


@pytest.mark.parametrize("cost", [0.25, 1, "NaN", "", "1" * 21, "1E9999", "0x1", ["1"]])
def test_what_is_no_amount_is_refused(cost: object) -> None:
    with pytest.raises(InvalidData, match=r"line 2: \$\.cost"):
        read_recording([HEADER, json.dumps(CHARGED | {"cost": cost}).encode() + b"\n"])


@pytest.mark.parametrize("error", [3, [], {}, {"error": "X"}, {"message": "x"}, {"error": 3, "message": "x"}])
def test_what_is_no_error_is_refused(error: object) -> None:
    line = {"event": "failed_over", "at": 1, "failed": "a", "target": "b", "error": error}
    with pytest.raises(InvalidData, match=r"line 2: \$\.error"):
        read_recording([HEADER, json.dumps(line).encode() + b"\n"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
async def test_a_pipe_without_a_reader_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        async with open_recording(tmp_path / "pipe"):
            pass


@pytest.mark.parametrize(("length", "shown"), [(16_384, "***"), (16_385, "…")])
def test_of_a_long_text_a_word_that_may_go_on_is_left_out(length: int, shown: str) -> None:
    line = recorded_line(Noted(at=1.0, component="r", what="sk-" + "x" * (length - 3)))
    assert json.loads(line)["what"] == shown
