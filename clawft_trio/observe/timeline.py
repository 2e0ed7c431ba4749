"""Draws a recording as a timeline: an SVG inside a self-contained HTML page.

This module draws the picture; the script in the page only zooms, filters, and shows the box with the details.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from clawft_trio.observe.spans import Mark, SpanTree
from clawft_trio.observe.timeline_rows import Row, Segment, mark_counts, mark_details, rows_of, seconds, summary

MOST_ROWS = 3000
"""Largest number of rows in one picture, for the browser's sake; no person reads more."""

_LABELS = 300
"""Pixels for the names on the left."""

_EDGE = 24
"""Pixels on the right that stay free for marks that extend beyond the last bar."""

_AXIS = 28
"""Pixels for the axis."""

#: events with a mark, in the order of the legend: the class in the style sheet, which also selects the shape
_MARKS = {
    "retry_scheduled": "retry",
    "retracted": "reset",
    "failed_over": "failover",
    "hedge_started": "hedge",
    "breaker_changed": "breaker",
    "message_dropped": "drop",
    "undeliverable": "drop",
    "bus_pressure": "pressure",
}

_SHAPES = {
    "retry": '<circle r="4.5"/>',
    "reset": '<path d="M-5.5,-4.5H5.5L0,5.5Z"/>',
    "failover": '<path d="M-3,-5.5L5,0L-3,5.5Z"/>',
    "hedge": '<path d="M0,-5.5L5.5,0L0,5.5L-5.5,0Z"/>',
    "breaker": '<rect x="-4.5" y="-4.5" width="9" height="9"/>',
    "drop": '<path d="M-4.5,-4.5L4.5,4.5M4.5,-4.5L-4.5,4.5"/>',
    "pressure": '<path d="M-5,5V0M0,5V-2.5M5,5V-5"/>',
    "note": '<circle r="2.5"/>',
}

_MEANINGS = {
    "retry": "retry",
    "reset": "shown text taken back",
    "failover": "failover",
    "hedge": "hedge",
    "breaker": "circuit breaker",
    "drop": "message dropped",
    "pressure": "queue filling up",
    "note": "other event",
}

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def timeline_html(tree: SpanTree, *, title: str = "timeline", wall: float | None = None) -> str:
    """Return *tree* as one HTML page that loads nothing and is readable without its script.

    Args:
      title: title of the page; markup in it and in the events is escaped.
      wall: calendar time at the tree's start, in seconds since 1970.
    """
    drawing = _Drawing(tree, wall=wall)
    return _PAGE.format(
        title=_text(title),
        css=_read_asset("timeline.css"),
        js=_read_asset("timeline.js"),
        summary="".join(f"<span>{_text(phrase)}</span>" for phrase in summary(tree)),
        legend="".join(_legend(tree)),
        svg=drawing.svg(),
    )


def timeline_svg(tree: SpanTree, *, wall: float | None = None, width: int = 1200) -> str:
    """Return *tree* as an SVG picture, for a README or a report."""
    return _Drawing(tree, wall=wall, width=width).svg(style=_read_asset("timeline.css"))


def _read_asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("�", text))


_BARS = (
    # Classes of the row, classes of the bar, and the meaning.
    ("turn ok", "bar", "turn"),
    ("server ok", "bar", "MCP server"),
    ("call ok", "bar", "call of a model"),
    ("attempt ok", "bar", "attempt: answered"),
    ("attempt ok hedge", "bar", "attempt of a hedge: answered"),
    ("tool ok", "bar", "tool"),
    ("request ok", "bar", "request to an MCP server"),
    ("attempt failed", "bar", "failed"),
    ("attempt cancelled", "bar", "cancelled"),
    ("attempt open", "bar", "not ended"),
    ("call ok", "wait ok bar", "waiting"),
    ("tool ok", "lock ok bar", "waiting for a lock"),
)
"""Colours and patterns of the bars, in the order of the legend."""

