"""Records events as JSON lines, to be read later and elsewhere.

The first line is a header, each other line is one event: `{"event": "attempt_started", "at": 3.5, …}`. Errors are
stored as class and message and are read as `RecordedError`. Texts of people, models and servers are left out unless
they are requested.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from io import BufferedIOBase, FileIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import attrs
import cattrs
import trio

from clawft_trio.codec import decode_json, encode_json, make_converter, structure
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import events
from clawft_trio.observe.attributes import RecordedError, error_class, event_name, whole
from clawft_trio.observe.events import Event, Noted, ServerOutput, ToolProgress
from clawft_trio.observe.queued_observer import QueuedObserver, open_queue
from clawft_trio.observe.redaction import Redactor, cut_redacted, redact_secrets

FORMAT: Literal[1] = 1
"""Version of the format. Readers refuse any other version."""

LONGEST_LINE = 1 << 20
"""Largest line in bytes. A line that this package writes has some hundreds."""

MOST_EVENTS = 200_000
"""Largest number of events in one file; bounds the memory of readers, and is more than a person looks at."""

_LONGEST_TEXT = 8192
"""Characters that are kept of one text."""

_LONGEST_ID = 200
"""Characters that are kept of an id when its event is too large for a line."""

_DEEPEST = 8
"""Levels of nesting that are kept in the details of a `Noted`."""

Now: TypeAlias = Callable[[], datetime]
"""Returns calendar time with its time zone."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Header:
    """First line of a recording."""

    #: version of the format
    recording: int = FORMAT
    #: calendar time of the beginning, in seconds since 1970
    wall: float
    #: `trio.current_time()` at the same moment; relates the times of events to calendar time
    at: float


@attrs.frozen(kw_only=True)
class Recording:
    """A recording that was read."""

    header: Header
    events: tuple[Event, ...]
    #: whether the last line is incomplete: the process ended while it was written
    cut: bool = False


def recorded_line(event: Event, *, texts: bool = False, redact: Redactor = redact_secrets) -> bytes:
    """Return *event* as one line with its line end.

    Args:
      texts: include texts of people, models and servers.
      redact: applied to every text.
    """
    plain = _Plain(texts, redact).record(event)
    line = encode_json({"event": event_name(type(event)), **plain}) + b"\n"
    if len(line) <= LONGEST_LINE:
        return line
    instead = Noted(
        component="observe",
        what="event too large to record",
        details={"event": event_name(type(event))},
        at=event.at,
        call_id=event.call_id[:_LONGEST_ID],
        turn_id=event.turn_id[:_LONGEST_ID],
    )
    return recorded_line(instead)


def header_line(*, now: Now = utc_now) -> bytes:
    """Return the first line of a recording that begins now. Call it inside trio."""
    header = Header(wall=now().timestamp(), at=trio.current_time())
    return encode_json(attrs.asdict(header)) + b"\n"


@attrs.frozen
class LineObserver:
    """An observer that passes each event, as a line of a recording, to *write*, which must not block.

    `open_recording` uses it to write to a file. The caller writes `header_line()` first.
    """

    write: Callable[[bytes], object]
    texts: bool = attrs.field(default=False, kw_only=True)
    redact: Redactor = attrs.field(default=redact_secrets, kw_only=True)

    def __call__(self, event: Event) -> None:
        """Write *event*."""
        self.write(recorded_line(event, texts=self.texts, redact=self.redact))


@asynccontextmanager
async def open_recording(
    path: str | Path,
    *,
    texts: bool = False,
    redact: Redactor = redact_secrets,
    capacity: int = 10_000,
    grace: float = 2.0,
    now: Now = utc_now,
) -> AsyncGenerator[QueuedObserver, None]:
    """Record events to a file for the duration of the block: `open_agent(..., observers=[record])`.

    A thread writes the events; the program never waits for the disk. Events that come while `capacity` events wait are
    dropped and counted; the number is logged at the end, which takes at most *grace* seconds. An existing file is
    replaced; a new file is readable only by its owner.

    With a MockClock that jumps, the seconds pass at once but threads do not run faster: use `grace=math.inf`.

    Raises:
      OSError: the file cannot be written.

    Cancellation: the events so far are written within *grace* seconds, and the file is closed.
    """
    first = header_line(now=now)
    file = await trio.to_thread.run_sync(_open, Path(path))
    try:
        await trio.to_thread.run_sync(file.write, first)
        lines = LineObserver(file.write, texts=texts, redact=redact)
        async with open_queue(lines, capacity=capacity, grace=grace) as observer:
            yield observer
    finally:
        with trio.move_on_after(grace, shield=True):
            await trio.to_thread.run_sync(file.close, abandon_on_cancel=True)


def _open(path: Path) -> FileIO:
    # Readable only by its owner, because it may quote texts.
    return _LineFile(path, "wb", opener=_opened)


