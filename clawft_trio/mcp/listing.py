"""Reads lists of a server (tools, resources, prompts) page by page, entry by entry, bounded, cached for `ttlMs`."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import PeerError, ProtocolViolation
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import WireRecord, decode_without_nulls
from clawft_trio.observe import Noted, Observer, fan_out
from clawft_trio.observe.redaction import cut_redacted

E = TypeVar("E", bound=WireRecord)

MAX_PAGES = 1000
"""Largest number of pages of one list. A server with an endless list is broken or hostile."""

MAX_ENTRIES = 10_000
"""Largest number of entries of one list. The largest known server has some hundreds of tools."""

MAX_ENTRY = 256 * 1024
"""Largest entry in bytes: description and schemas of a tool together."""

MAX_CURSOR = 64 * 1024
"""Largest cursor in bytes; a cursor is sent back unchanged."""

LONGEST_TTL = 3600.0
"""Longest time in seconds that a result is cached, whatever its `ttlMs`."""

_MAX_KEPT = 256
"""Largest number of cached results."""

_DECODED_AT_ONCE = 200
"""Entries that are decoded before other tasks may run: about 2 ms."""

_log = logging.getLogger("clawft_trio.mcp")

_decode_members: Callable[[Raw], dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_number: Callable[[Raw], float] = msgspec.json.Decoder(float).decode
_decode_entries: Callable[[Raw], list[Raw] | None] = msgspec.json.Decoder(list[Raw] | None).decode


class CallRaw(Protocol):
    """Sends a request and returns the members of its result, not decoded further."""

    def __call__(self, method: str, params: Mapping[str, Any] | None) -> Awaitable[dict[str, Raw]]: ...


@attrs.frozen
class _Kept:
    value: Any
    expires: float


class ResultCache:
    """Results by method and target, cached as long as their `ttlMs` allows."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}

    def get(self, method: str, target: str = "") -> Any:
        """Return the cached result; None when there is none or it has expired."""
        kept = self._kept.get((method, target))
        return kept.value if kept is not None and trio.current_time() < kept.expires else None

    def keep(self, method: str, target: str, value: Any, ttl_ms: object) -> None:
        """Cache *value* for *ttl_ms*; do nothing unless that is a positive number."""
        if not isinstance(ttl_ms, int | float) or isinstance(ttl_ms, bool) or not ttl_ms > 0:
            return
        while len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[method, target] = _Kept(value, trio.current_time() + min(ttl_ms, LONGEST_TTL * 1000) / 1000)

    def forget(self, *methods: str) -> None:
        """Drop the results of these methods; without any, drop all results."""
        for method, target in list(self._kept):
            if not methods or method in methods:
                del self._kept[method, target]


