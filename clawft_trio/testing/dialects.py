"""Encodes script steps in the wire format of a model server: pure functions from steps to bytes, no I/O.

There are three dialects, each with and without streaming: OpenAI chat completions, Anthropic Messages and, in
`responses_dialect`, OpenAI Responses.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.chat import JsonObject
from clawft_trio.codec import decode_json, encode_json
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

DialectName = Literal["openai", "anthropic", "responses"]

Spoken: TypeAlias = Say | Think | CallTool | Report | Finish | Preamble | Pings | ErrorEvent | BadJson | BadUtf8 | Raw
"""The steps that become bytes of a body; a `Pings` becomes one ping."""

_CREATED = 1_700_000_000
"""Calendar time of every answer: a constant, so that answers are equal in every run."""

MARK = "@@not-utf-8@@"
"""Placeholder for bytes that no JSON encoder would write; it is replaced by them."""

_NO_OBJECT = "@@no-object@@"
"""Placeholder for arguments that are not JSON where the dialect has an object; it is replaced by them."""

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

_OPENAI_CODES = {
    401: "invalid_api_key",
    402: "insufficient_quota",
    404: "model_not_found",
    429: "rate_limit_exceeded",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@attrs.frozen(kw_only=True)
class DialectSetting:
    """Facts about the request that a writer needs."""

    number: int
    model: str
    #: whether a stream may carry usage: OpenAI's must be asked for it (`stream_options.include_usage`)
    sends_usage: bool = True
    #: usage, known in advance because Anthropic's first event has the input tokens
    usage: Usage | None = None


class Writer(Protocol):
    """Encodes steps as the bytes of one response body."""

    content_type: str

    def write(self, step: Spoken) -> list[bytes]:
        """Return the events of *step*, each for a separate write."""
        ...

    def end(self) -> bytes:
        """Return the terminal mark of the protocol, for the end of the script."""
        ...

    def torn(self) -> bytes:
        """Return the bytes to send before the script ends the body or the connection here."""
        ...


def writer(dialect: DialectName, setting: DialectSetting, *, stream: bool) -> Writer:
    """Return the writer for one response."""
    if dialect == "openai":
        return OpenAIStream(setting) if stream else Whole(openai_answer, setting)
    if dialect == "responses":
        # It is in a separate module, which imports this one.
        from clawft_trio.testing.responses_dialect import ResponsesStream, responses_answer  # noqa: PLC0415

        return ResponsesStream(setting) if stream else Whole(responses_answer, setting)
    return AnthropicStream(setting) if stream else Whole(anthropic_answer, setting)


def error_body(dialect: DialectName, step: Status | ErrorEvent) -> JsonObject:
    """Return the error object that the dialect's server sends with this status."""
    status = step.status
    if dialect != "anthropic":
        kind = "server_error" if status >= 500 else "invalid_request_error"
        code = step.code or _OPENAI_CODES.get(status, kind)
        return {"error": {"message": step.message, "type": kind, "param": getattr(step, "param", None), "code": code}}
    kind = step.code or _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": step.message}}


