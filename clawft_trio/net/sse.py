"""A decoder of server-sent events by the WHATWG rules, without I/O.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html, in full: a byte order mark is
skipped; lines end in CR, LF or CRLF, wherever the bytes are split; a block without `data` sets the last event id and
is not an event; an event cut off by the end of the stream is not an event.

Data stays bytes, because the JSON decoder reads bytes. They are valid UTF-8: bad sequences are already U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from clawft_trio.errors import EventTooLarge

_BOM = b"\xef\xbb\xbf"

# As numbers: a search for a byte given as `bytes` raises an exception internally, at five times the cost.
_LF, _CR = b"\n\r"

_utf8 = codecs.getincrementaldecoder("utf-8")

# Bytes whose UTF-8 is checked in one step.
_STEP = 1024 * 1024

# Largest number of digits of a plausible `retry`: 31 years in milliseconds.
_LONGEST_RETRY = 12

MAX_EVENT = 8 * 1024 * 1024
"""Largest event in bytes: enough for an image in base64."""


# A struct, not an attrs class: creating it takes a tenth of the time, and there is one for every token.
class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event."""

    #: valid UTF-8; several `data:` lines are joined by a newline
    data: bytes
    event: str = "message"
    #: last id that the stream has set, in this block or before; empty when there was none
    id: str = ""
    #: milliseconds to wait before reconnecting; None unless this block sets them
    retry: int | None = None


class SSEDecoder:
    """Decodes the bytes of one event stream into its events.

    Args:
      max_event: largest number of bytes in one event, field names included, comments excluded.
      error_lines: treat a line `error: …` as an event of the type `error`. The standard ignores such lines; some model
        servers (llama.cpp) report their failures by them.
    """

    def __init__(self, *, max_event: int = MAX_EVENT, error_lines: bool = False) -> None:
        self._max_event = max_event
        self._error_lines = error_lines
        #: last event id that a finished block has set, which a reconnect sends as `Last-Event-ID`
        self.last_event_id: str = ""
        #: last reconnection time that the stream has set, in milliseconds; None when there was none
        self.retry: int | None = None
        # None once the first three bytes have been seen.
        self._head: bytes | None = b""
        self._after_cr = False
        # The open block: the fields of its complete lines, and the pieces of the line that has not ended.
        self._fields: list[_Field] = []
        self._partial: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<SSEDecoder last_event_id={self.last_event_id!r}, {self._size} bytes open>"

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Decode the next bytes and return the events that they complete. Linear in the bytes, wherever they are split.

        Raises:
          EventTooLarge: an event has more than `max_event` bytes. The decoder cannot be used afterwards.
        """
        if self._head is not None:
            data = self._behind_bom(data)
        if self._after_cr or _CR in data:
            data = self._with_lf(data)
        events: list[ServerSentEvent] = []
        if self._size:
            data = self._continue_block(data, events)
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        longest = self._max_event
        for block in blocks:
            # Nearly every event of nearly every provider is this one line, decoded in three quarters of a microsecond.
            if block[:6] == b"data: " and _LF not in block and len(block) <= longest:
                value = block[6:]
                if not value.isascii():
                    value = _valid(value)
                events.append(ServerSentEvent(value, "message", self.last_event_id))
            else:
                lines = block.split(b"\n")
                if len(block) > longest:
                    self._check(sum(len(line) for line in lines if line[:1] != b":"))
                self._end_block(map(_field, lines), events)
        if rest:
            self._extend_block(rest)
        return events

    def feed_end(self) -> list[ServerSentEvent]:
        """Return the event that the end of the stream has cut off before its blank line, if there is one.

        By the standard it is not an event. A caller that can check whether its data is complete may use it.
        """
        events: list[ServerSentEvent] = []
        self._end_line()
        self._end_open_block(events)
        return events

    def _behind_bom(self, data: bytes) -> bytes:
        assert self._head is not None
        data = self._head + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data.removeprefix(_BOM)

    def _with_lf(self, data: bytes) -> bytes:
        # A CR ends its line at once. An LF at the start of the next bytes belongs to it.
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if _CR in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _continue_block(self, data: bytes, events: list[ServerSentEvent]) -> bytes:
        """Add the part of *data* that belongs to the open block, and return the rest."""
        if not self._partial and data.startswith(b"\n"):
            own, end, rest = b"", b"\n", data[1:]
        else:
            own, end, rest = data.partition(b"\n\n")
        self._extend_block(own)
        if end:
            self._end_line()
            self._end_open_block(events)
        return rest

    def _end_open_block(self, events: list[ServerSentEvent]) -> None:
        fields, self._fields, self._size = self._fields, [], 0
        self._end_block(fields, events)

    def _extend_block(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._extend_line(piece)
            self._end_line()
        self._extend_line(rest)

    def _extend_line(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._size += len(piece)
            self._check(self._size)

    def _end_line(self) -> None:
        # The name is taken off before the pieces are joined: each copy of an event of 64 MiB takes 20 ms.
        pieces, self._partial = self._partial, []
        start = b""
        used = 0
        while used < len(pieces) and len(start) < _LONGEST_START:
            start += pieces[used]
            used += 1
        name, value = _field(start)
        if name or value:
            self._fields.append((name, b"".join((value, *pieces[used:])) if name in _NAMES else b""))
        elif start:
            # Comments keep idle connections alive, at some gateways without any blank line, and must not accumulate.
            self._size -= sum(map(len, pieces))

    def _end_block(self, fields: Iterable[_Field], events: list[ServerSentEvent]) -> None:
        """Make the event of a complete block from the names and values of its lines."""
        data: list[bytes] = []
        event = ""
        retry: int | None = None
        for name, value in fields:
            if name == b"data":
                data.append(value)
            elif name == b"error" and self._error_lines:
                data.append(value)
                event = "error"
            elif name == b"event":
                event = value.decode(errors="replace")
            elif name == b"id" and b"\0" not in value:
                self.last_event_id = value.decode(errors="replace")
            elif name == b"retry" and value.isdigit() and len(value) <= _LONGEST_RETRY:
                self.retry = retry = int(value)
        if data:
            value = data[0] if len(data) == 1 else b"\n".join(data)
            events.append(ServerSentEvent(_valid(value), event or "message", self.last_event_id, retry))

    def _check(self, size: int) -> None:
        if size > self._max_event:
            raise EventTooLarge(limit=self._max_event)


_Field: TypeAlias = tuple[bytes, bytes]
"""Name and value of a line; both empty for a comment or an empty line."""

_NAMES = frozenset({b"data", b"error", b"event", b"id", b"retry"})
# A name, the colon and the space.
_LONGEST_START = max(map(len, _NAMES)) + 2


def _field(line: bytes) -> _Field:
    """Split a line into its name and value: behind the name come a colon and at most one space."""
    name, _, value = line.partition(b":")
    if not name:
        return b"", b""
    return name, value[1:] if value[:1] == b" " else value


def _valid(data: bytes) -> bytes:
    """Return *data* as valid UTF-8, with every bad sequence replaced by U+FFFD."""
    if data.isascii():
        return data
    try:
        if len(data) <= _STEP:
            data.decode()
        else:
            _check_utf8(data)
    except UnicodeDecodeError:
        # Lines end in ASCII, and no bad sequence includes ASCII, so repairing each line repairs the stream.
        return data.decode(errors="replace").encode()
    return data


def _check_utf8(data: bytes) -> None:
    # In steps, because a text of 64 MiB would need up to four times its size.
    decoder = _utf8()
    for at in range(0, len(data), _STEP):
        decoder.decode(data[at : at + _STEP])
    decoder.decode(b"", final=True)
