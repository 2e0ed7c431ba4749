"""Ids, names and arguments of earlier tool calls, in the form that a target accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

import attrs
import msgspec

from clawft_trio.chat import ToolCall
from clawft_trio.codec import encode_json
from clawft_trio.llm.conform.rules import Rules

MALFORMED = "malformed"
"""Key under which arguments are sent that are not a JSON object."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_MARK = 8
_LONGEST_NULL = 64
"""Characters of `null` with blanks around it."""
"""Characters of a digest in a rewritten name: enough to distinguish two names in one request."""


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def fits(text: str, pattern: str) -> bool:
    """Return whether all of *text* matches *pattern*."""
    return _compiled(pattern).fullmatch(text) is not None


def digest(text: str, length: int) -> str:
    """Return *length* characters (at most 40), letters and digits, that depend only on *text*."""
    number = int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest(), "big")
    characters = []
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[rest])
    return "".join(characters)


class CallIds:
    """Gives each call of a conversation a unique id that the target accepts.

    A valid id that is not yet taken is kept. A replacement depends on the old id and on the number of earlier calls
    with the same id, so that a conversation gets the same ids in every request.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._matches = _compiled(rules.id_pattern).fullmatch
        self._taken: set[str] = set()

    def place(self, old: str) -> str:
        """Return the id for the next call, whose id was *old*."""
        new, number = old, 0
        while not old or new in self._taken or not self._matches(new):
            number += 1
            new = self._fresh(old, number)
            if new not in self._taken:
                break
        self._taken.add(new)
        return new

    def _fresh(self, old: str, number: int) -> str:
        prefix = self._rules.id_prefix
        return prefix + digest(f"{number}:{old}", min(40, self._rules.id_length - len(prefix)))


@lru_cache(maxsize=4096)
def wire_name(name: str, pattern: str, longest: int) -> str:
    """Return *name* in a form that the target accepts: an invalid name is cleaned and marked by a digest of it."""
    if fits(name, pattern):
        return name
    clean = _ILLEGAL.sub("_", name)
    mark = digest(name, _MARK)
    cut = f"{clean[: longest - _MARK - 1]}_{mark}".lstrip("_-")
    return cut if fits(cut, pattern) else f"tool_{mark}"


def arguments_object(text: str) -> dict[str, Any] | None:
    """Return the arguments in *text*; None when it is not exactly one JSON object."""
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def legal_arguments(text: str) -> str:
    """Return *text* as a JSON object: unchanged, without one layer of quotes, or under the key `MALFORMED`."""
    if arguments_object(text) is not None:
        return text
    if not text or text.isspace() or (len(text) < _LONGEST_NULL and text.strip() == "null"):
        return "{}"
    try:
        inner = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        inner = None
    if isinstance(inner, str):
        if not inner.strip():
            return "{}"
        if arguments_object(inner) is not None:
            return inner
    return encode_json({MALFORMED: text.encode(errors="replace").decode()}).decode()


def renamed_keys(value: Any, names: Mapping[str, str]) -> Any:
    """Return *value* with the keys of its objects renamed by *names*."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed_keys(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed_keys(inner, names) for inner in value]
    return value


def with_renamed_keys(arguments: str, names: Mapping[str, str]) -> str:
    """Return the JSON text *arguments* with keys renamed by *names*; text that is not an object is unchanged."""
    decoded = arguments_object(arguments) if names else None
    if decoded is None:
        return arguments
    renamed = renamed_keys(decoded, names)
    return arguments if renamed == decoded else encode_json(renamed).decode()


def legal_call(call: ToolCall, id_: str, rules: Rules, keys: Mapping[str, str]) -> ToolCall:
    """Return *call* with the id *id_* and a name and arguments that the target accepts; itself if nothing changes."""
    name = wire_name(call.name, rules.name_pattern, rules.name_length)
    arguments = with_renamed_keys(legal_arguments(call.arguments), keys)
    if id_ is call.id and name is call.name and arguments is call.arguments:
        return call
    fresh = attrs.evolve(call, id=id_, name=name, arguments=arguments)
    return call if fresh == call else fresh