class OpenAIStream:
    """Writes `data:` events with one chunk each, and `data: [DONE]` at the end."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, setting: DialectSetting) -> None:
        self._setting = setting
        self._opened = False
        self._finished = False
        self._tools = 0

    def write(self, step: Spoken) -> list[bytes]:
        if isinstance(step, Say | Think | CallTool | Finish | BadUtf8 | Preamble):
            return [*self._preamble(), *self._content(step)]
        match step:
            case Report(usage):
                return [self._usage(usage)] if self._setting.sends_usage else []
            case Pings():
                return [b": ping\n\n"]
            case ErrorEvent():
                return [_data(error_body("openai", step))]
            case BadJson():
                return [broken(self._delta({"content": "never seen"}))]
            case Raw(data):
                return [data]

    def _content(self, step: Say | Think | CallTool | Finish | BadUtf8 | Preamble) -> list[bytes]:
        match step:
            case Say(text):
                return [self._delta({"content": text})]
            case Think(text):
                return [self._delta({"reasoning_content": text})]
            case BadUtf8(data):
                return [self._delta({"content": MARK}).replace(MARK.encode(), data)]
            case CallTool():
                return self._tool(step)
            case Finish():
                return self._finish(step)
            case Preamble():
                return []

    def _preamble(self) -> list[bytes]:
        if self._opened:
            return []
        self._opened = True
        return [self._delta({"role": "assistant", "content": ""})]

    def _tool(self, step: CallTool) -> list[bytes]:
        index = self._tools
        self._tools += 1
        opening = {
            "index": index,
            "id": step.id or f"call_{index}",
            "type": "function",
            "function": {"name": step.name, "arguments": ""},
        }
        fragments = [
            {"index": index, "function": {"arguments": piece}} for piece in pieces(step.arguments, step.fragments)
        ]
        return [self._delta({"tool_calls": [part]}) for part in (opening, *fragments)]

    def _finish(self, step: Finish) -> list[bytes]:
        self._finished = True
        last = self._delta({}, step.reason or ("tool_calls" if self._tools else "stop"))
        return [last, self._usage(step.usage)] if step.usage and self._setting.sends_usage else [last]

    def end(self) -> bytes:
        return b"data: [DONE]\n\n" if self._finished else b""

    def torn(self) -> bytes:
        return b""

    def _delta(self, delta: JsonObject, finish_reason: str | None = None) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    def _usage(self, usage: Usage) -> bytes:
        return self._chunk([], usage=_openai_usage(usage))

    def _chunk(self, choices: list[JsonObject], **more: Any) -> bytes:
        return _data({**_openai_envelope(self._setting, "chat.completion.chunk"), "choices": choices, **more})


def _openai_envelope(setting: DialectSetting, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{setting.number}", "object": kind, "created": _CREATED, "model": setting.model}


def _openai_usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _data(value: JsonObject) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"


def broken(event: bytes) -> bytes:
    """Return *event* with its JSON cut off, still ended by a blank line."""
    return event.rstrip()[:-9] + b"\n\n"


class AnthropicStream:
    """Writes named events: `message_start`, content blocks, `message_delta`, `message_stop`."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, setting: DialectSetting) -> None:
        self._setting = setting
        self._opened = False
        self._finished = False
        #: type of the open block; empty when none is open
        self._block = ""
        self._blocks = 0
        self._tools = 0

    def write(self, step: Spoken) -> list[bytes]:
        if isinstance(step, Say | Think | CallTool | Finish | BadUtf8 | Preamble):
            return [*self._preamble(), *self._content(step)]
        match step:
            case Report(usage):
                return [_event("message_delta", {"delta": {}, "usage": _output_usage(usage)})]
            case Pings():
                return [_event("ping", {})]
            case ErrorEvent():
                # The type of the error is that of the status that it would have before the stream.
                return [b"event: error\n" + _data(error_body("anthropic", step))]
            case BadJson():
                return [broken(_event("content_block_delta", {"index": 0, "delta": {"type": "text_delta"}}))]
            case Raw(data):
                return [data]

    def _content(self, step: Say | Think | CallTool | Finish | BadUtf8 | Preamble) -> list[bytes]:
        match step:
            case Say(text):
                return [*self._in_block("text", {"text": ""}), self._delta("text_delta", text=text)]
            case Think(text):
                opening = self._in_block("thinking", {"thinking": "", "signature": ""})
                return [*opening, self._delta("thinking_delta", thinking=text)]
            case BadUtf8(data):
                opening = self._in_block("text", {"text": ""})
                return [*opening, self._delta("text_delta", text=MARK).replace(MARK.encode(), data)]
            case CallTool():
                return self._tool(step)
            case Finish():
                return self._finish(step)
            case Preamble():
                return []

    def _preamble(self) -> list[bytes]:
        if self._opened:
            return []
        self._opened = True
        message: JsonObject = {
            "id": f"msg_{self._setting.number}",
            "type": "message",
            "role": "assistant",
            "model": self._setting.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**_input_usage(self._setting.usage), "output_tokens": 1},
        }
        return [_event("message_start", {"message": message})]

    def _in_block(self, kind: str, fields: JsonObject) -> list[bytes]:
        """Close the open block and open one of *kind*, unless a block of that kind is open."""
        if self._block == kind:
            return []
        closing = self._close_block()
        self._block = kind
        self._blocks += 1
        block = {"type": kind, **fields}
        return [*closing, _event("content_block_start", {"index": self._blocks - 1, "content_block": block})]

    def _close_block(self) -> list[bytes]:
        if not self._block:
            return []
        signature = [self._delta("signature_delta", signature=f"sig-{self._blocks}")]
        signed = signature if self._block == "thinking" else []
        self._block = ""
        return [*signed, _event("content_block_stop", {"index": self._blocks - 1})]

    def _delta(self, kind: str, **fields: str) -> bytes:
        return _event("content_block_delta", {"index": self._blocks - 1, "delta": {"type": kind, **fields}})

    def _tool(self, step: CallTool) -> list[bytes]:
        id = step.id or f"call_{self._tools}"
        self._tools += 1
        events = [*self._close_block(), *self._in_block("tool_use", {"id": id, "name": step.name, "input": {}})]
        events += [
            self._delta("input_json_delta", partial_json=piece) for piece in pieces(step.arguments, step.fragments)
        ]
        # Incomplete arguments leave their block open, as a server does that has not sent all of them.
        return [*events, *self._close_block()] if is_json_object(step.arguments) else events

    def _finish(self, step: Finish) -> list[bytes]:
        self._finished = True
        delta = {"stop_reason": _stop_reason(step, tools=self._tools), "stop_sequence": None}
        # This protocol cannot omit usage.
        counted = _output_usage(step.usage or Usage())
        return [*self._close_block(), _event("message_delta", {"delta": delta, "usage": counted})]

    def end(self) -> bytes:
        return _event("message_stop", {}) if self._finished else b""

    def torn(self) -> bytes:
        return b""


