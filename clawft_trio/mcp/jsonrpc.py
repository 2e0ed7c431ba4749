r"""JSON-RPC 2.0 as MCP uses it over a pipe: bytes in, messages out. Independent of trio and processes.

One message is one line of UTF-8 ending in `\n`. A line that is not a message affects no other line: it is returned as
`Malformed`, with its id where one can be read, so that its call can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias

import attrs
import msgspec
from msgspec import UNSET, Raw, UnsetType

Id: TypeAlias = int | str
"""Relates a response to its request. Ours are integers from 1."""

MAX_MESSAGE = 64 * 1024 * 1024
"""Largest line in bytes. The TypeScript SDK has a limit of 10 MiB, the Python SDK none; large screenshots need more."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

# Bytes kept of a line that is too long: enough to find the id at either end. Python SDKs write it first, TypeScript
# SDKs last.
_HEAD = 4096
_TAIL = 512
# Bytes of a broken line that are searched for the id; bounds the work that a hostile line can cause.
_SCANNED = 65_536

# Bytes of an invalid error object that become the text of the error.
_LONGEST_ERROR = 2000

_BOM = b"\xef\xbb\xbf"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message with its payload still as JSON text: the receiver decodes it to the type that it expects."""

    #: None in an error response to something unreadable; unset in a notification
    id: int | float | str | UnsetType | None = UNSET
    #: unset in a response
    method: str | UnsetType = UNSET
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()


class _FullAnswer(msgspec.Struct):
    """A response of a peer that writes every member, and null for those that do not apply."""

    id: int | float | str
    method: None
    result: Raw = Raw()
    error: Raw = Raw()


class ErrorObject(msgspec.Struct, frozen=True):
    """Error object of a response."""

    code: int = INTERNAL_ERROR
    message: str = ""
    data: object = None


@attrs.frozen(kw_only=True)
class Malformed:
    """A line that is not a message."""

    reason: str
    #: id of the intended response or request, as far as it can be read
    id: Id | None = None
    #: whether it was intended as a request or notification
    has_method: bool = False
    #: whether it is not JSON in UTF-8, rather than JSON of another shape
    syntax: bool = False
    #: beginning of the line, at most 4 kB; secrets in it are not masked
    sample: str = ""
    #: the message with U+FFFD for each half of a surrogate pair, where only those are wrong: a list is read from it
    repaired: Envelope | None = None


JsonRpcMessage: TypeAlias = Envelope | Malformed


class LineSplitter:
    r"""Splits a byte stream into lines, in time linear in the bytes, wherever they are split.

    Only `\n` ends a line: U+2028, U+0085 and a bare `\r` are ordinary characters of a JSON string.
    """

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes | Malformed]:
        """Yield the lines that *data* completes, without their line ends."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._keep(piece)
            yield self._take()
        self._keep(rest)

    def end(self) -> bytes | Malformed:
        """Return what came after the last line end; empty when nothing did."""
        return self._take()

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length <= self._limit:
            if piece:
                self._parts.append(piece)
        else:
            self._cut(piece)

    def _cut(self, piece: bytes) -> None:
        if not self._tail:
            self._parts = [b"".join(self._parts)[:_HEAD] or piece[:_HEAD]]
        self._tail = (self._tail + piece[-_TAIL:])[-_TAIL:] or b" "

    def _take(self) -> bytes | Malformed:
        line, length, tail = b"".join(self._parts), self._length, self._tail
        self._parts, self._length, self._tail = [], 0, b""
        if length <= self._limit:
            return line
        return _malformed(f"{length} bytes in one message, more than {self._limit}", line, tail)


class JsonRpcReader:
    """Decodes bytes into messages."""

    def __init__(self, *, limit: int = MAX_MESSAGE) -> None:
        self._lines = LineSplitter(limit)

    def feed(self, data: bytes) -> list[JsonRpcMessage]:
        """Return the messages that *data* completes. Never raises, whatever *data* is."""
        messages: list[JsonRpcMessage] = []
        for line in self._lines.feed(data):
            self._read(line, messages)
        return messages

    def end(self) -> list[JsonRpcMessage]:
        """Return the message that the end of the stream completes: a last line may lack its line end."""
        messages: list[JsonRpcMessage] = []
        self._read(self._lines.end(), messages)
        return messages

    def _read(self, line: bytes | Malformed, into: list[JsonRpcMessage]) -> None:
        if isinstance(line, Malformed):
            into.append(line)
            return
        try:
            into.append(_decode(line))
        except (ValueError, RecursionError) as exc:
            into.extend(_read_oddity(line, exc))


