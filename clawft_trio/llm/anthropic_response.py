"""An answer in Anthropic's Messages dialect, from bytes to events, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from clawft_trio.chat import ReasoningDelta, StreamEvent, TextDelta
from clawft_trio.llm.response_builder import ResponseBuilder, opaque
from clawft_trio.llm.tool_calls import TooManyCalls
from clawft_trio.llm.usage import UsageReader, read_messages_usage
from clawft_trio.net.sse import SSEDecoder

DIALECT = "anthropic"

# An answer has a handful of blocks; this many is a server gone wrong.
MAX_BLOCKS = 4096

EndsWith = Literal["message_stop", "stop_reason"]
"""What proves that a stream was whole. Some imitations of this API leave out the last event."""


# --- the wire: only the fields that are read ------------------------------------------------------------


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: Any = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: Any = None
    error: Any = None
    request_id: Any = None


class _Whole(_Message, gc=False):
    type: str = ""
    error: Any = None
    request_id: Any = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode

_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Block:
    """A content block that is kept as it is, growing by its deltas."""

    __slots__ = ("block", "input", "signature", "thinking")

    def __init__(self, block: Mapping[str, Any]) -> None:
        self.block = dict(block)
        self.thinking: list[str] = []
        self.signature: list[str] = []
        self.input: list[str] = []

    def closed(self) -> dict[str, Any]:
        for name, pieces in (("thinking", self.thinking), ("signature", self.signature)):
            if pieces:
                self.block[name] = str(self.block.get(name) or "") + "".join(pieces)
        if self.input:
            self.block["input"] = msgspec.json.decode("".join(self.input))
        return self.block


class AnthropicResponseReader:
    """A `ResponseReader` of messages, streamed or not."""

    def __init__(self, answer: ResponseBuilder, *, ends_with: EndsWith = "message_stop") -> None:
        self.answer = answer
        self.finished: bool = False
        self.ended: bool = False
        self.error: Any = None
        self.violation: str = ""
        self._ends_with = ends_with
        self._sse = SSEDecoder()
        self._usage = UsageReader(read_messages_usage, answer.provider)
        # The blocks that are open, by index: the type of each, and for those kept as they are, the block.
        self._open: dict[int, str] = {}
        self._kept: dict[int, _Block] = {}
        self._blocks = 0

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes of an event stream."""
        out: list[StreamEvent] = []
        for sse in self._sse.feed(data):
            try:
                event = _decode(sse.data)
            except _NOT_JSON as exc:
                self._violate(f"an event of the stream is not one of the Messages API: {exc}")
            else:
                self._take(event, out)
            if self.ended:
                break
        return out

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Take the body of an answer that was not streamed."""
        out: list[StreamEvent] = []
        self.ended = True
        try:
            message = _decode_whole(body)
        except _NOT_JSON as exc:
            self._violate(f"the answer is not a message: {exc}")
            return out
        if message.type == "error" or message.error is not None:
            self._fail(message.error, message.request_id)
        elif message.content is None:
            self._violate("the answer has no content")
        else:
            self._take_message(message, out)
        return out

    def feed_end(self) -> None:
        """Take note that the event stream has ended."""
        self.ended = True

    # --- events ---------------------------------------------------------------------------------------

    def _take(self, event: _Event, out: list[StreamEvent]) -> None:
        kind = event.type
        if kind == "content_block_delta":
            if event.delta is not None:
                self._take_delta(event.index, event.delta, out)
        elif kind == "content_block_start":
            self._start_block(event.index, event.content_block or {}, out)
        elif kind == "content_block_stop":
            self._stop_block(event.index)
        elif kind == "message_delta":
            self._take_message_delta(event, out)
        elif kind == "message_start" and event.message is not None:
            self._take_origin(event.message, out)
        elif kind == "message_stop":
            self._stop_message()
        elif kind == "error":
            self._fail(event.error, event.request_id)
        # `ping`, and the kinds that are still to be invented, say nothing about the answer.

    def _take_delta(self, index: int, delta: _Delta, out: list[StreamEvent]) -> None:
        kind = delta.type
        if kind == "text_delta":
            if delta.text:
                self.answer.text.write(delta.text)
                out.append(TextDelta(delta.text))
        elif kind == "input_json_delta":
            self._take_input(index, delta.partial_json or "", out)
        elif index in self._kept:
            block = self._kept[index]
            if kind == "thinking_delta" and delta.thinking:
                block.thinking.append(delta.thinking)
                self.answer.reasoning.write(delta.thinking)
                out.append(ReasoningDelta(delta.thinking))
            elif kind == "signature_delta":
                block.signature.append(delta.signature or "")

    def _take_input(self, index: int, piece: str, out: list[StreamEvent]) -> None:
        if index in self._kept:
            self._kept[index].input.append(piece)
        elif piece and self._open.get(index) == "tool_use":
            out.append(self.answer.calls.add(index=index, id="", name="", arguments=piece))

    def _start_block(self, index: int, block: Mapping[str, Any], out: list[StreamEvent]) -> None:
        self._blocks += 1
        if self._blocks > MAX_BLOCKS:
            self._violate(f"more than {MAX_BLOCKS} content blocks in one answer")
            return
        kind = str(block.get("type"))
        self._open[index] = kind
        if kind == "text":
            self._say(str(block.get("text") or ""), out)
        elif kind == "tool_use":
            self._start_call(index, block, out)
        else:
            self.answer.close_text()
            self._kept[index] = _Block(block)
            self._think(block, out)

    def _start_call(self, index: int, block: Mapping[str, Any], out: list[StreamEvent]) -> None:
        given = block.get("input")
        try:
            out.append(
                self.answer.calls.add(
                    index=index,
                    id=str(block.get("id") or ""),
                    name=str(block.get("name") or ""),
                    # In a stream it is always empty, and comes in pieces.
                    arguments=msgspec.json.encode(given).decode() if given else "",
                )
            )
        except TooManyCalls as exc:
            self._violate(str(exc))

    def _say(self, text: str, out: list[StreamEvent]) -> None:
        if text:
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _think(self, block: Mapping[str, Any], out: list[StreamEvent]) -> None:
        thought = block.get("thinking") if block.get("type") == "thinking" else None
        if isinstance(thought, str) and thought:
            self.answer.reasoning.write(thought)
            out.append(ReasoningDelta(thought))

    def _stop_block(self, index: int) -> None:
        self._open.pop(index, None)
        kept = self._kept.pop(index, None)
        if kept is None:
            return
        try:
            block = kept.closed()
        except _NOT_JSON as exc:
            self._violate(f"a {kept.block.get('type')} block is not JSON: {exc}")
            return
        self.answer.close_text()
        self.answer.parts.append(opaque(DIALECT, block))

    def _stop_message(self) -> None:
        for index in [*self._kept]:
            self._stop_block(index)
        self.finished = self.answer.finish_reason is not None and not self.violation
        self.ended = True

    def _take_message_delta(self, event: _Event, out: list[StreamEvent]) -> None:
        self._note_usage(event.usage, out)
        if event.delta is not None and event.delta.stop_reason:
            self.answer.finish_reason = event.delta.stop_reason
            self.finished = self._ends_with == "stop_reason"

    def _take_origin(self, message: _Message, out: list[StreamEvent]) -> None:
        self.answer.id = message.id or ""
        self.answer.model = message.model or self.answer.model
        self._note_usage(message.usage, out)

    def _take_message(self, message: _Message, out: list[StreamEvent]) -> None:
        self._take_origin(message, out)
        for index, block in enumerate(message.content or ()):
            self._start_block(index, block, out)
            self._stop_block(index)
        self.answer.finish_reason = message.stop_reason or "end_turn"
        self.finished = not self.violation

    def _note_usage(self, usage: Any, out: list[StreamEvent]) -> None:
        # `message_delta` repeats some of the numbers, cumulative, and leaves out the others.
        out.extend(self.answer.note_usage(self._usage.note(usage)))

    def _fail(self, error: Any, request_id: Any) -> None:
        self.error = {"error": error or {}, "request_id": request_id}
        self.ended = True

    def _violate(self, how: str) -> None:
        self.violation = "" if self.finished else how
        self.ended = True
