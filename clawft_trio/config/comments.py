"""Accepts JSON with comments and trailing commas, as editors do in their settings."""

from __future__ import annotations

import re

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_INTERESTING = re.compile(rb'["/,]')
_NEXT = re.compile(rb"\s*([}\]])")


def without_comments(text: bytes) -> bytes:
    """Return *text* with comments and trailing commas replaced by spaces, so that all positions stay the same.

    Takes linear time.
    """
    text = _blanked(text, commas=False)
    return _blanked(text, commas=True)


def _blanked(text: bytes, *, commas: bool) -> bytes:
    pieces: list[bytes] = []
    place = 0
    while (found := _INTERESTING.search(text, place)) is not None:
        start = found.start()
        pieces.append(text[place:start])
        end = _end_of_blank(text, start, commas=commas)
        if end > start:
            pieces.append(re.sub(rb"[^\n]", b" ", text[start:end]))
        else:
            string = _STRING.match(text, start)
            end = string.end() if string else start + 1
            pieces.append(text[start:end])
        place = end
    return b"".join([*pieces, text[place:]])


def _end_of_blank(text: bytes, start: int, *, commas: bool) -> int:
    """Return where the comment or the trailing comma at *start* ends; *start* itself when there is none."""
    if commas:
        return start + 1 if text[start : start + 1] == b"," and _NEXT.match(text, start + 1) else start
    if text.startswith(b"//", start):
        end = text.find(b"\n", start)
    elif text.startswith(b"/*", start):
        end = text.find(b"*/", start + 2)
        end = end if end < 0 else end + 2
    else:
        return start
    return len(text) if end < 0 else end
