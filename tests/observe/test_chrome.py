"""The trace for Perfetto: tracks, times and names, by example."""

from __future__ import annotations

import json
from typing import Any

from clawft_trio.observe import Mark, Span, SpanTree, chrome_trace


def span(kind: str, name: str, start: float, end: float | None, **fields: Any) -> Span:
    return Span(kind=kind, name=name, start=start, end=end, **{"status": "ok", **fields})  # type: ignore[arg-type]


def events(tree: SpanTree, phase: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(chrome_trace(tree))["traceEvents"] if event["ph"] == phase]


def test_times_are_microseconds_since_the_first_event_and_overlapping_spans_have_tracks_of_their_own() -> None:
    attempts = [
        span("attempt", "a/one", 11.0, 13.0, role="first"),
        span("attempt", "b/two", 12.0, 15.0, role="hedge", marks=[Mark(name="note", at=12.5)]),
    ]
    turn = span(
        *("turn", "turn s", 10.0, 20.0),
        children=[
            span("call", "b/two", 11.0, 15.0, children=attempts),
            span("tool", "read", 15.0, 16.0),
            span("tool", "write", 15.5, None, status="open"),
        ],
    )
    tree = SpanTree(roots=(turn,), start=10.0, end=21.0)
    assert [(one["name"], one["pid"], one["tid"], one["ts"], one["dur"]) for one in events(tree, "X")] == [
        ("turn s", 1, 0, 0, 10e6),
        ("b/two", 1, 0, 1e6, 4e6),
        ("a/one", 1, 0, 1e6, 2e6),
        ("hedge b/two", 1, 1, 2e6, 3e6),
        # It begins when the call ends, so it has the same track.
        ("read", 1, 0, 5e6, 1e6),
        ("write", 1, 1, 5.5e6, 5.5e6),
    ]
    assert [(one["name"], one["pid"], one["tid"], one["ts"], one["s"]) for one in events(tree, "i")] == [
        ("note", 1, 1, 2.5e6, "p")
    ]
    assert [(one["name"], one["pid"], one["tid"], one["args"]["name"]) for one in events(tree, "M")] == [
        ("process_name", 1, 0, "turn s"),
        ("thread_name", 1, 0, "1"),
        ("thread_name", 1, 1, "2"),
    ]


def test_each_turn_is_a_process_and_what_belongs_to_none_is_the_first() -> None:
    roots = (span("turn", "turn a", 1.0, 2.0), span("turn", "turn b", 1.0, 2.0))
    tree = SpanTree(roots=roots, marks=(Mark(name="bus_pressure", at=1.25),), start=1.0, end=2.0)
    named = [one for one in events(tree, "M") if one["name"] == "process_name"]
    assert [(one["pid"], one["tid"], one["args"]["name"]) for one in named] == [
        (1, 0, "turn a"),
        (2, 0, "turn b"),
        (0, 0, "everything else"),
    ]
    assert [(one["pid"], one["tid"], one["ts"]) for one in events(tree, "i")] == [(0, 0, 0.25e6)]


def test_a_time_has_three_digits_of_a_microsecond() -> None:
    tree = SpanTree(roots=(span("turn", "turn a", 0.0000123456789, 1.0),), start=0.0, end=1.0)
    assert [one["ts"] for one in events(tree, "X")] == [12.346]
