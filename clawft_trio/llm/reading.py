"""The common part of the readers of all dialects."""

from __future__ import annotations

from typing import Any

from clawft_trio.llm.lenient import SurrogateJoiner, documents
from clawft_trio.net.sse import ServerSentEvent, SSEDecoder


def separated(event: ServerSentEvent) -> list[ServerSentEvent]:
    """Return the events that a server put in one by mistake (see `documents`); mostly only *event* itself."""
    found = documents(event.data)
    if found == [event.data]:
        return [event]
    # Of several names the decoder keeps the last.
    return [*map(ServerSentEvent, found[:-1]), ServerSentEvent(found[-1], event.event)]


class ProtocolViolation(Exception):
    """The bytes of an answer break its protocol; the text says how."""


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
