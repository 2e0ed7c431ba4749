"""Builds a tree of spans from events: what ran inside of what, from when until when.

Timelines and traces are made from it. It accepts events in the order in which they were reported, also a section
without its beginning or end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import attrs

from clawft_trio.attempts import AttemptRecord
from clawft_trio.observe.attributes import AttributeValue, attributes_of, event_name
from clawft_trio.observe.events import (
    AttemptEnded,
    AttemptStarted,
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
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from clawft_trio.observe.redaction import Redactor, redact_secrets

SpanKind: TypeAlias = Literal["turn", "call", "attempt", "wait", "tool", "lock", "request", "server"]
"""`wait` is the pause before a retry, `lock` a tool call that waits to begin, `request` a request to an MCP server."""

SpanStatus: TypeAlias = Literal["ok", "failed", "cancelled", "aborted", "open"]
"""`open`: no event ended it. `aborted`: its consumer ended it."""

SpanRole: TypeAlias = Literal["", "first", "retry", "failover", "hedge"]
"""Reason for an attempt."""

_OUTCOMES: dict[str, SpanStatus] = {"ok": "ok", "cancelled": "cancelled", "aborted": "aborted"}

_START_TOLERANCE = 1e-6
"""Seconds by which the start of an attempt may differ between its event and its record."""


@attrs.frozen(kw_only=True)
class Mark:
    """An event at one moment of a span."""

    #: name of the event: `retracted`, `retry_scheduled`, `failed_over`, …
    name: str
    at: float
    attributes: dict[str, AttributeValue] = attrs.field(factory=dict)


@attrs.define(kw_only=True, eq=False)
class Span:
    """A section of the run with a beginning and an end."""

    kind: SpanKind
    name: str
    start: float
    #: end of the span; None while it is open
    end: float | None = None
    status: SpanStatus = "open"
    role: SpanRole = ""
    #: id of the call, the tool call or the turn
    id: str = ""
    attributes: dict[str, AttributeValue] = attrs.field(factory=dict, repr=False)
    marks: list[Mark] = attrs.field(factory=list, repr=False)
    children: list[Span] = attrs.field(factory=list, repr=False)
    #: the error; None unless `status` is `failed`
    error: BaseException | None = None
    #: record of an attempt that has ended; None for other spans
    record: AttemptRecord | None = attrs.field(default=None, repr=False)

    def walk(self) -> Iterator[Span]:
        """Yield this span and all spans inside it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@attrs.frozen(kw_only=True)
class SpanTree:
    """All spans and marks of a sequence of events."""

    #: turns, MCP servers, and calls that belong to no turn; in order of their start
    roots: tuple[Span, ...]
    #: events that belong to no span: pressure on the bus, a breaker that opened between calls
    marks: tuple[Mark, ...] = ()
    start: float = 0.0
    end: float = 0.0

    def walk(self) -> Iterator[Span]:
        """Yield every span, parents first."""
        for root in self.roots:
            yield from root.walk()


def spans_of(events: Iterable[Event], *, texts: bool = False, redact: Redactor = redact_secrets) -> SpanTree:
    """Build the spans of *events*.

    Args:
      texts: include texts of people, models, tools and servers in the attributes.
      redact: applied to every text.
    """
    growing = _Growing(texts, redact)
    for event in events:
        growing.take(event)
    return growing.tree()


