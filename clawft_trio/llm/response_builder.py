"""One answer while it arrives, without I/O: the part common to all dialects.

A `ResponseReader` takes bytes and returns the events that they complete, however the bytes were cut. It keeps the text
and nothing per piece of it.
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
"""The `finish_reason` of a partial response: there was none."""

CUT_SHORT = frozenset({"length", "content_filter", "pause_turn", INCOMPLETE})
"""Finish reasons after which a last tool call may be incomplete even if it happens to parse."""

_OBJECT = 100
"""Characters that an object is counted for besides its content."""

MAX_ANSWER = 32 * 1024 * 1024
"""Characters of one answer: text, reasoning, tool arguments and kept blocks together."""

PAUSED = "pause_turn"
"""The provider paused between its own tools; it continues when asked again with this answer in the history."""

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
"""All finish reasons of OpenAI-compatible servers with which an answer has ended well or been cut, in lower case.

Google's names and those of gateways are among them. What is not here (`error`, `abort`, `network_error`,
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
        # After a compaction that was asked to pause, the model goes on when it is asked again.
        "compaction": PAUSED,
    }
)
"""The same of the Messages API."""


def finish_word(value: Any) -> str:
    """A finish reason as one word; some servers send an object with the word in it."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("type", "reason", "finish_reason") if value.get(name)), None)
    if value is None or value in ("", "null"):
        # DashScope's own form of "not yet" is the text.
        return ""
    return value if isinstance(value, str) else f"{type(value).__name__}:{value!s}"[:80]


def unknown_finish(word: str) -> dict[str, Any]:
    """The error of an answer that ended with a word outside its dialect's table."""
    return {"error": {"code": word[:80], "message": f"the provider ended its answer with {word[:80]!r}"}}


def _no_blocks(reasoning: str, calls: tuple[ToolCall, ...]) -> tuple[Opaque, ...]:  # noqa: ARG001 - nothing of both
    """Nothing that has to be kept."""
    return ()


class ResponseBuilder:
    """What one attempt at one model has sent so far.

    Args:
      provider: its name.
      model: the model that was asked for; the provider's own word replaces it.
      taken_ids: tool call ids that a made-up one must not repeat.
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
        #: parts that are whole; `text` comes after them
        self.parts: list[Part] = []
        self.text: GrowingText = GrowingText()
        #: the sources of `text`
        self.citations: list[Citation] = []
        self.reasoning: GrowingText = GrowingText()
        self.refusal: list[str] = []
        self.calls: ToolCallAssembler = ToolCallAssembler(self._taken_ids)
        self.usage: Usage | None = None
        #: one of ours, once a finish reason came that the dialect's table has
        #: why the reported usage is refused, or does not add up; empty when nothing is wrong with it
        self.usage_problem: str = ""
        self.finish_reason: str | None = None
        self.raw_finish_reason: str = ""
        self.service_tier: str = ""
        #: what the provider sent beside the content
        self.details: dict[str, Any] = {}
        #: characters in `parts` and in whatever else a dialect keeps
        self.kept: int = 0
        #: makes the blocks that the provider requires back from the reasoning and the calls
        self.blocks: Callable[[str, tuple[ToolCall, ...]], Iterable[Opaque]] = _no_blocks

    @property
    def size(self) -> int:
        """Characters that this answer holds in memory."""
        return self.kept + self.text.tell() + self.reasoning.tell() + self.calls.size

    def again(self) -> ResponseBuilder:
        """An empty answer to the same request."""
        return ResponseBuilder(provider=self.provider, model=self.model, taken_ids=self._taken_ids)

    def shown(self) -> Discarded | None:
        """What consumers were shown of it; None when nothing was shown."""
        text = "".join(part.text for part in self.parts if isinstance(part, Text)) + self.text.getvalue()
        reasoning = self.reasoning.getvalue()
        return Discarded(text, reasoning=reasoning) if text or reasoning or self.calls else None

    def keep(self, part: Part, size: int = 0) -> None:
        """Append a part that is whole, behind the text so far."""
        self.close_text()
        self.parts.append(part)
        self.kept += size + _OBJECT

    def note_details(self, details: Mapping[str, Any]) -> None:
        """Keep what no other field holds; null is the same as missing."""
        for name, value in details.items():
            if value is not None and value != self.details.get(name):
                self.details[name] = value
                self.count(name, value)

    def count(self, *kept: Any) -> None:
        """Count objects to the size of the answer."""
        self.kept += _OBJECT + len(msgspec.json.encode(kept))

    def count_characters(self, characters: int) -> None:
        """Count characters to the size of the answer."""
        self.kept += characters

    def note_usage(self, reading: UsageReading | None) -> list[UsageReport]:
        """Keep the usage that *reading* has, and return the event that reports it when it is a new one."""
        if reading is None:
            return []
        self.usage_problem = reading.problem
        if reading.usage is None:
            # Refused usage clears the count; missing usage does not change it.
            self.usage = None if reading.problem else self.usage
            return []
        if reading.usage == self.usage:
            return []
        self.usage = reading.usage
        return [UsageReport(reading.usage)]

    def add_text(self, text: str, out: list[StreamEvent]) -> None:
        """Append *text*, with its event in *out*."""
        if text:
            self.text.write(text)
            out.append(TextDelta(text))

    def add_reasoning(self, thought: str, out: list[StreamEvent]) -> None:
        """Append *thought* to the reasoning, with its event in *out*."""
        if thought:
            self.reasoning.write(thought)
            out.append(ReasoningDelta(thought))

    def close_text(self) -> None:
        """End the current part of text; later content comes after it."""
        text = self.text.getvalue()
        if text or self.citations:
            self.parts.append(Text(text, citations=tuple(self.citations)))
            self.kept += len(text) + _OBJECT
            self.citations = []
            self.text = GrowingText()

    def partial(self) -> ChatResponse:
        """The answer so far, marked as incomplete."""
        return self._response(INCOMPLETE, self.calls.calls(whole=False))

    def whole(self, finish_reason: str) -> ChatResponse:
        """The complete answer; *finish_reason* is one of this package's words."""
        calls = self.calls.calls(whole=finish_reason not in CUT_SHORT)
        # A forced tool call ends with `stop` at OpenAI, and any tool call does at many others.
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
    """The events at the end of a complete answer: the tool calls that may be executed."""
    return [*ready(response.tool_calls)] if response.finish_reason in CALLS_MAY_RUN else []


class ResponseReader(Protocol):
    """Reads one answer in one dialect while it arrives."""

    answer: ResponseBuilder
    #: the terminal mark was received: only usage may follow, and is waited for briefly
    finished: bool
    #: nothing may follow: the last event was received, or the answer failed
    ended: bool
    #: the error object that the provider sent in place of the rest
    error: Any
    #: how the bytes break the protocol; empty while they are valid
    violation: str

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes of an event stream."""
        ...

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Take the body of an answer that was not streamed."""
        ...

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; a last event without its blank line may still count."""
        ...


def opaque(dialect: str, block: Mapping[str, Any]) -> Opaque:
    """A block to be kept and sent back unchanged."""
    return Opaque(dialect, MappingProxyType(dict(block)))
