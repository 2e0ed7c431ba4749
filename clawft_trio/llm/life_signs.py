"""Detects signs of life in stream bytes that completed no event, without I/O.

A model that thinks with hidden reasoning sends little: the start of a block, empty deltas, a signature. These show
progress. Pings, comments and empty `data:` lines come from the server in front of the model and show no progress.
"""

from __future__ import annotations

import re

from clawft_trio.chat import LifeSign

# Bytes. A key may be split between two reads, so the end of the previous read is kept.
_TAIL = 64

_THINKING = re.compile(
    rb'"(?:reasoning|reasoning_content|reasoning_details|thinking|signature)"\s*:\s*(?!null)["\[{]'
    rb'|"type"\s*:\s*"[a-z_.]*(?:thinking|reasoning|signature)'
)
_ALIVE = re.compile(
    rb'"(?:delta|choices|usage|content_block|message)"\s*:'
    rb'|"type"\s*:\s*"(?:message_|content_block_|response\.)'
)

_SIGNS: tuple[tuple[re.Pattern[bytes], LifeSign], ...] = ((_THINKING, "thinking"), (_ALIVE, "alive"))


class LifeSigns:
    """Finds signs of life in bytes that completed no event."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def of(self, data: bytes) -> LifeSign | None:
        """Return the strongest sign in *data*, the bytes after those of the previous call; None when there is none."""
        seen, old = self._tail + data, len(self._tail)
        self._tail = seen[-_TAIL:]
        for pattern, sign in _SIGNS:
            # Matches that end in the earlier bytes were reported then.
            if any(match.end() > old for match in pattern.finditer(seen)):
                return sign
        return None
