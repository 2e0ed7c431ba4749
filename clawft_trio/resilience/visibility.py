"""Delivery of an unfinished attempt's content to the consumer, and its retraction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import attrs
import trio

from clawft_trio.chat import (
    CONTENT,
    Call,
    ChatResponse,
    Discarded,
    Emit,
    GrowingText,
    ReasoningDelta,
    Reset,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallReady,
    ToolCallSealed,
)
from clawft_trio.errors import ConsumerLeft, ProviderError
from clawft_trio.observe.events import Retracted
from clawft_trio.resilience.strategy import Attempt, Policy

T = TypeVar("T")


class Shown:
    """An `emit` that stores the content sent since the last `Reset`, to retract it.

    Memory grows with the text only: nothing is kept per event.

    Args:
      emit: receives the events.
      on_call: receives each tool call as soon as its arguments are complete; sync, and never raises.
      before_reset: awaited before a `Reset` is sent.
    """

    __slots__ = ("_before_reset", "_calls", "_on_call", "_reasoning", "_text", "content", "to")

    def __init__(
        self,
        emit: Emit,
        *,
        on_call: Callable[[ToolCall], None] | None = None,
        before_reset: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        #: receives the events
        self.to: Emit = emit
        self._on_call = on_call
        self._before_reset = before_reset
        #: whether the consumer may have received content
        self.content: bool = False
        self._text = GrowingText()
        self._reasoning: GrowingText | None = None
        self._calls: list[ToolCall] = []

    def __call__(self, event: StreamEvent) -> Awaitable[None]:
        # Stored before delivery, because a cancelled delivery may have reached the consumer. Not a coroutine function,
        # because one more coroutine per event and layer is the main cost of a stream.
        kind = type(event)
        if kind is TextDelta:
            self.content = True
            self._text.write(event.text)  # type: ignore[union-attr]  # `kind` decides, faster than isinstance
        elif isinstance(event, Reset):
            return self._take_back(event)
        else:
            self._note(event)
        return self.to(event)

    def _note(self, event: StreamEvent) -> None:
        if isinstance(event, CONTENT):
            self.content = True
            if isinstance(event, ToolCallSealed | ToolCallReady):
                if self._on_call is not None:
                    self._on_call(event.call)
                if isinstance(event, ToolCallReady):
                    self._calls.append(event.call)
            elif isinstance(event, ReasoningDelta):
                self._reasoning = self._reasoning or GrowingText()
                self._reasoning.write(event.text)

    @property
    def text(self) -> GrowingText:
        """The text since the last `Reset`."""
        return self._text

    async def _take_back(self, event: Reset) -> None:
        # Cleared only after delivery: a cancelled `Reset` may not have arrived and has to be sent again, or the next
        # attempt's content would follow this one's.
        if self._before_reset is not None:
            await self._before_reset()
        try:
            await self.to(event)
        except ConsumerLeft:
            self._forget()
            raise
        self._forget()

    def _forget(self) -> None:
        self.content = False
        self._text = GrowingText()
        self._reasoning = None
        self._calls = []

    def so_far(self) -> Discarded:
        """Return the content that the consumer may have received."""
        reasoning = "" if self._reasoning is None else self._reasoning.getvalue()
        return Discarded(self._text.getvalue(), reasoning=reasoning, tool_calls=tuple(self._calls))

    async def retract(self, cause: BaseException, call: Call) -> None:
        """Send a `Reset` to the consumer, if it may have received content.

        Cancellation: the `Reset` may have been sent.
        """
        if self.content:
            discarded = self.so_far()
            call.observer(Retracted(characters=len(discarded.text), cause=cause, call_id=call.id, turn_id=call.turn_id))
            await self(Reset(discarded, cause))


def shown_of(call: Call) -> Shown:
    """Return a `Shown` for *call*: its own `emit` if that is an unused `Shown`, so that the text is stored once."""
    emit = call.emit
    return emit if isinstance(emit, Shown) and not emit.content else Shown(emit)


def partial_response(seen: Discarded, *, provider: str = "", model: str = "") -> ChatResponse | None:
    """Convert the content of a failed attempt to a response; None without content."""
    if not (seen.text or seen.reasoning or seen.tool_calls):
        return None
    return ChatResponse(
        content=seen.text,
        reasoning=seen.reasoning,
        tool_calls=seen.tool_calls,
        finish_reason="incomplete",
        provider=provider,
        model=model,
    )


@attrs.frozen(kw_only=True)
class Live(Policy):
    """Forward every event at once, and retract the content when the attempt fails.

    With `after_content="raise"` an attempt that fails after content is final: its error is neither retried nor cured
    elsewhere, nothing is retracted, and the content is attached as `partial`. Put it inside the strategies that retry
    and around the clocks, so that it gets their errors.
    """

    after_content: Literal["restart", "raise"] = "restart"

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, and forward its events as they arrive.

        Cancellation: as for the attempt.
        """
        if self.after_content == "restart":
            return await attempt(call)
        shown = shown_of(call)
        try:
            return await attempt(call.showing(shown))
        except ProviderError as exc:
            if shown.content:
                _make_final(exc, shown.so_far())
            raise


