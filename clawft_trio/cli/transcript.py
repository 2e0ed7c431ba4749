"""Shows a turn while it runs: text, running tools, and retracted text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Self

import attrs
import trio
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import SegmentLines
from rich.text import Text

from clawft_trio.agent.turn_types import AgentEvent, RoundStarted, ToolsAnswered
from clawft_trio.chat import Reset, TextDelta
from clawft_trio.cli.output import sanitize, write_answer
from clawft_trio.cli.progress import SHOW_AFTER
from clawft_trio.errors import ProviderError
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import Event, FailedOver, HedgeStarted, RetryScheduled, ToolEnded, ToolProgress, ToolStarted
from clawft_trio.tools import ToolResult

_STEP = 0.25
"""Seconds between checks for operations that take long."""


class Transcript:
    """The turn so far, redrawn while it runs. Everything stays on the screen; retracted text is struck through.

    While the turn runs, an answer that is longer than the terminal shows its end; afterwards all of it is shown.
    Without a terminal nothing is redrawn: text is written unchanged, and a retraction is noted on a separate line.

    It is called with the events of a turn, and `notice` with those of observers: running tools, retries, failovers. It
    may be entered again for the next turn.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: list[RenderableType] = []
        self._text = Text()
        #: notes about the next attempt: shown after the text that they refer to, which may be retracted first
        self._notes: list[RenderableType] = []
        self._tools: dict[str, _Running] = {}
        self._next_draw = 0.0
        self._heard = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._done, self._text, self._notes = [], Text(), []
        self._tools.clear()
        # Drawn from here and not from a refresh thread: only `following` runs next to the turn.
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._settle()
        if self._live is not None:
            self._live.update(Group(*self._done))
            self._live.stop()
            self._live = None

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[Self, None]:
        """As `with`; operations of more than a second are shown while they run.

        Cancellation: what was shown stays on the screen.
        """
        async with open_hidden_nursery() as nursery:
            with self:
                self._heard = trio.current_time()
                nursery.start_soon(self._follow)
                yield self
            nursery.cancel_scope.cancel(reason="the turn is over")

    async def _follow(self) -> None:
        while True:
            await trio.sleep(_STEP)
            if self._live is not None and any(True for _ in self._activity()):
                self._draw()

    def __call__(self, event: AgentEvent) -> None:
        """Process one event of the turn."""
        self._heard = trio.current_time()
        if isinstance(event, TextDelta):
            if not self._text:
                self._settle()
            self._text.append(sanitize(event.text))
            if self._live is None:
                # Not by `print`, which would convert tabs to spaces and `:on:` to a picture.
                write_answer(event.text, self._console.file)
        elif isinstance(event, Reset):
            self._retract(event)
        elif isinstance(event, RoundStarted):
            self._settle()
        elif isinstance(event, ToolsAnswered):
            self._settle()
            self._tools.clear()
            self._add(_tool_lines(event.answers))
        else:
            return
        if not isinstance(event, TextDelta) or trio.current_time() >= self._next_draw:
            self._draw()

    def notice(self, event: Event) -> None:
        """Process an event of an observer. Shown only on a terminal."""
        if self._live is None:
            return
        if isinstance(event, ToolStarted):
            self._tools[event.tool_call_id] = _Running(event.tool, event.at)
        elif isinstance(event, ToolProgress):
            self._progress(event)
        elif isinstance(event, ToolEnded):
            self._tools.pop(event.tool_call_id, None)
        elif line := trouble(event):
            self._notes.append(Text(f"  {line}", style="yellow"))
        else:
            return
        self._draw()

    def _progress(self, event: ToolProgress) -> None:
        running = self._tools.get(event.tool_call_id)
        if running is not None:
            share = f"{event.done:g}" if event.total is None else f"{event.done:g} of {event.total:g}"
            self._tools[event.tool_call_id] = attrs.evolve(running, progress=f"{share} {event.message}".strip())

    def _retract(self, reset: Reset) -> None:
        self._text = Text()
        taken = Text(sanitize(reset.discarded.text), style="dim strike red")
        why = Text(f"  ↩ taken back: {cause(reset.cause)}", style="red")
        if self._live is None:
            self._console.print()
            self._console.print(why, soft_wrap=True)
        else:
            self._done += [taken, why]
            self._settle()

    def _settle(self) -> None:
        if self._text:
            if self._live is None:
                self._console.print()
            else:
                self._done.append(self._text)
            self._text = Text()
        self._done += self._notes
        self._notes = []

    def _add(self, renderable: RenderableType) -> None:
        if self._live is None:
            self._console.print(renderable, soft_wrap=True)
        else:
            self._done.append(renderable)

    def _activity(self) -> Iterator[Text]:
        """Yield what is shown while no text arrives."""
        now = trio.current_time()
        for running in self._tools.values():
            yield Text(
                f"  ⚙ {sanitize(running.tool)} {_waited(now - running.since)} {sanitize(running.progress)}", style="dim"
            )
        if not self._tools and now - self._heard > SHOW_AFTER:
            yield Text(f"  … waiting for the model {_waited(now - self._heard)}", style="dim")

    def _draw(self) -> None:
        if self._live is not None:
            began = trio.current_time()
            self._live.update(_Tail(Group(*self._done, self._text, *self._notes, *self._activity())), refresh=True)
            # Drawing costs as much as the whole text is long: at most half of the time is spent on it, so that it does
            # not delay a long answer.
            now = trio.current_time()
            self._next_draw = now + (now - began)


@attrs.frozen
class _Running:
    """A running tool."""

    tool: str
    since: float
    progress: str = ""


@attrs.frozen
class _Tail:
    """The last lines of a drawing, as many as the terminal has, because new text is at the end."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options, pad=False)
        yield SegmentLines(lines[-max(1, console.height - 1) :], new_lines=True)


def cause(exc: BaseException | None) -> str:
    """Return the class of *exc*, and its target."""
    who = exc.target if isinstance(exc, ProviderError) else ""
    return f"{type(exc).__name__} at {who}" if who else type(exc).__name__


def trouble(event: Event) -> str:
    """Return a line about a retry, a failover or a hedge; empty for any other event."""
    if isinstance(event, RetryScheduled):
        return f"↻ {cause(event.error)}: retry {event.retry} in {event.wait:.1f} s"
    if isinstance(event, FailedOver):
        return f"→ {event.target} takes over from {event.failed}"
    if isinstance(event, HedgeStarted):
        return f"→ {event.target} is asked beside {event.slow}, which has not answered"
    return ""


def _waited(seconds: float) -> str:
    """Return the duration; empty during the first second."""
    return f"{seconds:.0f} s" if seconds >= SHOW_AFTER else ""


def _tool_lines(answers: Iterable[ToolResult]) -> Text:
    lines = Text()
    for answer in answers:
        mark, style = ("✓", "green") if answer.outcome == "ok" else ("✗", "red")
        lines.append(f"  {mark} {sanitize(answer.name)}", style=style)
        lines.append(f" {sanitize(_short(answer.text))}\n", style="dim")
    lines.rstrip()
    return lines


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
