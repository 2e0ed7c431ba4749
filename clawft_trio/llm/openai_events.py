"""The events of a chat completion as they are on the wire, and their two decoders.

The structs name only the fields that are read; their types are lenient where servers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from clawft_trio.llm import lenient
from clawft_trio.llm.lenient import NotDecodable, SurrogateJoiner, as_index


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class ToolCall(msgspec.Struct, gc=False):
    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None


# This decoder refuses a delta or choice with any other field; the lenient decoder reads it and keeps that field.
class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Any = None
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    annotations: Any = None
    extra_content: Any = None
    images: Any = None
    audio: Any = None
    channel: Any = None


class Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    index: int | None = None
    usage: Any = None
    logprobs: Any = None
    content_filter_results: Any = None
    native_finish_reason: Any = None
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    object: Any = None
    x_groq: Any = None
    service_tier: Any = None


# Nearly every event is a piece of text, reasoning or arguments. This decoder refuses an event with other fields or
# types, which is then decoded as a `Chunk`.
class PlainDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: Any = None
    refusal: None = None
    tool_calls: list[ToolCall] | None = None
    function_call: None = None


class PlainChoice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: PlainDelta
    finish_reason: None = None
    index: Literal[0] = 0
    logprobs: None = None
    native_finish_reason: None = None


class PlainChunk(msgspec.Struct, gc=False):
    choices: tuple[PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None


decode: Callable[[bytes], Chunk] = msgspec.json.Decoder(Chunk).decode
decode_plain: Callable[[bytes], PlainChunk] = msgspec.json.Decoder(PlainChunk).decode

# These fields are read one by one; all others go into `provider_details`.
READ_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage", "error"})
READ_OF_MESSAGE = frozenset(Delta.__struct_fields__) - {"channel"}


class LenientChunks:
    """Decodes events that the typed decoder refuses.

    Args:
      halves: joins characters that were split between two events.
      keep: keeps the fields that nothing reads; gets the place (`choice` or `message`), its fields, and the names of
        those that are read.
    """

    def __init__(self, halves: SurrogateJoiner, keep: Callable[[str, Mapping[str, Any], frozenset[str]], None]) -> None:
        self._halves = halves
        self._keep = keep

    def decode(self, data: bytes) -> Chunk:
        """Decode the chunk in *data*, which the typed decoder refused.

        Raises:
          NotDecodable: *data* is not a chunk, or a field that is used has an impossible type.
        """
        raw = lenient.decode_object(data)
        chosen = lenient.as_objects(raw.get("choices"), of="choices")
        return Chunk(
            choices=[self._choice(choice) for choice in chosen] or None,
            **{
                name: lenient.scrubbed(raw.get(name))
                for name in ("usage", "error", "id", "model", "object", "x_groq", "service_tier")
            },
        )

    def _choice(self, raw: Mapping[str, Any]) -> Choice:
        index = as_index(raw.get("index")) or 0
        delta = raw.get("delta") or raw.get("message")
        if not index:
            self._keep("choice", raw, READ_OF_CHOICE)
        return Choice(
            delta=self._delta(lenient.as_object(delta, of="the delta")) if delta and not index else None,
            finish_reason=raw.get("finish_reason"),
            index=index,
            usage=lenient.scrubbed(raw.get("usage")),
            logprobs=lenient.scrubbed(raw.get("logprobs")),
            error=lenient.scrubbed(raw.get("error")),
        )

    def _delta(self, raw: Mapping[str, Any]) -> Delta:
        content = raw.get("content")
        if isinstance(content, str):
            content = self._halves.join("content", content)
        elif not isinstance(content, list | dict | None):
            raise NotDecodable(f"the content is of the type {type(content).__name__}")
        thought = lenient.any_text(raw.get("reasoning_content")) or lenient.any_text(raw.get("reasoning"))
        call = raw.get("function_call")
        self._keep("message", raw, READ_OF_MESSAGE)
        return Delta(
            content=lenient.scrubbed(content),
            reasoning=self._halves.join("reasoning", thought) if thought else None,
            refusal=lenient.scrubbed(lenient.as_text(raw.get("refusal"), of="the refusal")),
            tool_calls=[*self._calls(raw.get("tool_calls"))] or None,
            function_call=self._function(call, 0) if call is not None else None,
            **{
                name: lenient.scrubbed(raw.get(name))
                for name in ("reasoning_details", "annotations", "extra_content", "images", "audio")
            },
        )

    def _calls(self, raw: Any) -> Iterator[ToolCall]:
        for call in lenient.as_objects(raw, of="tool_calls"):
            index = as_index(call.get("index"))
            yield ToolCall(
                index=index,
                id=lenient.scrubbed(call.get("id")),
                function=self._function(call.get("function"), index),
                extra_content=lenient.scrubbed(call.get("extra_content")),
            )

    def _function(self, raw: Any, index: int | None) -> Function:
        function = lenient.as_object(raw, of="the function of a tool call")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = self._halves.join(("arguments", index), arguments)
        name = lenient.as_text(function.get("name"), of="the name of a tool call")
        return Function(name=lenient.scrubbed(name), arguments=lenient.scrubbed(arguments))
