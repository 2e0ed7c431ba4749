"""Decodes large JSON in a thread, in pieces: one call of a C decoder would hold the interpreter and block the loop.

A value that fits a window is decoded by `json`'s C scanner at once. A larger container is decoded here member by
member, and a long string run by run, so that no step takes longer than a few milliseconds.

CPython's garbage collector remains: a full collection stops all threads for about 0.1 µs per list and nested dict that
is alive. A result of 200 000 nested rows has 600 000 of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import msgspec
import trio

from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidData, Problem

LARGE = 256 * 1024
"""Bytes from which on a text is decoded in a thread. A smaller one takes up to 5 ms on the event loop."""

_WINDOWS = (4096, 65_536)
"""Characters that are decoded at once, if a value ends in them. The first is for the rows of a table."""

_POLLED = 500
"""Values between two polls: some milliseconds."""

_RUN_UNITS = 20_000

_LONGEST_SCALAR = 65_536
"""Characters of a number; `int` refuses more than 4300 digits."""

_SPACE = re.compile(r"[ \t\n\r]*")
# A run: a piece of a string that can be decoded by itself, with no escape and no pair of surrogates cut. Possessive, so
# that hostile text costs linear time.
_RUN = re.compile(
    r'(?:[^"\\\x00-\x1f]{1,65536}+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    rf'|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{{4}}|\\["\\/bfnrt]){{1,{_RUN_UNITS}}}+'
)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_scan: Callable[[str], tuple[Any, int]] = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


async def decode_large(data: bytes) -> Any:
    """Decode a large JSON text in a thread.

    Raises:
      ValueError: it is not JSON in UTF-8.
      RecursionError: it is nested too deeply.

    Cancellation: the thread stops at its next step.
    """
    return await trio.to_thread.run_sync(partial(decode_in_pieces, data, poll=trio.from_thread.check_cancelled))


async def decode_any(data: bytes) -> Any:
    """Decode a JSON text, in a thread if it is large.

    Raises:
      InvalidData: it is not JSON in UTF-8, or nested too deeply.

    Cancellation: decoding is stopped, and awaited.
    """
    if len(data) < LARGE:
        await trio.lowlevel.checkpoint()
        return decode_json(data)
    try:
        return await decode_large(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidData([Problem("$", str(exc))]) from exc


def decode_in_pieces(data: bytes, *, poll: Callable[[], object] = lambda: None, most: float = math.inf) -> Any:
    """Decode a JSON text.

    Args:
      data: the text.
      poll: called regularly; an exception that it raises ends the decoding.
      most: number of values; soon after more of them, the decoding ends. Only large containers are counted exactly.

    Raises:
      ValueError: it is not JSON in UTF-8, or has more values than *most*.
      RecursionError: it is nested too deeply.
    """
    pieces = _Pieces(data.decode(), poll, most)
    value, end = pieces.value(pieces.skip(0))
    if pieces.skip(end) != len(pieces.text):
        raise ValueError(f"more than one value: at character {end}")
    return value


def _checked(value: Any, piece: str) -> Any:
    """Return *value* of *piece*; decode it strictly if it may have a lone surrogate, which `json` accepts."""
    if "\\ud" in piece or "\\uD" in piece:
        return msgspec.json.decode(piece)
    return value


class _Pieces:
    def __init__(self, text: str, poll: Callable[[], object], most: float) -> None:
        self.text = text
        self._poll = poll
        self._most = most
        self._values = 0

    def skip(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def value(self, at: int) -> tuple[Any, int]:
        """Decode the value that begins at *at*; return it and where it ends."""
        self._values += 1
        if self._values > self._most:
            raise ValueError(f"more than {self._most} values")
        if self._values % _POLLED == 0:
            self._poll()
        for window in _WINDOWS:
            piece = self.text[at : at + window]
            try:
                value, used = _scan(piece)
            except ValueError:
                continue  # it does not end in the window, or it is not JSON, which is detected below
            # A number at the end of the window may continue after it: by digits, or by what follows a "." or an "e+".
            if used + 2 < len(piece) or at + window >= len(self.text):
                return _checked(value, piece[:used]), at + used
        match self.text[at : at + 1]:
            case "{":
                return self._object(at + 1)
            case "[":
                return self._array(at + 1)
            case '"':
                return self._string(at + 1)
        # A number or a word cannot be longer than the window.
        value, used = _scan(self.text[at : at + _LONGEST_SCALAR])
        return value, at + used

    def _array(self, at: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self.skip(at)
        if self.text[at : at + 1] == "]":
            return found, at + 1
        while True:
            value, at = self.value(at)
            found.append(value)
            at, more = self._next(at, "]")
            if not more:
                return found, at

    def _object(self, at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self.skip(at)
        if self.text[at : at + 1] == "}":
            return found, at + 1
        while True:
            if self.text[at : at + 1] != '"':
                raise ValueError(f"no name at character {at}")
            name, at = self._string(at + 1)
            at = self.skip(at)
            if self.text[at : at + 1] != ":":
                raise ValueError(f"no colon at character {at}")
            found[name], at = self.value(self.skip(at + 1))
            at, more = self._next(at, "}")
            if not more:
                return found, at

    def _next(self, at: int, end: str) -> tuple[int, bool]:
        """Return where the next member begins and True; or where the container ends and False."""
        at = self.skip(at)
        mark = self.text[at : at + 1]
        if mark == end:
            return at + 1, False
        if mark != ",":
            raise ValueError(f"neither , nor {end} at character {at}")
        return self.skip(at + 1), True

    def _string(self, at: int) -> tuple[str, int]:
        runs: list[str] = []
        while self.text[at : at + 1] != '"':
            run = _RUN.match(self.text, at)
            if run is None:
                raise ValueError(f"a string is broken at character {at}")
            runs.append(_scan(f'"{run.group()}"')[0])
            at = run.end()
            self._poll()
        return "".join(runs), at + 1
