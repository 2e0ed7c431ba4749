"""Fields that some OpenAI-compatible servers require back in the next request.

DeepSeek and Moonshot refuse a conversation without the reasoning before a tool call, Gemini refuses one without the
signatures of its calls, and OpenRouter relays what the models behind it need. The response keeps each of the three as
an `Opaque` block with a dialect of its own; it is sent only to servers that require it (`Quirks.returns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from clawft_trio.chat import GrowingText, Message, Opaque, ToolCall
from clawft_trio.llm.response_builder import opaque

Extra: TypeAlias = Literal["reasoning_content", "reasoning_details", "extra_content"]
"""Names of the fields: the first two belong to a message, the third to a tool call."""


def dialect_of(extra: Extra) -> str:
    """Return the dialect of the blocks that hold *extra*."""
    return f"openai:{extra}"


# Key of the message's own `extra_content`, next to the ids of its calls.
_MESSAGE = ""


class Extras:
    """Collects the extra fields of one answer as they arrive.

    Args:
      wanted: the extra fields that this server requires back; all others are dropped.
    """

    def __init__(self, wanted: Iterable[Extra] = ()) -> None:
        self._wanted = frozenset(wanted)
        self._details: list[_Detail] = []
        self._of_calls: dict[int, Any] = {}
        self._of_message: Any = None

    def note_details(self, details: list[Any]) -> None:
        """Add `reasoning_details`; in a stream each entry is spread over many chunks."""
        if "reasoning_details" not in self._wanted:
            return
        for detail in details:
            if isinstance(detail, dict) and not (self._details and self._details[-1].takes(detail)):
                self._details.append(_Detail(detail))

    def note_call(self, position: int, extra: Any) -> None:
        """Keep the `extra_content` of the call at *position*."""
        if "extra_content" in self._wanted:
            self._of_calls[position] = extra

    def note_message(self, extra: Any) -> None:
        """Keep the `extra_content` of the message itself: Gemini's signature of an answer without calls."""
        if "extra_content" in self._wanted:
            self._of_message = extra

    def blocks(self, reasoning: str, calls: tuple[ToolCall, ...]) -> Iterator[Opaque]:
        """Return the blocks to keep in the response."""
        if calls and "reasoning_content" in self._wanted:
            yield opaque(dialect_of("reasoning_content"), {"reasoning_content": reasoning})
        if self._details:
            details = [detail.whole() for detail in self._details]
            yield opaque(dialect_of("reasoning_details"), {"reasoning_details": details})
        if self._of_calls or self._of_message is not None:
            by_id = {calls[position].id: extra for position, extra in self._of_calls.items()}
            if self._of_message is not None:
                by_id[_MESSAGE] = self._of_message
            yield opaque(dialect_of("extra_content"), by_id)


class _Detail:
    """An entry of `reasoning_details` that is being received."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self._fields = dict(first)
        #: name of the field whose text grows
        self._grows = next((name for name in ("text", "summary") if isinstance(first.get(name), str)), "")
        self._text: GrowingText = GrowingText()
        self._text.write(self._fields.get(self._grows) or "")

    def takes(self, more: Mapping[str, Any]) -> bool:
        """Append *more* and return True, if it continues this entry."""
        own = self._fields
        if not self._grows or any(more.get(name) != own.get(name) for name in ("type", "index")):
            return False
        self._text.write(str(more.get(self._grows) or ""))
        own.update((name, value) for name, value in more.items() if value is not None)
        return True

    def whole(self) -> dict[str, Any]:
        return self._fields | ({self._grows: self._text.getvalue()} if self._grows else {})


def message_fields(message: Message, returns: Iterable[Extra]) -> dict[str, Any]:
    """Return the extra fields of an assistant message, for a server that requires *returns*."""
    fields: dict[str, Any] = {}
    for extra in returns:
        kept = _kept(message, extra)
        if extra != "extra_content":
            fields |= kept
        elif _MESSAGE in kept:
            fields["extra_content"] = kept[_MESSAGE]
    return fields


def call_fields(message: Message, call: ToolCall, returns: Iterable[Extra]) -> dict[str, Any]:
    """Return the extra fields of one tool call in an assistant message."""
    kept = _kept(message, "extra_content") if "extra_content" in returns else {}
    return {"extra_content": kept[call.id]} if call.id in kept else {}


def _kept(message: Message, extra: Extra) -> Mapping[str, Any]:
    blocks = (part.block for part in message.content if isinstance(part, Opaque) and part.dialect == dialect_of(extra))
    return next(blocks, {})
