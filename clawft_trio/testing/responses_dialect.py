"""Encodes script steps as a server with OpenAI's Responses API does: pure functions from steps to bytes, no I/O."""

from __future__ import annotations

from typing import Any

from clawft_trio.attempts import Usage
from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json
from clawft_trio.testing import dialects
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    ErrorEvent,
    Finish,
    Pings,
    Preamble,
    Raw,
    Report,
    Say,
    Status,
    Think,
)
from clawft_trio.testing.scripted import is_json_object, pieces

_REASONS = {"length": "max_output_tokens", "max_tokens": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of a script that make a response incomplete."""

_PREFIXES = {"message": "msg", "reasoning": "rs"}
"""Prefixes of item ids, which the API requires of items that are sent back."""

_GOOD = frozenset({"", "stop", "tool_calls", "completed"})


class ResponsesStream:
    """Writes named events: `response.created`, output items with their deltas, and the complete response at the end."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, setting: dialects.DialectSetting) -> None:
        self._setting = setting
        self._sequence = 0
        self._opened = False
        self._last: bytes = b""
        #: complete items
        self._items: list[dict[str, Any]] = []
        #: open item and its text so far
        self._item: dict[str, Any] | None = None
        self._text = ""

    def write(self, step: dialects.Spoken) -> list[bytes]:
        if isinstance(step, Say | Think | CallTool | Finish | BadUtf8 | Preamble):
            return [*self._preamble(), *self._content(step)]
        return self._aside(step)

    def _aside(self, step: Report | Pings | ErrorEvent | BadJson | Raw) -> list[bytes]:
        match step:
            case Report():
                # Usage is only in the last event.
                return []
            case Pings():
                return [b": ping\n\n"]
            case ErrorEvent():
                return [self._event("error", error_object(step))]
            case BadJson():
                return [dialects.broken(self._event("response.output_text.delta", {"delta": "never seen"}))]
            case Raw(data):
                return [data]

    def _content(self, step: Say | Think | CallTool | Finish | BadUtf8 | Preamble) -> list[bytes]:
        match step:
            case Say(text):
                return self._grow("message", "response.output_text.delta", text)
            case Think(text):
                return self._grow("reasoning", "response.reasoning_summary_text.delta", text)
            case BadUtf8(data):
                events = self._grow("message", "response.output_text.delta", dialects.MARK)
                self._text = self._text.replace(dialects.MARK, data.decode(errors="replace"))
                return [event.replace(dialects.MARK.encode(), data) for event in events]
            case CallTool():
                return self._call(step)
            case Finish():
                return self._finish(step)
            case Preamble():
                return []

    def _preamble(self) -> list[bytes]:
        if self._opened:
            return []
        self._opened = True
        response = {**envelope(self._setting), "status": "in_progress", "output": []}
        return [self._event(f"response.{name}", {"response": response}) for name in ("created", "in_progress")]

    def _grow(self, kind: str, delta: str, text: str) -> list[bytes]:
        opening: list[bytes] = []
        if self._item is None or self._item["type"] != kind:
            opening = [*self._close(), *self._open({"type": kind, "id": f"{_PREFIXES[kind]}_{len(self._items)}"})]
        self._text += text
        return [*opening, self._event(delta, {"output_index": len(self._items), "delta": text})]

    def _open(self, item: dict[str, Any]) -> list[bytes]:
        self._item, self._text = item, ""
        shown = {**item, "arguments": ""} if item["type"] == "function_call" else {**item, "content": []}
        return [self._event("response.output_item.added", {"output_index": len(self._items), "item": shown})]

    def _close(self) -> list[bytes]:
        if self._item is None:
            return []
        item = finished_item(self._item, self._text)
        event = self._event("response.output_item.done", {"output_index": len(self._items), "item": item})
        self._items.append(item)
        self._item = None
        return [event]

    def _call(self, step: CallTool) -> list[bytes]:
        number = sum(item["type"] == "function_call" for item in self._items)
        item = {"type": "function_call", "call_id": step.id or f"call_{number}", "name": step.name}
        events = [*self._close(), *self._open(item)]
        for piece in pieces(step.arguments, step.fragments):
            self._text += piece
            place = {"output_index": len(self._items), "delta": piece}
            events.append(self._event("response.function_call_arguments.delta", place))
        # Incomplete arguments leave their item open, as a server does that has not sent all of them.
        return [*events, *self._close()] if is_json_object(step.arguments) else events

    def _finish(self, step: Finish) -> list[bytes]:
        events = self._close()
        # The last event is the terminal mark, so it is held back until the script has ended.
        kind, ending = ended(step)
        usage = step.usage or self._setting.usage
        response = {**envelope(self._setting), **ending, "output": self._items, "usage": usage and wire_usage(usage)}
        self._last = self._event(f"response.{kind}", {"response": response})
        return events

    def end(self) -> bytes:
        return self._last

    def torn(self) -> bytes:
        return b""

    def _event(self, kind: str, fields: JsonObject) -> bytes:
        data = encode_json({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def envelope(setting: dialects.DialectSetting) -> dict[str, Any]:
    """Return the fields that every response object has."""
    return {
        "id": f"resp_{setting.number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": setting.model,
        "error": None,
        "incomplete_details": None,
    }


def ended(step: Finish) -> tuple[str, dict[str, Any]]:
    """Return the name of the last event, and the fields that state how a response ended."""
    reason = step.reason or ""
    if reason in _GOOD:
        return "completed", {"status": "completed"}
    return "incomplete", {"status": "incomplete", "incomplete_details": {"reason": _REASONS.get(reason, reason)}}


def finished_item(item: JsonObject, text: str) -> dict[str, Any]:
    """Return an output item with its complete text."""
    if item["type"] == "function_call":
        return {**item, "arguments": text, "status": "completed"}
    if item["type"] == "reasoning":
        return {**item, "summary": [{"type": "summary_text", "text": text}], "encrypted_content": "sealed"}
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {**item, "role": "assistant", "status": "completed", "content": content}


def wire_usage(usage: Usage) -> JsonObject:
    """Return *usage* in the form of this API."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def error_object(step: Status | ErrorEvent) -> JsonObject:
    """Return an `error` event; before a stream, the API's errors are those of chat completions."""
    error: Any = dialects.error_body("openai", step)["error"]
    return {"code": error["code"], "message": error["message"], "param": None}


def responses_answer(
    setting: dialects.DialectSetting, steps: dialects.AnswerSteps, finish: Finish, usage: Usage | None
) -> JsonObject:
    """Return a complete `response`."""
    items: list[dict[str, Any]] = []
    kinds: Any = (("reasoning", Think), ("message", (Say, BadUtf8)))
    for kind, classes in kinds:
        text = "".join(dialects.MARK if isinstance(s, BadUtf8) else s.text for s in steps if isinstance(s, classes))
        if text:
            items.append(finished_item({"type": kind, "id": f"{_PREFIXES[kind]}_{len(items)}"}, text))
    calls = [step for step in steps if isinstance(step, CallTool)]
    for number, step in enumerate(calls):
        item = {"type": "function_call", "call_id": step.id or f"call_{number}", "name": step.name}
        items.append(finished_item(item, step.arguments))
    _, ending = ended(finish)
    return {**envelope(setting), **ending, "output": items, "usage": usage and wire_usage(usage)}
