"""Tables of the attempts and tool calls of a turn, and a one-line summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from clawft_trio.agent.turn_types import Reply
from clawft_trio.attempts import AttemptRecord
from clawft_trio.cli.words import counted
from clawft_trio.observe import Event, ToolEnded, ToolStarted

_BAR = 40
"""Width of a tool's time bar in characters."""

_STYLES = {"ok": "green", "failed": "red", "cancelled": "yellow", "aborted": "yellow"}


def attempts_table(records: Sequence[AttemptRecord]) -> Table:
    """Return a table of every attempt: its target, outcome, times, tokens and reason."""
    table = Table(title="Attempts", title_justify="left", box=None, pad_edge=False)
    table.add_column("target", no_wrap=True, overflow="ellipsis")
    table.add_column("outcome", no_wrap=True)
    for name in ("first", "total", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True, overflow="ellipsis")
    for record in records:
        usage = record.usage
        table.add_row(
            record.target,
            Text(record.outcome, style=_STYLES[record.outcome]),
            _ms(record.latency.first_content),
            _ms(record.latency.total),
            "" if usage is None else f"{usage.input_tokens} → {usage.output_tokens}",
            record.why or ("" if record.error is None else type(record.error).__name__),
        )
    return table


def tools_table(events: Iterable[Event]) -> Table:
    """Return a table of the tool calls on a common time bar."""
    spans = _spans(events)
    table = Table(title="Tools", title_justify="left", box=None, pad_edge=False)
    table.add_column("tool")
    table.add_column("time", no_wrap=True)
    table.add_column("took", justify="right")
    if not spans:
        return table
    first, last = min(start for _, start, _, _ in spans), max(end for _, _, end, _ in spans)
    scale = _BAR / max(last - first, 1e-9)
    for name, start, end, outcome in spans:
        before = int((start - first) * scale)
        length = max(1, round((end - start) * scale))
        bar = Text(" " * before + "━" * length, style="green" if outcome == "ok" else "red")
        table.add_row(name, bar, _ms(end - start))
    return table


def _spans(events: Iterable[Event]) -> list[tuple[str, float, float, str]]:
    """Return tool, start, end and outcome of every call that ran."""
    started: dict[str, float] = {}
    spans: list[tuple[str, float, float, str]] = []
    for event in events:
        if isinstance(event, ToolStarted):
            started[event.tool_call_id] = event.at
        elif isinstance(event, ToolEnded) and event.tool_call_id in started:
            spans.append((event.tool, started.pop(event.tool_call_id), event.at, event.outcome))
    return spans


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.0f} ms"


def summary(reply: Reply) -> Text:
    """Return one line: the target that answered, seconds, rounds, attempts, tokens and cost."""
    parts = [
        f"answered by {reply.provider}/{reply.model}",
        f"{reply.latency.total:.2f} s",
        counted(len(reply.rounds), "round"),
        counted(len(reply.attempts), "attempt"),
    ]
    if reply.usage is not None:
        parts.append(f"{counted(reply.usage.input_tokens, 'token')} in, {reply.usage.output_tokens} out")
    parts.append("unpriced" if reply.cost is None else f"${reply.cost:f}")
    return Text(" · ".join(parts), style="bold")
