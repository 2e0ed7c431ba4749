"""What comes in over the bus and what goes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

from clawft_trio.chat import new_id
from clawft_trio.field_docs import document_fields

Kind = Literal["partial", "reset", "final"]
"""Outbound: a piece of an answer, a retraction of the pieces so far, or the one final reply."""


def joined_key(*parts: str) -> str:
    """Join *parts* to one key, so that different parts never give the same key.

    Parts are separated by colons. In all but the last, `:` and `%` are escaped; what a database cannot store (NUL,
    lone surrogates) is escaped in all.
    """
    *first, last = parts
    # Most last parts stay as they are; one that could be taken for an escaped one is escaped, too.
    return ":".join([*map(_escaped, first), _escaped(last) if _NEEDS_ESCAPE.search(last) else last])


_NEEDS_ESCAPE = re.compile("[\0\ud800-\udfff]|%[0-9A-F]{2}")
_ESCAPED = re.compile("[%:\0\ud800-\udfff]")


def _escaped(part: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match.group()):02X}", part)


def _media(media: Iterable[str]) -> tuple[str, ...]:
    return tuple(media)


@attrs.frozen(kw_only=True)
class InboundMessage:
    """A message of a sender, received through a channel."""

    channel: str
    sender_id: str
    chat_id: str
    content: str
    #: unique per channel; a message with a known id is a duplicate
    id: str = attrs.field(factory=new_id)
    timestamp: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    #: addresses or paths of attachments
    media: tuple[str, ...] = attrs.field(default=(), converter=_media)
    #: the adapter's own notes; nothing in it grants anything
    metadata: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def session_key(self) -> str:
        """The conversation it belongs to."""
        return joined_key(self.channel, self.chat_id)


@attrs.frozen(kw_only=True)
class OutboundMessage:
    """A message to a chat."""

    channel: str
    chat_id: str
    content: str
    #: the id of the inbound message this answers
    reply_to: str | None = None
    #: `partial`: the next piece of a reply; `reset`: the pieces since the last final reply are taken back; `final`: the
    #: whole reply, of which every accepted message gets exactly one
    kind: Kind = "final"
    media: tuple[str, ...] = attrs.field(default=(), converter=_media)
    #: `error` holds the class name of a typed failure; `cost`, `provider` and the like are for display
    metadata: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def session_key(self) -> str:
        """The conversation it belongs to."""
        return joined_key(self.channel, self.chat_id)


document_fields(__name__)
