"""Events as standard log records: a one-line message, with the attributes as fields for log collectors."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Final

import attrs

from clawft_trio.observe.attributes import AttributeValue, attributes_of, event_name
from clawft_trio.observe.events import (
    AttemptEnded,
    BreakerChanged,
    BusPressure,
    CacheBusted,
    Event,
    FailedOver,
    HedgeStarted,
    LockWaited,
    MessageDropped,
    Noted,
    RequestShortened,
    Retracted,
    RetryScheduled,
    RoundEnded,
    Routed,
    ServerGone,
    ServerStarted,
    SessionCompacted,
    ToolEnded,
    TurnEnded,
    TurnStarted,
    Undeliverable,
)
from clawft_trio.observe.redaction import Redactor, redact_secrets

LEVELS: Final[Mapping[type[Event], int]] = {
    TurnStarted: logging.INFO,
    TurnEnded: logging.INFO,
    RoundEnded: logging.INFO,
    ServerStarted: logging.INFO,
    Routed: logging.INFO,
    Noted: logging.INFO,
    LockWaited: logging.INFO,
    HedgeStarted: logging.INFO,
    ToolEnded: logging.INFO,
    AttemptEnded: logging.INFO,
    CacheBusted: logging.INFO,
    SessionCompacted: logging.INFO,
    RequestShortened: logging.WARNING,
    RetryScheduled: logging.WARNING,
    FailedOver: logging.WARNING,
    Retracted: logging.WARNING,
    BreakerChanged: logging.WARNING,
    BusPressure: logging.WARNING,
    ServerGone: logging.WARNING,
    MessageDropped: logging.ERROR,
    Undeliverable: logging.ERROR,
}
"""Levels of events without a failure; other classes are DEBUG. A failure is a WARNING, a lost turn an ERROR."""

_PLAIN = re.compile(r"[\w./:@+-]+")


@attrs.frozen
class LogObserver:
    """An observer that writes one log record per event.

    The message is one line, `attempt_ended target=openai/gpt-5-mini outcome=failed error=ServerError …`. For log
    collectors the record has `event` (its name), `at` (seconds of trio's clock), `turn_id`, `call_id` and `attributes`,
    a dict of JSON values.

    Args:
      logger: the logger to write to; its level decides what is written.
      levels: levels by event class; they override `LEVELS`.
      texts: include texts of people, models, tools and servers; otherwise no record contains a prompt or an answer.
      redact: applied to every text; see `make_redactor` for one that masks your keys.
    """

    logger: logging.Logger = attrs.field(factory=lambda: logging.getLogger("clawft_trio.events"))
    levels: Mapping[type[Event], int] = attrs.field(factory=dict, kw_only=True)
    texts: bool = attrs.field(default=False, kw_only=True)
    redact: Redactor = attrs.field(default=redact_secrets, kw_only=True)

    def __call__(self, event: Event) -> None:
        """Write *event*, if its level is enabled."""
        level = self.levels.get(type(event), _level(event))
        if not self.logger.isEnabledFor(level):
            return
        name, attributes = event_name(type(event)), attributes_of(event, texts=self.texts, redact=self.redact)
        extra = {
            "event": name,
            "at": event.at,
            "turn_id": event.turn_id,
            "call_id": event.call_id,
            "attributes": attributes,
        }
        self.logger.log(level, "%s", one_line(name, attributes, event), extra=extra)


def one_line(name: str, attributes: Mapping[str, AttributeValue], event: Event) -> str:
    """Return *attributes* and the ids of *event* as `key=value` pairs on one line, whatever the values contain."""
    ids = {"turn": event.turn_id, "call": event.call_id if event.call_id != event.turn_id else ""}
    pairs = [f"{key}={_value(value)}" for key, value in {**attributes, **ids}.items() if value not in ("", None)]
    return " ".join([name, *pairs])


def _value(value: AttributeValue) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    # JSON escapes line ends and control characters: no text can forge a second line.
    return json.dumps(value)


def _level(event: Event) -> int:
    level = LEVELS.get(type(event), logging.DEBUG)
    match event:
        case TurnEnded(outcome="error"):
            return logging.ERROR
        case RoundEnded(ending="failed") | ToolEnded(outcome="error" | "timeout" | "unknown"):
            return logging.WARNING
        case AttemptEnded(record=record) if record.outcome == "failed":
            return logging.WARNING
        case Noted(what="server did not start"):
            return logging.WARNING
        case BreakerChanged(state="closed"):
            return logging.INFO
        case _:
            return level
