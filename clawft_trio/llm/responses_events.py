"""The events of OpenAI's Responses API as they are on the wire, and their two decoders.

The structs name only the fields that are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from clawft_trio.llm import lenient
from clawft_trio.llm.error_body import is_bare_error
from clawft_trio.llm.lenient import NotDecodable, SurrogateJoiner, as_index


class Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    item: dict[str, Any] | None = None
    response: msgspec.Raw = msgspec.Raw()
    annotation: Any = None
    arguments: Any = None
    text: Any = None
    error: Any = None


decode: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode

TEXT = frozenset({"response.output_text.delta", "response.text.delta"})
REASONING = frozenset(
    {
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning.delta",
        "response.reasoning_summary.delta",
    }
)
COMPLETE = frozenset({"response.output_text.done", "response.function_call_arguments.done"})
BEGUN = frozenset({"response.created", "response.in_progress", "response.queued"})
ENDED = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)


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
        if not isinstance(kind, str) or not kind:
            failed = lenient.is_stated(raw.get("error")) or is_bare_error(raw)
            kind = named if named != "message" else "error" if failed else ""
        if not kind:
            raise NotDecodable("an event without a type")
        place = as_index(raw.get("output_index"))
        event = Event(
            type=kind,
            output_index=place,
            content_index=as_index(raw.get("content_index")),
            summary_index=as_index(raw.get("summary_index")),
            annotation=lenient.scrubbed(raw.get("annotation")),
            item_id=lenient.any_text(raw.get("item_id")) or None,
            arguments=lenient.scrubbed(raw.get("arguments")),
            text=lenient.scrubbed(raw.get("text")),
            error=lenient.scrubbed(raw.get("error")),
        )
        if kind in TEXT or kind in REASONING or kind.endswith((".refusal.delta", ".function_call_arguments.delta")):
            delta = lenient.as_text(raw.get("delta"), of="a delta")
            event.delta = None if delta is None else self._halves.join((kind, place), delta)
        if kind.startswith("response.output_item."):
            event.item = lenient.as_object(lenient.scrubbed(raw.get("item")), of="an item")
        if kind in BEGUN or kind in ENDED:
            # Some gateways send the response itself, without the event around it.
            given = raw if "response" not in raw and raw.get("object") == "response" else raw.get("response")
            response = lenient.as_object(lenient.scrubbed(given), of="the response")
            event.response = msgspec.Raw(msgspec.json.encode(response))
        return event
