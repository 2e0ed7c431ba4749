"""Reads an answer of OpenAI's Responses API, from bytes to events, without I/O.

An answer is a list of output items: messages, function calls, reasoning, and the calls and results of tools that the
server runs itself. Text becomes `Text` parts, function calls become tool calls. All that has to be sent back in the
next request stays in the content as `Opaque` blocks of the dialect `responses`, in its original order: reasoning and
built-in items as a whole; for a message or a function call, a block without its content marks its position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from clawft_trio.chat import (
    Citation,
    GrowingText,
    ReasoningDelta,
    Reset,
    StreamEvent,
    Text,
    TextDelta,
    ToolCallDelta,
)
from clawft_trio.errors import InvalidResponse
from clawft_trio.llm import lenient
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable
from clawft_trio.llm.reading import Progress
from clawft_trio.llm.response_builder import ResponseBuilder, finish_word, opaque, unknown_finish
from clawft_trio.llm.responses_events import BEGUN, ENDED, REASONING, TEXT, Event, LenientEvents, decode
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_responses_usage
from clawft_trio.net.sse import ServerSentEvent

DIALECT = "responses"

STATE = "responses:state"
"""Dialect of the block with `response_id`, for requests that continue from a stored response."""

# A real answer has some tens of items; a server that sends more than this is broken.
MAX_ITEMS = 4096

_INCOMPLETE: Mapping[str, str] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "length": "length",
    "content_filter": "content_filter",
}
"""Finish reasons by `incomplete_details.reason`. Any other reason is a failure of the provider."""

# Fields that repeat the request, and fields that are read elsewhere. All others are kept in `provider_details`.
_READ = frozenset(
    {
        "id", "object", "model", "output", "output_text", "status", "error", "service_tier", "sequence_number", "type",
        "instructions", "tools", "tool_choice", "text", "temperature", "top_p", "top_logprobs", "truncation", "user",
        "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "previous_response_id", "prompt", "reasoning",
        "frequency_penalty", "presence_penalty", "store", "background", "metadata", "include", "input",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "tool_calls", "total_tokens",
    }
)  # fmt: skip


class _Item:
    """An output item whose deltas are arriving."""

    __slots__ = ("citations", "done", "kind", "shown")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        #: number of characters of text or arguments in its deltas
        self.shown = 0
        self.citations: list[Citation] = []
        self.done = False


class ResponsesResponseReader(Progress):
    """A `ResponseReader` for responses, streamed or not.

    Args:
      answer: receives the content.
      stateful: the server stores its responses; the next request may continue from the id of this one.
    """

    def __init__(self, answer: ResponseBuilder, *, stateful: bool = False) -> None:
        super().__init__()
        self._lenient = LenientEvents(self._halves)
        self._stateful = stateful
        self._begin(answer)

    def _begin(self, answer: ResponseBuilder) -> None:
        self.answer = answer
        self._items: dict[int, _Item] = {}
        self._refused = False
        self._usage = UsageReader(read_responses_usage, answer.provider)
        #: item and part of the last reasoning delta: each part is a paragraph
        self._thinking: tuple[int, int | None] | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Decode the next bytes of an event stream and return their events."""
        out: list[StreamEvent] = []
        try:
            for sse in self._sse.feed(data):
                self._take_sse(sse, out)
                if self.ended:
                    break
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"an event of the stream is not one of the Responses API: {exc}")
        return out

    def feed_whole(self, body: bytes) -> list[StreamEvent]:
        """Decode the complete body of an answer that was not streamed, and return its events."""
        out: list[StreamEvent] = []
        try:
            response = lenient.decode_scrubbed(body)
            if lenient.is_stated(response.get("error")):
                self._fail(response["error"])
            elif not isinstance(response.get("output"), list | dict):
                self._violate("the answer has no output")
            else:
                self._take_response(response, out)
                self._end(response)
        except (NotDecodable, RecursionError) as exc:
            self._violate(f"the answer is not a response: {exc}")
        self.ended = True
        return out

    def feed_end(self) -> list[StreamEvent]:
        """Handle the end of the event stream; accept a last event without its blank line if it is complete."""
        out: list[StreamEvent] = []
        for sse in () if self.ended else self._sse.feed_end():
            if sse.event == "error" or lenient.is_json(sse.data):
                try:
                    self._take_sse(sse, out)
                except (NotDecodable, RecursionError) as exc:
                    self._violate(f"the last event of the stream is not one of the Responses API: {exc}")
        self.ended = True
        return out

    # --- events ---------------------------------------------------------------------------------------

    def _take_sse(self, sse: ServerSentEvent, out: list[StreamEvent]) -> None:
        try:
            event = decode(sse.data)
            strict = not self._halves.held and bool(event.type)
        except NOT_JSON:
            strict = False
        data = sse.data.strip()
        if strict:
            self._take(event, sse, out)
        elif data != b"[DONE]" and not lenient.is_heartbeat(data, sse.event):
            try:
                event = self._lenient.decode(data, sse.event)
            except NotDecodable:
                if sse.event != "error":
                    raise
                self._fail(data.decode(errors="replace"))
            else:
                self._take(event, sse, out)

    def _take(self, event: Event, sse: ServerSentEvent, out: list[StreamEvent]) -> None:
        kind = event.type
        if kind in TEXT:
            self._take_text(event, out)
        elif kind == "response.function_call_arguments.delta":
            self._take_arguments(event, event.delta or "", out)
        elif kind in REASONING:
            part = event.summary_index if event.summary_index is not None else event.content_index
            self._item(event, "reasoning")
            self._add_reasoning(event.delta or "", (self._place(event), part), out)
        elif kind == "response.refusal.delta":
            self._refuse(event.delta or "", self._item(event, "message"), out)
        elif kind == "response.function_call_arguments.done":
            item = self._items.get(self._place(event))
            if item is not None and not item.shown:
                self._take_arguments(event, as_text(event.arguments), out)
        elif kind == "response.output_item.added":
            self._start_item(self._place(event), event.item or {}, out)
        elif kind == "response.output_item.done":
            self._end_item(self._place(event), event.item or {}, out)
        elif kind == "response.output_text.annotation.added":
            self._item(event, "message").citations.extend(_citations([event.annotation]))
            self.answer.count(event.annotation)
        elif kind in BEGUN:
            self._take_origin(_object(event.response), out, first=kind == "response.created")
        elif kind in ENDED:
            self._take_end(_object(event.response), out)
        elif kind in {"error", "response.error"} or lenient.is_stated(event.error) or sse.event == "error":
            raw = lenient.decode_scrubbed(sse.data)
            self._fail(raw.get("error") or raw)
        # The other events report the progress of built-in tools or repeat content of the deltas and items.

    def _place(self, event: Event) -> int:
        if event.output_index is not None:
            return event.output_index
        return max(self._items, default=0)

    def _item(self, event: Event, kind: str) -> _Item:
        place = self._place(event)
        item = self._items.get(place)
        if item is None:
            if len(self._items) >= MAX_ITEMS:
                raise NotDecodable(f"more than {MAX_ITEMS} items in one answer")
            item = self._items[place] = _Item(kind)
            self.answer.close_text()
        return item

    def _take_text(self, event: Event, out: list[StreamEvent]) -> None:
        text = event.delta
        if text:
            item = self._items.get(event.output_index) or self._item(event, "message")  # type: ignore[arg-type]
            item.shown += len(text)
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _take_arguments(self, event: Event, piece: str, out: list[StreamEvent]) -> None:
        item = self._items.get(self._place(event))
        if item is None or item.kind != "function_call":
            if piece and item is None:
                self._violate("arguments came for a function call that has not begun")
            return
        if piece:
            item.shown += len(piece)
            out.append(self.answer.calls.add(index=self._place(event), id="", name="", arguments=piece))

    def _refuse(self, text: str, item: _Item, out: list[StreamEvent]) -> None:
        self._refused = True
        item.shown += len(text)
        self.answer.refusal.append(text)
        self.answer.add_text(text, out)

    def _add_reasoning(self, text: str, part: tuple[int, int | None], out: list[StreamEvent]) -> None:
        if not text:
            return
        if self._thinking is not None and self._thinking[0] == part[0] and self._thinking != part:
            # The parts of one summary are paragraphs, sent without the blank line between them.
            text = "\n\n" + text
        self._thinking = part
        item = self._items.get(part[0])
        if item is not None:
            item.shown += len(text)
        self.answer.reasoning.write(text)
        out.append(ReasoningDelta(text))

    # --- items ----------------------------------------------------------------------------------------

    def _start_item(self, place: int, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        if len(self._items) >= MAX_ITEMS:
            self._violate(f"more than {MAX_ITEMS} items in one answer")
            return
        kind = raw.get("type")
        item = self._items[place] = _Item(kind if isinstance(kind, str) else "")
        self.answer.close_text()
        if item.kind == "function_call":
            self._start_call(place, item, raw, out)
        elif item.kind == "message":
            self.answer.keep(opaque(DIALECT, _mark(raw, "role", "phase")))
            self._take_content(item, raw, out)

    def _start_call(self, place: int, item: _Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        arguments = as_text(raw.get("arguments"))
        call_id = lenient.any_text(raw.get("call_id")) or lenient.any_text(raw.get("id"))
        item.shown += len(arguments)
        try:
            delta = self.answer.calls.add(
                index=place, id=call_id, name=lenient.any_text(raw.get("name")), arguments=arguments
            )
        except TooManyCalls as exc:
            self._violate(str(exc))
            return
        out.append(delta)
        self.answer.keep(opaque(DIALECT, _mark(raw, "call_id", "namespace", "caller")))

    def _take_content(self, item: _Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Read the content of a message for which no delta arrived."""
        for part in lenient.as_objects(_listed(raw.get("content")), of="the content of a message"):
            refusal = lenient.as_text(part.get("refusal"), of="a refusal")
            if refusal:
                self._refuse(refusal, item, out)
            text = lenient.as_text(part.get("text"), of="the text of a message")
            if text:
                item.shown += len(text)
                self.answer.add_text(text, out)
            elif not refusal and part.get("type") not in {"output_text", "text", "refusal"}:
                self._keep_part(part)

    def _keep_part(self, part: Mapping[str, Any]) -> None:
        known = self.answer.details.setdefault("content", [])
        known.append(part)
        self.answer.kept += len(msgspec.json.encode(part))

    def _end_item(self, place: int, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        if place not in self._items:
            self._start_item(place, raw, out)
        item = self._items.get(place)
        if item is None or item.done or self.violation:
            return
        item.done = True
        if not item.kind:
            item.kind = lenient.any_text(raw.get("type"))
        if item.kind == "message":
            self._end_text(place, item, raw, out)
        elif item.kind == "function_call":
            if not item.shown and raw.get("arguments"):
                piece = as_text(raw["arguments"])
                item.shown += len(piece)
                out.append(self.answer.calls.add(index=place, id="", name="", arguments=piece))
            out.extend(self.answer.calls.seal_at(place))
        elif raw:
            if item.kind == "reasoning" and not item.shown:
                for number, text in enumerate(_thoughts(raw)):
                    self._add_reasoning(text, (place, number), out)
            self.answer.keep(opaque(DIALECT, raw), len(msgspec.json.encode(raw)))

    def _end_text(self, place: int, item: _Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        rest = self._halves.rest(("response.output_text.delta", place))
        self.answer.add_text(rest, out)
        if not item.shown and not rest:
            self._take_content(item, raw, out)
        content = lenient.as_objects(_listed(raw.get("content")), of="the content of a message")
        self._correct("".join(filter(None, (_text_of(part) for part in content))), out)
        listed = [mark for part in content for mark in _citations(part.get("annotations"))]
        self.answer.citations.extend(listed or item.citations)
        self.answer.close_text()
        logprobs = [token for part in content for token in _listed(part.get("logprobs"))]
        if logprobs:
            self.answer.details.setdefault("logprobs", {}).setdefault("content", []).extend(logprobs)
            self.answer.kept += 100 * len(logprobs)

    def _correct(self, text: str, out: list[StreamEvent]) -> None:
        """Correct the text of the item that ends, when some of its deltas were lost; *text* is its complete text."""
        shown = self.answer.text.getvalue()
        if not text or text == shown:
            return
        if text.startswith(shown):
            self.answer.add_text(text[len(shown) :], out)
            return
        answer, discarded = self.answer, self.answer.shown()
        assert discarded is not None
        out.append(Reset(discarded, InvalidResponse("the text of an item is not that of its deltas")))
        answer.text = GrowingText()
        reasoning = answer.reasoning.getvalue()
        out.extend([ReasoningDelta(reasoning)] if reasoning else [])
        out.extend(TextDelta(part.text) for part in answer.parts if isinstance(part, Text) and part.text)
        calls = enumerate(answer.calls.calls(whole=False))
        out.extend(ToolCallDelta(place, call.id, call.name, call.arguments) for place, call in calls)
        self.answer.add_text(text, out)

    # --- the response ---------------------------------------------------------------------------------

    def _take_origin(self, response: Mapping[str, Any], out: list[StreamEvent], *, first: bool) -> None:
        answer = self.answer
        given = lenient.any_text(response.get("id"))
        if (answer.id and given and given != answer.id) or (first and self._items):
            # The server starts again, for example because a gateway failed over. The two answers are never joined.
            shown = answer.shown()
            self._begin(answer.again())
            if shown is not None:
                out.append(Reset(shown, InvalidResponse("the provider restarted its answer")))
        self.answer.id = given or self.answer.id
        self.answer.model = lenient.any_text(response.get("model")) or self.answer.model

    def _take_response(self, response: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Read the parts of *response* that no earlier event had."""
        answer = self.answer
        answer.id = lenient.any_text(response.get("id")) or answer.id
        answer.model = lenient.any_text(response.get("model")) or answer.model
        answer.service_tier = lenient.any_text(response.get("service_tier"))
        answer.note_details({name: value for name, value in response.items() if name not in _READ and value != {}})
        reading = self._usage.note(response.get("usage"), service_tier=response.get("service_tier"))
        out.extend(answer.note_usage(reading))
        output = _listed(response.get("output"))
        if not isinstance(output, list) and any(item.done for item in self._items.values()):
            # The end of a stream only repeats what its events have brought.
            return
        for place, item in enumerate(
            [output] if isinstance(output, dict) else lenient.as_list(output, of="the output")
        ):
            if item is not None and not (place in self._items and self._items[place].done):
                self._end_item(place, lenient.as_object(item, of="an item of the output"), out)

    def _take_end(self, response: Mapping[str, Any], out: list[StreamEvent]) -> None:
        self._take_response(response, out)
        if not self.violation:
            self._end(response)
        self.ended = True

    def _end(self, response: Mapping[str, Any]) -> None:
        if lenient.is_stated(response.get("error")):
            self._fail(response["error"])
            return
        status = finish_word(response.get("status")) or "completed"
        details = response.get("incomplete_details")
        reason = finish_word(details.get("reason")) if isinstance(details, Mapping) else ""
        meaning = "stop" if status in {"completed", "complete"} else None
        if status == "incomplete":
            meaning = _INCOMPLETE.get(reason)
        if meaning is None:
            self._fail(unknown_finish(reason or status)["error"])
            return
        answer = self.answer
        answer.raw_finish_reason = reason or status
        answer.finish_reason = "content_filter" if self._refused else meaning
        if self._stateful and answer.id:
            answer.keep(opaque(STATE, {"response_id": answer.id}))
        self.finished = True

    def _fail(self, error: Any) -> None:
        self.error: Any = {"error": error}
        self.ended: bool = True


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    data = bytes(raw)
    return lenient.decode_scrubbed(data) if data and data != b"null" else {}


def _text_of(part: Mapping[str, Any]) -> str:
    """Return the text or the refusal in a part of a message."""
    return lenient.any_text(part.get("text")) or lenient.any_text(part.get("refusal"))


def _mark(raw: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """Return an item without its content, which marks its position among the others."""
    return {"type": raw.get("type")} | {name: raw[name] for name in fields if raw.get(name) is not None}


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "output_text", "text": value}]
    return [] if value is None else value


def _thoughts(item: Mapping[str, Any]) -> Iterator[str]:
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [text for part in (parts if isinstance(parts, list) else [parts]) if (text := lenient.any_text(part))]
        if texts:
            yield from texts
            return


def _citations(annotations: Any) -> Iterator[Citation]:
    for raw in annotations if isinstance(annotations, list) else ():
        if isinstance(raw, dict):
            yield Citation(
                dialect=DIALECT,
                url=lenient.any_text(raw.get("url")),
                title=lenient.any_text(raw.get("title")) or lenient.any_text(raw.get("filename")),
                raw=raw,
            )
