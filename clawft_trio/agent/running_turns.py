"""The turns that run, and how they are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from clawft_trio.agent.journal import turn_id_of
from clawft_trio.messages import InboundMessage


@attrs.define(eq=False)
class RunningTurn:
    """A turn that runs."""

    message: InboundMessage
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    #: why it was stopped, once it was
    stopped: str | None = None
    #: whether another run answers its message: this one ends without a reply
    lost: bool = False

    def stop(self, reason: str) -> None:
        """Cancel it; the first reason is the one that its sender gets."""
        self.stopped = self.stopped or reason
        self.scope.cancel(reason=reason)


class RunningTurns:
    """The turns that run, by id."""

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
        """The turn of *message* runs for the length of the block."""
        turn_id, running = turn_id_of(message), RunningTurn(message)
        self._turns[turn_id] = running
        try:
            yield running
        finally:
            if self._turns.get(turn_id) is running:
                del self._turns[turn_id]

    def stop(self, turn_id: str, reason: str) -> bool:
        """Stop one turn; whether it was running."""
        running = self._turns.get(turn_id)
        if running is not None:
            running.stop(reason)
        return running is not None

    def stop_session(self, session: str, reason: str) -> int:
        """Stop the turns of *session*; how many it was."""
        return self._stop_each(self._of(session), reason)

    def stop_all(self, reason: str) -> int:
        """Stop every turn; how many it was."""
        return self._stop_each(tuple(self._turns.values()), reason)

    def lose(self, session: str) -> None:
        """Another process has *session*: what runs of it ends without a reply."""
        for running in self._of(session):
            running.lost = True
            running.stop("another worker has taken over")

    def _of(self, session: str) -> tuple[RunningTurn, ...]:
        return tuple(running for running in self._turns.values() if running.message.session_key == session)

    def _stop_each(self, turns: tuple[RunningTurn, ...], reason: str) -> int:
        for running in turns:
            running.stop(reason)
        return len(turns)
