"""One answer as it comes in, without I/O: what the dialects have in common.

A `ResponseReader` takes bytes and gives the events that they complete; how the bytes were cut makes no difference. It
keeps the text and nothing for each piece of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from types import MappingProxyType
from typing import Any, Protocol

from clawft_trio.attempts import Usage
from clawft_trio.chat import ChatResponse, Opaque, Part, StreamEvent, Text, ToolCall, UsageReport, growing_text
from clawft_trio.llm.tool_calls import ToolCallAssembler, ready
from clawft_trio.llm.usage import UsageReading

INCOMPLETE = "incomplete"
"""The `finish_reason` of a partial response: there was none."""

CUT_SHORT = frozenset({"length", "content_filter", INCOMPLETE})
"""Finish reasons after which a last tool call may be a torso that happens to parse."""

FINISH_REASONS: Mapping[str, str] = MappingProxyType(
    {
        # OpenAI-compatible servers
        "eos": "stop",
        "function_call": "tool_calls",
        "model_length": "length",
        # Anthropic
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
    }
)
"""Providers' words for ours. What is not here is passed on as it is."""

BROKEN = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons (OpenRouter, vLLM, DeepSeek) by which a provider says that it failed, and not that it finished."""


def _no_blocks(reasoning: str, calls: tuple[ToolCall, ...]) -> tuple[Opaque, ...]:  # noqa: ARG001 - nothing of both
    """Nothing that has to be kept."""
    return ()


class ResponseBuilder:
    """What one attempt at one model has said so far."""

    __slots__ = (
        "blocks",
        "calls",
        "finish_reason",
        "id",
        "model",
        "parts",
        "provider",
        "reasoning",
        "text",
        "usage",
        "usage_problem",
    )

    def __init__(self, *, provider: str, model: str, taken_ids: Iterable[str] = ()) -> None:
        self.provider: str = provider
        self.model: str = model
        self.id: str = ""
        #: parts that are whole; `text` comes after them
        self.parts: list[Part] = []
        self.text: StringIO = growing_text()
        self.reasoning: StringIO = growing_text()
        self.calls: ToolCallAssembler = ToolCallAssembler(taken_ids)
        self.usage: Usage | None = None
        #: why the reported usage is refused, or does not add up; empty when nothing is wrong with it
        self.usage_problem: str = ""
        #: the provider's own word, once it came
        self.finish_reason: str | None = None
        #: makes, of the reasoning and the calls, what the provider wants back and says nowhere in its content
        self.blocks: Callable[[str, tuple[ToolCall, ...]], Iterable[Opaque]] = _no_blocks

    def note_usage(self, reading: UsageReading | None) -> list[UsageReport]:
        """Keep the usage that *reading* has, and return the event that reports it when it is a new one."""
        if reading is None:
            return []
        self.usage_problem = reading.problem
        if reading.usage is None:
            # What is refused leaves nothing to count by; what says nothing changes nothing.
            self.usage = None if reading.problem else self.usage
            return []
        if reading.usage == self.usage:
            return []
        self.usage = reading.usage
        return [UsageReport(reading.usage)]

    def close_text(self) -> None:
        """What comes next stands behind the text so far."""
        text = self.text.getvalue()
        if text:
            self.parts.append(Text(text))
            self.text = growing_text()

    def partial(self) -> ChatResponse:
        """What has come, marked as incomplete."""
        return self._response(INCOMPLETE, self.calls.calls(whole=False))

    def whole(self, finish_reason: str) -> ChatResponse:
        """The answer, of which nothing is missing but what *finish_reason* says."""
        said = FINISH_REASONS.get(finish_reason, finish_reason)
        calls = self.calls.calls(whole=said not in CUT_SHORT)
        # A forced tool call ends with `stop` at OpenAI and, whatever it was, at many others.
        return self._response("tool_calls" if calls and said == "stop" else said, calls)

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
        )


def closing_events(response: ChatResponse) -> list[StreamEvent]:
    """What is told once an answer is whole: the tool calls that may be executed."""
    return [] if response.finish_reason in CUT_SHORT else [*ready(response.tool_calls)]


class ResponseReader(Protocol):
    """One answer in one dialect as it comes in."""

    answer: ResponseBuilder
    #: the terminal mark has come: whatever follows is bookkeeping, and need not be waited for long
    finished: bool
    #: nothing may follow: the last word was said, or it went wrong
    ended: bool
    #: the error object that the provider sent in place of the rest
    error: Any
    #: how the bytes break the protocol; empty while they do not
    violation: str

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes of an event stream."""
        ...

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Take the body of an answer that was not streamed."""
        ...

    def feed_end(self) -> None:
        """Take note that the event stream has ended."""
        ...


def opaque(dialect: str, block: Mapping[str, Any]) -> Opaque:
    """A block to be kept and sent back unchanged."""
    return Opaque(dialect, MappingProxyType(dict(block)))
