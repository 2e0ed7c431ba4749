"""A tool's result as text for a model: complete if it is short, else cut.

Text is cut between characters, lists between elements; in an object large values are cut and small ones stay. A mark
replaces the parts left out. JSON stays JSON. The time is linear in the kept size, and in the number of an object's
fields.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, Set as AbstractSet, ValuesView
from itertools import chain, islice
from typing import Any

import msgspec

from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import InvalidData
from clawft_trio.large_json import LARGE, decode_in_pieces

RESULT_LIMIT = 65_536
"""Bytes of UTF-8 of one result for the model: about 16 000 tokens."""

MOST_ITEMS = 65_536
"""Largest number of items taken from an iterator: more than fit into a result."""

_WORTH_CUTTING = 256
"""Bytes; with less room a value is left out, not cut."""

_DEEPEST = 40
"""Levels of nesting that are cut separately; deeper values are left out whole."""

_DEEPEST_ITERATOR = 3
"""Levels of lists and dictionaries that are searched for iterators."""

_MARK = "_truncated"

_MOST_PARSED = 16 * 1024 * 1024
"""Characters of a JSON text that stays JSON after a cut; a longer one is cut as text."""

_OPENING = re.compile(r"[ \t\r\n]*[{\[]")

# Whole characters and whole escapes of an encoded JSON string.
_CHARACTERS = re.compile(rb"(?:[^\\]|\\u[0-9a-fA-F]{4}|\\[^u])*", re.DOTALL)

_SCALARS = (int, float, type(None))

_UNENCODABLE = (TypeError, ValueError, RecursionError, OverflowError)


def answer_text(value: object, *, limit: int = RESULT_LIMIT) -> str:
    """Convert *value* to text for a model: text stays text, everything else becomes JSON, in at most *limit* bytes.

    *limit* is at least 256. Text that is a JSON object or array is still one after a cut.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode(errors="replace")
    if isinstance(value, str):
        return _cut_text(value, limit)
    return _fit(collected(value), limit).decode()


def is_large(value: object, enough: int | None = None) -> bool:
    """Whether *value* has more than *enough* bytes; by default, so many that `answer_text` belongs into a thread."""
    if enough is None:
        enough = LARGE if isinstance(value, str | bytes) else RESULT_LIMIT
    return _at_least(value, enough) > enough


def collected(value: object, depth: int = 0) -> object:
    """Replace each iterator in *value* by a list, because an iterator returns its items only once.

    At most `MOST_ITEMS` items are taken from an iterator, and at most so many values are examined.
    """
    if isinstance(value, Iterator):
        return list(islice(value, MOST_ITEMS))
    if depth < _DEEPEST_ITERATOR and isinstance(value, dict) and len(value) < MOST_ITEMS:
        inside = {key: collected(one, depth + 1) for key, one in value.items() if _may_hold_iterator(one)}
        return {**value, **inside} if inside else value
    if (
        depth < _DEEPEST_ITERATOR
        and isinstance(value, list | tuple)
        and any(map(_may_hold_iterator, value[:MOST_ITEMS]))
    ):
        return [collected(one, depth + 1) for one in value]
    return value


def _may_hold_iterator(value: object) -> bool:
    return isinstance(value, Iterator | dict | list | tuple)


def _cut_text(text: str, limit: int) -> str:
    if len(text) <= limit and len(encoded := _utf8(text)) <= limit:
        return encoded.decode()
    if _OPENING.match(text) and len(text) <= _MOST_PARSED:
        try:
            return _fit(_parsed(text), limit).decode()
        except (InvalidData, ValueError, RecursionError):
            pass
    room = limit - len(_left_out(len(text), len(text), "characters")) - 1
    kept = _utf8(text[:room])[:room].decode(errors="ignore")
    return f"{kept}\n{_left_out(len(text) - len(kept), len(text), 'characters')}"


def _parsed(text: str) -> object:
    # One call of the C decoder would hold the interpreter, and block the event loop also from a thread.
    return decode_json(text) if len(text) < LARGE else decode_in_pieces(_utf8(text))


def _utf8(text: str) -> bytes:
    # Lone surrogates (odd file names) would make every later request with this text fail.
    return text.encode(errors="replace")


def _left_out(missing: int, total: int, what: str) -> str:
    return f"[truncated: {missing} of {total} {what} left out]"


def _fit(value: object, room: int, depth: int = 0) -> bytes:
    """Encode *value* as JSON in at most *room* bytes; *room* is at least `_WORTH_CUTTING`."""
    whole = _whole(value, room)
    if whole is not None:
        return whole
    plain = _plain(value)
    if plain is not value and (whole := _whole(plain, room)) is not None:
        return whole
    value = plain
    if isinstance(value, str):
        return _fit_string(value, room)
    if depth < _DEEPEST and isinstance(value, dict):
        return _fit_object(value, room, depth)
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return _fit_array(value, room, depth)
    # Integers that JSON libraries cannot write become text; other values here are nested too deeply.
    text = _text_of(value)[: room - 2] if isinstance(value, int) else f"[truncated: a {type(value).__name__} left out]"
    return encode_json(text)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except ValueError:
        # Python converts integers of more than 4300 digits to text only in base 16.
        return hex(value) if isinstance(value, int) else f"a {type(value).__name__}"


