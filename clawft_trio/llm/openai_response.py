"""An answer in the OpenAI-compatible dialect, from bytes to events, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from clawft_trio.chat import CALLS_MAY_RUN, Citation, ReasoningDelta, StreamEvent, TextDelta
from clawft_trio.llm import lenient
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable, as_index
from clawft_trio.llm.openai_extras import Extra, Extras
from clawft_trio.llm.response_builder import OPENAI_FINISH_REASONS, ResponseBuilder, finish_word, unknown_finish
from clawft_trio.llm.think_tags import ThinkTags
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_chat_usage
from clawft_trio.net.sse import ServerSentEvent, SSEDecoder

EndsWith = Literal["finish_reason", "done", "eof"]
"""What proves that a stream is complete: a finish reason; or also `[DONE]`; or also the end of the body."""

DIALECT = "openai"


# --- the wire: only the fields that are read, and lenient where servers differ ----------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    index: Any = None
    id: Any = None
    function: _Function | None = None
    extra_content: Any = None


# A delta or a choice with any other field is read by the lenient decoder, which keeps that field.
class _Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: Any = None
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: Any = None
    extra_content: Any = None
    images: Any = None
    audio: Any = None
    channel: Any = None


class _Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    index: int | None = None
    usage: Any = None
    logprobs: Any = None
    content_filter_results: Any = None
    native_finish_reason: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    object: Any = None
    x_groq: Any = None
    service_tier: Any = None


# Nearly every event: a piece of text, reasoning or arguments. One with anything else, or with another type, is refused
# here and read as a `_Chunk`.
class _PlainDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: Any = None
    refusal: None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: _PlainDelta
    finish_reason: None = None
    index: Literal[0] = 0
    logprobs: None = None
    native_finish_reason: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_plain = msgspec.json.Decoder(_PlainChunk).decode

_PLAIN_TRIES = 8
"""How many events that are not plain an answer may have before its events are no longer tried as plain ones.