class _Growing:
    """A tree that is being built from events."""

    def __init__(self, texts: bool, redact: Redactor) -> None:
        self._texts = texts
        self._mask = redact
        self._roots: list[Span] = []
        self._marks: list[Mark] = []
        self._turns: dict[str, Span] = {}
        self._calls: dict[tuple[str, str], Span] = {}
        self._tools: dict[tuple[str, str], Span] = {}
        self._servers: dict[str, Span] = {}
        #: expected attempts by call: their role, their target if known, and the time when they are due
        self._due: dict[int, list[tuple[SpanRole, str, float]]] = {}
        self._times: list[float] = []

    def take(self, event: Event) -> None:
        self._times.append(event.at)
        match event:
            case TurnStarted() | TurnEnded():
                self._turn_event(event)
            case AttemptStarted():
                self._attempt_started(event)
            case AttemptEnded():
                self._attempt_ended(event)
            case RoundEnded():
                self._call_ended(event)
            case RetryScheduled() | FailedOver() | HedgeStarted():
                self._next_attempt(event)
            case Charged():
                self._charged(event)
            case ToolStarted() | ToolEnded() | LockWaited():
                self._tool_event(event)
            case ServerStarted() | ServerGone() | ServerCalled():
                self._server_event(event)
            case _:
                self._mark(event)

    def tree(self) -> SpanTree:
        for root in self._roots:
            _close_calls(root)
            _sort(root)
        spans = [span for root in self._roots for span in root.walk()]
        starts = [span.start for span in spans] + self._times
        ends = [span.end for span in spans if span.end is not None] + self._times
        return SpanTree(
            roots=tuple(sorted(self._roots, key=lambda span: span.start)),
            marks=tuple(self._marks),
            start=min(starts, default=0.0),
            end=max(ends, default=0.0),
        )

    def _turn(self, event: Event) -> Span | None:
        if not event.turn_id:
            return None
        if event.turn_id not in self._turns:
            turn = Span(kind="turn", name="turn", start=event.at, id=event.turn_id)
            self._turns[event.turn_id] = turn
            self._roots.append(turn)
        return self._turns[event.turn_id]

    def _put(self, span: Span, event: Event) -> Span:
        turn = self._turn(event)
        (self._roots if turn is None else turn.children).append(span)
        return span

    def _call(self, event: Event) -> Span:
        key = (event.turn_id, event.call_id)
        # A strategy around an MCP call reports events for the tool call that it was made for.
        if key in self._tools:
            return self._tools[key]
        if key not in self._calls:
            self._calls[key] = self._put(Span(kind="call", name="call", start=event.at, id=event.call_id), event)
        return self._calls[key]

    def _mark(self, event: Event) -> None:
        if event.call_id and event.call_id != event.turn_id:
            marks = self._call(event).marks
        else:
            turn = self._turn(event)
            marks = self._marks if turn is None else turn.marks
        marks.append(Mark(name=event_name(type(event)), at=event.at, attributes=self._attributes(event)))

    def _attributes(self, event: Event) -> dict[str, AttributeValue]:
        return attributes_of(event, texts=self._texts, redact=self._mask)

    def _turn_event(self, event: TurnStarted | TurnEnded) -> None:
        turn = self._turn(event) or self._put(Span(kind="turn", name="turn", start=event.at), event)
        turn.attributes |= self._attributes(event)
        if isinstance(event, TurnEnded):
            turn.start = min(turn.start, event.at - event.duration)
            turn.end, turn.error = event.at, event.error
            turn.status = _OUTCOMES.get(event.outcome, "failed")
        else:
            turn.name = f"turn {event.session}"

    def _next_attempt(self, event: RetryScheduled | FailedOver | HedgeStarted) -> None:
        """Remember the role of an attempt that is to come."""
        self._mark(event)
        call = self._call(event)
        due = self._due.setdefault(id(call), [])
        match event:
            case RetryScheduled(retry=retry, wait=wait):
                due.append(("retry", "", event.at + wait))
                name = f"wait before retry {retry}"
                pause = Span(kind="wait", name=name, start=event.at, end=event.at + wait, status="ok")
                pause.attributes = self._attributes(event)
                call.children.append(pause)
            case FailedOver(target=target):
                due.append(("failover", target, event.at))
            case HedgeStarted(target=target):
                due.append(("hedge", target, event.at))

    def _role(self, call: Span, event: AttemptStarted) -> SpanRole:
        due = self._due.get(id(call), [])
        ready = [one for one in due if one[2] <= event.at + _START_TOLERANCE]
        if not ready:
            return "" if _attempts(call) else "first"
        chosen = next((one for one in ready if one[1] == event.target), ready[0])
        due.remove(chosen)
        return chosen[0]

    def _attempt_started(self, event: AttemptStarted) -> None:
        call = self._call(event)
        attempt = Span(kind="attempt", name=event.target, start=event.at, role=self._role(call, event))
        attempt.attributes = self._attributes(event)
        call.start = min(call.start, event.at)
        call.children.append(attempt)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        call, record = self._call(event), event.record
        attempt = _open_attempt(call, record)
        if attempt is None:
            attempt = Span(kind="attempt", name=record.target, start=record.started)
            call.children.append(attempt)
        attempt.start = record.started
        attempt.end = record.started + record.latency.total
        attempt.status = _OUTCOMES.get(record.outcome, "failed")
        attempt.error, attempt.record = record.error, record
        attempt.attributes |= self._attributes(event)
        call.start = min(call.start, record.started)

    def _call_ended(self, event: RoundEnded) -> None:
        call = self._call(event)
        call.start = min(call.start, event.at - event.latency.total)
        call.end, call.error = event.at, event.error
        call.status = _OUTCOMES.get(event.ending, "failed")
        call.attributes |= self._attributes(event)
        call.name = event.answered_by or call.name

    def _charged(self, event: Charged) -> None:
        attributes = self._call(event).attributes
        before = attributes.get("charged", 0.0)
        if event.cost is not None and isinstance(before, float):
            attributes["charged"] = before + float(event.cost)

    def _tool(self, event: ToolStarted | ToolEnded | LockWaited) -> Span:
        key = (event.turn_id, event.tool_call_id)
        known = self._tools.get(key)
        # Ids are unique within one answer of a model; the next answer may use them again.
        if known is None or known.end is not None:
            known = self._put(Span(kind="tool", name="tool", start=event.at, id=event.tool_call_id), event)
            self._tools[key] = known
        return known

    def _tool_event(self, event: ToolStarted | ToolEnded | LockWaited) -> None:
        tool = self._tool(event)
        match event:
            case LockWaited(waited=waited, paths=paths):
                name = "lock " + ", ".join(paths) if paths else "waiting for other calls"
                self._waited(tool, event, waited, name)
            case ToolStarted(waited=waited):
                tool.name, tool.start = event.tool, event.at
                if waited and not tool.children:
                    self._waited(tool, event, waited, "waiting to begin")
                tool.attributes |= self._attributes(event)
            case ToolEnded(duration=duration, outcome=outcome):
                tool.name, tool.start, tool.end = event.tool, event.at - duration, event.at
                tool.status, tool.error = _OUTCOMES.get(outcome, "failed"), event.error
                tool.attributes |= self._attributes(event)

    def _waited(self, tool: Span, event: ToolStarted | LockWaited, waited: float, name: str) -> None:
        lock = Span(kind="lock", name=name, start=event.at - waited, end=event.at, status="ok")
        lock.attributes = self._attributes(event)
        tool.children.append(lock)

    def _server_event(self, event: ServerStarted | ServerGone | ServerCalled) -> None:
        match event:
            case ServerCalled():
                self._server_called(event)
            case ServerStarted(server=name):
                server = Span(
                    kind="server", name=f"server {name}", start=event.at, id=name, attributes=self._attributes(event)
                )
                self._servers[name] = server
                self._roots.append(server)
            case ServerGone(server=name):
                gone = self._servers.pop(name, None)
                if gone is None:
                    gone = Span(kind="server", name=f"server {name}", start=event.at, id=name)
                    self._roots.append(gone)
                gone.end, gone.status, gone.error = event.at, "failed", event.error
                gone.attributes |= self._attributes(event)

    def _server_called(self, event: ServerCalled) -> None:
        request = Span(
            kind="request",
            name=" ".join(filter(None, (event.method, event.target))),
            start=event.at - event.duration,
            end=event.at,
            status=_OUTCOMES.get(event.outcome, "failed"),
            error=event.error,
            attributes=self._attributes(event),
        )
        tool = self._tools.get((event.turn_id, event.tool_call_id))
        if tool is None:
            self._put(request, event)
        else:
            tool.children.append(request)


def _attempts(call: Span) -> list[Span]:
    return [child for child in call.children if child.kind == "attempt"]


def _open_attempt(call: Span, record: AttemptRecord) -> Span | None:
    """Return the open attempt of *record*: of those at its target, the one with the nearest start."""
    running = [one for one in _attempts(call) if one.end is None and one.name == record.target]
    return min(running, key=lambda one: abs(one.start - record.started), default=None)


def _close_calls(root: Span) -> None:
    """Derive the end of a call without a reported end from its attempts."""
    for call in (span for span in root.walk() if span.kind == "call"):
        attempts = _attempts(call)
        if call.name == "call" and attempts:
            call.name = attempts[0].name
        if call.end is None and attempts and all(one.end is not None for one in attempts):
            last = max(attempts, key=lambda one: one.end or 0.0)
            good = next((one for one in attempts if one.status == "ok"), last)
            call.end, call.status, call.error = last.end, good.status, good.error
        for pause in call.children:
            # A pause that was cancelled has no event of its own.
            if pause.kind == "wait" and call.end is not None and pause.end is not None:
                pause.end = max(pause.start, min(pause.end, call.end))


def _sort(span: Span) -> None:
    span.children.sort(key=lambda child: child.start)
    for child in span.children:
        _sort(child)
