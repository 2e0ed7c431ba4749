"""The events of a message of Anthropic's API as they are on the wire, and two ways to decode them.

Only the fields that are read are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from clawft_trio.llm import lenient
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


# Nearly every event: a piece of text. Any other is refused here and read as an `Event`.
class PlainDelta(msgspec.Struct, gc=False, tag="text_delta", tag_field="type"):
    text: str


class PlainEvent(msgspec.Struct, gc=False, tag="content_block_delta", tag_field="type"):
    delta: PlainDelta


decode: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
decode_plain: Callable[[bytes], PlainEvent] = msgspec.json.Decoder(PlainEvent).decode


class LenientEvents:
    """Decodes the events of which the typed decoder refuses a part, or which have no type.

    Args:
      halves: joins characters that were split over two events.
    """

    def __init__(self, halves: SurrogateJoiner) -> None:
        self._halves = halves

    def decode(self, data: bytes, named: str) -> Event:
        """The event in *data*, of which the typed decoder refused a part or which has no type.

        Raises:
          NotDecodable: it is no event, or something that is used has a type that it cannot have.
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
        # Thinking is only shown, and a signature only kept: of an odd type they cost no answer.
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
    """The type of an event that has none: the one that its `event:` line gives, or the one that its fields mean."""
    if raw.get("error"):
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
