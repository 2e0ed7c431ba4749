"""Replays the events of a call, without retracted text, to check what a consumer was shown."""

from __future__ import annotations

from collections.abc import AsyncIterable

import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import (
    CALLS_MAY_RUN,
    ChatResponse,
    Discarded,
    ReasoningDelta,
    Reset,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    UsageReport,
)
from clawft_trio.testing.scripted import is_json_object


class Screen:
    """Replays the events of a call and keeps what is shown now.

    It can be used wherever events are passed to:

        screen = Screen()
        response = await provider.complete(request, Call(emit=screen.emit))
        screen.check(response)          # what was seen is what was returned

        open_stream(provider, request)  # async for event in stream: screen(event)

    Args:
      stop_after: return False for this event and every later one, as a consumer that ends the call.
      pause: seconds that `emit` takes for each event, as a slow consumer.
    """

    def __init__(self, *, stop_after: int | None = None, pause: float = 0.0) -> None:
        self._stop_after = stop_after
        self._pause = pause
        #: number of events so far
        self.events: int = 0
        #: every `Reset`, in order
        self.resets: list[Reset] = []
        #: inconsistencies between the events, in words
        self.faults: list[str] = []
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._fragments: dict[int, list[ToolCallDelta]] = {}
        self._tool_calls: list[ToolCall] = []
        #: last usage reported since the last reset
        self.usage: Usage | None = None

    def __repr__(self) -> str:
        return f"<Screen {self.text[:60]!r}, {len(self._tool_calls)} tool calls, {len(self.resets)} resets>"

    @property
    def text(self) -> str:
        """Text that is shown now."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """Reasoning that is shown now."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Complete tool calls that are shown now."""
        return tuple(self._tool_calls)

    @property
    def empty(self) -> bool:
        """Whether nothing is shown now."""
        return not (self._text or self._reasoning or self._fragments or self._tool_calls)

    def __call__(self, event: StreamEvent) -> bool:
        """Process one event; return False to end the call."""
        self.events += 1
        self._show(event)
        return self._stop_after is None or self.events < self._stop_after

    async def emit(self, event: StreamEvent) -> None:
        """Process one event, as `Call.emit`.

        Cancellation: the event has been processed.
        """
        self(event)
        if self._pause:
            await trio.sleep(self._pause)

    async def follow(self, events: AsyncIterable[StreamEvent]) -> None:
        """Process *events* until they end, or until `stop_after` is reached.

        Cancellation: the events so far have been processed.
        """
        async for event in events:
            if not self(event):
                return

    def _show(self, event: StreamEvent) -> None:
        match event:
            case TextDelta(text):
                self._text.append(text)
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case ToolCallDelta():
                self._fragments.setdefault(event.index, []).append(event)
            case ToolCallReady(call):
                self._ready(call)
            case UsageReport(usage):
                self.usage = usage
            case Reset():
                self._reset(event)

    def _ready(self, call: ToolCall) -> None:
        if any(call.id == other.id for other in self._tool_calls):
            self.faults.append(f"tool call {call.id!r} came twice")
        known = [parts for parts in self._fragments.values() if any(part.id == call.id for part in parts)]
        if known and "".join(part.arguments for part in known[0]) != call.arguments:
            self.faults.append(f"tool call {call.id!r} is not what its fragments say: {call.arguments}")
        self._tool_calls.append(call)

    def _reset(self, reset: Reset) -> None:
        shown = Discarded(self.text, reasoning=self.reasoning, tool_calls=self.tool_calls)
        if reset.discarded != shown:
            self.faults.append(f"reset {len(self.resets)} discards {reset.discarded}, and {shown} was shown")
        self.resets.append(reset)
        self._clear()

    def check(self, response: ChatResponse) -> None:
        """Assert that what is shown is the content of *response*, and that the events were consistent.

        Raises:
          AssertionError: it is not; the message has both.
        """
        seen = (self.text, self.reasoning, self.tool_calls)
        # A call with invalid arguments, or one that may be incomplete, is returned so that the model gets an error as
        # its result, and is never emitted as ready.
        whole = response.finish_reason in CALLS_MAY_RUN
        ready = tuple(call for call in response.tool_calls if whole and is_json_object(call.arguments))
        returned = (response.text, response.reasoning, ready)
        if seen != returned:
            raise AssertionError(f"seen {seen}, returned {returned}")
        if self.faults:
            raise AssertionError("; ".join(self.faults))
