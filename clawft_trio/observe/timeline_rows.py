"""Converts a span tree to the rows of a timeline: their contents, order and descriptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import attrs

from clawft_trio.observe.attributes import AttributeValue, error_class
from clawft_trio.observe.spans import Mark, Span, SpanTree

_INSIDE = frozenset({"wait", "lock"})
"""Kinds of spans that are drawn in the row of their parent."""


_TROUBLE = frozenset({"retry_scheduled", "retracted", "failed_over", "hedge_started", "breaker_changed"})
"""Marks that flag a row as trouble, whatever its outcome."""


@attrs.frozen(kw_only=True)
class Segment:
    """A section of a row that is drawn differently: a wait, or the only attempt of a call."""

    span: Span
    start: float
    end: float


@attrs.frozen(kw_only=True)
class Row:
    """One row of a timeline."""

    span: Span
    depth: int
    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    #: time of the first content; None when there was none
    first_content: float | None = None
    #: time when the attempt in the row above was replaced or joined by this one; None when it was not
    follows: float | None = None
    #: short text beside the bar
    note: str = ""
    #: full text, shown on hover
    details: str = ""

    @property
    def name(self) -> str:
        """The text on the left."""
        return f"call {self.span.name}" if self.span.kind == "call" and self.span.name != "call" else self.span.name

    @property
    def status(self) -> str:
        """Style of the row: the span's status, or `running` for a server that has not ended, which is no failure."""
        span = self.span
        return "running" if span.kind == "server" and span.status == "open" else span.status

    @property
    def label(self) -> str:
        """The row in words, for screen readers."""
        span = self.span
        role = f"{span.role} " if span.role not in {"", "first"} else ""
        kind = "" if self.name.startswith(span.kind) else f"{span.kind} "
        status = "" if self.status in {"ok", "running"} or self.status in self.note else f", {self.status}"
        return f"{role}{kind}{self.name}: {self.note}{status}"

    @property
    def thin(self) -> bool:
        """Whether the row is drawn as a thin line above its children."""
        return self.span.kind in {"turn", "server"}

    @property
    def trouble(self) -> bool:
        """Whether something went wrong."""
        span = self.span
        if self.status not in {"ok", "aborted", "running"} or span.role in {"retry", "failover", "hedge"}:
            return True
        return any(mark.name in _TROUBLE for mark in span.marks)


def rows_of(tree: SpanTree, *, wall: float | None = None) -> list[Row]:
    """Return the rows of *tree*, parents first.

    Args:
      wall: calendar time at the tree's start, in seconds since 1970; None leaves it out.
    """
    rows: list[Row] = []
    describe = _Describing(tree, wall)
    for root in tree.roots:
        _add(rows, root, 0, describe)
    return rows


def summary(tree: SpanTree) -> list[str]:
    """Return a summary of the whole tree in a few phrases."""
    spans = list(tree.walk())
    kinds = Counter[str](span.kind for span in spans)
    phrases = [f"{seconds(tree.end - tree.start)} in all"]
    for kind, noun in (("turn", "turn"), ("call", "model call"), ("attempt", "attempt"), ("tool", "tool call")):
        if kinds[kind]:
            bad = sum(span.kind == kind and span.status == "failed" for span in spans)
            phrases.append(_counted(kinds[kind], noun) + (f" ({bad} failed)" if bad else ""))
    phrases.extend(_money(spans))
    return phrases


def mark_counts(tree: SpanTree) -> Counter[str]:
    """Return the number of marks of each name."""
    marks = [*tree.marks, *(mark for span in tree.walk() for mark in span.marks)]
    return Counter(mark.name for mark in marks)


def seconds(duration: float) -> str:
    """Format a duration for people: `840 ms`, `1.25 s`, `12 min 5 s`."""
    if duration < 0.0005:
        return "0 s" if duration <= 0 else f"{duration * 1e6:.0f} µs"
    # From 0.9995 on, three digits would round to 1000 and print as 1e+03 ms.
    if duration < 0.9995:
        return f"{duration * 1e3:.3g} ms"
    if duration < 120:
        return f"{duration:.3g} s"
    return f"{int(duration // 60)} min {duration % 60:.0f} s"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _money(spans: list[Span]) -> Iterator[str]:
    calls = [span.attributes for span in spans if span.kind == "call"]
    tokens = [sum(int(n) for n in (f.get(key) for f in calls) if isinstance(n, int)) for key in _TOKENS]
    if any(tokens):
        yield f"{tokens[0]:_} tokens in, {tokens[1]:_} out".replace("_", " ")
    # The charge includes attempts without a visible answer.
    costs = [
        cost
        for cost in (attributes.get("charged", attributes.get("cost")) for attributes in calls)
        if isinstance(cost, float)
    ]
    if costs:
        yield f"${sum(costs):.4f}"