def _event(kind: str, fields: JsonObject) -> bytes:
    return b"event: " + kind.encode() + b"\n" + _data({"type": kind, **fields})


def _stop_reason(step: Finish, *, tools: int) -> str:
    reason = step.reason or ("tool_calls" if tools else "stop")
    return _STOP_REASONS.get(reason, reason)


def _input_usage(usage: Usage | None) -> JsonObject:
    # Anthropic counts tokens read from and written to its cache in addition to `input_tokens`.
    usage = usage or Usage()
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


def _output_usage(usage: Usage) -> JsonObject:
    return {"output_tokens": usage.output_tokens}


class Whole:
    """Writes one JSON object at the end of the script."""

    content_type = "application/json"

    def __init__(self, answer: AnswerFormat, setting: DialectSetting) -> None:
        self._answer = answer
        self._setting = setting
        self._steps: list[Say | Think | CallTool | BadUtf8] = []
        self._finish: Finish | None = None
        self._usage = setting.usage
        self._broken = False
        self._instead = b""

    def write(self, step: Spoken) -> list[bytes]:
        match step:
            case Say() | Think() | CallTool() | BadUtf8():
                self._steps.append(step)
            case Finish():
                self._finish = step
            case Report(usage):
                self._usage = usage
            case BadJson():
                self._broken = True
            case Raw(data):
                self._instead += data
            case Pings():
                # Servers that keep the connection of an unstreamed answer alive send blank lines.
                return [b"\n"]
            case Preamble() | ErrorEvent():
                pass
        return []

    def end(self) -> bytes:
        if self._instead:
            return self._instead
        whole = self._rendered()
        return whole if self._finish and not self._broken else whole[: len(whole) // 2]

    def torn(self) -> bytes:
        # A single object has no terminal mark that could be missing: once finished, all of it is sent.
        return self.end() if self._steps or self._finish or self._instead else b""

    def _rendered(self) -> bytes:
        finish = self._finish or Finish()
        usage = finish.usage or self._usage
        body = encode_json(self._answer(self._setting, self._steps, finish, usage))
        for step in self._steps:
            if isinstance(step, BadUtf8):
                body = body.replace(MARK.encode(), step.data, 1)
            elif isinstance(step, CallTool) and not is_json_object(step.arguments):
                body = body.replace(encode_json(_NO_OBJECT), step.arguments.encode(), 1)
        return body


AnswerSteps: TypeAlias = list[Say | Think | CallTool | BadUtf8]


class AnswerFormat(Protocol):
    """Encodes a complete answer in a dialect."""

    def __call__(
        self, setting: DialectSetting, steps: AnswerSteps, finish: Finish, usage: Usage | None
    ) -> JsonObject: ...


def _text(steps: AnswerSteps) -> str:
    texts = (step.text if isinstance(step, Say) else MARK for step in steps if isinstance(step, Say | BadUtf8))
    return "".join(texts)


def _thoughts(steps: AnswerSteps) -> str:
    return "".join(step.text for step in steps if isinstance(step, Think))


def _tools(steps: AnswerSteps) -> list[tuple[str, CallTool]]:
    tools = [step for step in steps if isinstance(step, CallTool)]
    return [(step.id or f"call_{index}", step) for index, step in enumerate(tools)]


def openai_answer(setting: DialectSetting, steps: AnswerSteps, finish: Finish, usage: Usage | None) -> JsonObject:
    """Return a `chat.completion`."""
    calls = [
        {"id": id, "type": "function", "function": {"name": step.name, "arguments": step.arguments}}
        for id, step in _tools(steps)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": _text(steps) or None}
    if calls:
        message["tool_calls"] = calls
    if thoughts := _thoughts(steps):
        message["reasoning_content"] = thoughts
    reason = finish.reason or ("tool_calls" if calls else "stop")
    answer = _openai_envelope(setting, "chat.completion")
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": reason}]
    return answer if usage is None else {**answer, "usage": _openai_usage(usage)}


def anthropic_answer(setting: DialectSetting, steps: AnswerSteps, finish: Finish, usage: Usage | None) -> JsonObject:
    """Return a `message`."""
    blocks: list[JsonObject] = []
    if thoughts := _thoughts(steps):
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": "sig-1"})
    if text := _text(steps):
        blocks.append({"type": "text", "text": text})
    tools = _tools(steps)
    blocks += [{"type": "tool_use", "id": id, "name": step.name, "input": _tool_input(step)} for id, step in tools]
    return {
        "id": f"msg_{setting.number}",
        "type": "message",
        "role": "assistant",
        "model": setting.model,
        "content": blocks,
        "stop_reason": _stop_reason(finish, tools=len(tools)),
        "stop_sequence": None,
        "usage": {**_input_usage(usage), **_output_usage(usage or Usage())},
    }


def _tool_input(step: CallTool) -> Any:
    # Complete answers in this dialect carry arguments as an object, so invalid arguments make the answer invalid.
    return decode_json(step.arguments) if is_json_object(step.arguments) else _NO_OBJECT