def _whole(value: object, room: int) -> bytes | None:
    if _at_least(value, room) > room:
        return None
    try:
        encoded = _ENCODER.encode(value)
        if b"null" in encoded:
            # JSON has no NaN and no infinity, and msgspec writes null, which would mean no value.
            encoded = _ENCODER.encode(_with_named_numbers(msgspec.to_builtins(value, str_keys=True, enc_hook=_data_of)))
    except _UNENCODABLE:
        return None
    return encoded if len(encoded) <= room else None


def _plain(value: object) -> object:
    if isinstance(value, str | int | float | list | tuple | dict) or value is None:
        return value
    try:
        return _data_of(value)
    except _UNENCODABLE:
        pass
    try:
        return msgspec.to_builtins(value, enc_hook=_data_or_text)
    except _UNENCODABLE:
        return _text_of(value)


def _data_of(value: Any) -> object:
    """Return the data in a value that msgspec does not know: pydantic models, ranges, views, deques, arrays.

    Raises:
      TypeError: it has none.
    """
    if hasattr(value, "__pydantic_validator__"):
        return value.model_dump(mode="json")
    if isinstance(value, range | deque | AbstractSet | Sequence | KeysView | ValuesView | ItemsView | Iterator):
        return list(islice(value, MOST_ITEMS))
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} holds no data")


_ENCODER = msgspec.json.Encoder(enc_hook=_data_of)


def _data_or_text(value: object) -> object:
    try:
        return _data_of(value)
    except _UNENCODABLE:
        return _text_of(value)


def _name_of_number(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _with_named_numbers(value: Any) -> Any:
    """Replace NaN and infinity by the words that JavaScript uses."""
    if isinstance(value, float) and not math.isfinite(value):
        return _name_of_number(value)
    if isinstance(value, dict):
        return {key: _with_named_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_named_numbers(one) for one in value]
    return value


def _at_least(value: object, enough: int) -> int:
    """Return a lower bound on the bytes of *value* as JSON; stop counting soon after *enough*.

    A value that is nested too deeply for JSON counts as more than enough.
    """
    total = 0
    level = [value]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for one in level:
            total += 1 if isinstance(one, _SCALARS) else _own_bytes(one, below, enough)
            if total > enough:
                return total
        if not below:
            return total
        level = below
    return enough + 1


def _own_bytes(value: object, below: list[object], enough: int) -> int:
    """Return the bytes of *value* without its members, which are added to *below*."""
    if isinstance(value, str | bytes):
        return len(value) + 2
    members: Iterable[object]
    if isinstance(value, dict):
        size, members = 1 + 2 * len(value), chain(value, value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        size, members = 1 + len(value), value
    else:
        return 1
    if size <= enough:
        below.extend(members)
    return size


def _fit_string(text: str, room: int) -> bytes:
    encoded = encode_json(_utf8(text[:room]).decode())
    if len(encoded) <= room:
        return encoded  # lone surrogates were replaced, and nothing is left out
    note = _left_out(len(text), len(text), "characters")
    found = _CHARACTERS.match(encoded, 1, room - len(note) - 2)
    assert found is not None  # it matches nothing, if need be
    kept: str = decode_json(b'"' + found[0].decode(errors="ignore").encode() + b'"')
    return encode_json(f"{kept} {_left_out(len(text) - len(kept), len(text), 'characters')}")


def _fit_array(items: Sequence[Any], room: int, depth: int) -> bytes:
    kept: list[bytes] = []
    # Two brackets, and the mark for the missing elements.
    left = room - 2 - len(_mark(len(items), len(items), "elements"))
    for item in items:
        whole = _whole(item, left - 1)
        if whole is None and left <= _WORTH_CUTTING:
            break
        kept.append(_fit(item, left - 1, depth + 1) if whole is None else whole)
        left -= len(kept[-1]) + 1
    if len(kept) < len(items):
        kept.append(_mark(len(items) - len(kept), len(items), "elements"))
    return b"[" + b",".join(kept) + b"]"


def _mark(missing: int, total: int, what: str) -> bytes:
    return encode_json({_MARK: f"{missing} of {total} {what} left out"})


def _fit_object(fields: dict[Any, Any], room: int, depth: int) -> bytes:
    mark = _mark(len(fields), len(fields), "fields")[1:-1]
    left = room - 2 - len(mark)
    # A field takes at least four bytes, so that more fields cannot fit.
    names = [_name(key) for key, _ in zip(fields, range(left // 4), strict=False)]
    sizes = [len(name) + 2 + _at_least(value, left) for name, value in zip(names, fields.values(), strict=False)]
    level = _fair_share(sizes, left)
    kept: list[bytes] = []
    for name, value in zip(names, fields.values(), strict=False):
        share = min(left, level) - len(name) - 2
        whole = _whole(value, share)
        if whole is None and share < _WORTH_CUTTING:
            break
        kept.append(name + b":" + (_fit(value, share, depth + 1) if whole is None else whole))
        left -= len(kept[-1]) + 1
    if len(kept) < len(fields):
        kept.append(_mark(len(fields) - len(kept), len(fields), "fields")[1:-1])
    return b"{" + b",".join(kept) + b"}"


def _name(key: object) -> bytes:
    return encode_json(_utf8(_text_of(key)[:_WORTH_CUTTING]).decode())


def _fair_share(sizes: Sequence[int], room: int) -> int:
    """Return the largest size such that all fit into *room* after the larger ones are cut to it."""
    for index, size in enumerate(ordered := sorted(sizes)):
        share = room // (len(ordered) - index)
        if size > share:
            return max(share, _WORTH_CUTTING * 2)
        room -= size
    return max(room, *sizes)
