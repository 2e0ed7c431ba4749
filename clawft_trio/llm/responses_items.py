"""The output items of a response while they arrive, and the reading of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clawft_trio.chat import Citation
from clawft_trio.llm import lenient

DIALECT = "responses"


class Item:
    """An output item whose deltas are arriving."""

    __slots__ = ("citations", "done", "given", "kind", "place", "position", "shown")

    def __init__(self, kind: str, place: int, position: int) -> None:
        self.kind: str = kind
        #: index of the item in the events
        self.place: int = place
        #: number of parts of the answer before the item
        self.position: int = position
        #: arguments at the start of a function call: nearly always empty, because the deltas carry the arguments
        self.given: str = ""
        #: number of characters of text or arguments in its deltas
        self.shown: int = 0
        self.citations: list[Citation] = []
        self.done: bool = False


def text_of(part: Mapping[str, Any]) -> str:
    """Return the text or the refusal in a part of a message."""
    return lenient.any_text(part.get("text")) or lenient.any_text(part.get("refusal"))


def mark(raw: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """Return an item without its content, which marks its position among the others."""
    return {"type": raw.get("type")} | {name: raw[name] for name in fields if raw.get(name) is not None}


def listed(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "output_text", "text": value}]
    return [] if value is None else value


def thoughts(item: Mapping[str, Any]) -> Iterator[str]:
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [text for part in (parts if isinstance(parts, list) else [parts]) if (text := lenient.any_text(part))]
        if texts:
            yield from texts
            return


def citations(annotations: Any) -> Iterator[Citation]:
    for raw in annotations if isinstance(annotations, list) else ():
        if isinstance(raw, dict):
            yield Citation(
                dialect=DIALECT,
                url=lenient.any_text(raw.get("url")),
                title=lenient.any_text(raw.get("title")) or lenient.any_text(raw.get("filename")),
                raw=raw,
            )