def _make_final(exc: ProviderError, seen: Discarded) -> None:
    exc.retryable = exc.curable_elsewhere = False
    exc.partial = exc.partial or partial_response(seen, provider=exc.provider, model=exc.model)


class _Held:
    """Delayed events; adjacent texts are joined, so that memory grows with the text only."""

    __slots__ = ("_events", "_text", "size")

    def __init__(self) -> None:
        self.size = 0
        self._events: list[StreamEvent] = []
        self._text: GrowingText | None = None

    def keep(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta):
            self._text = self._text or GrowingText()
            self._text.write(event.text)
            self.size += len(event.text)
        else:
            self._close_text()
            self._events.append(event)
            self.size += _size(event)

    def _close_text(self) -> None:
        if self._text is not None:
            self._events.append(TextDelta(self._text.getvalue()))
            self._text = None

    def clear(self) -> None:
        self.size, self._events, self._text = 0, [], None

    async def release(self, emit: Emit) -> None:
        self._close_text()
        events, self._events, self.size = self._events, [], 0
        for event in events:
            await emit(event)


def _size(event: StreamEvent) -> int:
    if isinstance(event, ReasoningDelta):
        return len(event.text)
    # A tool call or a fragment of one; other events are small.
    return 64 + len(getattr(event, "arguments", ""))


@attrs.frozen(kw_only=True)
class Hold(Policy):
    """Send nothing before the attempt has succeeded: the consumer's content is never retracted.

    Content beyond `max_characters` (about 1 MiB, far beyond any answer) commits the attempt: it is sent, and the rest
    is live, as a full retry buffer commits a call in gRPC.
    """

    max_characters: int = attrs.field(default=1_000_000, validator=attrs.validators.ge(1))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, then send all of its events.

        Cancellation: as for the attempt; delayed events are discarded.
        """
        return await _deliver_later(attempt, call, characters=self.max_characters, seconds=None)


@attrs.frozen(kw_only=True)
class Preview(Policy):
    """Delay the beginning of an answer, then forward events at once: early failures stay invisible.

    The delay ends after `characters`, or with the first event that comes `seconds` after the first content,
    whichever is first; at the latest with the answer.
    """

    seconds: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    characters: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))

    def __attrs_post_init__(self) -> None:
        if self.seconds is None and self.characters is None:
            raise ValueError("Preview needs seconds or characters")

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, and delay its beginning.

        Cancellation: as for the attempt; delayed events are discarded.
        """
        return await _deliver_later(attempt, call, characters=self.characters, seconds=self.seconds)


async def _deliver_later(attempt: Attempt[T], call: Call, *, characters: int | None, seconds: float | None) -> T:
    gate = _Gate(call.emit, characters, seconds)
    result = await attempt(call.showing(gate))
    await gate.open()
    return result


class _Gate:
    """An `emit` that delays events until it opens."""

    __slots__ = ("_characters", "_emit", "_held", "_live", "_opens_at", "_seconds", "_shown")

    def __init__(self, emit: Emit, characters: int | None, seconds: float | None) -> None:
        self._emit = emit
        self._characters = characters
        self._seconds = seconds
        self._held = _Held()
        self._live = False
        self._shown = False
        self._opens_at: float | None = None

    async def __call__(self, event: StreamEvent) -> None:
        if isinstance(event, Reset):
            await self._reset(event)
        elif self._live:
            await self._emit(event)
        else:
            self._held.keep(event)
            if self._is_due(event):
                await self.open()

    async def _reset(self, event: Reset) -> None:
        # The delay starts again for the next attempt; a consumer that received nothing gets no `Reset`.
        if self._live:
            await self._emit(event)
        self._live, self._opens_at = False, None
        self._held.clear()

    def _is_due(self, event: StreamEvent) -> bool:
        if self._characters is not None and self._held.size > self._characters:
            return True
        if self._seconds is None or not isinstance(event, CONTENT):
            return False
        now = trio.current_time()
        if self._opens_at is None:
            self._opens_at = now + self._seconds
        return now >= self._opens_at

    async def open(self) -> None:
        self._live = True
        await self._held.release(self._emit)
