"""Where the parts of a timeline are drawn, by table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from clawft_trio.observe import SpanTree, timeline_html, timeline_svg
from clawft_trio.observe.spans import Mark, Span
from clawft_trio.observe.timeline import nice_step

SVG = "{http://www.w3.org/2000/svg}"


def span(kind: str, name: str, start: float, end: float | None, **fields: Any) -> Span:
    return Span(kind=kind, name=name, start=start, end=end, **{"status": "ok", **fields})  # type: ignore[arg-type]


def drawn(*roots: Span, marks: tuple[Mark, ...] = (), end: float = 100.0) -> ET.Element:
    return ET.fromstring(timeline_svg(SpanTree(roots=roots, marks=marks, start=0.0, end=end)))


def by_class(picture: ET.Element, tag: str, name: str) -> list[ET.Element]:
    return [one for one in picture.iter(f"{SVG}{tag}") if name in one.get("class", "").split()]


def x(at: float) -> float:
    return round(300 + at / 100 * 876, 2)


@pytest.mark.parametrize(
    ("kind", "start", "end", "where", "place", "anchor"),
    [
        ("tool", 0.0, 50.0, "after", x(50) + 6, "start"),
        ("tool", 0.0, 81.0, "after", x(81) + 6, "start"),
        ("tool", 0.0, 81.05, "after", x(81.05) + 6, "start"),
        ("tool", 0.0, 81.06, "inside", x(0) + 6, "start"),
        ("tool", 0.0, 100.0, "inside", x(0) + 6, "start"),
        ("tool", 19.4, 100.0, "inside", x(19.4) + 6, "start"),
        ("tool", 19.5, 100.0, "before", x(19.5) - 6, "end"),
        ("tool", 90.0, 100.0, "before", x(90) - 6, "end"),
        ("turn", 0.0, 100.0, "named", 288, "end"),
        ("server", 90.0, 100.0, "named", 288, "end"),
    ],
)
def test_the_text_of_a_bar_is_where_there_is_room(
    kind: str, start: float, end: float, where: str, place: float, anchor: str
) -> None:
    (note,) = by_class(drawn(span(kind, "x", start, end)), "text", "note")
    assert (note.get("class"), note.get("text-anchor")) == (f"note {where}", anchor)
    assert float(note.get("x", "")) == pytest.approx(place, abs=0.01)
    assert (note.get("data-a"), note.get("data-b"), note.get("y")) == (f"{start:.9g}", f"{end:.9g}", "16")


@pytest.mark.parametrize(
    ("at", "aside"),
    [(49.0, 0), (49.35, 1), (50.0, 1), (53.3, 1), (53.5, 0), (80.0, 0)],
)
def test_the_text_after_a_bar_leaves_room_for_the_marks_at_its_end(at: float, aside: int) -> None:
    (note,) = by_class(drawn(span("tool", "x", 0.0, 50.0, marks=[Mark(name="noted", at=at)])), "text", "note")
    assert note.get("data-marks") == str(aside)
    assert float(note.get("x", "")) == pytest.approx(x(50) + 6 + 11 * aside, abs=0.01)


def test_the_text_begins_after_the_wait_before_its_bar() -> None:
    lock = span("lock", "lock a", 10.0, 90.0)
    (note,) = by_class(drawn(span("tool", "x", 90.0, 100.0, children=[lock])), "text", "note")
    assert (note.get("class"), note.get("data-a")) == ("note inside", "10")


@pytest.mark.parametrize(
    ("kind", "height", "y"), [("tool", "17", "3.5"), ("turn", "6", "9"), ("server", "6", "9"), ("attempt", "17", "3.5")]
)
def test_bars_of_turns_and_servers_are_thin(kind: str, height: str, y: str) -> None:
    (bar,) = by_class(drawn(span(kind, "x", 0.0, 50.0)), "rect", "bar")
    assert (bar.get("height"), bar.get("y"), bar.get("width")) == (height, y, f"{x(50) - 300:.2f}")


def test_a_wait_is_thin_and_a_lock_is_not() -> None:
    inner = [span("wait", "wait", 0.0, 10.0), span("lock", "lock a", 10.0, 20.0)]
    bars = by_class(drawn(span("tool", "x", 0.0, 50.0, children=inner)), "rect", "bar")
    assert [(bar.get("class"), bar.get("height")) for bar in bars] == [
        ("bar", "17"),
        ("wait ok bar", "6"),
        ("lock ok bar", "17"),
    ]


def test_a_bar_of_no_time_can_be_seen() -> None:
    (bar,) = by_class(drawn(span("tool", "x", 50.0, 50.0)), "rect", "bar")
    assert (bar.get("width"), bar.get("x")) == ("2.00", str(x(50)))


@pytest.mark.parametrize(("rows", "height"), [(60, 24), (61, 18), (150, 18), (151, 15)])
def test_rows_are_lower_above_sixty_and_above_a_hundred_and_fifty(rows: int, height: int) -> None:
    picture = drawn(*(span("tool", "x", 0.0, 1.0) for _ in range(rows)))
    assert (picture.get("data-row"), picture.get("height")) == (str(height), str(28 + rows * height + 8))
    groups = by_class(picture, "g", "row")
    assert [group.get("transform") for group in groups[:2]] == ["translate(0,0)", f"translate(0,{height})"]


@pytest.mark.parametrize(("extra", "text", "below"), [(0, "", 8), (1, "… and 1 more rows, not drawn", 20)])
def test_three_thousand_rows_are_drawn_and_the_others_counted(extra: int, text: str, below: int) -> None:
    picture = timeline_svg(
        SpanTree(roots=tuple(span("tool", "x", 0.0, 1.0) for _ in range(3000 + extra)), start=0.0, end=1.0)
    )
    height = 28 + 3000 * 15 + below
    assert f'height="{height}" viewBox="0 0 1200 {height}"' in picture
    assert (text or "more rows") in picture or not text
    assert ("more rows" in picture) is bool(extra)
    assert not extra or f'y="{height - 6}">{text}' in picture


@pytest.mark.parametrize(
    ("kind", "role", "depth", "name", "shown"),
    [
        ("tool", "", 0, "x" * 41, "x" * 41),
        ("tool", "", 0, "x" * 42, "x" * 40 + "…"),
        ("turn", "", 0, "x" * 31, "x" * 31),
        ("turn", "", 0, "x" * 32, "x" * 30 + "…"),
        ("attempt", "first", 0, "x" * 41, "x" * 41),
        ("attempt", "retry", 0, "x" * 36, "x" * 36),
        ("attempt", "retry", 0, "x" * 37, "x" * 35 + "…"),
        ("tool", "", 1, "x" * 39, "x" * 39),
        ("tool", "", 1, "x" * 40, "x" * 38 + "…"),
    ],
)
def test_a_name_is_cut_to_the_room_beside_its_indent_and_its_role(
    kind: str, role: str, depth: int, name: str, shown: str
) -> None:
    one = span(kind, name, 0.0, 1.0, role=role)
    roots = [one] if not depth else [span("turn", "t", 0.0, 1.0, children=[one])]
    (*_, text) = by_class(drawn(*roots), "text", "name")
    badge = f"{role} " if role not in {"", "first"} else ""
    assert "".join(text.itertext()) == badge + shown
    assert (text.get("x"), text.get("y")) == (str(10 + 16 * depth), "16.0")


def test_marks_of_one_moment_are_side_by_side() -> None:
    names = ("retry_scheduled", "failed_over", "routed", "hedge_started")
    marks = [Mark(name=name, at=at) for name, at in zip(names, (60.0, 50.0, 50.0, 50.5), strict=True)]
    found = by_class(drawn(span("tool", "x", 0.0, 99.0, marks=marks)), "g", "mark")
    assert [(mark.get("class"), mark.get("data-a"), mark.get("data-aside")) for mark in found] == [
        ("mark failover", "50", "0.00"),
        ("mark note", "50", "11.00"),
        ("mark hedge", "50.5", "17.62"),
        ("mark retry", "60", "0.00"),
    ]
    assert found[0].get("transform") == f"translate({x(50):.2f},12)"


@pytest.mark.parametrize(("number", "label"), [(1, "1 event"), (2, "2 events")])
def test_marks_outside_of_turns_have_the_first_row(number: int, label: str) -> None:
    marks = tuple(Mark(name="bus_pressure", at=float(at)) for at in range(number))
    picture = drawn(span("tool", "x", 0.0, 1.0), marks=marks)
    loose, row = by_class(picture, "g", "row")
    assert (loose.get("class"), loose.get("aria-label")) == ("row loose", f"outside of turns: {label}")
    assert row.get("transform") == "translate(0,24)"
    assert [mark.get("class") for mark in by_class(loose, "g", "mark")] == ["mark pressure"] * number


@pytest.mark.parametrize(
    ("role", "before", "start", "follows"), [("retry", 20.0, 30.0, 20.0), ("hedge", 50.0, 30.0, 30.0)]
)
def test_a_later_attempt_is_linked_to_the_one_before_it(role: str, before: float, start: float, follows: float) -> None:
    attempts = [span("attempt", "a", 0.0, before, role="first"), span("attempt", "b", start, 60.0, role=role)]
    (link,) = by_class(drawn(span("call", "c", 0.0, 60.0, children=attempts)), "path", "link")
    assert (link.get("class"), link.get("data-a"), link.get("data-b")) == (f"link {role}", f"{follows:g}", f"{start:g}")
    assert link.get("d") == f"M{x(follows)},-3V12H{x(start)}"


def test_the_axis_has_about_eight_steps() -> None:
    (grid,) = by_class(drawn(span("tool", "x", 0.0, 100.0)), "g", "grid")
    assert [text.text for text in grid.iter(f"{SVG}text")] == ["0 s", "20 s", "40 s", "60 s", "80 s", "100 s"]
    assert [text.get("x") for text in grid.iter(f"{SVG}text")] == [str(x(at)) for at in range(0, 101, 20)]
    assert {text.get("y") for text in grid.iter(f"{SVG}text")} == {"17"}


@pytest.mark.parametrize(
    ("about", "step"),
    [(1.0, 1.0), (1.1, 2.0), (2.0, 2.0), (2.1, 5.0), (5.0, 5.0), (5.1, 10.0), (0.03, 0.05), (70, 100)],
)
def test_a_step_is_the_next_of_one_two_five(about: float, step: float) -> None:
    assert nice_step(about) == pytest.approx(step)


def legend(*roots: Span, marks: tuple[Mark, ...] = ()) -> list[str]:
    page = timeline_html(SpanTree(roots=roots, marks=marks, start=0.0, end=1.0))
    inner = page.partition('<p class="legend">')[2].partition("</p>")[0]
    return [re.sub("<[^>]*>", "", one) for one in inner.split("</span>") if one]


@pytest.mark.parametrize(
    ("one", "meanings"),
    [
        (span("turn", "t", 0.0, 1.0), ["turn"]),
        (span("server", "f", 0.0, None, status="open"), ["MCP server"]),
        (span("call", "c", 0.0, 1.0), ["call of a model"]),
        (span("attempt", "a", 0.0, 1.0), ["attempt: answered"]),
        (span("attempt", "a", 0.0, 1.0, role="hedge"), ["attempt of a hedge: answered"]),
        (span("attempt", "a", 0.0, 1.0, status="failed", role="hedge"), ["failed"]),
        (span("attempt", "a", 0.0, 1.0, status="aborted"), ["attempt: answered"]),
        (span("attempt", "a", 0.0, 1.0, status="cancelled"), ["cancelled"]),
        (span("attempt", "a", 0.0, None, status="open"), ["not ended"]),
        (span("tool", "x", 0.0, 1.0), ["tool"]),
        (span("request", "tools/call", 0.0, 1.0), ["request to an MCP server"]),
        (span("call", "c", 0.0, 1.0, children=[span("wait", "w", 0.0, 1.0)]), ["call of a model", "waiting"]),
        (span("tool", "x", 0.0, 1.0, children=[span("lock", "l", 0.0, 1.0)]), ["tool", "waiting for a lock"]),
        (
            span("call", "c", 0.0, 1.0, children=[span("attempt", "a", 0.0, 1.0)]),
            ["call of a model", "attempt: answered"],
        ),
    ],
)
def test_the_legend_has_what_is_drawn_and_nothing_else(one: Span, meanings: list[str]) -> None:
    assert legend(one) == meanings


@pytest.mark.parametrize(
    ("one", "sizes"),
    [
        (span("turn", "t", 0.0, 1.0), [("5", "4")]),
        (span("server", "s", 0.0, 1.0), [("5", "4")]),
        (span("tool", "x", 0.0, 1.0), [("2", "10")]),
        (span("call", "c", 0.0, 1.0, children=[span("wait", "w", 0.0, 1.0)]), [("2", "10"), ("5", "4")]),
        (span("tool", "x", 0.0, 1.0, children=[span("lock", "l", 0.0, 1.0)]), [("2", "10"), ("2", "10")]),
    ],
)
def test_a_sample_of_the_legend_is_as_thin_as_the_bar(one: Span, sizes: list[tuple[str, str]]) -> None:
    page = timeline_html(SpanTree(roots=(one,), start=0.0, end=1.0))
    inner = page.partition('<p class="legend">')[2].partition("</p>")[0]
    assert re.findall(r'<rect class="[^"]*bar" x="1" y="(\d+)" width="24" height="(\d+)"', inner) == sizes


def test_the_legend_counts_the_marks_of_each_kind() -> None:
    marks = tuple(Mark(name=name, at=0.0) for name in ("undeliverable", "message_dropped", "noted", "routed", "noted"))
    assert legend(span("turn", "t", 0.0, 1.0), marks=marks) == ["turn", "2 message dropped", "3 other event"]


def test_bars_are_drawn_beside_the_names_and_names_beside_the_bars() -> None:
    picture = drawn(span("tool", "x", 0.0, 1.0), marks=(Mark(name="bus_pressure", at=0.0),))
    height = int(picture.get("height", ""))
    clips = {one.get("id"): one.find(f"{SVG}rect") for one in picture.iter(f"{SVG}clipPath")}
    found = {
        name: [rect.get(key) for key in ("x", "y", "width", "height")]
        for name, rect in clips.items()
        if rect is not None
    }
    assert found == {
        "time": ["294", f"-{height}", "906", f"{3 * height}"],
        "names": ["0", f"-{height}", "290", f"{3 * height}"],
    }
    loose = by_class(picture, "text", "name")[0]
    assert (loose.text, loose.get("x"), loose.get("y")) == ("outside of turns", "10", "16")


def test_times_are_drawn_from_the_start_of_the_tree() -> None:
    tree = SpanTree(roots=(span("tool", "x", 1020.0, 1050.0),), start=1000.0, end=1100.0)
    (bar,) = by_class(ET.fromstring(timeline_svg(tree)), "rect", "bar")
    assert (bar.get("x"), bar.get("width")) == (str(x(20)), f"{x(50) - x(20):.2f}")
    assert (bar.get("data-a"), bar.get("data-b")) == ("20", "50")
