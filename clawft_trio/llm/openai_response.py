"""Reads an answer in the OpenAI-compatible dialect, from bytes to events, without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal

from clawft_trio.chat import CALLS_MAY_RUN, Citation, ReasoningDelta, StreamEvent, TextDelta
from clawft_trio.llm import lenient
from clawft_trio.llm.error_body import base_resp_code, is_bare_error
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable, as_index
from clawft_trio.llm.openai_details import Details
from clawft_trio.llm.openai_events import Choice, Chunk, Delta, Function, LenientChunks, ToolCall, decode, decode_plain
from clawft_trio.llm.openai_extras import Extra, Extras
from clawft_trio.llm.reading import Progress, separated
from clawft_trio.llm.response_builder import OPENAI_FINISH_REASONS, ResponseBuilder, finish_word, unknown_finish
from clawft_trio.llm.think_tags import ThinkTags
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_chat_usage
from clawft_trio.net.sse import ServerSentEvent

EndsWith = Literal["finish_reason", "done", "eof"]
"""What proves that a stream is complete: a finish reason; or also `[DONE]`; or also the end of the body."""

DIALECT = "openai"


_PLAIN_TRIES = 8
"""Number of events of an answer that may fail to decode as plain events before plain decoding is given up.

A failed attempt costs as much as the complete decoding of an event.
"""


class OpenAIResponseReader(Progress):
    """A `ResponseReader` for chat completions, streamed or not.

    Args:
      answer: receives the content.
      ends_with: what proves a stream complete.
      returns: the extra fields that the server requires back in the next request.
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
        super().__init__()
        self.answer = answer
        self._ends_with = ends_with
        self._refused = False
        self._extras = Extras(returns)
        self._details = Details(answer)
        self._lenient = LenientChunks(self._halves, self._details.keep_unread)
        self._usage = UsageReader(read_chat_usage, answer.provider)
        self._tags = ThinkTags() if think_tags else None
        # Number of events that are still searched for id and model; Azure's first event has neither.
        self._unnamed = 4
        # Number of events that may still fail to decode as plain; 0 while more than the text of an event is needed.
        self._plain_tries = 0
        answer.blocks = self._extras.blocks

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Decode the next bytes of an event stream and return their events."""
        out: list[StreamEvent] = []
        answer = self.answer
        try:
            for event in self._sse.feed(data):
                if self._plain_tries:
                    try:
                        (choice,) = decode_plain(event.data).choices
                    except NOT_JSON:
                        self._plain_tries -= 1
                    else:
                        # Inlined `_add_text`: the calls would cost as much as their bodies.
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
        """Decode the complete body of an answer that was not streamed, and return its events."""
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
            # A document that parses is complete, even without a finish reason.
            self._finish("stop", out)
        self.ended = True
        return out

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; accept a last event without its blank line if it is complete."""
        out: list[StreamEvent] = []
        for event in () if self.ended else chain.from_iterable(map(separated, self._sse.feed_end())):
            if event.event == "error" or event.data.strip() == b"[DONE]" or lenient.is_json(event.data):
                try:
                    self._take_undecodable(event, out)
                except (NotDecodable, RecursionError) as exc:
                    self._violate(f"the last event of the stream is not a chunk of a chat completion: {exc}")
        if self._ends_with == "eof" and not self.ended and not self.finished:
            self._finish("stop", out)
        self.ended = True
        return out

    def _take_event(self, event: ServerSentEvent, out: list[StreamEvent]) -> None:
        try:
            chunk = decode(event.data)
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
        elif (parts := separated(event)) != [event]:
            for part in parts:
                if not self.ended:
                    self._take_event(part, out)
        elif not lenient.is_heartbeat(data, event.event):
            # From now on characters may arrive split in halves, which only the lenient decoder joins.
            self._plain_tries = 0
            self._take(self._lenient.decode(data), event, out)

    def _decoded(self, data: bytes) -> Chunk:
        try:
            return decode(data)
        except NOT_JSON:
            return self._lenient.decode(data)

    def _take(self, chunk: Chunk, event: ServerSentEvent, out: list[StreamEvent]) -> None:
        error = chunk.error or (chunk.choices and chunk.choices[0].error)
        if error and lenient.is_stated(error):
            # A failed answer may also be charged.
            self._note_usage(chunk, out)
            self._fail({"error": error})
            return
        if self._unnamed:
            self._note_origin(chunk, event.data)
        choices = chunk.choices
        if choices:
            choice = choices[0]
            if choice.index:
                # The choice belongs to another of several answers; one was requested.
                choice = next((other for other in choices if not other.index), Choice())
            delta = choice.delta or choice.message
            if delta is not None:
                self._take_delta(delta, out)
            if choice.content_filter_results:
                self._details.keep_unread(
                    "choice", {"content_filter_results": choice.content_filter_results}, frozenset()
                )
            if choice.logprobs is not None:
                self._details.note_logprobs(choice.logprobs)
            if choice.finish_reason and (word := finish_word(choice.finish_reason)):
                self._finish(word, out)
        elif self._is_error(chunk, event.data, named=event.event == "error"):
            self._fail(lenient.scrubbed(lenient.decode(event.data)))
            return
        if chunk.usage or chunk.x_groq or self.finished or not choices or choices[0].usage:
            self._note_usage(chunk, out)
            if chunk.usage or self.finished or not choices:
                self._details.note_event(event.data)

    def _note_usage(self, chunk: Chunk, out: list[StreamEvent]) -> None:
        # Groq sends usage in `x_groq`, Moonshot in the choice, all others at the top level.
        choice = chunk.choices[0].usage if chunk.choices else None
        groq = chunk.x_groq.get("usage") if isinstance(chunk.x_groq, dict) else None
        reading = self._usage.note(chunk.usage, choice, groq, service_tier=chunk.service_tier)
        out.extend(self.answer.note_usage(reading))

    def _is_error(self, chunk: Chunk, data: bytes, *, named: bool = False) -> bool:
        """Return whether an event without choices reports a failure in a shape other than `{"error": …}`."""
        if named or chunk.object == "error":
            return True
        raw = lenient.decode_object(data)
        return bool(base_resp_code(raw)) or (not (chunk.usage or chunk.id) and is_bare_error(raw))

    def _take_delta(self, delta: Delta, out: list[StreamEvent]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self.answer.add_reasoning(thought, out)
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
            # The predecessor of `tool_calls`: one call without an id.
            self._take_tool_calls([ToolCall(index=0, function=delta.function_call)], out)
        if delta.reasoning_details or delta.annotations or delta.extra_content or delta.images or delta.audio:
            self._take_rare(delta)

    def _take_rare(self, delta: Delta) -> None:
        if isinstance(delta.reasoning_details, list):
            self._extras.note_details(delta.reasoning_details)
            self._details.keep("reasoning_details", delta.reasoning_details)
        if isinstance(delta.annotations, list):
            self.answer.citations.extend(map(_citation, filter(None, delta.annotations)))
            self.answer.count(delta.annotations)
        elif delta.annotations:
            self._details.keep("annotations", delta.annotations)
        if delta.extra_content:
            # Gemini's signature of an answer without calls.
            self._extras.note_message(delta.extra_content)
        for name in ("extra_content", "images", "audio"):
            if value := getattr(delta, name):
                self._details.keep(name, value)

    def _add_text(self, text: str, out: list[StreamEvent]) -> None:
        if self._tags is not None:
            text, thought = self._tags.split(text)
            self.answer.add_reasoning(thought, out)
        if text:
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _text_of(self, parts: Any, out: list[StreamEvent]) -> str:
        # Mistral's reasoning models send their content in parts, some of them reasoning.
        texts: list[str] = []
        for item in parts if isinstance(parts, list) else [parts]:
            if isinstance(item, str):
                texts.append(item)
                continue
            part = lenient.as_object(item, of="a part of the content")
            text, thoughts = part.get("text"), part.get("thinking")
            if isinstance(text, dict):
                text = text.get("value")
            text = lenient.as_text(text, of="a text")
            if text:
                texts.append(text)
            if thoughts:
                self.answer.add_reasoning(lenient.any_text(thoughts), out)
            if text is None and thoughts is None:
                self._details.keep("content", [part])
        return "".join(texts)

    def _take_tool_calls(self, fragments: list[ToolCall], out: list[StreamEvent]) -> None:
        calls = self.answer.calls
        for fragment in fragments:
            function = fragment.function or Function()
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

    def _note_origin(self, chunk: Chunk, data: bytes) -> None:
        self._unnamed -= 1
        if isinstance(chunk.id, str) and chunk.id:
            self.answer.id = chunk.id
            self._unnamed = 0
        if isinstance(chunk.model, str) and chunk.model:
            self.answer.model = chunk.model
        if not self._unnamed and self._tags is None and not self._halves.held:
            self._plain_tries = _PLAIN_TRIES
        self._details.note_event(data)

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
        """Emit the text that was held back to wait for the second half of a character or for a tag."""
        self.answer.add_reasoning(self._halves.rest("reasoning"), out)
        rest = self._halves.rest("content")
        if rest:
            self._add_text(rest, out)
        if self._tags is not None:
            text, thought = self._tags.rest()
            self.answer.add_reasoning(thought, out)
            if text:
                self.answer.text.write(text)
                out.append(TextDelta(text))

    def _fail(self, error: Any) -> None:
        self.error = error
        self.ended: bool = True


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
