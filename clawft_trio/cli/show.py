"""What a person sees of a turn: text as it comes, what was taken back, and at the end what it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import attrs
import trio
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import SegmentLines
from rich.table import Table
from rich.text import Text

from clawft_trio.agent.question import AgentEvent, Reply, RoundStarted, ToolsAnswered
from clawft_trio.attempts import AttemptRecord
from clawft_trio.chat import Reset, TextDelta
from clawft_trio.errors import ProviderError
from clawft_trio.observe import Event, ToolEnded, ToolStarted
from clawft_trio.tools import ToolAnswer

_BAR = 40
"""Characters of a tool's time bar."""

# Control characters as their pictures; of those above 127 there are none.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t\r"} | dict.fromkeys(range(127, 160))

_STYLES = {"ok": "green", "failed": "red", "cancelled": "yellow", "aborted": "yellow"}


class Transcript:
    """The turn so far, drawn anew as it goes on. Everything stays on the screen, retractions struck through.

    While it goes on, an answer that is longer than the terminal shows its end; afterwards all of it stands there.
    Without a terminal nothing is drawn over: text goes out as it is, to the byte, and what is taken back is said in a
    line of its own.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: list[RenderableType] = []
        self._text = Text()
        self._next_draw = 0.0
        # Drawn from here and not from a refresh thread: nothing runs beside the turn.
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._settle()
        if self._live is not None:
            self._live.update(Group(*self._done))
            self._live.stop()

    def __call__(self, event: AgentEvent) -> None:
        """Take in one event."""
        if isinstance(event, TextDelta):
            self._text.append(_tame(event.text))
            if self._live is None:
                # Not by `print`, which would turn tabs into spaces and `:on:` into a picture.
                self._console.file.write(event.text)
                self._console.file.flush()
        elif isinstance(event, Reset):
            self._retract(event)
        elif isinstance(event, RoundStarted):
            self._settle()
        elif isinstance(event, ToolsAnswered):
            self._settle()
            self._add(_tool_lines(event.answers))
        else:
            return
        if not isinstance(event, TextDelta) or trio.current_time() >= self._next_draw:
            self._draw()

    def _retract(self, reset: Reset) -> None:
        self._text = Text()
        taken = Text(_tame(reset.discarded.text), style="dim strike red")
        why = Text(f"  ↩ taken back: {_cause(reset.cause)}", style="red")
        if self._live is None:
            self._console.print()
            self._console.print(why, soft_wrap=True)
        else:
            self._done += [taken, why]

    def _settle(self) -> None:
        if self._text:
            if self._live is None:
                self._console.print()
            else:
                self._done.append(self._text)
            self._text = Text()

    def _add(self, renderable: RenderableType) -> None:
        if self._live is None:
            self._console.print(renderable, soft_wrap=True)
        else:
            self._done.append(renderable)

    def _draw(self) -> None:
        if self._live is not None:
            began = trio.current_time()
            self._live.update(_Tail(Group(*self._done, self._text)), refresh=True)
            # A drawing costs what the whole text costs: at most half of the time goes into it, or a long answer would
            # be held up by its own picture.
            now = trio.current_time()
            self._next_draw = now + (now - began)


@attrs.frozen
class _Tail:
    """The last lines of a drawing, as many as the terminal has: what is new is at the end."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options, pad=False)
        yield SegmentLines(lines[-max(1, console.height - 1) :], new_lines=True)


def _tame(text: str) -> str:
    """*text* without what a terminal would obey: a model must not move the cursor or fill the clipboard."""
    return text.translate(_PICTURES)


def _cause(exc: BaseException) -> str:
    who = exc.target if isinstance(exc, ProviderError) else ""
    return f"{type(exc).__name__} at {who}" if who else type(exc).__name__


def _tool_lines(answers: Iterable[ToolAnswer]) -> Text:
    lines = Text()
    for answer in answers:
        mark, style = ("✓", "green") if answer.outcome == "ok" else ("✗", "red")
        lines.append(f"  {mark} {_tame(answer.name)}", style=style)
        lines.append(f" {_tame(_short(answer.text))}\n", style="dim")
    lines.rstrip()
    return lines


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."


def attempts_table(records: Sequence[AttemptRecord]) -> Table:
    """Every attempt: who, what came of it, and when."""
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
    """The tool calls side by side on one time bar."""
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
    """Tool, start, end, outcome of every call that ran."""
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
    """One line: who answered, how long it took, how many tokens, what it cost."""
    parts = [
        f"answered by {reply.provider}/{reply.model}",
        f"{reply.latency.total:.2f} s",
        f"{len(reply.rounds)} rounds",
    ]
    if reply.usage is not None:
        parts.append(f"{reply.usage.input_tokens} tokens in, {reply.usage.output_tokens} out")
    parts.append("unpriced" if reply.cost is None else f"${reply.cost:f}")
    return Text(" · ".join(parts), style="bold")
