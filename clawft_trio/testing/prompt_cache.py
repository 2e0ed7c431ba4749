"""Simulates the prompt caches of Anthropic and OpenAI: which part of a request is found, written and charged.

    cache = SimulatedPromptCache()

    def choose(request):
        return [Say("ok"), Finish(usage=cache.usage(request, output_tokens=20))]

    async with open_fault_server(choose=choose) as server:
        ...

The number of tokens is a quarter of the bytes of the cached parts: tools, system prompt, messages. The rules are those
that the vendors document, written independently of the requests of this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.codec import encode_json
from clawft_trio.testing.script_player import SeenRequest

_LEAST = 1024
"""Tokens; a shorter prefix is not cached (OpenAI, and Claude Sonnet; some models need 2048 or 4096)."""

_STEP = 128
"""Tokens by which OpenAI's cached prefixes grow."""

_LOOK_BACK = 20
"""Number of blocks before an Anthropic mark in which an earlier entry is found."""

_MAX_MARKS = 4
"""Largest number of marks in an Anthropic request; more are an error."""

_LIFETIMES = {"5m": 300.0, "1h": 3600.0}


@attrs.define
class _Entry:
    until: float
    lifetime: str


class SimulatedPromptCache:
    """The content of a vendor's cache. One object serves any number of models and both dialects.

    Raises:
      ValueError: raised by `usage` for a request that the vendor would refuse: more than four marks.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], _Entry] = {}

    def usage(self, request: SeenRequest, *, output_tokens: int = 1) -> Usage:
        """Return the usage that the vendor would report for *request*, and put the request into the cache."""
        if request.dialect == "anthropic":
            return self._anthropic(request, output_tokens)
        return self._openai(request, output_tokens)

    def _anthropic(self, request: SeenRequest, output_tokens: int) -> Usage:
        blocks = list(_blocks(request.body))
        marks = [index for index, (_, control) in enumerate(blocks) if control is not None]
        if len(marks) > _MAX_MARKS:
            raise ValueError(f"{len(marks)} blocks have cache_control; a request may have {_MAX_MARKS}")
        prefixes, tokens = _prefixes([data for data, _ in blocks])
        found = 0
        for mark in marks:
            for index in range(mark, max(-1, mark - _LOOK_BACK), -1):
                if self._fresh((request.model, prefixes[index]), request.time):
                    found = max(found, tokens[index])
                    break
        written = {"5m": 0, "1h": 0}
        known = found
        for mark in marks:
            control = blocks[mark][1]
            lifetime = str((control or {}).get("ttl", "5m"))
            if tokens[mark] >= _LEAST:
                until = request.time + _LIFETIMES[lifetime]
                self._entries[request.model, prefixes[mark]] = _Entry(until, lifetime)
                written[lifetime] += max(0, tokens[mark] - known)
                known = max(known, tokens[mark])
        return Usage(
            input_tokens=tokens[-1] if tokens else 0,
            output_tokens=output_tokens,
            cached_tokens=found,
            cache_write_tokens=sum(written.values()),
            cache_write_1h_tokens=written["1h"],
        )

    def _openai(self, request: SeenRequest, output_tokens: int) -> Usage:
        data = b"".join(data for data, _ in _blocks(request.body))
        key = str(request.body.get("prompt_cache_key", ""))
        steps = list(range(_LEAST, len(data) // 4 + 1, _STEP))
        digest, at, found, seen = hashlib.sha256(), 0, 0, []
        for tokens in steps:
            digest.update(data[at : tokens * 4])
            at = tokens * 4
            name = (request.model, key, digest.hexdigest())
            if self._fresh(name, request.time):
                found = tokens
            seen.append(name)
        for name in seen:
            self._entries[name] = _Entry(request.time + _LIFETIMES["5m"], "5m")
        return Usage(input_tokens=len(data) // 4, output_tokens=output_tokens, cached_tokens=found)

    def _fresh(self, name: tuple[str, ...], now: float) -> bool:
        entry = self._entries.get(name)
        if entry is None or now >= entry.until:
            return False
        # Every use renews the lifetime of an entry.
        entry.until = now + _LIFETIMES[entry.lifetime]
        return True


def _prefixes(blocks: Sequence[bytes]) -> tuple[list[str], list[int]]:
    """Return for each block the digest and the tokens of everything up to and including it."""
    digest, size = hashlib.sha256(), 0
    prefixes, tokens = [], []
    for block in blocks:
        digest.update(block)
        size += len(block)
        prefixes.append(digest.hexdigest())
        tokens.append(size // 4)
    return prefixes, tokens


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[bytes, Mapping[str, Any] | None]]:
    """Yield the blocks of a request in caching order, without their marks, each with its mark."""
    for tool in body.get("tools") or ():
        yield _unmarked(tool)
    system = body.get("system") or ()
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system:
        yield _unmarked(block)
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            for block in content:
                data, control = _unmarked(block)
                yield message["role"].encode() + data, control
        else:
            yield encode_json(message), None


def _unmarked(block: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any] | None]:
    return encode_json({key: value for key, value in block.items() if key != "cache_control"}), block.get(
        "cache_control"
    )