class ListReader:
    """Reads lists of one server.

    An entry that does not fit is left out and reported; the others are kept. A cursor that repeats or is refused, and a
    further page that is invalid, end the list.

    Args:
      server: name of the server, for errors.
      call: sends a request.
      cache: where lists with a `ttlMs` are kept.
      observer: receives `Noted` about each entry that is left out.
    """

    def __init__(self, server: str, call: CallRaw, cache: ResultCache, observer: Observer) -> None:
        self._server = server
        self._call = call
        self._cache = cache
        self._observer = fan_out([observer])

    async def read(self, method: str, key: str, kind: type[E]) -> tuple[E, ...]:
        """Return all entries of the list *method*, which are under *key* and of the type *kind*.

        Raises:
          McpError: see `McpClient.call`.

        Cancellation: as `McpClient.call`.
        """
        kept: tuple[E, ...] | None = self._cache.get(method)
        if kept is not None:
            await trio.lowlevel.checkpoint()
            return kept
        found: list[Raw] = []
        ttl: float = math.inf
        async for page in _Pages(self, method):
            try:
                found.extend(self._entries(method, key, page))
            except ProtocolViolation as exc:
                if not found:
                    raise
                self._report(f"{method}: list cut", str(exc))
                break
            # Other tasks run between the two passes over a large page.
            await trio.lowlevel.checkpoint()
            ttl = min(ttl, _number(page.get("ttlMs")))
            if len(found) > MAX_ENTRIES:
                self._report(f"{method}: entries left out", f"more than {MAX_ENTRIES} entries")
                del found[MAX_ENTRIES:]
                break
        result = await self._decode_all(method, found, kind)
        self._cache.keep(method, "", result, ttl)
        return result

    def _entries(self, method: str, key: str, page: Mapping[str, Raw]) -> list[Raw]:
        if key not in page:
            raise ProtocolViolation(f"{method}: the result has no {key!r}", server=self._server)
        try:
            return _decode_entries(page[key]) or []
        except (ValueError, RecursionError) as exc:
            raise ProtocolViolation(f"{method}: {exc}", server=self._server) from exc

    async def _decode_all(self, method: str, entries: list[Raw], kind: type[E]) -> tuple[E, ...]:
        decoder = msgspec.json.Decoder(kind)
        decoded: list[E] = []
        for number, raw in enumerate(entries):
            if number % _DECODED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            try:
                if memoryview(raw).nbytes > MAX_ENTRY:
                    raise ValueError(f"more than {MAX_ENTRY} bytes")
                decoded.append(decode_without_nulls(raw, decoder))
            except (ValueError, RecursionError) as exc:
                self._report(f"{method}: entry left out", f"entry {number} ({_name_of(raw)}): {exc}")
        return tuple(decoded)

    def _report(self, what: str, reason: str) -> None:
        _log.warning("%s: %s: %s", self._server, what, reason)
        self._observer(
            Noted(component="mcp", what=what, details={"server": self._server, "reason": cut_redacted(reason, 500)})
        )


class _Pages:
    """Iterates over the pages of one list, up to its end, to a cursor that repeats, or to `MAX_PAGES`."""

    def __init__(self, reader: ListReader, method: str) -> None:
        self._reader = reader
        self._method = method
        self._cursor: str | None = None
        self._seen: set[str] = set()
        self._last: dict[str, Raw] = {}
        self._more = True
        self._count = 0

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> dict[str, Raw]:
        if not self._more:
            raise StopAsyncIteration
        params = None if self._cursor is None else {"cursor": self._cursor}
        try:
            page = await self._reader._call(self._method, params)
        except PeerError as exc:
            # An empty cursor is valid by the specification; servers that send it mean the end of the list.
            if self._cursor == "":
                raise StopAsyncIteration from None
            if self._cursor is None or exc.code != INVALID_PARAMS:
                raise
            self._reader._report(f"{self._method}: list cut", f"the cursor {self._cursor[:60]!r} is refused: {exc}")
            raise StopAsyncIteration from None
        if self._cursor == "" and page == self._last:
            raise StopAsyncIteration
        self._advance(page)
        return page

    def _advance(self, page: dict[str, Raw]) -> None:
        cursor = _text(page.get("nextCursor"))
        self._count += 1
        if cursor is not None and (cursor in self._seen or len(cursor) > MAX_CURSOR or self._count == MAX_PAGES):
            self._reader._report(f"{self._method}: list cut", f"the cursor {cursor[:60]!r} repeats or has no end")
            cursor = None
        if cursor is not None:
            self._seen.add(cursor)
        self._last = page
        self._cursor = cursor
        self._more = cursor is not None


def decode_page(raw: Raw) -> dict[str, Raw]:
    """Return the members of a list's result, not decoded further.

    Raises:
      msgspec.DecodeError: it is not an object.
    """
    return _decode_members(raw)


def _name_of(raw: Raw) -> str:
    try:
        members = _decode_members(raw)
        name = members.get("name") or members.get("uri") or b""
        return bytes(name)[:100].decode("utf-8", "replace")
    except (ValueError, RecursionError):
        return bytes(raw)[:60].decode("utf-8", "replace")


def _text(raw: Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _number(raw: Raw | None) -> float:
    """Return *raw* as a number; 0 when it is missing or not a number."""
    if raw is None:
        return 0.0
    try:
        return _decode_number(raw)
    except (ValueError, RecursionError):
        return 0.0
