"""The events of a message in Anthropic's API as they are on the wire, and their two decoders.

The structs name only the fields that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from clawft_trio.llm import lenient
from clawft_trio.llm.error_body import is_bare_error
from clawft_trio.llm.lenient import NotDecodable, SurrogateJoiner, as_index


class Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: Any = None


class Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int | None = None
    delta: Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None
    request_id: Any = None


# Nearly every event is a piece of text. This decoder refuses any other event, which is then decoded as an `Event`.
class PlainDelta(msgspec.Struct, gc=False, tag="text_delta", tag_field="type"):
    text: str


class PlainEvent(msgspec.Struct, gc=False, tag="content_block_delta", tag_field="type"):
    delta: PlainDelta


decode: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
decode_plain: Callable[[bytes], PlainEvent] = msgspec.json.Decoder(PlainEvent).decode


class LenientEvents:
    """Decodes events that the typed decoder refuses, and events without a type.

    Args:
      halves: joins characters that were split between two events.
    """

    def __init__(self, halves: SurrogateJoiner) -> None:
        self._halves = halves

    def decode(self, data: bytes, named: str) -> Event:
        """Decode the event in *data*, which the typed decoder refused or which has no type.

        Raises:
          NotDecodable: *data* is not an event, or a field that is used has an impossible type.
        """
        raw = lenient.decode_object(data)
        kind = raw.get("type")
        event = Event(
            type=kind if isinstance(kind, str) and kind else _kind_of(raw, named),
            index=as_index(raw.get("index")),
            content_block=lenient.scrubbed(lenient.as_object(raw.get("content_block"), of="the content block")),
            message=lenient.scrubbed(lenient.as_object(raw.get("message"), of="the message"))
            if not isinstance(raw.get("message"), str)
            else None,
            usage=lenient.scrubbed(raw.get("usage")),
            error=lenient.scrubbed(raw.get("error")),
            request_id=raw.get("request_id"),
        )
        if event.type == "content_block_delta":
            event.delta = self._delta(lenient.as_object(raw.get("delta"), of="the delta"), event.index)
        return event

    def _delta(self, raw: Mapping[str, Any], index: int | None) -> Delta:
        # Thinking is only displayed and a signature only stored: an unexpected type in them must not fail the answer.
        texts = {name: lenient.any_text(raw[name]) for name in ("thinking", "signature") if raw.get(name) is not None}
        for name in ("text", "partial_json"):
            text = lenient.as_text(raw.get(name), of=f"the {name} of a delta")
            if text is not None:
                texts[name] = text
        joined = {
            name: self._halves.join(name if name != "partial_json" else (name, index), text)
            for name, text in texts.items()
        }
        kind = raw.get("type")
        if not isinstance(kind, str) or not kind:
            kind = next((_DELTAS[name] for name in joined), "")
        return Delta(type=kind, **joined)


_DELTAS = {
    "text": "text_delta",
    "thinking": "thinking_delta",
    "signature": "signature_delta",
    "partial_json": "input_json_delta",
}


def _kind_of(raw: Mapping[str, Any], named: str) -> str:
    """Return the type of an event that has none: from its `event:` line, or else derived from its fields."""
    if lenient.is_stated(raw.get("error")) or is_bare_error(raw):
        return "error"
    if named != "message":
        return named
    if isinstance(raw.get("content_block"), dict):
        return "content_block_start"
    if isinstance(raw.get("message"), dict):
        return "message_start"
    delta = raw.get("delta")
    if isinstance(delta, dict):
        return "message_delta" if "stop_reason" in delta else "content_block_delta"
    raise NotDecodable("an event without a type")
