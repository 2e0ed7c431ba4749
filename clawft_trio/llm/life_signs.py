"""Signs of life in the bytes of a stream that completed no event, without I/O.

A model that thinks with its reasoning hidden sends little: the start of a block, empty deltas, a signature. These show
progress. Pings, comments and empty `data:` lines come from the server in front of it and show no progress.
"""

from __future__ import annotations

import re

from clawft_trio.chat import LifeSign

# A key may be split over two reads: this much of the previous read is kept.
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
        """The strongest sign in *data*, which followed what was seen before; None when it shows nothing."""
        seen, old = self._tail + data, len(self._tail)
        self._tail = seen[-_TAIL:]
        for pattern, sign in _SIGNS:
            # What ended in the bytes before was found then.
            if any(match.end() > old for match in pattern.finditer(seen)):
                return sign
        return None
