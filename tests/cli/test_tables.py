"""The tables of a turn: cell by cell."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from clawft_trio.agent.turn_types import Reply
from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.chat import ChatResponse
from clawft_trio.cli.tables import attempts_table, summary, tools_table
from clawft_trio.cli.words import counted
from clawft_trio.errors import ServerError
from clawft_trio.observe import Event, ToolEnded, ToolStarted


def cells(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*(map(str, column.cells) for column in table.columns), strict=True)]


def record(outcome: str = "ok", **fields: Any) -> AttemptRecord:
    latency = fields.pop("latency", Latency(total=1.5, first_content=0.25))
    return AttemptRecord(target="a/m", outcome=outcome, started=0.0, latency=latency, **fields)  # type: ignore[arg-type]


def test_an_attempt_is_a_row_with_its_times_tokens_and_reason() -> None:
    records = [
        record(usage=Usage(input_tokens=10, output_tokens=3)),
        record("failed", latency=Latency(total=0.0), error=ServerError("down")),
        record("cancelled", why="hedge lost"),
        record("aborted"),
    ]
    assert cells(attempts_table(records)) == [
        ["a/m", "ok", "250 ms", "1500 ms", "10 → 3", ""],
        ["a/m", "failed", "", "0 ms", "", "ServerError"],
        ["a/m", "cancelled", "250 ms", "1500 ms", "", "hedge lost"],
        ["a/m", "aborted", "250 ms", "1500 ms", "", ""],
    ]


def test_cells_of_an_attempt_are_never_wrapped() -> None:
    table = attempts_table([record()])
    assert [column.no_wrap for column in table.columns] == [True] * 6
    assert (table.box, table.pad_edge) == (None, False)


def started(at: float, name: str) -> Event:
    return ToolStarted(at=at, tool=name, tool_call_id=name, turn_id="t")


def ended(at: float, name: str, outcome: Any = "ok") -> Event:
    return ToolEnded(at=at, tool=name, tool_call_id=name, turn_id="t", outcome=outcome, duration=0.1)


def test_tool_calls_are_bars_on_a_common_time_of_forty_characters() -> None:
    table = tools_table(
        [
            started(10.0, "a"),
            started(12.0, "b"),
            started(19.0, "c"),
            ended(12.0, "b", "error"),
            ended(15.0, "a"),
            ended(20.0, "c"),
            ended(20.0, "never begun"),
            started(20.0, "never ended"),
        ]
    )
    assert cells(table) == [
        ["b", " " * 8 + "━", "0 ms"],
        ["a", "━" * 20, "5000 ms"],
        ["c", " " * 36 + "━" * 4, "1000 ms"],
    ]
    bars = [bar for bar in table.columns[1].cells if isinstance(bar, Text)]
    assert [str(bar.style) for bar in bars] == ["red", "green", "green"]
    assert (table.box, table.pad_edge, table.columns[1].no_wrap) == (None, False, True)


@pytest.mark.parametrize("events", [[], [started(1.0, "a")], [ended(1.0, "a")]])
def test_without_a_call_that_ran_the_table_is_empty(events: list[Event]) -> None:
    assert tools_table(events).row_count == 0


def test_a_call_that_takes_no_time_is_one_character() -> None:
    assert cells(tools_table([started(1.0, "a"), ended(1.0, "a")])) == [["a", "━", "0 ms"]]


def reply(rounds: int, attempts: int, usage: Usage | None, cost: Decimal | None) -> Reply[None]:
    answer = ChatResponse(content="x")
    return Reply(
        text="x", finish_reason="stop", provider="a", model="m", usage=usage, cost=cost, latency=Latency(total=1.234),
        attempts=(record(),) * attempts, tools=(), rounds=(answer,) * rounds, session="s", turn_id="t",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            reply(1, 2, Usage(input_tokens=1, output_tokens=5), Decimal("0.0012")),
            "answered by a/m · 1.23 s · 1 round · 2 attempts · 1 token in, 5 out · $0.0012",
        ),
        (reply(2, 1, None, None), "answered by a/m · 1.23 s · 2 rounds · 1 attempt · unpriced"),
        (reply(0, 0, None, Decimal("1E-7")), "answered by a/m · 1.23 s · 0 rounds · 0 attempts · $0.0000001"),
    ],
)
def test_the_summary_of_a_turn_is_one_line(given: Reply[None], line: str) -> None:
    assert summary(given).plain == line


@pytest.mark.parametrize(
    ("number", "plural", "text"),
    [
        (0, "", "0 entrys"),
        (1, "", "1 entry"),
        (2, "", "2 entrys"),
        (1, "entries", "1 entry"),
        (2, "entries", "2 entries"),
    ],
)
def test_a_number_has_its_noun_in_singular_or_plural(number: int, plural: str, text: str) -> None:
    assert counted(number, "entry", plural) == text
