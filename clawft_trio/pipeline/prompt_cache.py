"""The providers' prompt caches: which target has the prefix of a session, and which change made a prefix useless.

Providers cache the beginning of a request and charge a tenth of the price, or less, for tokens read from the cache. A
session therefore stays with the target that has its prefix, and each request is compared with the previous one at the
same target: if the new one does not begin with the old one, the cache is useless from the first different byte on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

import attrs
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Part as ContentPart, Text, ToolSpec
from clawft_trio.codec import encode_json
from clawft_trio.pipeline.stages import RoutingDecision
from clawft_trio.pipeline.tokens import message_tokens
from clawft_trio.target import Target

_LIFETIMES = {"5m": 300.0, "1h": 3600.0}
"""Seconds that an entry is kept after its last use. OpenAI keeps entries for 5 to 10 minutes."""

_LEAST = 1024
"""Input tokens; no vendor caches a shorter prefix."""

_SESSIONS = 1000
"""Number of sessions whose target is stored."""

_BYTES = 16 * 1024 * 1024
"""Bytes of requests that are stored for comparison, of all sessions together."""

_BYTES_PER_TOKEN = 5
"""Bytes of an estimated token of prose, the largest ratio of all texts."""

Section = Literal["tools", "system", "messages"]


@attrs.frozen(kw_only=True)
class CacheBust:
    """The place where a request differs from the previous one."""

    #: offset of the first byte that differs, in the order in which providers cache: tools, system, messages
    byte: int
    #: size of the previous request in bytes, all of which the cache could have had
    of: int
    part: Section
    #: number of the tool, system message or message, from 0
    index: int


@attrs.frozen(kw_only=True)
class PromptCacheStatistics:
    """Counters of prompt caches."""

    #: requests that were compared with a previous one
    compared: int
    #: requests that did not begin with the previous one
    busts: int
    #: input tokens of all answers: read from a cache, written to one, neither
    cached_tokens: int
    written_tokens: int
    plain_tokens: int
    #: sessions whose target is stored
    sessions: int


class _Item(NamedTuple):
    """A part of a request that providers cache, and its place."""

    part: Section
    place: int
    value: ToolSpec | Message


@attrs.define
class _Warm:
    """The cached prefix of one session."""

    target: str = ""
    until: float = 0.0
    #: the last request at `target`, in the order in which providers cache
    sent: tuple[_Item, ...] = ()
    #: bytes that `sent` keeps in memory
    size: int = 0


class PromptCaches:
    """Stores the target that has the prefix of each session. `PromptCache.key` identifies the session."""

    def __init__(self) -> None:
        self._warm: OrderedDict[str, _Warm] = OrderedDict()
        self._bytes = 0
        self._compared = 0
        self._busts = 0
        self._cached = 0
        self._written = 0
        self._plain = 0

    def __repr__(self) -> str:
        return f"<PromptCaches: {len(self._warm)} sessions, {self._busts} busts>"

    def statistics(self) -> PromptCacheStatistics:
        """Return the counters."""
        return PromptCacheStatistics(
            compared=self._compared,
            busts=self._busts,
            cached_tokens=self._cached,
            written_tokens=self._written,
            plain_tokens=self._plain,
            sessions=len(self._warm),
        )

    def ordered(self, request: ChatRequest, decision: RoutingDecision) -> tuple[Target, ...]:
        """Return the targets of *decision*, first the one that has the session's prefix, if it is as good a choice.

        It is as good if it is in the tier that the router chose; another tier would not suit the task.
        """
        warm = self._of(request)
        if warm is None or trio.current_time() >= warm.until:
            return decision.targets
        first = [target for target in decision.targets if target.name == warm.target and target.tier == decision.tier]
        return (*first, *(target for target in decision.targets if target not in first))

    def sent(self, request: ChatRequest, target: Target) -> CacheBust | None:
        """Compare *request*, which is sent to *target*, with the previous one; return the difference, if any."""
        warm = self._of(request)
        if warm is None or warm.target != target.name or trio.current_time() >= warm.until or not warm.sent:
            return None
        return self._compare(warm.sent, request)

    def answered(self, request: ChatRequest, target: Target, usage: Usage | None, *, estimate: int) -> None:
        """Record that *target* answered *request*, of about *estimate* tokens, and now has its prefix."""
        if usage is not None:
            self._cached += usage.cached_tokens
            self._written += usage.cache_write_tokens
            self._plain += usage.plain_tokens
        if request.cache is None or not request.cache.key or (usage.input_tokens if usage else estimate) < _LEAST:
            return
        key = request.cache.key
        warm = self._warm.setdefault(key, _Warm())
        self._warm.move_to_end(key)
        self._bytes -= warm.size
        warm.target = target.name
        warm.until = trio.current_time() + _LIFETIMES[request.cache.lifetime]
        warm.sent = tuple(_items(request))
        warm.size = _size(request.messages)
        self._bytes += warm.size
        self._forget()

    def _of(self, request: ChatRequest) -> _Warm | None:
        return None if request.cache is None else self._warm.get(request.cache.key)

    def _compare(self, before: tuple[_Item, ...], request: ChatRequest) -> CacheBust | None:
        self._compared += 1
        now = tuple(_items(request))
        same = next((n for n, (old, new) in enumerate(zip(before, now, strict=False)) if old != new), len(now))
        if same >= len(before):
            return None
        self._busts += 1
        # Rendered only now: nearly all requests begin with the previous one and need no rendering.
        offset, whole = (sum(len(_rendered(item)) for item in items) for items in (before[:same], before))
        if same == len(now):
            last: tuple[Section, int] = (now[-1].part, now[-1].place + 1) if now else ("tools", 0)
            return CacheBust(byte=offset, of=whole, part=last[0], index=last[1])
        offset += _first_difference(_rendered(before[same]), _rendered(now[same]))
        return CacheBust(byte=offset, of=whole, part=now[same].part, index=now[same].place)

    def _forget(self) -> None:
        """Remove the oldest sessions beyond the bounds, and the stored requests of the oldest ones."""
        while len(self._warm) > _SESSIONS:
            _, gone = self._warm.popitem(last=False)
            self._bytes -= gone.size
        for warm in self._warm.values():
            if self._bytes <= _BYTES:
                return
            self._bytes -= warm.size
            warm.sent, warm.size = (), 0


def _items(request: ChatRequest) -> Iterator[_Item]:
    """Yield the parts of *request* that providers cache, in their order."""
    for index, tool in enumerate(request.tools):
        yield _Item("tools", index, tool)
    system = [message for message in request.messages if message.role == "system"]
    others = [message for message in request.messages if message.role != "system"]
    yield from (_Item("system", index, message) for index, message in enumerate(system))
    yield from (_Item("messages", index, message) for index, message in enumerate(others))


def _rendered(item: _Item) -> bytes:
    """Render *item* as bytes; items that differ in text give different bytes."""
    if isinstance(item.value, ToolSpec):
        return encode_json([item.value.name, item.value.description, item.value.parameters])
    message = item.value
    texts = "\x1f".join(part.text if isinstance(part, Text) else _stand_in(part) for part in message.content)
    calls = "\x1f".join(f"{call.id}\x1e{call.name}\x1e{call.arguments}" for call in message.tool_calls)
    line = f"\x1d{message.role}\x1f{message.tool_call_id or ''}\x1f{texts}\x1c{calls}"
    return line.encode("utf-8", "surrogatepass")


def _size(messages: Sequence[Message]) -> int:
    """Return the approximate size of *messages* in bytes."""
    parts = (part for message in messages for part in message.content)
    media = sum(len(part.data) for part in parts if isinstance(part, Image | File))
    return media + _BYTES_PER_TOKEN * sum(map(message_tokens, messages))


_HASHED = 64 * 1024
"""Bytes of an image or file that are hashed to recognise it."""


def _stand_in(part: ContentPart) -> str:
    """Return text that identifies an image, a file or an opaque block by its content."""
    if isinstance(part, Image | File):
        # Of its beginning and its size, because hashing 20 MiB would stop the event loop.
        content = f"{sha256(part.data[:_HASHED]).hexdigest()} {len(part.data)}" if part.data else ""
        return f"{part.url}\x1e{part.media_type}\x1e{content}"
    assert isinstance(part, Opaque)
    return encode_json(part.block).decode()


def _first_difference(one: bytes, other: bytes) -> int:
    """Return the first index at which *one* and *other*, which are not equal, differ."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
