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

from clawft_trio.chat import Reset, StreamEvent
from clawft_trio.errors import InvalidResponse
from clawft_trio.llm import lenient
from clawft_trio.llm.error_body import is_bare_error
from clawft_trio.llm.lenient import NOT_JSON, NotDecodable
from clawft_trio.llm.reading import Progress, ProtocolViolation, separated
from clawft_trio.llm.response_builder import ResponseBuilder, finish_word, opaque, unknown_finish
from clawft_trio.llm.responses_events import BEGUN, COMPLETE, ENDED, REASONING, TEXT, Event, LenientEvents, decode
from clawft_trio.llm.responses_items import listed
from clawft_trio.llm.responses_output import OutputItems
from clawft_trio.llm.usage import UsageReader, read_responses_usage
from clawft_trio.net.sse import ServerSentEvent

STATE = "responses:state"
"""Dialect of the block with `response_id`, for requests that continue from a stored response."""

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
        self._output = OutputItems(answer, self._halves)
        self._usage = UsageReader(read_responses_usage, answer.provider)

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Decode the next bytes of an event stream and return their events."""
        out: list[StreamEvent] = []
        try:
            for sse in self._sse.feed(data):
                self._take_sse(sse, out)
                if self.ended:
                    break
        except ProtocolViolation as exc:
            self._violate(str(exc))
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
        except ProtocolViolation as exc:
            self._violate(str(exc))
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
                except ProtocolViolation as exc:
                    self._violate(str(exc))
                except (NotDecodable, RecursionError) as exc:
                    self._violate(f"the last event of the stream is not one of the Responses API: {exc}")
        self.ended = True
        return out

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
            self._output.take_text(event, out)
        elif kind == "response.function_call_arguments.delta":
            self._output.take_arguments(event, out)
        elif kind in REASONING:
            self._output.take_reasoning(event, out)
        elif kind == "response.refusal.delta":
            self._output.take_refusal(event, out)
        elif kind in COMPLETE:
            self._output.take_complete(event, out)
        elif kind == "response.output_item.added":
            self._output.start_item(self._output.place(event), event.item or {}, out)
        elif kind == "response.output_item.done":
            self._output.end_item(self._output.place(event), event.item or {}, out)
        elif kind == "response.output_text.annotation.added":
            self._output.take_annotation(event)
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

    def _take_origin(self, response: Mapping[str, Any], out: list[StreamEvent], *, first: bool) -> None:
        answer = self.answer
        given = lenient.any_text(response.get("id"))
        if (answer.id and given and given != answer.id) or (first and self._output):
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
        self._output.take_output(listed(response.get("output")), out)

    def _take_end(self, response: Mapping[str, Any], out: list[StreamEvent]) -> None:
        self._take_response(response, out)
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
        answer.finish_reason = "content_filter" if self._output.refused else meaning
        if self._stateful and answer.id:
            answer.keep(opaque(STATE, {"response_id": answer.id}))
        self.finished = True

    def _fail(self, error: Any) -> None:
        self.error: Any = {"error": error}
        self.ended: bool = True


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    data = bytes(raw)
    return lenient.decode_scrubbed(data) if data and data != b"null" else {}
