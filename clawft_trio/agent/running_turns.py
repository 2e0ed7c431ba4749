"""The running turns, and how they are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from clawft_trio.agent.journal import turn_id_of
from clawft_trio.messages import InboundMessage


@attrs.define(eq=False)
class RunningTurn:
    """A running turn."""

    message: InboundMessage
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    #: the reason for stopping it; None before
    stopped: str | None = None
    #: whether another run answers its message, so that this one ends without a reply
    lost: bool = False

    def stop(self, reason: str) -> None:
        """Cancel the turn; the first *reason* is sent in the reply."""
        self.stopped = self.stopped or reason
        self.scope.cancel(reason=reason)


class RunningTurns:
    """The running turns, by id."""

    def __init__(self) -> None:
        self._turns: dict[str, RunningTurn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._turns))

    def __contains__(self, turn_id: str) -> bool:
        return turn_id in self._turns

    @contextmanager
    def run(self, message: InboundMessage) -> Iterator[RunningTurn]:
        """Register the turn of *message* as running during the block."""
        turn_id, running = turn_id_of(message), RunningTurn(message)
        self._turns[turn_id] = running
        try:
            yield running
        finally:
            if self._turns.get(turn_id) is running:
                del self._turns[turn_id]

    def stop(self, turn_id: str, reason: str) -> bool:
        """Stop one turn; return whether it was running."""
        running = self._turns.get(turn_id)
        if running is not None:
            running.stop(reason)
        return running is not None

    def stop_session(self, session: str, reason: str) -> int:
        """Stop the turns of *session*; return their number."""
        return self._stop_each(self._of(session), reason)

    def stop_all(self, reason: str) -> int:
        """Stop all turns; return their number."""
        return self._stop_each(tuple(self._turns.values()), reason)

    def lose(self, session: str) -> None:
        """End the running turns of *session*, which another process took over, without a reply."""
        for running in self._of(session):
            running.lost = True
            running.stop("another worker has taken over")

    def _of(self, session: str) -> tuple[RunningTurn, ...]:
        return tuple(running for running in self._turns.values() if running.message.session_key == session)

    def _stop_each(self, turns: tuple[RunningTurn, ...], reason: str) -> int:
        for running in turns:
            running.stop(reason)
        return len(turns)
