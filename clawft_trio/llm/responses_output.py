"""Collects the output items of one response of OpenAI's Responses API, from its events, without I/O.

The events of one item are its start, its deltas and its end. Some servers leave out the start, deltas or the end,
repeat them, or give the events of one item different indices; an item is complete if one of its events has the content.
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
from clawft_trio.llm.lenient import SurrogateJoiner
from clawft_trio.llm.reading import ProtocolViolation
from clawft_trio.llm.response_builder import ResponseBuilder, opaque
from clawft_trio.llm.responses_events import Event
from clawft_trio.llm.responses_items import DIALECT, Item, citations, listed, mark, text_of, thoughts
from clawft_trio.llm.tool_calls import TooManyCalls, as_text

# A real answer has some tens of items; a server that sends more than this is broken.
MAX_ITEMS = 4096


class OutputItems:
    """The output items of one response while they arrive.

    Methods that take an event or an item append the resulting events to *out*. They raise `ProtocolViolation` or
    `NotDecodable` for what is not of the protocol.

    Args:
      answer: receives the content.
      halves: holds texts of deltas that end within a surrogate pair.
    """

    def __init__(self, answer: ResponseBuilder, halves: SurrogateJoiner) -> None:
        self._answer = answer
        self._halves = halves
        self._items: dict[int, Item] = {}
        # Some servers use one index for several items; `_items` has the latest of them, and this list has all.
        self._all: list[Item] = []
        self._by_id: dict[str, Item] = {}
        #: whether the model refused
        self.refused: bool = False
        #: item and part of the last reasoning delta: each part is a paragraph
        self._thinking: tuple[int, int | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def place(self, event: Event) -> int:
        """Return the index under which the item of *event* is kept."""
        given = event.item_id or lenient.any_text((event.item or {}).get("id"))
        known = self._by_id.get(given)
        if known is not None and not known.done:
            # Some servers give the events of one item different indices.
            return known.place
        if event.output_index is not None:
            return event.output_index
        return max(self._items, default=0)

    def _item(self, event: Event, kind: str) -> Item:
        place = self.place(event)
        item = self._items.get(place)
        if item is None:
            item = self._begin_item(kind, place, event.item_id or "")
        return item

    def _begin_item(self, kind: str, place: int, id_: str) -> Item:
        if len(self._all) >= MAX_ITEMS:
            raise ProtocolViolation(f"more than {MAX_ITEMS} items in one answer")
        self._answer.close_text()
        item = self._items[place] = Item(kind, place, len(self._answer.parts))
        self._all.append(item)
        if id_:
            self._by_id[id_] = item
        return item

    def take_text(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the next text of a message."""
        text = event.delta
        if text:
            item = self._items.get(event.output_index) or self._item(event, "message")  # type: ignore[arg-type]
            item.shown += len(text)
            self._answer.text.write(text)
            out.append(TextDelta(text))

    def take_complete(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the text or the arguments of which no delta arrived, or not every one."""
        item = self._items.get(self.place(event))
        if event.type == "response.output_text.done":
            if item is None or not item.shown:
                event.delta = lenient.as_text(event.text, of="a text")
                self.take_text(event, out)
        elif item is not None and item.kind == "function_call":
            self._complete_call(item, as_text(event.arguments), out)

    def take_arguments(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the next arguments of a function call."""
        piece = event.delta or ""
        item = self._items.get(self.place(event))
        if item is None or item.kind != "function_call":
            if piece and item is None:
                raise ProtocolViolation("arguments came for a function call that has not begun")
            return
        if piece:
            item.shown += len(piece)
            out.append(self._answer.calls.add(index=item.place, id="", name="", arguments=piece))

    def _complete_call(self, item: Item, arguments: str, out: list[StreamEvent]) -> None:
        """Add or correct what is missing of a call, when some of its deltas were lost; *arguments* are all of them."""
        calls, discarded = self._answer.calls, None
        arrived = calls.text_of(item.place)
        if arguments.startswith(arrived):
            if rest := arguments[len(arrived) :]:
                item.shown += len(rest)
                out.append(calls.add(index=item.place, id="", name="", arguments=rest))
            return
        discarded = self._answer.shown()
        if discarded is not None and calls.correct(item.place, arguments):
            self._show_again(discarded, "the arguments of a call are not those of its deltas", out)

    def take_refusal(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the next text of a refusal."""
        self._refuse(event.delta or "", self._item(event, "message"), out)

    def take_reasoning(self, event: Event, out: list[StreamEvent]) -> None:
        """Take the next reasoning, of the summary or of the content."""
        part = event.summary_index if event.summary_index is not None else event.content_index
        self._item(event, "reasoning")
        self._add_reasoning(event.delta or "", (self.place(event), part), out)

    def take_annotation(self, event: Event) -> None:
        """Take a citation of a message."""
        self._item(event, "message").citations.extend(citations([event.annotation]))
        self._answer.count(event.annotation)

    def _refuse(self, text: str, item: Item, out: list[StreamEvent]) -> None:
        self.refused = True
        item.shown += len(text)
        self._answer.refusal.append(text)
        self._answer.add_text(text, out)

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
        self._answer.reasoning.write(text)
        out.append(ReasoningDelta(text))

    def start_item(self, place: int, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Begin the item *raw*, unless its deltas have begun it."""
        kind = lenient.any_text(raw.get("type"))
        item = self._items.get(place)
        begins = item is None or item.done or item.kind != kind
        if begins:
            item = self._begin_item(kind, place, lenient.any_text(raw.get("id")))
        assert item is not None
        if item.kind == "function_call":
            self._start_call(item, raw, out, begins=begins)
        elif item.kind == "message" and not item.shown:
            self._answer.keep(opaque(DIALECT, mark(raw, "role", "phase")))
            self._take_content(item, raw, out)

    def _start_call(self, item: Item, raw: Mapping[str, Any], out: list[StreamEvent], *, begins: bool) -> None:
        item.given = as_text(raw.get("arguments"))
        call_id = lenient.any_text(raw.get("call_id")) or lenient.any_text(raw.get("id"))
        name = lenient.any_text(raw.get("name"))
        try:
            delta = self._answer.calls.add(index=item.place, id=call_id, name=name, arguments="", begins=begins)
        except TooManyCalls as exc:
            raise ProtocolViolation(str(exc)) from exc
        out.append(delta)
        self._answer.keep(opaque(DIALECT, mark(raw, "call_id", "namespace", "caller")))

    def _take_content(self, item: Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """Read the content of a message for which no delta arrived."""
        for part in lenient.as_objects(listed(raw.get("content")), of="the content of a message"):
            refusal = lenient.as_text(part.get("refusal"), of="a refusal")
            if refusal:
                self._refuse(refusal, item, out)
            text = lenient.as_text(part.get("text"), of="the text of a message")
            if text:
                item.shown += len(text)
                self._answer.add_text(text, out)
            elif not refusal and part.get("type") not in {"output_text", "text", "refusal"}:
                self._keep_part(part)

    def _keep_part(self, part: Mapping[str, Any]) -> None:
        known = self._answer.details.setdefault("content", [])
        known.append(part)
        self._answer.kept += len(msgspec.json.encode(part))

    def end_item(self, place: int, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        """End an item; *raw* is its complete content."""
        if place not in self._items:
            self.start_item(place, raw, out)
        item = self._items.get(place)
        if item is None or item.done:
            return
        item.done = True
        if not item.kind:
            item.kind = lenient.any_text(raw.get("type"))
            if item.kind == "function_call":
                self._start_call(item, raw, out, begins=True)
        if item.kind == "message":
            self._end_text(place, item, raw, out)
        elif item.kind == "function_call":
            given = "" if item.shown else item.given
            self._complete_call(item, as_text(raw.get("arguments")) or given, out)
            out.extend(self._answer.calls.seal_at(place))
        elif raw:
            if item.kind == "reasoning" and not item.shown:
                for number, text in enumerate(thoughts(raw)):
                    self._add_reasoning(text, (place, number), out)
            self._keep_item(item, raw)

    def _keep_item(self, item: Item, raw: Mapping[str, Any]) -> None:
        """Keep a complete item at its position, in whatever order the items end that had begun together."""
        self._answer.parts.insert(item.position, opaque(DIALECT, raw))
        self._answer.count(raw)
        for other in self._all:
            if other.position > item.position or (other.position == item.position and other.place > item.place):
                other.position += 1

    def _end_text(self, place: int, item: Item, raw: Mapping[str, Any], out: list[StreamEvent]) -> None:
        rest = self._halves.rest(("response.output_text.delta", place))
        self._answer.add_text(rest, out)
        if not item.shown and not rest:
            self._take_content(item, raw, out)
        content = lenient.as_objects(listed(raw.get("content")), of="the content of a message")
        if item is self._all[-1]:
            self._correct("".join(text_of(part) for part in content), out)
        found = [citation for part in content for citation in citations(part.get("annotations"))]
        self._answer.citations.extend(found or item.citations)
        self._answer.close_text()
        given = [part["logprobs"] for part in content if isinstance(part.get("logprobs"), list)]
        if logprobs := [*chain.from_iterable(given)]:
            self._answer.details.setdefault("logprobs", {}).setdefault("content", []).extend(logprobs)
            self._answer.kept += 100 * len(logprobs)

    def _correct(self, text: str, out: list[StreamEvent]) -> None:
        """Correct the text of the latest item, when some of its deltas were lost; *text* is its complete text."""
        shown = self._answer.text.getvalue()
        if not text or text == shown:
            return
        if text.startswith(shown):
            self._answer.add_text(text[len(shown) :], out)
            return
        answer, discarded = self._answer, self._answer.shown()
        assert discarded is not None
        answer.text = GrowingText()
        answer.text.write(text)
        self._show_again(discarded, "the text of an item is not that of its deltas", out)

    def _show_again(self, discarded: Discarded, why: str, out: list[StreamEvent]) -> None:
        """Retract the events so far, and emit those of the corrected answer."""
        answer = self._answer
        out.append(Reset(discarded, InvalidResponse(why)))
        reasoning = answer.reasoning.getvalue()
        out.extend([ReasoningDelta(reasoning)] if reasoning else [])
        calls = enumerate(answer.calls.calls(whole=False))
        out.extend(ToolCallDelta(place, call.id, call.name, call.arguments) for place, call in calls)
        texts = [*(part.text for part in answer.parts if isinstance(part, Text)), answer.text.getvalue()]
        out.extend(TextDelta(text) for text in texts if text)

    def take_output(self, output: Any, out: list[StreamEvent]) -> None:
        """Take the items of the complete response that no earlier event had."""
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
                self.end_item(max(self._items, default=-1) + 1, raw, out)
            elif not (begun := same.pop(0)).done:
                self.end_item(begun.place, raw, out)
