"""The texts of a timeline's rows, by table."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.errors import ServerError
from clawft_trio.observe import SpanTree
from clawft_trio.observe.spans import Mark, Span
from clawft_trio.observe.timeline_rows import Row, mark_counts, mark_details, rows_of, seconds, summary


def span(kind: str, name: str, start: float = 0.0, end: float | None = 1.0, **fields: Any) -> Span:
    return Span(kind=kind, name=name, start=start, end=end, **{"status": "ok", **fields})  # type: ignore[arg-type]


def tree(*roots: Span, start: float = 0.0, end: float = 10.0) -> SpanTree:
    return SpanTree(roots=roots, start=start, end=end)


def row(one: Span) -> Row:
    return rows_of(tree(one))[0]


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (-1.0, "0 s"),
        (0.0, "0 s"),
        (0.000001, "1 µs"),
        (0.000499, "499 µs"),
        (0.0005, "0.5 ms"),
        (0.9994, "999 ms"),
        (0.9995, "1 s"),
        (119.0, "119 s"),
        (119.9, "120 s"),
        (120.0, "2 min 0 s"),
        (725.0, "12 min 5 s"),
    ],
)
def test_a_duration_changes_its_unit_at_its_limit(duration: float, text: str) -> None:
    assert seconds(duration) == text


ERROR = ServerError("down", status=500)


@pytest.mark.parametrize(
    ("one", "note", "label", "trouble"),
    [
        (span("tool", "look"), "1 s", "tool look: 1 s", False),
        (span("call", "call"), "1 s", "call: 1 s", False),
        (span("call", "a/m"), "1 s", "call a/m: 1 s", False),
        (span("attempt", "a/m", role="first"), "1 s", "attempt a/m: 1 s", False),
        (span("attempt", "a/m", role="retry"), "1 s", "retry attempt a/m: 1 s", True),
        (span("attempt", "a/m", role="failover"), "1 s", "failover attempt a/m: 1 s", True),
        (span("attempt", "a/m", role="hedge"), "1 s", "hedge attempt a/m: 1 s", True),
        (
            span("attempt", "a/m", status="failed", error=ERROR, attributes={"error_status": 500}),
            "1 s, ServerError 500",
            "attempt a/m: 1 s, ServerError 500, failed",
            True,
        ),
        (
            span("attempt", "a/m", status="failed", error=ERROR),
            "1 s, ServerError",
            "attempt a/m: 1 s, ServerError, failed",
            True,
        ),
        (span("tool", "x", status="failed"), "1 s, failed", "tool x: 1 s, failed", True),
        (span("tool", "x", status="cancelled"), "1 s, cancelled", "tool x: 1 s, cancelled", True),
        (
            span("tool", "x", status="cancelled", attributes={"why": "hedge lost"}),
            "1 s, cancelled: hedge lost",
            "tool x: 1 s, cancelled: hedge lost",
            True,
        ),
        (
            span("tool", "x", status="aborted"),
            "1 s, stopped by its reader",
            "tool x: 1 s, stopped by its reader, aborted",
            False,
        ),
        (span("tool", "x", end=None, status="open"), "10 s, not ended", "tool x: 10 s, not ended, open", True),
        (span("server", "server f", end=None, status="open"), "10 s, runs on", "server f: 10 s, runs on", False),
        (
            span("server", "server f", status="failed", error=ERROR),
            "1 s, ServerError",
            "server f: 1 s, ServerError, failed",
            True,
        ),
    ],
)
def test_a_row_names_its_duration_its_end_and_its_trouble(one: Span, note: str, label: str, trouble: bool) -> None:
    assert (row(one).note, row(one).label, row(one).trouble) == (note, label, trouble)
    assert row(one).thin is (one.kind in {"turn", "server"})


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("retry_scheduled", True),
        ("retracted", True),
        ("failed_over", True),
        ("hedge_started", True),
        ("breaker_changed", True),
        ("routed", False),
        ("noted", False),
    ],
)
def test_a_mark_flags_its_row_as_trouble(name: str, trouble: bool) -> None:
    assert row(span("call", "a/m", marks=[Mark(name=name, at=0.5)])).trouble is trouble


def test_the_details_name_the_marks_the_attributes_that_are_set_and_eight_children() -> None:
    inner = [span("tool", f"tool_{n}", start=float(n), end=n + 0.5) for n in range(8)]
    facts = {"cached_tokens": 0, "cost": 0.123456789, "streamed": False, "models": ["a", "b"], "by": {"x": 1.5}}
    mark = Mark(name="failed_over", at=2.0, attributes={"to_model": "b/m"})
    one = span("turn", "turn s", start=1.0, end=9.0, attributes=facts, marks=[mark], children=inner)
    expected = [
        "turn: turn s",
        "ok, from +1 s for 8 s",
        "cost: 0.123457",
        "streamed: False",
        "models: a, b",
        "by: x 1.5",
        "+2 s  failed over  to model b/m",
        *(f"tool_{n}: 500 ms" for n in range(8)),
    ]
    assert row(one).details.splitlines() == expected
    one.children.append(span("tool", "tool_8"))
    assert row(one).details.splitlines() == [*expected, "… and 1 more"]
    one.role = "retry"
    assert row(one).details.splitlines()[0] == "retry turn: turn s"


def test_times_are_relative_to_the_start_of_the_tree_and_have_a_calendar_time() -> None:
    mark = Mark(name="bus_pressure", at=12.5, attributes={"depth": 3})
    grown = tree(span("turn", "t", start=11.0, end=12.0), start=10.0, end=13.0)
    assert mark_details(mark, grown, None) == "bus pressure at +2.5 s\ndepth 3"
    assert mark_details(mark, grown, 60.25) == "bus pressure at 00:01:02.750 (+2.5 s)\ndepth 3"
    assert mark_details(Mark(name="noted", at=10.0), grown, None) == "noted at +0 s"
    assert rows_of(grown, wall=0.0)[0].details.splitlines()[1] == "ok, from 00:00:01.000 (+1 s) for 1 s"


def attempt(name: str, start: float, end: float | None, **fields: Any) -> Span:
    latency = Latency(total=1.0, first_content=0.25)
    record = AttemptRecord(target=name, outcome="ok", started=start, latency=latency)
    return span("attempt", name, start, end, record=record, **fields)


def test_the_only_attempt_of_a_call_without_marks_is_drawn_in_the_row_of_the_call() -> None:
    pause = span("wait", "wait before retry 1", 0.0, 0.5)
    (one,) = rows_of(tree(span("call", "a/m", 0.0, 2.0, children=[pause, attempt("a/m", 1.0, 2.0)])))
    assert [(part.span.kind, part.start, part.end) for part in one.segments] == [
        ("wait", 0.0, 0.5),
        ("attempt", 1.0, 2.0),
    ]
    assert (one.depth, one.start, one.end, one.first_content) == (0, 0.0, 2.0, 1.25)


@pytest.mark.parametrize(
    "call",
    [
        span("call", "a/m", children=[attempt("a/m", 0.0, 1.0)], marks=[Mark(name="routed", at=0.0)]),
        span("call", "a/m", children=[attempt("a/m", 0.0, 1.0), attempt("b/m", 0.5, 1.0)]),
        span("turn", "t", children=[attempt("a/m", 0.0, 1.0)]),
    ],
)
def test_other_attempts_have_rows_below_that_of_their_call(call: Span) -> None:
    first, *others = rows_of(tree(call))
    assert (first.depth, first.segments, first.first_content) == (0, (), None)
    assert [(one.depth, one.first_content) for one in others] == [(1, child.start + 0.25) for child in call.children]


@pytest.mark.parametrize(
    ("role", "end", "follows"),
    [("retry", 1.0, 1.0), ("hedge", 5.0, 2.0), ("failover", 2.0, 2.0), ("hedge", None, 2.0), ("", 1.0, None)],
)
def test_a_later_attempt_follows_the_one_before_it(role: str, end: float | None, follows: float | None) -> None:
    second = attempt("b/m", 2.0, 3.0, role=role)
    rows = rows_of(tree(span("call", "c", 0.0, 6.0, children=[attempt("a/m", 0.0, end, role="first"), second])))
    assert [one.follows for one in rows] == [None, None, follows]


def test_the_first_attempt_follows_none_whatever_its_role() -> None:
    rows = rows_of(tree(span("turn", "t", children=[attempt("a/m", 0.0, 1.0, role="retry")])))
    assert rows[1].follows is None


def test_an_attempt_without_content_has_no_first_content() -> None:
    one = attempt("a/m", 1.0, 2.0)
    one.record = AttemptRecord(target="a/m", outcome="failed", started=1.0, latency=Latency(total=1.0))
    assert row(one).first_content is None
    assert row(span("attempt", "a/m")).first_content is None


def test_the_summary_counts_what_ran_and_what_it_cost() -> None:
    paid = {"input_tokens": 12_345, "output_tokens": 67, "cost": 0.5, "charged": 0.75}
    roots = [
        span(
            "turn", "t", children=[span("call", "a/m", attributes=paid), span("call", "b/m", attributes={"cost": 0.5})]
        ),
        span("turn", "u", status="failed"),
        span("tool", "x", status="cancelled"),
    ]
    assert summary(tree(*roots, start=1.0, end=3.0)) == [
        "2 s in all",
        "2 turns (1 failed)",
        "2 model calls",
        "1 tool call",
        "12 345 tokens in, 67 out",
        "$1.2500",
    ]
    assert summary(tree()) == ["10 s in all"]
    assert summary(tree(span("call", "a/m", attributes={"input_tokens": 0, "output_tokens": 5})))[-1] == (
        "0 tokens in, 5 out"
    )


def test_marks_are_counted_in_the_tree_and_outside_of_it() -> None:
    inner = span("tool", "x", marks=[Mark(name="noted", at=0.0)])
    outer = span("turn", "t", marks=[Mark(name="routed", at=0.0)], children=[inner])
    counts = mark_counts(SpanTree(roots=(outer,), marks=(Mark(name="noted", at=0.0),), start=0.0, end=1.0))
    assert counts == {"noted": 2, "routed": 1}