_decode = msgspec.json.Decoder(Envelope).decode
_decode_full_answer = msgspec.json.Decoder(_FullAnswer).decode
_decode_batch = msgspec.json.Decoder(list[Raw]).decode
_decode_error = msgspec.json.Decoder(ErrorObject).decode


def parse(line: bytes) -> list[JsonRpcMessage]:
    """Return the messages of one complete line or body: none if it is blank, several if it is a batch."""
    try:
        return [_decode(line)]
    except (ValueError, RecursionError) as exc:
        return _read_oddity(line, exc)


def decode_error(raw: Raw) -> ErrorObject:
    """Return the error of a response. An invalid error object becomes the text of one, so that no text is lost."""
    try:
        return _decode_error(raw)
    except (ValueError, RecursionError):
        return _decode_odd_error(bytes(raw))


def _decode_odd_error(raw: bytes) -> ErrorObject:
    try:
        error = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return ErrorObject(message=_cut_text(raw))
    if not isinstance(error, dict):
        return ErrorObject(message=error if isinstance(error, str) else _cut_text(raw))
    code, message = error.get("code"), error.get("message")
    text = message if isinstance(message, str) else _cut_text(raw)
    if isinstance(code, str) and re.fullmatch(r"-?\d{1,9}", code, re.ASCII):
        code = int(code)
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool):
        return ErrorObject(code=code, message=text, data=error.get("data"))
    return ErrorObject(message=text if code is None else f"{text} ({str(code)[:100]})", data=error.get("data"))


def _cut_text(raw: bytes) -> str:
    return raw[:_LONGEST_ERROR].decode("utf-8", "replace")


def _read_oddity(line: bytes, exc: Exception) -> list[JsonRpcMessage]:
    text = line.removeprefix(_BOM).strip()
    if not text:
        return []
    if text[:1] == b"[":
        return _read_batch(text, exc)
    if len(text) < len(line) and line.startswith(_BOM):
        return parse(text)
    with suppress(ValueError, RecursionError):
        answer = _decode_full_answer(text)
        return [Envelope(id=answer.id, result=answer.result, error=answer.error)]
    malformed = _malformed(str(exc), text, text[-_TAIL:], syntax=_is_syntax(exc))
    return [attrs.evolve(malformed, repaired=_repaired(text))]


def _repaired(text: bytes) -> Envelope | None:
    try:
        found = _without_lone_surrogates(text)
        return None if found is None else _decode(found)
    except (ValueError, RecursionError):
        return None


# Text without a lone surrogate; possessive, so that hostile text costs linear time.
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89a-fA-F])|[^u]))*+",
    re.DOTALL,
)
_LONE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

_LONGEST_REPAIR = 1024 * 1024
"""Bytes of the largest message in which lone surrogates are replaced: about 10 ms."""

_MOST_REPAIRS = 1000
"""Largest number of lone surrogates that are replaced in one message."""


def _without_lone_surrogates(text: bytes) -> bytes | None:
    """Return *text* with U+FFFD for each escaped half of a surrogate pair; None when there is none, or too many.

    JSON allows them, and servers that cut a text in the middle of an emoji send them, but they are not Unicode text.
    """
    if len(text) > _LONGEST_REPAIR or not _LONE.search(text):
        return None
    pieces: list[bytes] = []
    position = 0
    while found := _PAIRED.match(text, position):
        pieces.append(found.group())
        if found.end() == len(text):
            break
        # Each repair adds two pieces.
        if len(pieces) // 2 >= _MOST_REPAIRS or not _LONE.match(text, found.end()):
            return None
        pieces.append(rb"\ufffd")
        position = found.end() + 6
    return b"".join(pieces) if len(pieces) > 1 else None