class _LineFile(FileIO):
    """A file of whole lines. Unbuffered: events before a crash must be on disk."""

    _whole = 0

    def write(self, line: Any, /) -> int:
        """Write a whole line or nothing: the file is read up to a broken line. Raises `OSError` on a full disk."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError:
            with suppress(OSError):  # a pipe has no end to return to
                self.truncate(self._whole)
                self.seek(self._whole)
            raise
        self._whole += len(line)
        return len(line)


def _opened(name: str, flags: int) -> int:
    # A pipe without a reader is an error; opening it would otherwise wait for a reader without end.
    descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
    os.set_blocking(descriptor, True)
    return descriptor


class _Plain:
    """Converts records to JSON values."""

    def __init__(self, texts: bool, redact: Redactor) -> None:
        self._texts = texts
        self._mask = redact

    def record(self, value: attrs.AttrsInstance, depth: int = 0) -> dict[str, Any]:
        hidden = self._hidden(value)
        return {
            field.name: "" if field.name in hidden else self.value(getattr(value, field.name), depth + 1)
            for field in attrs.fields(type(value))
            if not (isinstance(value, InboundMessage | OutboundMessage) and field.name in {"media", "metadata"})
        }

    def _hidden(self, value: object) -> tuple[str, ...]:
        if self._texts:
            return ()
        match value:
            case ServerOutput():
                return ("text",)
            case ToolProgress():
                return ("message",)
            case InboundMessage() | OutboundMessage():
                return ("content",)
            case _:
                return ()

    def value(self, value: object, depth: int) -> Any:  # noqa: PLR0911  # a table of types
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self._text(value)
            case Decimal():
                return str(value)
            case datetime():
                return value.isoformat()
            case BaseException():
                return {"error": error_class(value), "message": self._text(str(value))}
            case _ if depth >= _DEEPEST:
                return type(value).__name__
            case list() | tuple() | set() | frozenset():
                return [self.value(inner, depth + 1) for inner in value]
            case dict():
                return {whole(str(key)): self.value(inner, depth + 1) for key, inner in value.items()}
            case _ if attrs.has(type(value)):
                return self.record(value, depth)  # type: ignore[arg-type]  # attrs.has narrows no object
            case _:
                return type(value).__name__

    def _text(self, text: str) -> str:
        most = 2 * _LONGEST_TEXT
        return cut_redacted(whole(text[:most]), _LONGEST_TEXT, redact=self._mask, partial=len(text) > most)


def read_recording(lines: Iterable[bytes], *, source: str = "") -> Recording:
    """Read a recording, for example from a file opened in binary mode.

    An incomplete last line is skipped.

    Raises:
      InvalidData: this is not a recording; the error names the line and the place in it.
    """
    numbered = _limited(lines, source)
    first = next(numbered, None)
    if first is None:
        raise InvalidData([Problem("line 1", "empty: not a recording")], source=source)
    converter, kinds = _converter(), _event_classes()
    header = _on_line(*first, source, lambda data: _header(data, converter))
    found: list[Event] = []
    cut = False
    for number, line in numbered:
        if cut := not line.endswith(b"\n"):
            break
        if len(found) >= MOST_EVENTS:
            raise InvalidData([Problem(f"line {number}", f"more than {MOST_EVENTS} events")], source=source)
        found.append(_on_line(number, line, source, lambda data: _event(data, kinds, converter)))
    return Recording(header=header, events=tuple(found), cut=cut)


def bounded_lines(file: BinaryIO | BufferedIOBase) -> Iterator[bytes]:
    """Yield the lines of *file*; of one that is longer than `LONGEST_LINE`, a part that is longer, too.

    The iteration of a file itself would read a line of any length into memory.
    """
    return iter(partial(file.readline, LONGEST_LINE + 1), b"")


def _limited(lines: Iterable[bytes], source: str) -> Iterator[tuple[int, bytes]]:
    if isinstance(lines, BufferedIOBase):
        lines = bounded_lines(lines)
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise InvalidData([Problem(f"line {number}", f"longer than {LONGEST_LINE} bytes")], source=source)
        yield number, line


def _on_line(number: int, line: bytes, source: str, make: Callable[[Any], Any]) -> Any:
    try:
        return make(decode_json(line))
    except InvalidData as exc:
        problems = [Problem(f"line {number}: {problem.path}", problem.message) for problem in exc.problems]
        raise InvalidData(problems, source=source) from exc


def _header(data: Any, converter: cattrs.Converter) -> Header:
    if not isinstance(data, dict) or "recording" not in data:
        raise InvalidData([Problem("$.recording", "missing: not a recording")])
    if data["recording"] != FORMAT:
        raise InvalidData([Problem("$.recording", f"version {data['recording']!r}; this reads version {FORMAT}")])
    return structure(data, Header, converter=converter)


def _event(data: Any, kinds: dict[str, type[Event]], converter: cattrs.Converter) -> Event:
    if not isinstance(data, dict):
        raise InvalidData([Problem("$", "expected an object")])
    kind = kinds.get(str(data.pop("event", "")))
    if kind is None:
        raise InvalidData([Problem("$.event", "no such event; was it recorded by a later version?")])
    if kind is Noted and "room" in data:  # its name in recordings of 0.1
        data.setdefault("component", data.pop("room"))
    return structure(data, kind, converter=converter)


def _event_classes() -> dict[str, type[Event]]:
    found = (value for value in vars(events).values() if isinstance(value, type) and issubclass(value, Event))
    return {event_name(kind): kind for kind in found}


def _converter() -> cattrs.Converter:
    converter = make_converter()
    converter.register_structure_hook(BaseException, _error)
    converter.register_structure_hook(BaseException | None, lambda value, _: None if value is None else _error(value))
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(datetime, lambda value, _: datetime.fromisoformat(value))
    converter.register_structure_hook(
        InboundMessage | OutboundMessage,
        lambda value, _: converter.structure(value, InboundMessage if "sender_id" in value else OutboundMessage),
    )
    return converter


def _error(value: Any, _: Any = None) -> RecordedError:
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("error", "message")):
        raise TypeError("expected an error: its class and its message")
    return RecordedError(value["error"], value["message"])


def _decimal(value: Any, _: Any) -> Decimal:
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?(E[+-]?\d{1,3})?", value):
        raise TypeError("expected a number as a string")
    return Decimal(value)
