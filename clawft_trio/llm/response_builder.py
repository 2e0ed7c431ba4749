"""Builds one answer while it arrives, without I/O: the part common to all dialects.

A `ResponseReader` takes bytes and returns the events that they complete, wherever the bytes were split. It stores the
text and nothing else per piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from clawft_trio.attempts import Usage
from clawft_trio.chat import (
    CALLS_MAY_RUN,
    ChatResponse,
    Citation,
    Discarded,
    GrowingText,
    Opaque,
    Part,
    ReasoningDelta,
    StreamEvent,
    Text,
    TextDelta,
    ToolCall,
    UsageReport,
)
from clawft_trio.llm.tool_calls import ToolCallAssembler, ready
from clawft_trio.llm.usage import UsageReading

INCOMPLETE = "incomplete"
"""The `finish_reason` of a partial response, which has received none."""

CUT_SHORT = frozenset({"length", "content_filter", "pause_turn", INCOMPLETE})
"""Finish reasons after which the last tool call may be incomplete even when it parses."""

_OBJECT = 100
"""Characters counted for an object in addition to its content."""

MAX_ANSWER = 32 * 1024 * 1024
"""Largest answer in characters: text, reasoning, tool arguments and kept blocks together."""

PAUSED = "pause_turn"
"""The provider paused between its own tools; it continues when it gets this answer in the history."""

_OPENAI_WORDS: Mapping[str, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "complete": "stop",
    "completed": "stop",
    "finish_reason_stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "content-filter": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "image_safety": "content_filter",
    "error_toxic": "content_filter",
}

OPENAI_FINISH_REASONS: Mapping[str, str] = MappingProxyType(_OPENAI_WORDS)
"""Finish reasons of OpenAI-compatible servers for answers that ended normally or were cut, in lower case.

They include the names used by Google and by gateways. Any other word (`error`, `abort`, `network_error`,
`malformed_function_call`, `insufficient_system_resource`, …) is a failure of the provider.
"""

ANTHROPIC_FINISH_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "stop": "stop",
        "tool_use": "tool_calls",
        "tool_calls": "tool_calls",
        "max_tokens": "length",
        "length": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
        "content_filter": "content_filter",
        # The words of Bedrock.
        "content_filtered": "content_filter",
        "guardrail_intervened": "content_filter",
        "pause_turn": PAUSED,
        # After a compaction that was asked to pause, the model continues when it gets the answer in the history.
        "compaction": PAUSED,
    }
)
"""The finish reasons of the Messages API, with the same meaning."""


def finish_word(value: Any) -> str:
    """Return a finish reason as one word; some servers send an object that contains it."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("type", "reason", "finish_reason") if value.get(name)), None)
    if value is None or value in ("", "null"):
        # DashScope sends the text "null" while the answer has not ended.
        return ""
    return value if isinstance(value, str) else f"{type(value).__name__}:{value!s}"[:80]


def unknown_finish(word: str) -> dict[str, Any]:
    """Return the error for an answer that ended with a word outside the table of its dialect."""
    return {"error": {"code": word[:80], "message": f"the provider ended its answer with {word[:80]!r}"}}


def _no_blocks(reasoning: str, calls: tuple[ToolCall, ...]) -> tuple[Opaque, ...]:  # noqa: ARG001 - nothing of both
    """Return no blocks."""
    return ()