def _read_batch(text: bytes, exc: Exception) -> list[JsonRpcMessage]:
    # Revision 2025-03-26 had batches, and some servers still send them: a response in a batch is valid.
    try:
        return [message for raw in _decode_batch(text) for message in _parse_member(bytes(raw))]
    except (ValueError, RecursionError) as inner:
        return [_malformed(str(exc), text, b"", syntax=_is_syntax(inner))]


def _is_syntax(exc: Exception) -> bool:
    return isinstance(exc, ValueError) and not isinstance(exc, msgspec.ValidationError)


def _parse_member(text: bytes) -> list[JsonRpcMessage]:
    if text[:1] == b"[":
        return [_malformed("a batch inside a batch", text, b"")]
    return parse(text)


# Possessive, so that hostile text costs linear time; an unclosed string reaches to the end.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\]:,]|[^\s"{}\[\]:,]++', re.DOTALL)
_LAST_MEMBER = re.compile(rb'[,{]\s*"id"\s*:\s*(-?\d{1,18}|"[^"\\]{0,128}")\s*}\s*\Z')
_PLAIN_ID = re.compile(rb'-?\d{1,18}|"[^"\\]{1,128}"')


def _malformed(reason: str, head: bytes, tail: bytes, *, syntax: bool = False) -> Malformed:
    members = _top_level_scalars(head)
    id_text = members.get(b'"id"')
    if id_text is None and (found := _LAST_MEMBER.search(tail)):
        id_text = found.group(1)
    return Malformed(
        reason=reason,
        id=_as_id(id_text),
        has_method=b'"method"' in members,
        syntax=syntax,
        sample=head[:_HEAD].decode("utf-8", "replace"),
    )


def _top_level_scalars(text: bytes) -> dict[bytes, bytes]:
    """Return the members of the outermost object that are not containers, as far as they can be read."""
    members: dict[bytes, bytes] = {}
    depth = 0
    key = previous = b""
    for found in _TOKEN.finditer(text, 0, _SCANNED):
        token = found.group()
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif token == b":":
            key = previous
        elif depth == 1 and previous == b":":
            members.setdefault(key, token)
        previous = token
    return members


def _as_id(text: bytes | None) -> Id | None:
    if text is None or not _PLAIN_ID.fullmatch(text):
        return None
    return text[1:-1].decode("utf-8", "replace") if text[:1] == b'"' else int(text)


class _Request(msgspec.Struct, gc=False):
    id: Id
    method: str
    params: object = UNSET
    jsonrpc: str = "2.0"


class _Notification(msgspec.Struct, gc=False):
    method: str
    params: object = UNSET
    jsonrpc: str = "2.0"


class _Result(msgspec.Struct, gc=False):
    id: Id
    result: object
    jsonrpc: str = "2.0"


class _Error(msgspec.Struct, gc=False):
    id: Id | None
    error: ErrorObject
    jsonrpc: str = "2.0"


_encode = msgspec.json.Encoder().encode


def encode_request(request_id: Id, method: str, params: object = UNSET) -> bytes:
    """Encode a request as a line.

    Raises:
      TypeError: *params* contains a value that JSON cannot represent.
    """
    return _encode(_Request(request_id, method, params)) + b"\n"


def encode_notification(method: str, params: object = UNSET) -> bytes:
    """Encode a notification as a line.

    Raises:
      TypeError: *params* contains a value that JSON cannot represent.
    """
    return _encode(_Notification(method, params)) + b"\n"


def encode_result(request_id: Id, result: object) -> bytes:
    """Encode the response to a request as a line.

    Raises:
      TypeError: *result* contains a value that JSON cannot represent.
    """
    return _encode(_Result(request_id, result)) + b"\n"


def encode_error(request_id: Id | None, code: int, message: str, data: object = UNSET) -> bytes:
    """Encode an error response as a line. *request_id* is None when the id of the request could not be read."""
    body: dict[str, object] = {"code": code, "message": message}
    if data is not UNSET:
        body["data"] = data
    return _encode({"jsonrpc": "2.0", "id": request_id, "error": body}) + b"\n"
