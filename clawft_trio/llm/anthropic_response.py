"""Reads an answer in Anthropic's Messages dialect, from bytes to events, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal

from clawft_trio.chat import Citation, Opaque, Reset, StreamEvent, TextDelta, ToolCall
from clawft_trio.errors import InvalidResponse
from clawft_trio.llm import lenient
from clawft_trio.llm.anthropic_block import KeptBlock
from clawft_trio.llm.anthropic_events import Delta, Event, LenientEvents, decode, decode_plain
from clawft_trio.llm.error_body import is_bare_error
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable
from clawft_trio.llm.reading import Progress, separated
from clawft_trio.llm.response_builder import (
    ANTHROPIC_FINISH_REASONS,
    ResponseBuilder,
    finish_word,
    opaque,
    unknown_finish,
)
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_messages_usage
from clawft_trio.net.sse import ServerSentEvent

DIALECT = "anthropic"

CALLS = "anthropic:tool_use"
"""Dialect of the block with the further fields of tool calls (all but id, name and input: `caller`), keyed by id."""

# A real answer has a few blocks; a server that sends more than this is broken.
MAX_BLOCKS = 4096

EndsWith = Literal["message_stop", "stop_reason"]
"""The event that proves a stream complete. Some imitations of this API omit `message_stop`."""


# Read field by field; the other fields of a message go into `provider_details`.
_READ = frozenset(
    {"id", "type", "role", "model", "content", "stop_reason", "delta", "usage", "error", "message", "request_id"}
)
_READ_OF_CALL = frozenset({"type", "id", "name", "input"})


class AnthropicResponseReader(Progress):
    """A `ResponseReader` for messages, streamed or not."""

    def __init__(self, answer: ResponseBuilder, *, ends_with: EndsWith = "message_stop") -> None:
        super().__init__()
        self._ends_with = ends_with
        self._lenient = LenientEvents(self._halves)
        self._begin(answer)

    def _begin(self, answer: ResponseBuilder) -> None:
        """Start to read a message into *answer*."""
        self.answer: ResponseBuilder = answer
        answer.blocks = self._blocks_of_calls
        self._usage = UsageReader(read_messages_usage, answer.provider)
        # The open blocks by index: the type of each, and the block itself when it is stored unchanged.
        self._open: dict[int, str] = {}
        self._kept: dict[int, KeptBlock] = {}
        #: arguments at the start of open tool blocks: nearly always empty, because the deltas carry the arguments
        self._given: dict[int, str] = {}
        self._blocks = 0
        self._started = False
        # True while the open block is a text block that received only text deltas.
        self._in_text = False
        #: fields of the tool calls other than id, name and input, by the position of the call
        self._of_calls: dict[int, dict[str, Any]] = {}

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Decode the next bytes of an event stream and return their events."""
        out: list[StreamEvent] = []
        try:
            for sse in self._sse.feed(data):
                if self._in_text:
                    try:
                        text = decode_plain(sse.data).delta.text
                    except NOT_JSON:
                        self._in_text = False
                    else:
                        # Inlined `add_text`: the call would cost as much as its body.
                        if text:
                            self.answer.text.write(text)
                            out.append(TextDelta(text))
                        continue
                self._take_event(sse, out)
                if self.ended:
                    break
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"an event of the stream is not one of the Messages API: {exc}")
        return out

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Decode the complete body of an answer that was not streamed, and return its events."""
        out: list[StreamEvent] = []
        try:
            message = lenient.decode_scrubbed(body)
            if message.get("type") == "error" or lenient.is_stated(message.get("error")):
                self._fail(message.get("error") or message, message.get("request_id"))
            elif "content" not in message and is_bare_error(message):
                self._fail(message, message.get("request_id"))
            elif not isinstance(message.get("content"), list | str | dict):
                self._violate("the answer has no content")
            else:
                self._take_message(message | {"stop_reason": message.get("stop_reason") or "end_turn"}, out)
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"the answer is not a message: {exc}")
        self.ended = True
        return out

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; accept a last event without its blank line if its JSON is complete."""
        out: list[StreamEvent] = []
        for sse in () if self.ended else chain.from_iterable(map(separated, self._sse.feed_end())):
            if sse.event == "error" or lenient.is_json(sse.data):
                self._take_undecodable(sse, out)
        self.ended = True
        return out

    def _take_event(self, sse: ServerSentEvent, out: list[StreamEvent]) -> None:
        try:
            event = decode(sse.data)
        except NOT_JSON:
            self._take_undecodable(sse, out)
            return
        if self._halves.held or not event.type:
            self._take_undecodable(sse, out)
        else:
            self._take(event, sse, out)

    def _take(self, event: Event, sse: ServerSentEvent, out: list[StreamEvent]) -> None:
        kind, data = event.type, sse.data
        if kind == "content_block_delta":
            if event.delta is not None:
                index = event.index
                self._take_delta(self._last_open() if index is None else index, event.delta, data, out)
        elif kind == "content_block_start":
            index = self._blocks if event.index is None else event.index
            self._start_block(index, event.content_block or {}, out)
        elif kind == "content_block_stop":
            self._stop_block(self._last_open() if event.index is None else event.index, out)
        elif kind == "message_delta":
            self._take_message_delta(event, data, out)
        elif kind == "message_start":
            self._start_message(event.message or {}, out)
        elif kind == "message_stop":
            self._stop_message(out)
        elif kind == "error" or lenient.is_stated(event.error) or sse.event == "error":
            self._fail(event.error or lenient.decode_scrubbed(data), event.request_id)
        elif kind != "ping" and is_bare_error(raw := lenient.decode_scrubbed(data)):
            self._fail(raw, event.request_id)
        # `ping` and unknown kinds of events are ignored.

    def _last_open(self) -> int:
        return max(self._open, default=-1)

    def _take_delta(self, index: int, delta: Delta, data: bytes, out: list[StreamEvent]) -> None:
        kind = delta.type
        if kind == "text_delta":
            self.answer.add_text(delta.text or "", out)
        elif kind == "input_json_delta":
            self._take_input(index, delta.partial_json or "", out)
        elif kind == "thinking_delta":
            thought = delta.thinking or ""
            if index in self._kept:
                self._kept[index].append("thinking", thought)
            self.answer.add_reasoning(thought, out)
        elif index in self._kept:
            if kind == "signature_delta":
                self._kept[index].append("signature", delta.signature or "")
            else:
                self._kept[index].merge(_raw_delta(data))
        elif kind == "citations_delta":
            self._cite(_raw_delta(data).get("citation"))

    def _take_input(self, index: int, piece: str, out: list[StreamEvent]) -> None:
        if index in self._kept:
            self._kept[index].append("input", piece)
        elif self._open.get(index) == "tool_use":
            if piece and not (index in self._given and piece.strip() == "{}"):
                self._given.pop(index, None)
                out.append(self.answer.calls.add(index=index, id="", name="", arguments=piece))
        elif piece:
            self._violate("arguments came for a tool call that has not begun")

    def _start_block(self, index: int, block: Mapping[str, Any], out: list[StreamEvent]) -> None:
        self._blocks += 1
        if self._blocks > MAX_BLOCKS:
            self._violate(f"more than {MAX_BLOCKS} content blocks in one answer")
            return
        kind = block.get("type")
        begins = index not in self._open
        self._open[index] = kind = kind if isinstance(kind, str) else ""
        if kind == "text" or not kind:
            # Each text block becomes a part of its own, so that it is sent back unchanged.
            self.answer.close_text()
            self._in_text = not self._halves.held
            self.answer.add_text(lenient.as_text(block.get("text"), of="a text") or "", out)
            citations = block.get("citations")
            for citation in citations if isinstance(citations, list) else [citations]:
                self._cite(citation)
        elif kind == "tool_use":
            self._start_call(index, block, out, begins=begins)
        else:
            self.answer.close_text()
            self._kept[index] = KeptBlock(block, self.answer.count_characters)
            if kind == "thinking":
                self.answer.add_reasoning(lenient.any_text(block.get("thinking")), out)

    def _start_call(self, index: int, block: Mapping[str, Any], out: list[StreamEvent], *, begins: bool) -> None:
        if block.get("input"):
            self._given[index] = as_text(block["input"])
        try:
            delta = self.answer.calls.add(
                index=index,
                id=str(block.get("id") or ""),
                name=str(block.get("name") or ""),
                arguments="",
                begins=begins,
            )
        except TooManyCalls as exc:
            self._violate(str(exc))
            return
        out.append(delta)
        more = {name: value for name, value in block.items() if name not in _READ_OF_CALL}
        if more:
            self._of_calls[delta.index] = more

    def _blocks_of_calls(self, reasoning: str, calls: tuple[ToolCall, ...]) -> Iterator[Opaque]:
        if self._of_calls and calls:
            yield opaque(CALLS, {calls[position].id: more for position, more in self._of_calls.items()})

    def _cite(self, raw: Any) -> None:
        if isinstance(raw, dict):
            self.answer.citations.append(
                Citation(
                    dialect=DIALECT,
                    url=lenient.any_text(raw.get("url")) or lenient.any_text(raw.get("source")),
                    title=lenient.any_text(raw.get("title")) or lenient.any_text(raw.get("document_title")),
                    quote=lenient.any_text(raw.get("cited_text")),
                    raw=raw,
                )
            )
            self.answer.count(raw)

    def _stop_block(self, index: int, out: list[StreamEvent]) -> None:
        self.answer.add_text(self._halves.rest("text"), out)
        self.answer.add_reasoning(self._halves.rest("thinking"), out)
        if index in self._given:
            given = self._given.pop(index)
            out.append(self.answer.calls.add(index=index, id="", name="", arguments=given))
        if self._open.pop(index, None) == "tool_use":
            out.extend(self.answer.calls.seal_at(index))
        kept = self._kept.pop(index, None)
        if kept is not None:
            self.answer.keep(opaque(DIALECT, kept.closed()))

    def _stop_message(self, out: list[StreamEvent]) -> None:
        for index in [*self._kept, *self._given]:
            self._stop_block(index, out)
        self.finished = self.answer.finish_reason is not None and not self.violation
        self.ended = True

    def _take_message_delta(self, event: Event, data: bytes, out: list[StreamEvent]) -> None:
        self._note_usage(event.usage, out)
        raw = lenient.decode_scrubbed(data)
        self._note_details(raw)
        delta = raw.get("delta")
        if isinstance(delta, dict):
            self._note_details(delta)
            self._finish(delta.get("stop_reason"))

    def _finish(self, reason: Any) -> None:
        word = finish_word(reason)
        if not word:
            return
        meaning = ANTHROPIC_FINISH_REASONS.get(word.lower())
        if meaning is None:
            self.error, self.ended = unknown_finish(word), True
            return
        self.answer.finish_reason, self.answer.raw_finish_reason = meaning, word
        self.finished = self._ends_with == "stop_reason"

    def _start_message(self, message: Mapping[str, Any], out: list[StreamEvent]) -> None:
        if self._started:
            # The server starts again, for example because a gateway failed over. The two answers are never joined.
            shown = self.answer.shown()
            self._begin(self.answer.again())
            if shown is not None:
                out.append(Reset(shown, InvalidResponse("the provider restarted its answer")))
        self._started = True
        self._take_message(message, out)

    def _take_message(self, message: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Read the fields of a message, and its content when it already has some."""
        answer = self.answer
        answer.id = lenient.any_text(message.get("id"))
        answer.model = lenient.any_text(message.get("model")) or answer.model
        self._note_usage(message.get("usage"), out)
        self._note_details(message)
        content = message.get("content")
        blocks = [content] if isinstance(content, str | dict) else lenient.as_list(content, of="the content")
        for given in blocks:
            block = {"type": "text", "text": given} if isinstance(given, str) else given
            # Larger than every index that the stream itself uses.
            index = MAX_BLOCKS + self._blocks
            self._start_block(index, lenient.as_object(block, of="a block of the content"), out)
            self._stop_block(index, out)
        self._finish(message.get("stop_reason"))
        if not self._started:
            self.finished: bool = answer.finish_reason is not None and not self.violation

    def _note_details(self, fields: Mapping[str, Any]) -> None:
        self.answer.note_details({name: value for name, value in fields.items() if name not in _READ})

    def _note_usage(self, usage: Any, out: list[StreamEvent]) -> None:
        # `message_delta` repeats some numbers, as cumulative values, and omits others.
        if isinstance(usage, Mapping):
            known = self.answer.details.get("usage", {})
            self.answer.details["usage"] = known | _without_null(usage)
            tier = usage.get("service_tier")
            self.answer.service_tier = tier if isinstance(tier, str) else self.answer.service_tier
        out.extend(self.answer.note_usage(self._usage.note(usage)))

    def _fail(self, error: Any, request_id: Any) -> None:
        self.error: Any = {"error": error or {}, "request_id": request_id}
        self.ended: bool = True

    def _take_undecodable(self, sse: ServerSentEvent, out: list[StreamEvent]) -> None:
        data = sse.data.strip()
        if data == b"[DONE]" or lenient.is_heartbeat(data, sse.event):
            return
        if (parts := separated(sse)) != [sse]:
            for part in parts:
                if not self.ended:
                    self._take_event(part, out)
            return
        try:
            self._take(self._lenient.decode(data, sse.event), sse, out)
        except (NotDecodable, RecursionError) as exc:
            if sse.event == "error":
                self._fail(data.decode(errors="replace"), None)
            else:
                self._violate(f"an event of the stream is not one of the Messages API: {exc}")


def _raw_delta(data: bytes) -> dict[str, Any]:
    return lenient.as_object(lenient.decode_scrubbed(data).get("delta"), of="the delta")


def _without_null(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