_TOKENS = ("input_tokens", "output_tokens")


def _add(rows: list[Row], span: Span, depth: int, describe: _Describing) -> None:
    own = [child for child in span.children if child.kind not in _INSIDE]
    segments = [child for child in span.children if child.kind in _INSIDE]
    shown = span
    if span.kind == "call" and len(own) == 1 and not span.marks:
        # A call with one attempt and no marks has the same content as the attempt.
        segments, own, shown = [*segments, own[0]], [], own[0]
    end = describe.end(span)
    rows.append(
        Row(
            span=span,
            depth=depth,
            start=span.start,
            end=end,
            segments=tuple(Segment(span=one, start=one.start, end=describe.end(one)) for one in segments),
            first_content=_first_content(shown),
            note=describe.note(span),
            details=describe.details(span),
        )
    )
    before: Span | None = None
    for child in own:
        _add(rows, child, depth + 1, describe)
        if before is not None and child.role not in {"", "first"}:
            follows = min(describe.end(before), child.start)
            rows[-1] = attrs.evolve(rows[-1], follows=follows)
        before = child


def _first_content(span: Span) -> float | None:
    if span.record is None or span.record.latency.first_content is None:
        return None
    return span.record.started + span.record.latency.first_content


@attrs.frozen
class _Describing:
    """Writes the texts about the spans of *tree*."""

    tree: SpanTree
    wall: float | None

    def end(self, span: Span) -> float:
        return self.tree.end if span.end is None else span.end

    def note(self, span: Span) -> str:
        notes = [seconds(self.end(span) - span.start)]
        if span.error is not None:
            status = span.attributes.get("error_status")
            notes.append(error_class(span.error) + (f" {status}" if status else ""))
        elif span.status == "cancelled":
            notes.append(f"cancelled{_because(span.attributes.get('why'))}")
        elif span.kind == "server" and span.status == "open":
            notes.append("runs on")
        elif span.status != "ok":
            notes.append({"aborted": "stopped by its reader", "open": "not ended"}.get(span.status, span.status))
        return ", ".join(notes)

    def details(self, span: Span) -> str:
        begun = f"from {self._when(span.start)} for {self.note(span)}"
        head = [f"{span.role} {span.kind}".strip() + f": {span.name}", f"{span.status}, {begun}"]
        inner = [f"{child.name}: {seconds(self.end(child) - child.start)}" for child in span.children]
        marks = [
            f"{self._when(mark.at)}  {mark.name.replace('_', ' ')}  {_brief(mark.attributes)}" for mark in span.marks
        ]
        # Zeros are left out: they mean that something was not used (cached tokens, time in a queue).
        attributes = [
            f"{key.replace('_', ' ')}: {_plain_text(value)}"
            for key, value in span.attributes.items()
            if value or value is False
        ]
        more = [f"… and {len(inner) - 8} more"] if len(inner) > 8 else []
        return "\n".join([*head, *attributes, *marks, *inner[:8], *more])

    def _when(self, at: float) -> str:
        after = f"+{seconds(at - self.tree.start)}"
        if self.wall is None:
            return after
        moment = datetime.fromtimestamp(self.wall + at - self.tree.start, UTC)
        return f"{moment:%H:%M:%S.%f}"[:-3] + f" ({after})"


def _because(why: AttributeValue) -> str:
    return f": {why}" if why else ""


def _brief(attributes: dict[str, AttributeValue]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_plain_text(value)}" for key, value in attributes.items())


def _plain_text(value: AttributeValue) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_plain_text, value))
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain_text(inner)}" for key, inner in value.items())
    return str(value)


def mark_details(mark: Mark, tree: SpanTree, wall: float | None) -> str:
    """Return the text about *mark*."""
    when = _Describing(tree, wall)._when(mark.at)
    return "\n".join(filter(None, [f"{mark.name.replace('_', ' ')} at {when}", _brief(mark.attributes)]))
