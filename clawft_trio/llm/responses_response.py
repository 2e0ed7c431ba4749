"""Reads an answer of OpenAI's Responses API, from bytes to events, without I/O.

An answer is a list of output items: messages, function calls, reasoning, and the calls and results of tools that the
server runs itself. Text becomes `Text` parts, function calls become tool calls. All that has to be sent back in the
next request stays in the content as `Opaque` blocks of the dialect `responses`, in its original order: reasoning and
built-in items as a whole; for a message or a function call, a block without its content marks its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

from clawft_trio.chat import (
    Discarded,
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
from clawft_trio.llm.error_body import is_bare_error
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable
from clawft_trio.llm.reading import Progress, separated
from clawft_trio.llm.response_builder import ResponseBuilder, finish_word, opaque, unknown_finish
from clawft_trio.llm.responses_events import BEGUN, COMPLETE, ENDED, REASONING, TEXT, Event, LenientEvents, decode
from clawft_trio.llm.responses_items import DIALECT, Item, citations, listed, mark, text_of, thoughts
from clawft_trio.llm.tool_calls import TooManyCalls, as_text
from clawft_trio.llm.usage import UsageReader, read_responses_usage
from clawft_trio.net.sse import ServerSentEvent

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
        self._items: dict[int, Item] = {}
        # Some servers use one index for several items; `_items` has the latest of them, and this list has all.
        self._all: list[Item] = []
        self._by_id: dict[str, Item] = {}
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
            elif "output" not in response and is_bare_error(response):
                self._fail(response)
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
        for sse in () if self.ended else chain.from_iterable(map(separated, self._sse.feed_end())):
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
        elif (parts := separated(sse)) != [sse]:
            for part in parts:
                if not self.ended:
                    self._take_sse(part, out)
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
        elif kind in COMPLETE:
            self._take_complete(event, out)
        elif kind == "response.output_item.added":
            self._start_item(self._place(event), event.item or {}, out)
        elif kind == "response.output_item.done":
            self._end_item(self._place(event), event.item or {}, out)
        elif kind == "response.output_text.annotation.added":
            self._item(event, "message").citations.extend(citations([event.annotation]))
            self.answer.count(event.annotation)
        elif kind in BEGUN:
            self._take_origin(_object(event.response), out, first=kind == "response.created")
        elif kind in ENDED:
            self._take_end(_object(event.response), out)
        elif kind in {"error", "response.error"} or lenient.is_stated(event.error) or sse.event == "error":
            raw = lenient.decode_scrubbed(sse.data)
            self._fail(raw.get("error") or raw)
        elif not kind.startswith("response.") and is_bare_error(raw := lenient.decode_scrubbed(sse.data)):
            self._fail(raw)
        # The other events report the progress of built-in tools or repeat content of the deltas and items.

    def _place(self, event: Event) -> int:
        given = event.item_id or lenient.any_text((event.item or {}).get("id"))
        known = self._by_id.get(given)
        if known is not None and not known.done:
            # Some servers give the events of one item different indices.
            return known.place
        if event.output_index is not None:
            return event.output_index
        return max(self._items, default=0)

    def _item(self, event: Event, kind: str) -> Item:
        place = self._place(event)
        item = self._items.get(place)
        if item is None:
            if len(self._all) >= MAX_ITEMS:
                raise NotDecodable(f"more than {MAX_ITEMS} items in one answer")
            item = self._begin_item(kind, place, event.item_id or "")
        return item

    def _begin_item(self, kind: str, place: int, id_: str) -> Item:
        self.answer.close_text()
        item = self._items[place] = Item(kind, place, len(self.answer.parts))
        self._all.append(item)
        if id_:
            self._by_id[id_] = item
        return item

    def _take_text(self, event: Event, out: list[StreamEvent]) -> None:
        text = event.delta
        if text:
            item = self._items.get(event.output_index) or self._item(event, "message")  # type: ignore[arg-type]
            item.shown += len(text)
            self.answer.text.write(text)
            out.append(TextDelta(text))

    def _take_complete(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the text or the arguments of which no delta arrived, or not every one."""
        item = self._items.get(self._place(event))
        if event.type == "response.output_text.done":
            if item is None or not item.shown:
                event.delta = lenient.as_text(event.text, of="a text")
                self._take_text(event, out)
        elif item is not None and item.kind == "function_call":
            self._complete_call(item, as_text(event.arguments), out)

    def _take_arguments(self, event: Event, piece: str, out: list[StreamEvent]) -> None:
        item = self._items.get(self._place(event))
        if item is None or item.kind != "function_call":
            if piece and item is None:
                self._violate("arguments came for a function call that has not begun")
            return
        if piece:
            item.shown += len(piece)
            out.append(self.answer.calls.add(index=item.place, id="", name="", arguments=piece))

    def _complete_call(self, item: Item, arguments: str, out: list[StreamEvent]) -> None:
        """Add or correct what is missing of a call, when some of its deltas were lost; *arguments* are all of them."""
        calls, discarded = self.answer.calls, None
        arrived = calls.text_of(item.place)
        if arguments.startswith(arrived):
            if rest := arguments[len(arrived) :]:
                item.shown += len(rest)
                out.append(calls.add(index=item.place, id="", name="", arguments=rest))
            return
        discarded = self.answer.shown()
        if discarded is not None and calls.correct(item.place, arguments):
            self._show_again(discarded, "the arguments of a call are not those of its deltas", out)

    def _refuse(self, text: str, item: Item, out: list[StreamEvent]) -> None:
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
        if len(self._all) >= MAX_ITEMS:
            self._violate(f"more than {MAX_ITEMS} items in one answer")
            return
        kind = lenient.any_text(raw.get("type"))
        item = self._items.get(place)
        begins = item is None or item.done or item.kind != kind
        if begins:
            item = self._begin_item(kind, place, lenient.any_text(raw.get("id")))
        assert item is not None
        if item.kind == "function_call":
            self._start_call(item, raw, out, begins=begins)
        elif item.kind == "message" and not item.shown:
            self.answer.keep(opaque(DIALECT, mark(raw, "role", "phase")))
            self._take_content(item, raw, out)

    def _start_call(self, item: Item, raw: Mapping[str, Any], out: list[StreamEvent], *, begins: bool) -> None:
        item.given = as_text(raw.get("arguments"))
        call_id = lenient.any_text(raw.get("call_id")) or lenient.any_text(raw.get("id"))
        name = lenient.any_text(raw.get("name"))
        try:
            delta = self.answer.calls.add(index=item.place, id=call_id, name=name, arguments="", begins=begins)
        except TooManyCalls as exc:
            self._violate(str(exc))
            return
        out.append(delta)
        self.answer.keep(opaque(DIALECT, mark(raw, "call_id", "namespace", "caller")))

    def _take_content(self, item: Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Read the content of a message for which no delta arrived."""
        for part in lenient.as_objects(listed(raw.get("content")), of="the content of a message"):
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
            given = "" if item.shown else item.given
            self._complete_call(item, as_text(raw.get("arguments")) or given, out)
            out.extend(self.answer.calls.seal_at(place))
        elif raw:
            if item.kind == "reasoning" and not item.shown:
                for number, text in enumerate(thoughts(raw)):
                    self._add_reasoning(text, (place, number), out)
            self._keep_item(item, raw)

    def _keep_item(self, item: Item, raw: Mapping[str, Any]) -> None:
        """Keep a complete item at its position, also when items behind it have ended before it."""
        answer, size = self.answer, len(msgspec.json.encode(raw))
        if item.position >= len(answer.parts):
            answer.keep(opaque(DIALECT, raw), size)
            return
        answer.parts.insert(item.position, opaque(DIALECT, raw))
        answer.count_characters(size)
        for other in self._all:
            if other.position > item.position or (other.position == item.position and other.place > item.place):
                other.position += 1

    def _end_text(self, place: int, item: Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        rest = self._halves.rest(("response.output_text.delta", place))
        self.answer.add_text(rest, out)
        if not item.shown and not rest:
            self._take_content(item, raw, out)
        content = lenient.as_objects(listed(raw.get("content")), of="the content of a message")
        self._correct("".join(filter(None, (text_of(part) for part in content))), out)
        found = [citation for part in content for citation in citations(part.get("annotations"))]
        self.answer.citations.extend(found or item.citations)
        self.answer.close_text()
        given = [part["logprobs"] for part in content if isinstance(part.get("logprobs"), list)]
        if logprobs := [*chain.from_iterable(given)]:
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
        answer.text = GrowingText()
        answer.text.write(text)
        self._show_again(discarded, "the text of an item is not that of its deltas", out)

    def _show_again(self, discarded: Discarded, why: str, out: list[StreamEvent]) -> None:
        """Retract the events so far, and emit those of the corrected answer."""
        answer = self.answer
        out.append(Reset(discarded, InvalidResponse(why)))
        reasoning = answer.reasoning.getvalue()
        out.extend([ReasoningDelta(reasoning)] if reasoning else [])
        calls = enumerate(answer.calls.calls(whole=False))
        out.extend(ToolCallDelta(place, call.id, call.name, call.arguments) for place, call in calls)
        texts = [*(part.text for part in answer.parts if isinstance(part, Text)), answer.text.getvalue()]
        out.extend(TextDelta(text) for text in texts if text)

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
        output = listed(response.get("output"))
        repeats = any(item.done for item in self._all)
        if repeats and not isinstance(output, list):
            # The end of a stream only repeats what its events have brought.
            return
        # Matched by kind and order: the index in this list is not always the one of the events, and ids may differ.
        streamed: dict[str, list[Item]] = {}
        for known in self._all:
            streamed.setdefault(known.kind, []).append(known)
        for item in [output] if isinstance(output, dict) else lenient.as_list(output, of="the output"):
            if item is None or (repeats and not isinstance(item, dict)):
                continue
            raw = lenient.as_object(item, of="an item of the output")
            same = streamed.get(lenient.any_text(raw.get("type"))) or streamed.get("")
            if not same:
                self._end_item(max(self._items, default=-1) + 1, raw, out)
            elif not (begun := same.pop(0)).done:
                self._end_item(begun.place, raw, out)

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
