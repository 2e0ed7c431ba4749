"""The common part of the readers of all dialects."""

from __future__ import annotations

from typing import Any

from clawft_trio.llm.lenient import SurrogateJoiner
from clawft_trio.net.sse import SSEDecoder


class Progress:
    """Progress of an answer, in the attributes of `ResponseReader`, and the decoder of its event stream."""

    finished: bool
    ended: bool
    error: Any
    violation: str

    def __init__(self) -> None:
        self.finished = False
        self.ended = False
        self.error = None
        self.violation = ""
        self._sse = SSEDecoder(error_lines=True)
        self._halves = SurrogateJoiner()

    def _violate(self, how: str) -> None:
        """End the answer because its bytes break the protocol."""
        # After its terminal mark an answer is complete; an invalid event there can only lose the usage.
        self.violation = "" if self.finished else how
        self.ended = True