_LINKS = (("retry", "then a retry"), ("hedge", "joined by a hedge"), ("failover", "then a failover"))


def _legend(tree: SpanTree) -> Iterator[str]:
    yield from _bar_legend(rows_of(tree))
    counts = mark_counts(tree)
    for kind, meaning in _MEANINGS.items():
        number = sum(count for name, count in counts.items() if _MARKS.get(name, "note") == kind)
        if number:
            shape = (
                '<svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">'
                f'<g class="mark {kind}">{_SHAPES[kind]}</g></svg>'
            )
            yield f"<span>{shape}{number} {meaning}</span>"


def _bar_legend(rows: list[Row]) -> Iterator[str]:
    """Yield the legend of the colours and patterns that occur in *rows*."""
    seen = {(row.span.kind, row.status, "hedge" if row.span.role == "hedge" else "") for row in rows}
    seen |= {(one.span.kind, one.span.status, "") for row in rows for one in row.segments if one.span.kind == "attempt"}
    segments = {segment.span.kind for row in rows for segment in row.segments}
    for classes, bar, meaning in _BARS:
        kind, status, *role = classes.split()
        inner = bar.split()[0]
        there = inner in segments if inner != "bar" else any(_is_drawn_so(one, kind, status, role) for one in seen)
        if there:
            thin = kind in {"turn", "server"} or inner == "wait"
            yield _sample(f'<g class="sample {classes}"><g>{_sample_bar(bar, thin=thin)}</g></g>', meaning)
    if any(row.first_content is not None for row in rows):
        fainter = f"{_sample_bar('bar')}{_sample_bar('awaiting')}"
        yield _sample(f'<g class="sample attempt ok"><g>{fainter}</g></g>', "fainter: before the first content")
    joined = {row.span.role for row in rows if row.follows is not None}
    for link, meaning in _LINKS:
        if link in joined:
            yield _sample(f'<path class="link {link}" d="M3,1V7H23"/>', meaning)


def _is_drawn_so(one: tuple[str, str, str], kind: str, status: str, role: list[str]) -> bool:
    if status in {"failed", "cancelled", "open"}:
        return one[1] == status
    answered = one[1] in {"ok", "running", "aborted"}
    return one[0] == kind and answered and [one[2]] == (role or [""]) if kind == "attempt" else one[0] == kind


def _sample_bar(classes: str, *, thin: bool = False) -> str:
    y, height = (5, 4) if thin else (2, 10)
    return f'<rect class="{classes}" x="1" y="{y}" width="24" height="{height}" rx="2"/>'


def _sample(shape: str, meaning: str) -> str:
    return f'<span><svg width="26" height="14" aria-hidden="true">{shape}</svg>{meaning}</span>'


