"""An answer in the OpenAI-compatible dialect, from bytes to events, without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from clawft_trio.chat import ReasoningDelta, StreamEvent, TextDelta
from clawft_trio.llm.openai_extras import Extra, Extras
from clawft_trio.llm.response_builder import BROKEN, ResponseBuilder
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_chat_usage
from clawft_trio.net.sse import ServerSentEvent, SSEDecoder

EndsWith = Literal["finish_reason", "done", "eof"]
"""What proves that a stream was whole: a finish reason; or `[DONE]`, too; or even the mere end of the body."""


# --- the wire: only the fields that are read, and lenient where servers differ ----------------------------


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    index: Any = None
    id: Any = None
    function: _Function | None = None
    extra_content: Any = None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: Any = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    index: int | None = None
    usage: Any = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    object: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode

_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class OpenAIResponseReader:
    """A `ResponseReader` of chat completions, streamed or not."""

    def __init__(
        self, answer: ResponseBuilder, *, ends_with: EndsWith = "finish_reason", returns: Iterable[Extra] = ()
    ) -> None:
        self.answer = answer
        self.finished: bool = False
        self.ended: bool = False
        self.error: Any = None
        self.violation: str = ""
        self._ends_with = ends_with
        self._sse = SSEDecoder()
        self._refused = False
        self._extras = Extras(returns)
        self._usage = UsageReader(read_chat_usage, answer.provider)
        answer.blocks = self._extras.blocks

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes of an event stream."""
        out: list[StreamEvent] = []
        for event in self._sse.feed(data):
            try:
                chunk = _decode(event.data)
            except _NOT_JSON as exc:
                self._take_undecodable(event, exc)
            else:
                self._take(chunk, event, out)
            if self.ended:
                break
        return out

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Take the body of an answer that was not streamed."""
        out: list[StreamEvent] = []
        try:
            chunk = _decode(body)
        except _NOT_JSON as exc:
            self._violate(f"the answer is not a chat completion: {exc}")
            return out
        if not chunk.choices and chunk.error is None and chunk.object != "error":
            self._violate("the answer has no choices")
            return out
        self._take(chunk, None, out)
        if self.error is None and not self.violation:
            # A document that parses is whole, also from servers that leave its finish reason empty.
            self._finish(self.answer.finish_reason or "stop")
        self.ended = True
        return out

    def feed_end(self) -> None:
        """Take note that the event stream has ended."""
        if self._ends_with == "eof" and not self.ended and not self.finished:
            self._finish("stop")
        self.ended = True

    def _take(self, chunk: _Chunk, event: ServerSentEvent | None, out: list[StreamEvent]) -> None:
        answer = self.answer
        if chunk.error is not None:
            # What failed may have been charged all the same.
            self._note_usage(chunk, out)
            self._fail({"error": chunk.error})
            return
        if not answer.id:
            self._note_origin(chunk)
        if chunk.choices:
            choice = chunk.choices[0]
            if choice.index:
                # Another one of several answers: one was asked for.
                return
            delta = choice.delta or choice.message
            if delta is not None:
                self._take_delta(delta, out)
            if choice.finish_reason:
                self._finish(choice.finish_reason)
        elif event is not None and (event.event == "error" or chunk.object == "error"):
            self._fail(msgspec.json.decode(event.data))
        elif chunk.object == "error":
            self._fail({})
        self._note_usage(chunk, out)

    def _note_usage(self, chunk: _Chunk, out: list[StreamEvent]) -> None:
        # Groq sends it in `x_groq`, Moonshot in the choice, all others at the top.
        if chunk.usage is None and chunk.x_groq is None and chunk.service_tier is None and not chunk.choices:
            return
        choice = chunk.choices[0].usage if chunk.choices else None
        groq = chunk.x_groq.get("usage") if isinstance(chunk.x_groq, dict) else None
        reading = self._usage.note(chunk.usage, choice, groq, service_tier=chunk.service_tier)
        out.extend(self.answer.note_usage(reading))

    def _take_delta(self, delta: _Delta, out: list[StreamEvent]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._think(thought, out)
        content = delta.content
        if content:
            self._say(content if type(content) is str else self._text_of(content, out), out)
        if isinstance(delta.reasoning_details, list):
            self._extras.note_details(delta.reasoning_details)
        if delta.refusal:
            self._refused = True
            self._say(delta.refusal, out)
        if delta.tool_calls:
            self._take_tool_calls(delta.tool_calls, out)

    def _say(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _think(self, thought: str, out: list[StreamEvent]) -> None:
        if thought:
            self.answer.reasoning.write(thought)
            out.append(ReasoningDelta(thought))

    def _text_of(self, parts: Any, out: list[StreamEvent]) -> str:
        # Mistral's reasoning models send their content in parts, thoughts among them.
        texts: list[str] = []
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict):
                continue
            text, thoughts = part.get("text"), part.get("thinking")
            if isinstance(text, str):
                texts.append(text)
            if thoughts:
                self._think(thoughts if isinstance(thoughts, str) else self._text_of(thoughts, out), out)
        return "".join(texts)

    def _take_tool_calls(self, fragments: list[_ToolCall], out: list[StreamEvent]) -> None:
        for fragment in fragments:
            function = fragment.function or _Function()
            try:
                delta = self.answer.calls.add(
                    index=fragment.index if type(fragment.index) is int else None,
                    id=str(fragment.id) if fragment.id is not None else "",
                    name=function.name or "",
                    arguments=as_text(function.arguments),
                )
            except TooManyCalls as exc:
                self._violate(str(exc))
                return
            out.append(delta)
            if fragment.extra_content is not None:
                self._extras.note_call(delta.index, fragment.extra_content)

    def _take_undecodable(self, event: ServerSentEvent, exc: Exception) -> None:
        if event.data.strip() != b"[DONE]":
            self._violate(f"an event of the stream is not a chunk of a chat completion: {exc}")
            return
        if self._ends_with != "finish_reason" and not self.finished:
            self._finish("stop")
        self.ended = True

    def _note_origin(self, chunk: _Chunk) -> None:
        if isinstance(chunk.id, str):
            self.answer.id = chunk.id
        if isinstance(chunk.model, str) and chunk.model:
            self.answer.model = chunk.model

    def _finish(self, reason: str) -> None:
        if reason in BROKEN:
            self._fail({"error": {"code": reason, "message": f"the provider ended its answer with {reason!r}"}})
            return
        self.answer.finish_reason = "content_filter" if self._refused else reason
        self.finished = True

    def _fail(self, error: Any) -> None:
        self.error = error
        self.ended = True

    def _violate(self, how: str) -> None:
        # Behind its terminal mark an answer is whole, and what is odd there can only cost the usage.
        self.violation = "" if self.finished else how
        self.ended = True
