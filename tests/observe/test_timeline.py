"""The page, the picture and the trace."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import trio
from hypothesis import given, settings, strategies as st
from observe.turns import play

from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.messages import OutboundMessage
from clawft_trio.observe import (
    AttemptEnded,
    Event,
    MessageDropped,
    Noted,
    Recorder,
    ServerStarted,
    SpanTree,
    ToolEnded,
    TurnEnded,
    TurnStarted,
    chrome_trace,
    spans_of,
    timeline_html,
    timeline_svg,
)
from clawft_trio.observe.timeline import MOST_ROWS, nice_step
from clawft_trio.observe.timeline_rows import rows_of, seconds, summary

SVG = "{http://www.w3.org/2000/svg}"


def troubled() -> SpanTree:
    async def main() -> Recorder:
        return await play()

    seen = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return spans_of(seen.events)


@pytest.fixture(scope="module")
def tree() -> SpanTree:
    return troubled()


def tools(number: int) -> SpanTree:
    events: list[Event] = [TurnStarted(at=0.0, session="s", sender="a", message_id="m", turn_id="t")]
    events += [
        ToolEnded(at=n + 1.0, tool=f"tool_{n}", tool_call_id=f"c{n}", turn_id="t", outcome="ok", duration=1.0)
        for n in range(number)
    ]
    events.append(
        TurnEnded(at=number + 1.0, session="s", message_id="m", outcome="ok", duration=number + 1.0, turn_id="t")
    )
    return spans_of(events)


class Page(HTMLParser):
    """What a browser would fetch, and whether the page is closed as it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[tuple[str, str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [(tag, value or "") for name, value in attributes if name in {"src", "href", "xlink:href"}]
        assert not [name for name, _ in attributes if name.startswith("on")]


def read(page: str) -> Page:
    parsed = Page()
    parsed.feed(page)
    return parsed


def picture(page: str) -> ET.Element:
    return ET.fromstring(page)


def test_each_thing_that_ran_has_a_row_and_every_mark_its_place(tree: SpanTree) -> None:
    drawn = picture(timeline_svg(tree))
    rows = [group for group in drawn.iter(f"{SVG}g") if "row" in group.get("class", "").split()]
    named = [next(text for text in row.iter(f"{SVG}text") if text.get("class") == "name") for row in rows]
    assert ["".join(text.itertext()) for text in named] == [
        "turn local:ana",
        "call b/two",
        "a/one",
        "retry a/one",
        "failover b/two",
        "weather",
        "broken",
        "alone",
        "call b/two",
        "a/one",
        "hedge b/two",
    ]
    kinds = [group.get("class", "").split()[-1] for group in drawn.iter(f"{SVG}g") if "mark" in group.get("class", "")]
    assert sorted(kinds) == ["failover", "hedge", "note", "reset", "retry"]


def test_bars_are_where_their_times_are(tree: SpanTree) -> None:
    drawn = picture(timeline_svg(tree))
    times = {(bar.get("data-a"), bar.get("data-b")) for bar in drawn.iter(f"{SVG}rect") if bar.get("data-a")}
    assert {("0", "14.5"), ("2", "3"), ("3", "5"), ("12.5", "14.5"), ("7", "7.5"), ("5", "7")} <= times
    for bar in drawn.iter(f"{SVG}rect"):
        if bar.get("data-a"):
            a, b = float(bar.get("data-a", "")), float(bar.get("data-b", ""))
            per_second = (1200 - 300 - 24) / 14.5
            assert float(bar.get("x", "")) == pytest.approx(300 + a * per_second, abs=0.02)
            assert float(bar.get("width", "")) == pytest.approx(max((b - a) * per_second, 2), abs=0.02)


def test_the_details_contain_every_field_and_the_reason(tree: SpanTree) -> None:
    details = "\n".join(row.details for row in rows_of(tree, wall=0.0))
    for said in (
        "hedge lost",
        "ServerError",
        "500",
        "retry scheduled",
        "00:00:12.500 (+12.5 s)",
        "first content",
        "ToolFailed",
    ):
        assert said in details
    assert summary(tree) == [
        "14.5 s in all",
        "1 turn",
        "2 model calls",
        "5 attempts (2 failed)",
        "3 tool calls (1 failed)",
        "200 tokens in, 40 out",
    ]


def test_the_page_is_one_file_that_fetches_nothing(tree: SpanTree) -> None:
    page = read(timeline_html(tree, title="a turn"))
    assert page.fetched == []
    assert page.tags.count("script") == 1
    source = timeline_html(tree)
    assert "default-src 'none'" in source
    assert not re.search(r"(?:url\(|@import|fetch\(|https?://(?!www\.w3\.org/))", source.replace("url(#", ""))


EVIL = "<script>alert(1)</script>\"'&]]>\x00\x1b\ud800 {title}"


def test_nothing_in_an_event_becomes_markup_or_breaks_the_picture() -> None:
    record = AttemptRecord(target=EVIL, outcome="failed", started=0.0, latency=Latency(total=1.0), error=OSError(EVIL))
    tree = spans_of(
        [
            TurnStarted(at=0.0, session=EVIL, sender=EVIL, message_id="m", turn_id="t"),
            AttemptEnded(at=1.0, record=record, call_id="c", turn_id="t"),
            Noted(at=1.0, component=EVIL, what=EVIL, details={EVIL: [EVIL]}),
            ServerStarted(at=0.0, server=EVIL, protocol=EVIL),
        ],
        texts=True,
    )
    page = timeline_html(tree, title=EVIL)
    assert read(page).tags.count("script") == 1
    assert "<script>alert" not in page
    picture(timeline_svg(tree))
    page.encode()
    json.loads(chrome_trace(tree))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40), st.floats(0, 1e6), st.floats(0, 1e6))