class _Drawing:
    """The picture. Every part that moves with the zoom has its times in `data-a` and `data-b`, for the script."""

    def __init__(self, tree: SpanTree, *, wall: float | None, width: int = 1200) -> None:
        self._tree = tree
        self._wall = wall
        self._width = width
        rows = rows_of(tree, wall=wall)
        self._rows, self._left_out = rows[:MOST_ROWS], len(rows[MOST_ROWS:])
        # Many rows are drawn lower: forty are large enough to look at, hundreds are still readable.
        self._height = 24 if len(rows) <= 60 else 18 if len(rows) <= 150 else 15
        self._span = max(tree.end - tree.start, 1e-6)

    def svg(self, style: str = "") -> str:
        first = 1 if self._tree.marks else 0
        lines = [self._loose_marks()] if first else []
        lines += [self._row(number, row) for number, row in enumerate(self._rows, first)]
        height = _AXIS + len(lines) * self._height + (20 if self._left_out else 8)
        body = "".join(lines)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline h{self._height}" width="{self._width}" '
            f'role="{"img" if style else "group"}" aria-label="timeline: {_text(", ".join(summary(self._tree)))}" '
            f'height="{height}" viewBox="0 0 {self._width} {height}" font-family="system-ui, sans-serif" '
            f'data-span="{self._span!r}" data-labels="{_LABELS}" data-edge="{_EDGE}" data-row="{self._height}">'
            f"{f'<style>{style}</style>' if style else ''}{_PATTERNS}"
            f'<defs><clipPath id="time"><rect x="{_LABELS - 6}" y="{-height}" width="{self._width - _LABELS + 6}" '
            f'height="{height * 3}"/></clipPath><clipPath id="names"><rect x="0" y="{-height}" width="{_LABELS - 10}" '
            f'height="{height * 3}"/></clipPath></defs>'
            f'<rect class="paper" width="{self._width}" height="{height}"/>'
            f'<g class="grid">{self._grid(height)}</g>'
            f'<g class="rows" transform="translate(0,{_AXIS})">{body}</g>{self._rest(height)}</svg>'
        )

    def _x(self, at: float) -> float:
        return round(_LABELS + (at - self._tree.start) / self._span * (self._width - _LABELS - _EDGE), 2)

    def _since(self, at: float) -> str:
        return f"{at - self._tree.start:.9g}"

    def _grid(self, height: int) -> str:
        step = nice_step(self._span / 8)
        lines = []
        for number in range(int(self._span / step + 1e-9) + 1):
            x = self._x(self._tree.start + number * step)
            lines.append(
                f'<path d="M{x},{_AXIS - 6}V{height}"/><text x="{x}" y="{_AXIS - 11}">{seconds(number * step)}</text>'
            )
        return "".join(lines)

    def _rest(self, height: int) -> str:
        if not self._left_out:
            return ""
        return f'<text class="name" x="8" y="{height - 6}">… and {self._left_out} more rows, not drawn</text>'

    def _row(self, number: int, row: Row) -> str:
        span = row.span
        classes = f"row {span.kind} {row.status} {span.role}" + (" trouble" if row.trouble else "")
        middle = self._height / 2
        title = f"<title>{_text(row.details)}</title>"
        moving = [self._link(row), *self._bars(row), *self._marks(tuple(span.marks))]
        return (
            f'<g class="{" ".join(classes.split())}" transform="translate(0,{number * self._height})" tabindex="0" '
            f'role="button" aria-label="{_text(row.label)}">{title}'
            f'<rect class="back" width="{self._width}" height="{self._height}"/>{self._name(row, middle)}'
            f'<g clip-path="url(#time)">{"".join(moving)}</g>{self._note(row)}</g>'
        )

    def _name(self, row: Row, middle: float) -> str:
        indent = 10 + 16 * row.depth
        badge = f'<tspan class="role">{row.span.role} </tspan>' if row.span.role not in {"", "first"} else ""
        room = int((_LABELS - (80 if row.thin else 14) - indent) / 6.6) - len(row.span.role if badge else "")
        name = row.name if len(row.name) <= room else row.name[: room - 1] + "…"
        return f'<text class="name" clip-path="url(#names)" x="{indent}" y="{middle + 4}">{badge}{_text(name)}</text>'

    def _bars(self, row: Row) -> Iterator[str]:
        yield self._bar("bar", row.start, row.end, thin=row.thin)
        for segment in row.segments:
            yield self._segment(segment)
        if row.first_content is not None:
            yield self._bar("awaiting", row.start, row.first_content)

    def _segment(self, segment: Segment) -> str:
        span = segment.span
        thin = span.kind == "wait"
        return self._bar(f"{span.kind} {span.status} bar", segment.start, segment.end, thin=thin)

    def _bar(self, classes: str, start: float, end: float, *, thin: bool = False) -> str:
        height = max(4, self._height // 4) if thin else self._height - 7
        x, y = self._x(start), (self._height - height) / 2
        width = max(self._x(end) - x, 2)
        return (
            f'<rect class="{classes}" data-a="{self._since(start)}" data-b="{self._since(end)}" '
            f'x="{x}" y="{y:g}" width="{width:.2f}" height="{height}" rx="2"/>'
        )

    def _note(self, row: Row) -> str:
        """Return the text of a bar: after, before or inside it, where there is room; in a thin row, beside its name."""
        begin = min([row.start, *(segment.start for segment in row.segments)])
        x, end, where = self._x(begin), self._x(row.end), "after"
        at, anchor = end + 6, "start"
        if end > self._width - 190:
            where, at, anchor = ("before", x - 6, "end") if x > _LABELS + 170 else ("inside", x + 6, "start")
        if row.thin:
            where, at, anchor = "named", _LABELS - 12, "end"
        # Marks at the end of the bar extend beyond it.
        marks = sum(end - 6 < self._x(mark.at) < end + 30 for mark in row.span.marks)
        at += 11 * marks if where == "after" else 0
        return (
            f'<text class="note {where}" data-a="{self._since(begin)}" data-b="{self._since(row.end)}" '
            f'data-marks="{marks}" x="{at:.2f}" y="{self._height / 2 + 4:g}" text-anchor="{anchor}">'
            f"{_text(row.note)}</text>"
        )

    def _link(self, row: Row) -> str:
        if row.follows is None:
            return ""
        x, start, middle = self._x(row.follows), self._x(row.start), self._height / 2
        return (
            f'<path class="link {row.span.role}" data-a="{self._since(row.follows)}" data-b="{self._since(row.start)}" '
            f'd="M{x},-3V{middle:g}H{max(start, x)}"/>'
        )

    def _marks(self, marks: tuple[Mark, ...]) -> Iterator[str]:
        last = -math.inf
        for mark in sorted(marks, key=lambda mark: mark.at):
            kind = _MARKS.get(mark.name, "note")
            # Marks of the same moment are drawn side by side.
            x = max(self._x(mark.at), last + 11)
            aside, last = x - self._x(mark.at), x
            title = _text(mark_details(mark, self._tree, self._wall))
            yield (
                f'<g class="mark {kind}" data-a="{self._since(mark.at)}" data-aside="{aside:.2f}" '
                f'transform="translate({x:.2f},{self._height / 2:g})"><title>{title}</title>{_SHAPES[kind]}</g>'
            )

    def _loose_marks(self) -> str:
        marks = "".join(self._marks(self._tree.marks))
        count = f"{len(self._tree.marks)} event" + ("" if len(self._tree.marks) == 1 else "s")
        return (
            f'<g class="row loose" tabindex="0" role="button" aria-label="outside of turns: {count}">'
            f'<rect class="back" width="{self._width}" height="{self._height}"/>'
            f'<text class="name" x="10" y="{self._height / 2 + 4:g}">outside of turns</text>'
            f'<g clip-path="url(#time)">{marks}</g></g>'
        )


def nice_step(about: float) -> float:
    """Return the smallest number of the form 1, 2 or 5 times a power of ten that is at least *about*."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * (1 - 1e-9))


_PATTERNS = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatch-paper" width="6" height="6"/><rect class="hatch-line" width="2.5" height="6"/></pattern></defs>'
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{css}</style>
<header>
<h1>{title}</h1>
<p class="summary">{summary}</p>
<p class="legend">{legend}</p>
<p class="controls"><input id="filter" type="search" placeholder="filter rows" aria-label="filter rows">
<label><input id="trouble" type="checkbox"> only trouble</label>
<button id="reset" type="button">whole time</button>
<span class="hint">drag or ctrl-wheel to zoom, shift-wheel to move; Tab and the arrow keys move from row to row, \
Enter or a click pins the details</span></p>
</header>
<main>{svg}</main>
<aside hidden aria-label="details"><pre id="details" role="status"></pre></aside>
<script>{js}</script>
</html>
"""
