"""Inbound and outbound messages of the bus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

from clawft_trio.chat import new_id
from clawft_trio.checks import of_type
from clawft_trio.field_docs import document_fields
from clawft_trio.keys import check_names, joined_key

Kind = Literal["partial", "reset", "final"]
"""Outbound: a piece of an answer, a request to remove the pieces so far, or the one final reply."""


def _media(media: Iterable[str]) -> tuple[str, ...]:
    paths = tuple(media)
    if isinstance(media, str) or not all(isinstance(path, str) for path in paths):
        raise TypeError(f"'media' must be a list of addresses and paths: {media!r:.200}")
    return paths


_TEXT = of_type(str)


@attrs.frozen(kw_only=True)
class InboundMessage:
    """A message of a sender, received through a channel.

    Raises:
      TypeError: a field has another type, such as an id that is a number.
      InvalidData: channel, sender, chat and id are together longer than 1 Mi characters.
    """

    #: the name of the channel
    channel: str
    #: the user; permissions and budgets are those of `channel:sender_id`
    sender_id: str
    #: the conversation that the reply is sent to; messages of one chat share one session
    chat_id: str
    #: the text
    content: str = attrs.field(validator=_TEXT)
    #: unique per channel; a message with a known id is a duplicate
    id: str = attrs.field(factory=new_id)
    #: when it was sent, with a time zone
    timestamp: datetime = attrs.field(factory=lambda: datetime.now(UTC), validator=of_type(datetime))
    #: addresses or paths of attachments
    media: tuple[str, ...] = attrs.field(default=(), converter=_media)
    #: notes of the adapter; they grant no permission
    metadata: Mapping[str, Any] = attrs.field(factory=dict, validator=of_type(Mapping))

    def __attrs_post_init__(self) -> None:
        check_names("message", channel=self.channel, sender_id=self.sender_id, chat_id=self.chat_id, id=self.id)

    @property
    def session_key(self) -> str:
        """Key of the session, made of channel and chat."""
        return joined_key(self.channel, self.chat_id)


@attrs.frozen(kw_only=True)
class OutboundMessage:
    """A message to a chat: a piece of an answer, a request to remove all pieces, or the one final reply.

    Raises:
      TypeError: a field has another type.
    """

    #: the name of the channel
    channel: str = attrs.field(validator=_TEXT)
    #: the conversation that it is sent to
    chat_id: str = attrs.field(validator=_TEXT)
    #: of a `final`, the whole text; of a `partial`, the next piece; of a `reset`, empty
    content: str = attrs.field(validator=_TEXT)
    #: the id of the inbound message that it answers
    reply_to: str | None = None
    #: `partial`: the next piece of a reply; `reset`: remove the pieces shown since the last final reply; `final`: the
    #: whole reply, which every accepted message gets exactly once
    kind: Kind = "final"
    #: addresses or paths of attachments
    media: tuple[str, ...] = attrs.field(default=(), converter=_media)
    #: of a `final`: `provider`, `model`, `finish_reason`, `latency_ms` and `cost_usd`; of one that reports a failure:
    #: `error`, the name of the class, and where they are known `retry_after` in seconds and the figures of `budget`
    metadata: Mapping[str, Any] = attrs.field(factory=dict, validator=of_type(Mapping))

    @property
    def session_key(self) -> str:
        """Key of the session, made of channel and chat."""
        return joined_key(self.channel, self.chat_id)


document_fields(__name__)
