"""Converts an event to flat JSON values; texts are left out unless requested, secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

import attrs

from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.errors import ClawftError, InvalidAnswer, InvalidData, ToolError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe.events import Event, ServerOutput, ToolProgress
from clawft_trio.observe.redaction import Redactor, cut_redacted, redact_secrets

AttributeValue: TypeAlias = str | int | float | bool | list["AttributeValue"] | dict[str, "AttributeValue"] | None
"""A JSON value."""

_LONGEST = 300
"""Characters of one text: enough for every error message that people read, too few for a prompt."""

_ID_FIELDS = frozenset({"at", "call_id", "turn_id"})

#: fields with text of people, models or servers
_TEXTS: Mapping[type, frozenset[str]] = {
    ServerOutput: frozenset({"text"}),
    ToolProgress: frozenset({"message"}),
    InboundMessage: frozenset({"content", "media", "metadata"}),
    OutboundMessage: frozenset({"content", "media", "metadata"}),
}


class RecordedError(Exception):
    """An error as read from a recording: only its `class_name` and its message are known."""

    def __init__(self, class_name: str, message: str = "") -> None:
        super().__init__(message)
        self.class_name = class_name

    def __repr__(self) -> str:
        return f"<RecordedError {self.class_name}: {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordedError) and (self.class_name, str(self)) == (other.class_name, str(other))

    def __hash__(self) -> int:
        return hash((self.class_name, str(self)))


def event_name(kind: type[Event]) -> str:
    """Return the name of an event class in snake case: `AttemptEnded` as `attempt_ended`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def attributes_of(event: Event, *, texts: bool = False, redact: Redactor = redact_secrets) -> dict[str, AttributeValue]:
    """Return the attributes of *event* as a flat dict, without its time, its ids and empty values.

    Args:
      texts: include texts of people, models, tools and servers, and messages of errors that may quote them.
      redact: applied to every text.
    """
    return dict(_Attributes(texts, redact).of(event))


def error_attributes(
    error: BaseException, *, texts: bool = False, redact: Redactor = redact_secrets
) -> dict[str, AttributeValue]:
    """Return the attributes of *error*: `error` (its class), `error_message` (its text), then its typed fields."""
    return dict(_Attributes(texts, redact).error(error))


class _Attributes:
    def __init__(self, texts: bool, redact: Redactor) -> None:
        self._texts = texts
        self._mask = redact

    def of(self, value: attrs.AttrsInstance) -> Iterator[tuple[str, AttributeValue]]:
        hidden = frozenset[str]() if self._texts else _TEXTS.get(type(value), frozenset())
        for field in attrs.fields(type(value)):
            if field.name in _ID_FIELDS or field.name in hidden:
                continue
            yield from self._fact(field.name, getattr(value, field.name))

    def _fact(self, name: str, value: object) -> Iterator[tuple[str, AttributeValue]]:
        # The start of an attempt record is left out: it follows from the event's time and the latency.
        if isinstance(value, AttemptRecord | Latency | Usage):
            yield from ((inner, fact) for inner, fact in self.of(value) if inner != "started")
        elif isinstance(value, BaseException):
            yield from self.error(value)
        elif value is not None and value not in ("", (), {}):
            yield name, self._plain(value)

    def error(self, error: BaseException) -> Iterator[tuple[str, AttributeValue]]:
        yield "error", error_class(error)
        if self._texts or not _may_quote(error):
            text = str(error)
            if text:
                yield "error_message", self._text(text)
        for name in ("status", "code", "clock", "retry_after", "exit_code"):
            value = getattr(error, name, None)
            if isinstance(value, str | int | float):
                yield f"error_{name}", self._plain(value)

    def _plain(self, value: object) -> AttributeValue:  # noqa: PLR0911  # a table of types
        match value:
            case bool() | int() | float():
                return value
            case str():
                return self._text(value)
            case Decimal():
                return float(value)
            case datetime():
                return value.isoformat()
            case BaseException():
                return dict(self.error(value))
            case Mapping():
                return {self._text(str(key)): self._plain(inner) for key, inner in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._plain(inner) for inner in value]
            case _ if attrs.has(type(value)):
                return dict(self.of(value))  # type: ignore[arg-type]  # attrs.has narrows no object
            case _:
                return None if value is None else type(value).__name__

    def _text(self, text: str) -> str:
        # Cut before masking, too, so that the cost of masking is bounded.
        most = 10 * _LONGEST
        return cut_redacted(whole(text[:most]), _LONGEST, redact=self._mask, partial=len(text) > most)


def whole(text: str) -> str:
    """Return *text* with `?` for each lone surrogate: it comes from bytes that are not UTF-8 and cannot be encoded."""
    return text.encode("utf-8", "replace").decode()


def error_class(error: BaseException) -> str:
    """Return the name of the class of *error*; for an error from a recording, the recorded name."""
    return error.class_name if isinstance(error, RecordedError) else type(error).__name__


def _may_quote(error: BaseException) -> bool:
    """Return whether the message of *error* may repeat text of a model, a tool or a user."""
    # The recorder of an error has decided before.
    ours = isinstance(error, ClawftError | RecordedError)
    return not ours or isinstance(error, ToolError | InvalidData | InvalidAnswer)
