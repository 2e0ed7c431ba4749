"""Content blocks of the Messages API that are stored unchanged and extended by deltas, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from clawft_trio.chat import GrowingText
from clawft_trio.llm.lenient import NOT_JSON


class KeptBlock:
    """A block that is sent back to the server unchanged: thinking, server tools and their results, compactions."""

    __slots__ = ("_block", "_count", "_growing")

    def __init__(self, block: Mapping[str, Any], count: Callable[[int], None]) -> None:
        self._block = dict(block)
        self._count = count
        self._growing: dict[str, GrowingText] = {}
        count(len(msgspec.json.encode(self._block)))

    def append(self, name: str, piece: str) -> None:
        """Append *piece* to the text field *name*; when *name* is `input`, to the JSON text of the input."""
        if piece:
            if name not in self._growing:
                self._growing[name] = GrowingText()
            self._growing[name].write(piece)
            self._count(len(piece))

    def merge(self, delta: Mapping[str, Any]) -> None:
        """Add a delta of a type that this package does not know, for example `compaction_delta`.

        Strings are appended to the field of the same name, lists are extended, all other values are replaced.
        """
        for name, value in delta.items():
            if name == "type" or value is None:
                continue
            known = self._block.get(name)
            if isinstance(value, str) and (known is None or isinstance(known, str)):
                self.append(name, value)
            elif isinstance(value, list) and isinstance(known, list):
                known.extend(value)
            else:
                self._block[name] = value
            self._count(len(name) + len(msgspec.json.encode(value)))

    def closed(self) -> dict[str, Any]:
        """Return the complete block."""
        for name, text in self._growing.items():
            if name == "input":
                self._block[name] = _input(text.getvalue(), self._block.get(name))
            else:
                self._block[name] = str(self._block.get(name) or "") + text.getvalue()
        return self._block


def _input(text: str, given: Any) -> Any:
    if not text or text.isspace():
        return given
    try:
        return msgspec.json.decode(text)
    except NOT_JSON:
        # The server has already run its own tool: only the server uses this input.
        return {"malformed": text}
