"""Reads the error object in a failed response or an event, in any of the shapes that providers use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http.client import responses
from typing import Any

import attrs
import msgspec

from clawft_trio.observe.redaction import Redactor, cut
from clawft_trio.retry_hints import parse_wait


@attrs.frozen(kw_only=True)
class ProviderErrorBody:
    """The error object of a provider, in any of the known shapes."""

    #: text of the error, for people
    message: str = ""
    #: codes and types in it, the most specific first
    codes: tuple[str, ...] = ()
    #: HTTP status that was given as a code (OpenRouter and vLLM do that inside a stream)
    status: int | None = None
    #: seconds to wait, from a typed field
    retry_after: float | None = None
    request_id: str | None = None
    #: whether the body contained an error object
    found: bool = False
    #: whether it is an object in an envelope; and whether that is the one of Anthropic's dialect
    wrapped: bool = False
    anthropic: bool = False
    #: whether it is text in place of an object
    plain: bool = False
    #: the parameter of the request that it names
    param: str | None = None
    #: context window of the model and length of the request in tokens, from typed fields
    window: int | None = None
    prompt_tokens: int | None = None

    @classmethod
    def parse(cls, body: bytes | str) -> ProviderErrorBody:
        """Parse an error body; the result is empty when the body has no error object."""
        try:
            return cls.of(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return cls()

    @classmethod
    def of(cls, data: Any) -> ProviderErrorBody:
        """Read a decoded body, or an event that reports an error."""
        # Google wraps its error into a list with one element.
        outer = data[0] if isinstance(data, list) and data else data
        if not isinstance(outer, dict):
            return cls(message=outer if isinstance(outer, str) else "")
        error, message = _innermost(outer)
        return cls(
            message=_message(error) or message,
            codes=tuple(dict.fromkeys((*_codes(error), *_codes(outer)))),
            status=_first_of(_as_status(error.get(name)) for name in ("code", "status_code", "status", "error_code")),
            retry_after=_retry_info(error),
            request_id=_text(outer.get("request_id")) or _text(error.get("request_id")),
            found=error is not outer or bool(message) or _is_bare(outer),
            wrapped=error is not outer,
            anthropic=outer.get("type") == "error",
            plain=error is outer and bool(message),
            param=_text(error.get("param")),
            window=_tokens(error, _WINDOW_FIELDS),
            prompt_tokens=_tokens(error, _PROMPT_FIELDS),
        )


def _innermost(outer: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return the innermost error object inside *outer*, and the message text when a text replaces the object.

    Gateways wrap the provider's error in their own, as an object or as JSON text.
    """
    error: Mapping[str, Any] = outer
    for _ in range(_DEPTH):
        inner = error.get("error")
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, str):
            decoded = _decoded(inner)
            if decoded is None:
                return error, inner
            inner = decoded
        if not isinstance(inner, dict) or not inner:
            break
        error = inner
    return error, ""


_DEPTH = 4


def _decoded(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _message(error: Mapping[str, Any]) -> str:
    for name in ("message", "error_message", "error_msg", "msg", "detail", "errors", "base_resp"):
        value = error.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("message") or value.get("msg") or value.get("status_msg")
        if isinstance(value, str) and value:
            return value
    return ""


def _is_bare(outer: Mapping[str, Any]) -> bool:
    """Return whether *outer* is itself an error object: vLLM and others do not wrap theirs.

    `{"detail": …}` is how web frameworks answer unknown paths; it is not an error of a model API.
    """
    return (
        outer.get("object") == "error"
        or outer.get("type") == "error"
        or (bool(outer.get("message")) and any(outer.get(name) for name in ("code", "type", "error_type")))
        or bool(outer.get("error_type"))
    )


_BARE_FIELDS = ("error_type", "error_message", "error_code", "errors", "detail", "error_msg")


def is_bare_error(event: Mapping[str, Any]) -> bool:
    """Return whether an event that is none of its dialect is an error object that is not wrapped in `error`."""
    if event.get("object") == "error" or event.get("type") == "error" or base_resp_code(event):
        return True
    if any(event.get(name) for name in _BARE_FIELDS):
        return True
    text = event.get("message")
    return isinstance(text, str) and bool(text) and "choices" not in event and ("code" in event or "status" in event)


def _first_of(values: Iterator[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)


# llama.cpp's server names both (`n_ctx`, `n_prompt_tokens`); the other names are used by gateways.
_WINDOW_FIELDS = ("n_ctx", "max_context_length", "context_window", "max_model_len")
_PROMPT_FIELDS = ("n_prompt_tokens", "prompt_tokens", "input_tokens")


def _tokens(error: Mapping[str, Any], fields: tuple[str, ...]) -> int | None:
    found = (error.get(field) for field in fields)
    return next((value for value in found if type(value) is int and 0 < value < 2**31), None)


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    metadata, inner, details = error.get("metadata"), error.get("innererror"), error.get("details")
    candidates = [
        base_resp_code(error),
        inner.get("code") if isinstance(inner, dict) else None,
        details.get("error_code") if isinstance(details, dict) else None,
        error.get("code"),
        metadata.get("error_type") if isinstance(metadata, dict) else None,
        # OpenRouter marks a request that its moderation refused with this field only.
        "content_filter" if isinstance(metadata, dict) and "flagged_input" in metadata else None,
        error.get("error_type"),
        error.get("error_code"),
        error.get("type") if error.get("type") != "error" else None,
        error.get("status"),
        # google.rpc.ErrorInfo
        *(detail.get("reason") for detail in _details(error)),
    ]
    # Numbers up to 999 are statuses.
    return (code for code in candidates if isinstance(code, str) and code and not (code.isdecimal() and len(code) < 4))


def _as_status(code: object) -> int | None:
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _retry_info(error: Mapping[str, Any]) -> float | None:
    # google.rpc.RetryInfo: a duration such as "34.07s", in the list of details.
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str):
            return parse_wait(delay)
    return None


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def base_resp_code(outer: Mapping[str, Any]) -> str:
    """Return the code of a failure in MiniMax's `base_resp`; empty when it has none, or 0 for a success."""
    given = outer.get("base_resp")
    number = given.get("status_code") if isinstance(given, dict) else None
    return f"base_resp {number}" if number and isinstance(number, int) else ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)

# Bytes and characters of an error page that are searched and shown.
_PAGE_HEAD, _PAGE_SHOWN = 4096, 200


def page_text(status: int, body: bytes, mask: Redactor) -> str:
    """Return what a body that is no error object says: its first line, the title of a web page, or the status' name.

    Secrets are masked by *mask*, which keeps the length of the text.
    """
    text = body[:_PAGE_HEAD].decode(errors="replace").strip()
    if text[:1] == "<":
        title = _TITLE.search(text)
        text = "" if title is None else title[1].strip()
    elif text[:1] in ("{", "[", '"'):
        text = ""
    line = "".join(char for char in text.partition("\n")[0] if char.isprintable()).strip()
    if line:
        return cut(mask(line), _PAGE_SHOWN)
    return responses.get(status, "")
