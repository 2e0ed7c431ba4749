"""The span tree, from whole turns and from stretches of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st
from observe.turns import play

from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.errors import PeerGone, ServerError
from clawft_trio.observe import (
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    Charged,
    Event,
    FailedOver,
    HedgeStarted,
    LockWaited,
    RetryScheduled,
    RoundEnded,
    ServerCalled,
    ServerGone,
    ServerStarted,
    Span,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    spans_of,
)

IDS = {"call_id": "t.1", "turn_id": "t"}


def outline(span: Span, zero: float = 0.0) -> tuple[object, ...]:
    end = None if span.end is None else round(span.end - zero, 6)
    own = (span.kind, span.role or span.name, round(span.start - zero, 6), end, span.status)
    return (*own, [outline(child, zero) for child in span.children]) if span.children else own


def ended(target: str, start: float, total: float, outcome: str = "ok") -> AttemptEnded:
    record = AttemptRecord(target=target, outcome=outcome, started=start, latency=Latency(total=total))
    return AttemptEnded(at=start + total, record=record, **IDS)


async def test_a_turn_with_a_retry_a_failover_a_hedge_and_three_tools(autojump_clock: object) -> None:
    seen = await play()
    tree = spans_of(seen.events)
    (turn,) = tree.roots
    assert outline(turn, tree.start) == (
        *("turn", "turn local:ana", 0.0, 14.5, "ok"),
        [
            (
                *("call", "b/two", 0.0, 5.0, "ok"),
                [
                    ("attempt", "first", 0.0, 1.0, "failed"),
                    ("wait", "wait before retry 1", 1.0, 2.0, "ok"),
                    ("attempt", "retry", 2.0, 3.0, "failed"),
                    ("attempt", "failover", 3.0, 5.0, "ok"),
                ],
            ),
            ("tool", "weather", 5.0, 7.0, "ok"),
            ("tool", "broken", 5.0, 6.0, "failed"),
            ("tool", "alone", 7.0, 7.5, "ok", [("lock", "waiting for other calls", 5.0, 7.0, "ok")]),
            (
                *("call", "b/two", 7.5, 14.5, "ok"),
                [("attempt", "first", 7.5, 14.5, "cancelled"), ("attempt", "hedge", 12.5, 14.5, "ok")],
            ),
        ],
    )
    marks = [mark.name for child in turn.children for mark in child.marks]
    assert sorted(marks) == ["failed_over", "hedge_started", "retracted", "retry_scheduled"]
    assert turn.children[-1].children[0].attributes["why"] == "hedge lost"


def test_what_has_not_ended_is_open() -> None:
    started = TurnStarted(at=1.0, session="s", sender="a", message_id="m", turn_id="t")
    tree = spans_of(
        [started, AttemptStarted(at=2.0, target="a/one", **IDS), BreakerChanged(at=4.0, target="b", state="open")]
    )
    assert outline(tree.roots[0]) == (
        *("turn", "turn s", 1.0, None, "open"),
        [("call", "a/one", 2.0, None, "open", [("attempt", "first", 2.0, None, "open")])],
    )
    assert (tree.start, tree.end) == (1.0, 4.0)
    assert [mark.name for mark in tree.marks] == ["breaker_changed"]


def test_a_stretch_without_its_beginning_still_has_its_times() -> None:
    tree = spans_of(
        [
            ended("a/one", 3.0, 2.0),
            TurnEnded(at=6.0, session="s", message_id="m", outcome="ok", duration=5.5, turn_id="t"),
        ]
    )
    (turn,) = tree.roots
    assert (turn.start, turn.end, turn.status) == (0.5, 6.0, "ok")
    assert outline(turn.children[0]) == ("call", "a/one", 3.0, 5.0, "ok", [("attempt", "a/one", 3.0, 5.0, "ok")])


def test_two_concurrent_attempts_at_one_target_are_distinguished() -> None:
    tree = spans_of(
        [
            AttemptStarted(at=0.0, target="a/one", **IDS),
            HedgeStarted(at=5.0, slow="", target="", **IDS),
            AttemptStarted(at=5.0, target="a/one", **IDS),
            ended("a/one", 5.0, 1.0),
            ended("a/one", 0.0, 6.5, "cancelled"),
        ]
    )
    attempts = tree.roots[0].children[0].children
    assert [(a.role, a.start, a.end, a.status) for a in attempts] == [
        ("first", 0.0, 6.5, "cancelled"),
        ("hedge", 5.0, 6.0, "ok"),
    ]


def test_a_retry_is_distinguished_from_a_concurrent_hedge() -> None:
    error = ServerError("down")
    tree = spans_of(
        [
            AttemptStarted(at=0.0, target="a/one", **IDS),
            ended("a/one", 0.0, 1.0, "failed"),
            RetryScheduled(at=1.0, retry=1, wait=9.0, error=error, **IDS),
            HedgeStarted(at=5.0, slow="a/one", target="b/two", **IDS),
            AttemptStarted(at=5.0, target="b/two", **IDS),
            AttemptStarted(at=10.0, target="a/one", **IDS),
        ]
    )
    assert [c.role for c in tree.roots[0].children[0].children if c.kind == "attempt"] == ["first", "hedge", "retry"]


def test_an_attempt_during_the_wait_of_a_retry_is_the_hedge() -> None:
    tree = spans_of(
        [
            AttemptStarted(at=0.0, target="a/one", **IDS),
            ended("a/one", 0.0, 1.0, "failed"),
            RetryScheduled(at=1.0, retry=1, wait=9.0, error=ServerError("down"), **IDS),
            HedgeStarted(at=5.0, slow="a/one", target="", **IDS),
            AttemptStarted(at=5.0, target="a/one", **IDS),
            AttemptStarted(at=10.0, target="a/one", **IDS),
        ]
    )
    assert [c.role for c in tree.roots[0].children[0].children if c.kind == "attempt"] == ["first", "hedge", "retry"]


def test_of_two_attempts_that_are_due_each_has_the_role_of_its_target() -> None:
    tree = spans_of(
        [
            AttemptStarted(at=0.0, target="a/one", **IDS),
            FailedOver(at=5.0, failed="a/one", target="b/two", **IDS),
            HedgeStarted(at=5.0, slow="a/one", target="c/three", **IDS),
            AttemptStarted(at=5.0, target="c/three", **IDS),
            AttemptStarted(at=5.0, target="b/two", **IDS),
        ]
    )
    assert [c.role for c in tree.roots[0].children[0].children] == ["first", "hedge", "failover"]


def test_a_wait_that_was_cancelled_ends_with_its_call() -> None:
    tree = spans_of(
        [
            ended("a/one", 0.0, 1.0, "failed"),
            RetryScheduled(at=1.0, retry=1, wait=30.0, error=ServerError("down"), **IDS),
            RoundEnded(at=3.0, ending="cancelled", sender="", answered_by="", latency=Latency(total=3.0), **IDS),
        ]
    )
    call = tree.roots[0].children[0]
    assert [(c.kind, c.end) for c in call.children] == [("attempt", 1.0), ("wait", 3.0)]
    assert (call.start, call.end, call.status) == (0.0, 3.0, "cancelled")


def test_a_tool_call_id_that_comes_again_is_another_call() -> None:
    def call(at: float) -> list[Event]:
        started = ToolStarted(at=at, tool="t", tool_call_id="c0", turn_id="t", waited=1.0)
        return [started, ToolEnded(at=at + 1, tool="t", tool_call_id="c0", turn_id="t", outcome="ok", duration=1.0)]

    (turn,) = spans_of([*call(1.0), *call(5.0)]).roots
    assert [(tool.start, tool.end, len(tool.children)) for tool in turn.children] == [(1.0, 2.0, 1), (5.0, 6.0, 1)]


def test_a_lock_and_a_request_belong_to_their_tool() -> None:
    (turn,) = spans_of(
        [
            LockWaited(at=2.0, tool_call_id="c", turn_id="t", paths=("a.txt",), waited=1.5),
            ToolStarted(at=2.0, tool="files__edit", tool_call_id="c", turn_id="t", waited=2.0),
            RetryScheduled(at=2.5, retry=1, wait=0.5, error=PeerGone("gone"), call_id="c", turn_id="t"),
            ServerCalled(
                at=4.0,
                server="files",
                method="tools/call",
                target="edit",
                tool_call_id="c",
                turn_id="t",
                outcome="ok",
                duration=1.0,
            ),
            ToolEnded(at=5.0, tool="files__edit", tool_call_id="c", turn_id="t", outcome="ok", duration=3.0),
        ]
    ).roots
    (tool,) = turn.children
    assert outline(tool) == (
        *("tool", "files__edit", 2.0, 5.0, "ok"),
        [
            ("lock", "lock a.txt", 0.5, 2.0, "ok"),
            ("wait", "wait before retry 1", 2.5, 3.0, "ok"),
            ("request", "tools/call edit", 3.0, 4.0, "ok"),
        ],
    )
    assert [mark.name for mark in tool.marks] == ["retry_scheduled"]


def test_a_server_lives_from_its_start_to_its_end() -> None:
    tree = spans_of(
        [
            ServerStarted(at=1.0, server="files", protocol="2025-06-18"),
            ServerGone(at=9.0, server="files", error=PeerGone("exit 1"), restart_in=1.0),
            ServerStarted(at=10.0, server="files", protocol="2025-06-18", restarts=1),
        ]
    )
    assert [outline(root) for root in tree.roots] == [
        ("server", "server files", 1.0, 9.0, "failed"),
        ("server", "server files", 10.0, None, "open"),
    ]


def test_what_was_charged_adds_up_on_its_call() -> None:
    charged = Charged(
        at=1.0, sender="a", target="b", input_tokens=1, output_tokens=1, cost=Decimal("0.25"), certainty="exact", **IDS
    )
    free = Charged(at=1.0, sender="a", target="b", input_tokens=1, output_tokens=1, cost=None, certainty="exact", **IDS)
    call = spans_of([ended("a/one", 0.0, 1.0), charged, charged, free]).roots[0].children[0]
    assert call.attributes["charged"] == 0.5
    assert call.marks == []


@pytest.mark.parametrize("kind", ["turn", "call"])
def test_events_without_ids_have_a_place_too(kind: str) -> None:
    record = AttemptRecord(target="f", outcome="ok", started=0.0, latency=Latency(total=1.0))
    event = (
        AttemptEnded(at=1.0, record=record)
        if kind == "call"
        else TurnEnded(at=1.0, session="s", message_id="m", outcome="ok", duration=1.0)
    )
    (root,) = spans_of([event]).roots
    assert (root.kind, root.start, root.end, root.status) == (kind, 0.0, 1.0, "ok")


IN_ORDER = st.permutations(range(8))


@settings(deadline=None, max_examples=60)
@given(IN_ORDER, st.integers(0, 8))
def test_any_stretch_in_any_order_gives_a_tree_with_every_span_inside_its_times(order: list[int], length: int) -> None:
    events = [
        TurnStarted(at=0.0, session="s", sender="a", message_id="m", turn_id="t"),
        AttemptStarted(at=1.0, target="a/one", **IDS),
        ended("a/one", 1.0, 1.0, "failed"),
        FailedOver(at=2.0, failed="a/one", target="b/two", **IDS),
        ToolStarted(at=4.0, tool="x", tool_call_id="c", turn_id="t", waited=1.0),
        ToolEnded(at=5.0, tool="x", tool_call_id="c", turn_id="t", outcome="error", duration=1.0),
        RoundEnded(at=6.0, ending="failed", sender="", answered_by="", latency=Latency(total=5.0), **IDS),
        TurnEnded(at=7.0, session="s", message_id="m", outcome="error", duration=7.0, turn_id="t"),
    ]
    tree = spans_of([events[number] for number in order[:length]])
    for span in tree.walk():
        assert tree.start <= span.start <= (tree.end if span.end is None else span.end) <= tree.end


def test_a_call_begins_before_its_round_was_reported_and_before_its_first_attempt() -> None:
    start = AttemptStarted(at=5.0, target="a/one", **IDS)
    ending = RoundEnded(at=9.0, ending="ok", sender="s", answered_by="a/one", latency=Latency(total=7.0), **IDS)
    (turn,) = spans_of([start, ending]).roots
    assert outline(turn.children[0]) == ("call", "a/one", 2.0, 9.0, "ok", [("attempt", "first", 5.0, None, "open")])
    ending = RoundEnded(at=9.0, ending="ok", sender="s", answered_by="a/one", latency=Latency(total=1.0), **IDS)
    (turn,) = spans_of([start, ending]).roots
    assert turn.children[0].start == 5.0


def test_of_two_attempts_that_are_due_at_once_the_one_at_the_announced_target_has_its_role() -> None:
    tree = spans_of(
        [
            AttemptStarted(at=0.0, target="a/one", **IDS),
            RetryScheduled(at=1.0, retry=1, wait=1.0, error=ServerError("down"), **IDS),
            HedgeStarted(at=2.0, slow="a/one", target="b/two", **IDS),
            AttemptStarted(at=2.0, target="b/two", **IDS),
            AttemptStarted(at=2.0, target="a/one", **IDS),
        ]
    )
    attempts = [one for one in tree.roots[0].children[0].children if one.kind == "attempt"]
    assert [(one.name, one.role) for one in attempts] == [("a/one", "first"), ("b/two", "hedge"), ("a/one", "retry")]


def test_an_attempt_has_the_role_of_a_retry_only_when_its_wait_is_over() -> None:
    def role(started: float) -> str:
        tree = spans_of(
            [
                AttemptStarted(at=0.0, target="a/one", **IDS),
                RetryScheduled(at=1.0, retry=1, wait=1.0, error=ServerError("down"), **IDS),
                AttemptStarted(at=started, target="a/one", **IDS),
            ]
        )
        return [one for one in tree.roots[0].children[0].children if one.kind == "attempt"][-1].role

    assert [role(at) for at in (1.9, 2.0, 2.5)] == ["", "retry", "retry"]


def test_a_call_without_a_reported_end_ends_with_its_last_attempt() -> None:
    starts = [AttemptStarted(at=at, target=target, **IDS) for at, target in ((0.0, "a/one"), (1.0, "b/two"))]
    ends = [ended("b/two", 1.0, 2.0, "failed"), ended("a/one", 0.0, 5.0, "cancelled")]
    call = spans_of([*starts, *ends]).roots[0].children[0]
    assert (call.name, call.start, call.end, call.status) == ("a/one", 0.0, 5.0, "cancelled")
    call = spans_of([*starts, ended("b/two", 1.0, 2.0), ends[1]]).roots[0].children[0]
    assert (call.end, call.status) == (5.0, "ok")
    call = spans_of([*starts, ends[0]]).roots[0].children[0]
    assert (call.end, call.status) == (None, "open")
    call = spans_of([*starts, ended("b/two", 1.0, 6.0, "failed"), ends[1]]).roots[0].children[0]
    assert (call.end, call.status) == (7.0, "failed")