A refusal costs as much as the whole reading of an event.
"""

# Handled field by field; everything else goes into `provider_details`.
_READ = frozenset({"id", "object", "model", "choices", "error", "service_tier", "obfuscation"})
_READ_OF_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage"})
_READ_OF_MESSAGE = frozenset(_Delta.__struct_fields__) - {"channel"}

# Fields of an error that is not wrapped into `error`.
_BARE_ERROR = ("error_type", "error_message", "error_code", "errors", "detail", "error_msg")


class OpenAIResponseReader:
    """A `ResponseReader` of chat completions, streamed or not.

    Args:
      answer: what is filled.
      ends_with: what proves that a stream was whole.
      returns: which extra fields the server wants back with the next turn.
      think_tags: text between `<think>` and `</think>` is reasoning.
    """

    def __init__(
        self,
        answer: ResponseBuilder,
        *,
        ends_with: EndsWith = "finish_reason",
        returns: Iterable[Extra] = (),
        think_tags: bool = False,
    ) -> None:
        self.answer = answer
        self.finished: bool = False
        self.ended: bool = False
        self.error: Any = None
        self.violation: str = ""
        self._ends_with = ends_with
        self._sse = SSEDecoder(error_lines=True)
        self._refused = False
        self._extras = Extras(returns)
        self._halves = lenient.SurrogateJoiner()
        self._usage = UsageReader(read_chat_usage, answer.provider)
        self._tags = ThinkTags() if think_tags else None
        # Number of events in which id and model are still looked for: Azure's first one has neither.
        self._unnamed = 4
        # How many more events may fail to be plain; 0 as long as more than the text of an event is looked at.
        self._plain_tries = 0
        answer.blocks = self._extras.blocks

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes of an event stream."""
        out: list[StreamEvent] = []
        answer = self.answer
        try:
            for event in self._sse.feed(data):
                if self._plain_tries:
                    try:
                        (choice,) = _decode_plain(event.data).choices
                    except NOT_JSON:
                        self._plain_tries -= 1
                    else:
                        # Not by `_add_text`: the calls would cost as much as what they do.
                        delta = choice.delta
                        if thought := delta.reasoning_content or delta.reasoning:
                            answer.reasoning.write(thought)
                            out.append(ReasoningDelta(thought))
                        if delta.content:
                            answer.text.write(delta.content)
                            out.append(TextDelta(delta.content))
                        if delta.tool_calls:
                            self._take_tool_calls(delta.tool_calls, out)
                            if self.ended:
                                break
                        continue
                self._take_event(event, out)
                if self.ended:
                    break
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"an event of the stream is not a chunk of a chat completion: {exc}")
        return out

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Take the body of an answer that was not streamed."""
        out: list[StreamEvent] = []
        try:
            chunk = self._decoded(body)
            if not chunk.choices and not chunk.error and not self._is_error(chunk, body):
                self._violate("the answer has no choices")
                return out
            self._take(chunk, ServerSentEvent(body), out)
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"the answer is not a chat completion: {exc}")
            return out
        if self.error is None and not self.violation and not self.finished:
            # A document that parses is complete, also without a finish reason.
            self._finish("stop", out)
        self.ended = True
        return out

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; a last event without its blank line counts if it is complete."""
        out: list[StreamEvent] = []
        for event in () if self.ended else self._sse.feed_end():
            if event.event == "error" or event.data.strip() == b"[DONE]" or lenient.is_json(event.data):
                try:
                    self._take_undecodable(event, out)
                except (NotDecodable, RecursionError) as exc:
                    self._violate(f"the last event of the stream is not a chunk of a chat completion: {exc}")
        if self._ends_with == "eof" and not self.ended and not self.finished:
            self._finish("stop", out)
        self.ended = True
        return out

    # --- events ---------------------------------------------------------------------------------------

    def _take_event(self, event: ServerSentEvent, out: list[StreamEvent]) -> None:
        try:
            chunk = _decode(event.data)
        except NOT_JSON:
            self._take_undecodable(event, out)
            return
        if self._halves.held:
            self._take_undecodable(event, out)
        else:
            self._take(chunk, event, out)

    def _take_undecodable(self, event: ServerSentEvent, out: list[StreamEvent]) -> None:
        data = event.data.strip()
        if data == b"[DONE]":
            if self._ends_with != "finish_reason" and not self.finished:
                self._finish("stop", out)
            self.ended = True
        elif event.event == "error" and not lenient.is_json(data):
            self._fail(data.decode(errors="replace"))
        elif data:
            # From now on halves of characters may come, which only the lenient decoder joins.
            self._plain_tries = 0
            self._take(self._lenient(data), event, out)

    def _decoded(self, data: bytes) -> _Chunk:
        try:
            return _decode(data)
        except NOT_JSON:
            return self._lenient(data)

    def _take(self, chunk: _Chunk, event: ServerSentEvent, out: list[StreamEvent]) -> None:
        if chunk.error:
            # A failed answer may be charged, too.
            self._note_usage(chunk, out)
            self._fail({"error": chunk.error})
            return
        if self._unnamed:
            self._note_origin(chunk, event.data)
        choices = chunk.choices
        if choices:
            choice = choices[0]
            if choice.index:
                # Another one of several answers; one was requested.
                choice = next((other for other in choices if not other.index), _Choice())
            delta = choice.delta or choice.message
            if delta is not None:
                self._take_delta(delta, out)
            if choice.content_filter_results:
                self._keep_unread("choice", {"content_filter_results": choice.content_filter_results}, frozenset())
            if choice.logprobs is not None:
                self._note_logprobs(choice.logprobs)
            if choice.finish_reason and (word := finish_word(choice.finish_reason)):
                self._finish(word, out)
        elif self._is_error(chunk, event.data, named=event.event == "error"):
            self._fail(lenient.scrubbed(lenient.decode(event.data)))
            return
        if chunk.usage or chunk.x_groq or self.finished or not choices or choices[0].usage:
            self._note_usage(chunk, out)
            if chunk.usage or self.finished or not choices:
                self._note_details(event.data)

    def _note_usage(self, chunk: _Chunk, out: list[StreamEvent]) -> None:
        # Groq sends it in `x_groq`, Moonshot in the choice, all others at the top.
        choice = chunk.choices[0].usage if chunk.choices else None
        groq = chunk.x_groq.get("usage") if isinstance(chunk.x_groq, dict) else None
        reading = self._usage.note(chunk.usage, choice, groq, service_tier=chunk.service_tier)
        out.extend(self.answer.note_usage(reading))

    def _is_error(self, chunk: _Chunk, data: bytes, *, named: bool = False) -> bool:
        """Whether an event without choices reports a failure in a shape that is not `{"error": …}`."""
        if named or chunk.object == "error":
            return True
        if chunk.usage or chunk.id:
            return False
        raw = lenient.decode_object(data)
        bare = any(raw.get(name) for name in _BARE_ERROR) or raw.get("type") == "error"
        return bare or ("choices" not in raw and bool(raw.get("message")) and ("code" in raw or "status" in raw))

    def _take_delta(self, delta: _Delta, out: list[StreamEvent]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._add_reasoning(thought, out)
        content = delta.content
        if content:
            self._add_text(content if type(content) is str else self._text_of(content, out), out)
        elif content is not None and not isinstance(content, str | list | dict):
            raise NotDecodable(f"the content is of the type {type(content).__name__}")
        if delta.refusal:
            self._refused = True
            self.answer.refusal.append(delta.refusal)
            self.answer.text.write(delta.refusal)
            out.append(TextDelta(delta.refusal))
        if delta.tool_calls:
            self._take_tool_calls(delta.tool_calls, out)
        if delta.function_call is not None:
            # The predecessor of `tool_calls`: one call, without an id.
            self._take_tool_calls([_ToolCall(index=0, function=delta.function_call)], out)
        if delta.reasoning_details or delta.annotations or delta.extra_content or delta.images or delta.audio:
            self._take_rare(delta)

    def _take_rare(self, delta: _Delta) -> None:
        if isinstance(delta.reasoning_details, list):
            self._extras.note_details(delta.reasoning_details)
            self._keep_raw("reasoning_details", delta.reasoning_details)
        if isinstance(delta.annotations, list):
            self.answer.citations.extend(map(_citation, filter(None, delta.annotations)))
            self.answer.count(delta.annotations)
        elif delta.annotations:
            self._keep_raw("annotations", delta.annotations)
        if delta.extra_content:
            # Gemini's signature of an answer without calls.
            self._extras.note_message(delta.extra_content)
        for name in ("extra_content", "images", "audio"):
            if value := getattr(delta, name):
                self._keep_raw(name, value)

    def _keep_raw(self, name: str, value: Any) -> None:
        self.answer.details[name] = _joined(self.answer.details.get(name), value)
        self.answer.count(value)

    def _keep_unread(self, where: str, fields: Mapping[str, Any], read: frozenset[str]) -> None:
        """Keep the fields that nothing reads: lists grow, objects are merged, everything else is replaced."""
        known = self.answer.details.get(where, {})
        for name, value in fields.items():
            if name in read or not value or value == known.get(name):
                continue
            known = known | {name: _joined(known.get(name), lenient.scrubbed(value))}
            self.answer.count(name, lenient.scrubbed(value))
        if known:
            self.answer.details[where] = known

    def _note_logprobs(self, logprobs: Any) -> None:
        if isinstance(logprobs, dict):
            known = self.answer.details.setdefault("logprobs", {})
            for name, tokens in logprobs.items():
                if isinstance(tokens, list):
                    known.setdefault(name, []).extend(tokens)
                    # About what one token with its alternatives takes.
                    self.answer.kept += 100 * len(tokens)

    def _add_text(self, text: str, out: list[StreamEvent]) -> None:
        if self._tags is not None:
            text, thought = self._tags.split(text)
            self._add_reasoning(thought, out)
        if text:
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _add_reasoning(self, thought: str, out: list[StreamEvent]) -> None:
        if thought:
            self.answer.reasoning.write(thought)
            out.append(ReasoningDelta(thought))

    def _text_of(self, parts: Any, out: list[StreamEvent]) -> str:
        # Mistral's reasoning models send their content in parts, thoughts among them.
        texts: list[str] = []
        for item in parts if isinstance(parts, list) else [parts]:
            if isinstance(item, str):
                texts.append(item)
                continue
            part = lenient.as_object(item, of="a part of the content")
            text, thoughts = lenient.as_text(part.get("text"), of="a text"), part.get("thinking")
            if text:
                texts.append(text)
            if thoughts:
                self._add_reasoning(lenient.any_text(thoughts), out)
            if text is None and thoughts is None:
                self._keep_raw("content", [part])
        return "".join(texts)

    def _take_tool_calls(self, fragments: list[_ToolCall], out: list[StreamEvent]) -> None:
        calls = self.answer.calls
        for fragment in fragments:
            function = fragment.function or _Function()
            index = fragment.index
            given = str(fragment.id) if fragment.id is not None else ""
            name, arguments = function.name or "", as_text(function.arguments)
            if not (given or name or arguments or fragment.extra_content):
                # Snowflake sends an empty call with every answer; it is ignored.
                continue
            try:
                delta = calls.add(
                    index=index if type(index) is int else as_index(index), id=given, name=name, arguments=arguments
                )
            except TooManyCalls as exc:
                self._violate(str(exc))
                return
            if delta.index > calls.passed:
                out.extend(calls.seal_before(delta.index))
            out.append(delta)
            if fragment.extra_content is not None:
                self._extras.note_call(delta.index, fragment.extra_content)

    def _note_origin(self, chunk: _Chunk, data: bytes) -> None:
        self._unnamed -= 1
        if isinstance(chunk.id, str) and chunk.id:
            self.answer.id = chunk.id
            self._unnamed = 0
        if isinstance(chunk.model, str) and chunk.model:
            self.answer.model = chunk.model
        if not self._unnamed and self._tags is None and not self._halves.held:
            self._plain_tries = _PLAIN_TRIES
        self._note_details(data)

    def _note_details(self, data: bytes) -> None:
        """Keep the fields that nothing reads: of the first event, the last ones and those with usage."""
        try:
            raw = lenient.decode_scrubbed(data)
        except NotDecodable:
            return
        answer = self.answer
        if isinstance(raw.get("service_tier"), str):
            answer.service_tier = raw["service_tier"]
        # A usage of zeros at the end does not replace numbers, here as in `ResponseBuilder.note_usage`.
        if not (isinstance(raw.get("usage"), dict) and any(raw["usage"].values())):
            raw.pop("usage", None)
        answer.note_details({name: value for name, value in raw.items() if name not in _READ})
        choices = raw.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else choices
        if not isinstance(choice, dict):
            return
        if isinstance(choice.get("usage"), dict):
            answer.details.setdefault("usage", choice["usage"])
        self._merge("choice", choice, _READ_OF_CHOICE)
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            self._merge("message", message, _READ_OF_MESSAGE)

    def _merge(self, where: str, fields: Mapping[str, Any], read: frozenset[str]) -> None:
        known = self.answer.details.get(where, {})
        # A list that grew over several events is not replaced by the piece of one.
        more = {
            name: value
            for name, value in fields.items()
            if name not in read and value is not None and not isinstance(known.get(name), list)
        }
        if more:
            self.answer.details[where] = known | more

    def _finish(self, word: str, out: list[StreamEvent]) -> None:
        meaning = OPENAI_FINISH_REASONS.get(word.lower())
        if meaning is None:
            self._fail(unknown_finish(word))
            return
        self._flush(out)
        self.answer.raw_finish_reason = word
        self.answer.finish_reason = "content_filter" if self._refused else meaning
        if self.answer.finish_reason in CALLS_MAY_RUN:
            out.extend(self.answer.calls.seal_all())
        self._plain_tries = 0
        self.finished = True

    def _flush(self, out: list[StreamEvent]) -> None:
        """Emit the text that was held back for its other half."""
        self._add_reasoning(self._halves.rest("reasoning"), out)
        rest = self._halves.rest("content")
        if rest:
            self._add_text(rest, out)
        if self._tags is not None:
            text, thought = self._tags.rest()
            self._add_reasoning(thought, out)
            if text:
                self.answer.text.write(text)
                out.append(TextDelta(text))

    def _fail(self, error: Any) -> None:
        self.error = error
        self.ended = True

    def _violate(self, how: str) -> None:
        # After its terminal mark an answer is complete; an invalid event there can only lose the usage.
        self.violation = "" if self.finished else how
        self.ended = True

    # --- lenient reading -----------------------------------------------------------------------------

    def _lenient(self, data: bytes) -> _Chunk:
        """The chunk in *data*, of which the typed decoder refused a part.

        Raises:
          NotDecodable: it is no chunk, or something that is used has a type that it cannot have.
        """
        raw = lenient.decode_object(data)
        chosen = lenient.as_objects(raw.get("choices"), of="choices")
        return _Chunk(
            choices=[self._lenient_choice(choice) for choice in chosen] or None,
            **{
                name: lenient.scrubbed(raw.get(name))
                for name in ("usage", "error", "id", "model", "object", "x_groq", "service_tier")
            },
        )

    def _lenient_choice(self, raw: Mapping[str, Any]) -> _Choice:
        index = as_index(raw.get("index")) or 0
        delta = raw.get("delta") or raw.get("message")
        if not index:
            self._keep_unread("choice", raw, _READ_OF_CHOICE)
        return _Choice(
            delta=self._lenient_delta(lenient.as_object(delta, of="the delta")) if delta and not index else None,
            finish_reason=raw.get("finish_reason"),
            index=index,
            usage=lenient.scrubbed(raw.get("usage")),
            logprobs=lenient.scrubbed(raw.get("logprobs")),
        )

    def _lenient_delta(self, raw: Mapping[str, Any]) -> _Delta:
        content = raw.get("content")
        if isinstance(content, str):
            content = self._halves.join("content", content)
        elif not isinstance(content, list | dict | None):
            raise NotDecodable(f"the content is of the type {type(content).__name__}")
        thought = lenient.any_text(raw.get("reasoning_content")) or lenient.any_text(raw.get("reasoning"))
        call = raw.get("function_call")
        self._keep_unread("message", raw, _READ_OF_MESSAGE)
        return _Delta(
            content=lenient.scrubbed(content),
            reasoning=self._halves.join("reasoning", thought) if thought else None,
            refusal=lenient.scrubbed(lenient.as_text(raw.get("refusal"), of="the refusal")),
            tool_calls=[*self._lenient_calls(raw.get("tool_calls"))] or None,
            function_call=self._lenient_function(call, 0) if call is not None else None,
            **{
                name: lenient.scrubbed(raw.get(name))
                for name in ("reasoning_details", "annotations", "extra_content", "images", "audio")
            },
        )

    def _lenient_calls(self, raw: Any) -> Iterator[_ToolCall]:
        for call in lenient.as_objects(raw, of="tool_calls"):
            index = as_index(call.get("index"))
            yield _ToolCall(
                index=index,
                id=lenient.scrubbed(call.get("id")),
                function=self._lenient_function(call.get("function"), index),
                extra_content=lenient.scrubbed(call.get("extra_content")),
            )

    def _lenient_function(self, raw: Any, index: int | None) -> _Function:
        function = lenient.as_object(raw, of="the function of a tool call")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = self._halves.join(("arguments", index), arguments)
        name = lenient.as_text(function.get("name"), of="the name of a tool call")
        return _Function(name=lenient.scrubbed(name), arguments=lenient.scrubbed(arguments))


def _joined(before: Any, value: Any) -> Any:
    """What is kept of a field that comes again: lists grow, objects are merged, the rest is replaced."""
    if isinstance(before, list) and isinstance(value, list):
        return [*before, *value]
    return before | value if isinstance(before, dict) and isinstance(value, dict) else value


def _citation(raw: Any) -> Citation:
    if not isinstance(raw, dict):
        return Citation(dialect=DIALECT, title=str(raw), raw={"value": raw})
    kind = raw.get("type")
    inner = raw.get(kind) if isinstance(kind, str) else None
    fields = inner if isinstance(inner, dict) else raw
    return Citation(
        dialect=DIALECT,
        url=lenient.any_text(fields.get("url")),
        title=lenient.any_text(fields.get("title")),
        quote=lenient.any_text(fields.get("content")),
        raw=raw,
    )