def test_any_name_and_any_times_give_a_picture(name: str, start: float, length: float) -> None:
    ended = ToolEnded(at=start + length, tool=name, tool_call_id="c", turn_id="t", outcome="error", duration=length)
    picture(timeline_svg(spans_of([ended])))


@pytest.mark.parametrize(("rows", "height"), [(3, 24), (120, 18), (300, 15)])
def test_rows_are_lower_where_there_are_more(rows: int, height: int) -> None:
    drawn = picture(timeline_svg(tools(rows - 1)))
    assert drawn.get("data-row") == str(height)
    backs = [rect for rect in drawn.iter(f"{SVG}rect") if rect.get("class") == "back"]
    assert len(backs) == rows


def test_rows_above_the_limit_are_left_out_with_a_note() -> None:
    page = timeline_svg(tools(MOST_ROWS + 6))
    assert "… and 7 more rows" in page


def test_events_of_no_turn_have_a_separate_row() -> None:
    dropped = MessageDropped(
        at=1.0, queue="in", policy="drop_oldest", message=OutboundMessage(channel="c", chat_id="1", content="private")
    )
    drawn = timeline_svg(spans_of([dropped, dropped]))
    assert "outside of turns" in drawn
    assert drawn.count('class="mark drop"') == 2
    assert "private" not in drawn


def test_no_events_give_a_picture_too() -> None:
    picture(timeline_svg(spans_of([])))
    assert json.loads(chrome_trace(spans_of([])))["traceEvents"] == []


@settings(deadline=None, max_examples=100)
@given(st.floats(1e-9, 1e9))
def test_steps_of_the_axis_are_round_and_few(about: float) -> None:
    step = nice_step(about)
    assert about * 0.999 <= step <= about * 10.001
    assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("duration", "said"),
    [
        (0.0, "0 s"),
        (0.0000415, "42 µs"),
        (0.041, "41 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1 s"),
        (1.25, "1.25 s"),
        (725.0, "12 min 5 s"),
    ],
)
def test_durations_as_people_write_them(duration: float, said: str) -> None:
    assert seconds(duration) == said


def test_the_trace_for_perfetto_nests_and_loses_nothing(tree: SpanTree) -> None:
    events = json.loads(chrome_trace(tree))["traceEvents"]
    bars = [event for event in events if event["ph"] == "X"]
    assert len(bars) == len(list(tree.walk()))
    assert {bar["name"] for bar in bars} >= {
        "turn local:ana",
        "retry a/one",
        "failover b/two",
        "hedge b/two",
        "weather",
    }
    retry = next(bar for bar in bars if bar["name"] == "retry a/one")
    assert (retry["ts"], retry["dur"], retry["cat"]) == (2e6, 1e6, "attempt,failed")
    marks = [event["name"] for event in events if event["ph"] == "i"]
    assert sorted(marks) == ["failed_over", "hedge_started", "retracted", "retry_scheduled", "routed"]
    for one in bars:
        for other in bars:
            if one is not other and (one["pid"], one["tid"]) == (other["pid"], other["tid"]):
                _apart_or_inside(one, other)


def _apart_or_inside(one: dict[str, float], other: dict[str, float]) -> None:
    a, b, c, d = one["ts"], one["ts"] + one["dur"], other["ts"], other["ts"] + other["dur"]
    assert b <= c or d <= a or (a <= c and d <= b) or (c <= a and b <= d)


def test_each_row_is_reached_by_keyboard_and_has_a_role_and_a_name(tree: SpanTree) -> None:
    page = timeline_html(tree)
    rows = re.findall(r'<g class="row [^>]*>', page)
    assert len(rows) >= len(rows_of(tree))
    for row in rows:
        assert 'tabindex="0" role="button"' in row
        assert re.search(r'aria-label="[^"]+: [^"]+"', row), row
    assert 'role="group" aria-label="timeline: ' in page
    assert 'role="img"' in timeline_svg(tree)


def test_the_legend_explains_each_colour_and_pattern_that_is_there(tree: SpanTree) -> None:
    legend = timeline_html(tree).partition('<p class="legend">')[2].partition("</p>")[0]
    meanings = {
        "turn": "turn", "call": "call of a model", "tool": "tool", "server": "MCP server",
        "request": "request to an MCP server",
    }  # fmt: skip
    for row in rows_of(tree):
        words = {"failed": "failed", "cancelled": "cancelled", "open": "not ended"}.get(row.status, "")
        assert (words or meanings.get(row.span.kind, "")) in legend


def test_a_server_that_runs_on_is_not_drawn_as_unfinished() -> None:
    started = ServerStarted(server="files", protocol="2025-11-25", at=1.0)
    tree = spans_of([started, Noted(component="x", what="y", at=5.0)])
    row = next(row for row in rows_of(tree) if row.span.kind == "server")
    assert (row.status, row.trouble, row.note) == ("running", False, "4 s, runs on")
    assert 'class="row server running"' in timeline_svg(tree)


def test_the_details_are_beside_the_rows(tree: SpanTree) -> None:
    page = timeline_html(tree)
    assert "position: fixed" not in page
    assert page.index("</main>") < page.index('<aside hidden aria-label="details">')
    assert "@media (max-width: 499px)" in page
