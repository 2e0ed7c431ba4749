"""Converts a span tree to a Chrome trace, for https://ui.perfetto.dev and chrome://tracing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clawft_trio.codec import encode_json
from clawft_trio.observe.attributes import whole
from clawft_trio.observe.spans import Mark, Span, SpanTree

_PREFIXED_ROLES = frozenset({"retry", "hedge", "failover"})
"""Roles that are prefixed to the name of an attempt."""


def chrome_trace(tree: SpanTree) -> bytes:
    """Return *tree* in the Trace Event Format (JSON): a process per turn, a track per concurrent activity.

    Times are microseconds since the first event.
    """
    events: list[dict[str, Any]] = []
    for process, root in enumerate(tree.roots, 1):
        events.append(_name("process_name", process, 0, root.name))
        events.extend(_tracks(root, process, tree.start, tree.end))
    if tree.marks:
        events.append(_name("process_name", 0, 0, "everything else"))
    events.extend(_mark(mark, 0, 0, tree.start) for mark in tree.marks)
    return encode_json({"traceEvents": events, "displayTimeUnit": "ms"})


def _tracks(root: Span, process: int, zero: float, last: float) -> Iterator[dict[str, Any]]:
    tracks: list[list[Span]] = []
    for parent, span in sorted(_pairs(root), key=lambda pair: pair[1].start):
        track = _track(tracks, parent, span, last)
        if track == len(tracks):
            tracks.append([])
            yield _name("thread_name", process, track, f"{track + 1}")
        tracks[track].append(span)
        yield {
            "ph": "X",
            "name": whole(f"{span.role} {span.name}" if span.role in _PREFIXED_ROLES else span.name),
            "cat": f"{span.kind},{span.status}",
            "pid": process,
            "tid": track,
            "ts": _microseconds(span.start - zero),
            "dur": _microseconds(_end(span, last) - span.start),
            "args": {"kind": span.kind, "status": span.status, **span.attributes},
        }
        yield from (_mark(mark, process, track, zero) for mark in span.marks)


def _pairs(root: Span) -> Iterator[tuple[Span | None, Span]]:
    yield None, root
    for span in root.walk():
        yield from ((span, child) for child in span.children)


def _track(tracks: list[list[Span]], parent: Span | None, span: Span, last: float) -> int:
    """Return the first track where *span* lies inside its parent or does not overlap; the format nests by time."""
    for number, stack in enumerate(tracks):
        while stack and _end(stack[-1], last) <= span.start and stack[-1] is not parent:
            stack.pop()
        if not stack or stack[-1] is parent:
            return number
    return len(tracks)


def _end(span: Span, last: float) -> float:
    return last if span.end is None else span.end


def _mark(mark: Mark, process: int, track: int, zero: float) -> dict[str, Any]:
    return {
        "ph": "i",
        "s": "p",
        "name": mark.name,
        "pid": process,
        "tid": track,
        "ts": _microseconds(mark.at - zero),
        "args": mark.attributes,
    }


def _name(what: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": track, "args": {"name": whole(name)}}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