class ResponseBuilder:
    """The content of one answer, as far as it has arrived.

    Args:
      provider: name of the provider.
      model: the requested model; replaced by the name that the provider reports.
      taken_ids: tool call ids that a generated id must not repeat.
    """

    __slots__ = (
        "_taken_ids",
        "blocks",
        "calls",
        "citations",
        "details",
        "finish_reason",
        "id",
        "kept",
        "model",
        "parts",
        "provider",
        "raw_finish_reason",
        "reasoning",
        "refusal",
        "service_tier",
        "text",
        "usage",
        "usage_problem",
    )

    def __init__(self, *, provider: str, model: str, taken_ids: Iterable[str] = ()) -> None:
        self.provider: str = provider
        self.model: str = model
        self._taken_ids = tuple(taken_ids)
        self.id: str = ""
        #: complete parts; `text` comes after them
        self.parts: list[Part] = []
        self.text: GrowingText = GrowingText()
        #: sources of `text`
        self.citations: list[Citation] = []
        self.reasoning: GrowingText = GrowingText()
        self.refusal: list[str] = []
        self.calls: ToolCallAssembler = ToolCallAssembler(self._taken_ids)
        self.usage: Usage | None = None
        #: why the reported usage is refused, or does not add up; empty when it is valid
        self.usage_problem: str = ""
        #: one of this package's finish reasons, once the provider sent one that its dialect's table has
        self.finish_reason: str | None = None
        self.raw_finish_reason: str = ""
        self.service_tier: str = ""
        #: fields that the provider sent in addition to the content
        self.details: dict[str, Any] = {}
        #: characters in `parts` and in other objects that a dialect keeps
        self.kept: int = 0
        #: returns the blocks that the provider requires back, made from the reasoning and the calls
        self.blocks: Callable[[str, tuple[ToolCall, ...]], Iterable[Opaque]] = _no_blocks

    @property
    def size(self) -> int:
        """Number of characters that this answer holds in memory."""
        return self.kept + self.text.tell() + self.reasoning.tell() + self.calls.size

    def again(self) -> ResponseBuilder:
        """Return an empty builder for another answer to the same request."""
        return ResponseBuilder(provider=self.provider, model=self.model, taken_ids=self._taken_ids)

    def shown(self) -> Discarded | None:
        """Return the content that consumers have received; None when they have received nothing."""
        text = "".join(part.text for part in self.parts if isinstance(part, Text)) + self.text.getvalue()
        reasoning = self.reasoning.getvalue()
        return Discarded(text, reasoning=reasoning) if text or reasoning or self.calls else None

    def keep(self, part: Part, size: int = 0) -> None:
        """Append a complete part after the text so far."""
        self.close_text()
        self.parts.append(part)
        self.kept += size + _OBJECT

    def note_details(self, details: Mapping[str, Any]) -> None:
        """Keep fields that no other attribute holds; null is the same as missing."""
        for name, value in details.items():
            if value is not None and value != self.details.get(name):
                self.details[name] = value
                self.count(name, value)

    def count(self, *kept: Any) -> None:
        """Add the size of objects to the size of the answer."""
        self.kept += _OBJECT + len(msgspec.json.encode(kept))

    def count_characters(self, characters: int) -> None:
        """Add a number of characters to the size of the answer."""
        self.kept += characters

    def note_usage(self, reading: UsageReading | None) -> list[UsageReport]:
        """Store the usage of *reading*, and return an event for it when it is new."""
        if reading is None:
            return []
        self.usage_problem = reading.problem
        if reading.usage is None:
            # Refused usage removes the count; missing usage does not change it.
            self.usage = None if reading.problem else self.usage
            return []
        if reading.usage == self.usage:
            return []
        self.usage = reading.usage
        return [UsageReport(reading.usage)]

    def add_text(self, text: str, out: list[StreamEvent]) -> None:
        """Append *text* and add its event to *out*."""
        if text:
            self.text.write(text)
            out.append(TextDelta(text))

    def add_reasoning(self, thought: str, out: list[StreamEvent]) -> None:
        """Append *thought* to the reasoning and add its event to *out*."""
        if thought:
            self.reasoning.write(thought)
            out.append(ReasoningDelta(thought))

    def close_text(self) -> None:
        """End the current text part; later content comes after it."""
        text = self.text.getvalue()
        if text or self.citations:
            self.parts.append(Text(text, citations=tuple(self.citations)))
            self.kept += len(text) + _OBJECT
            self.citations = []
            self.text = GrowingText()

    def partial(self) -> ChatResponse:
        """Return the answer so far, marked as incomplete."""
        return self._response(INCOMPLETE, self.calls.calls(whole=False))

    def whole(self, finish_reason: str) -> ChatResponse:
        """Return the complete answer; *finish_reason* is one of this package's finish reasons."""
        calls = self.calls.calls(whole=finish_reason not in CUT_SHORT)
        # OpenAI ends a forced tool call with `stop`, and many other servers end any tool call so.
        return self._response("tool_calls" if calls and finish_reason == "stop" else finish_reason, calls)

    def _response(self, finish_reason: str, calls: tuple[ToolCall, ...]) -> ChatResponse:
        self.close_text()
        reasoning = self.reasoning.getvalue()
        return ChatResponse(
            content=(*self.parts, *self.blocks(reasoning, calls)),
            tool_calls=calls,
            finish_reason=finish_reason,
            provider=self.provider,
            model=self.model,
            id=self.id,
            usage=self.usage,
            reasoning=reasoning,
            refusal="".join(self.refusal),
            raw_finish_reason=self.raw_finish_reason,
            service_tier=self.service_tier,
            provider_details=MappingProxyType(dict(self.details)),
        )


def closing_events(response: ChatResponse) -> list[StreamEvent]:
    """Return the last events of a complete answer: the tool calls that may be executed."""
    return [*ready(response.tool_calls)] if response.finish_reason in CALLS_MAY_RUN else []


class ResponseReader(Protocol):
    """Reads one answer in one dialect while it arrives."""

    answer: ResponseBuilder
    #: whether the terminal mark was received: only usage may follow, and is waited for briefly
    finished: bool
    #: whether nothing may follow: the last event was received, or the answer failed
    ended: bool
    #: the error object that the provider sent instead of the rest
    error: Any
    #: how the bytes break the protocol; empty while they are valid
    violation: str

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Decode the next bytes of an event stream and return their events."""
        ...

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Decode the complete body of an answer that was not streamed, and return its events."""
        ...

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; a last event without its blank line may still be accepted."""
        ...


def opaque(dialect: str, block: Mapping[str, Any]) -> Opaque:
    """Return a block that is kept and sent back unchanged."""
    return Opaque(dialect, MappingProxyType(dict(block)))
