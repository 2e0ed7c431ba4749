"""Types of the agent loop: its policy, its statistics, and the context of each turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.agent.journal import turn_id_of
from clawft_trio.bus import MessageBus
from clawft_trio.errors import BusClosed
from clawft_trio.messages import InboundMessage, Kind, OutboundMessage
from clawft_trio.observe import Observer


def _unlimited_or_positive(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, or None for no limit")


@attrs.frozen(kw_only=True)
class LoopPolicy:
    """How much at once, and how long at most."""

    #: turns that run at the same time
    max_concurrent_turns: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    #: messages that wait in one session; with more, its publishers wait, and no others
    session_buffer_size: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    #: seconds that one turn may take; None is no limit
    turn: float | None = attrs.field(default=600.0, validator=_unlimited_or_positive)
    #: seconds that `shutdown` leaves to what is running
    grace: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    #: seconds that replying to what was cancelled may take
    final_reply_grace: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    #: ids of messages that are remembered, to know a duplicate by; a journal remembers more
    remembered_ids: int = attrs.field(default=10_000, validator=attrs.validators.ge(0))
    #: how often a turn that the process did not survive is resumed before it is given up
    max_resumes: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    #: whether to answer messages that other processes have accepted and no longer work on
    resume: bool = True
    #: seconds between looks for such messages, where no notification comes
    poll: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    #: seconds after which another worker may take over a session that this process has stopped renewing
    lease: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    #: whether what is not finished at the end is left to other workers, instead of a reply that it was cancelled
    hand_over: bool = False


@attrs.frozen(kw_only=True)
class LoopStatistics:
    """What the loop does and has done. `answered + failed + cancelled` is the number of final replies."""

    #: turns that run now
    running: int
    #: messages that wait
    waiting: int
    #: messages with a reply from their turn
    answered: int
    #: messages that were answered with a failure
    failed: int
    #: messages that were stopped
    cancelled: int
    #: messages that were recognized as having come before; they get no second reply
    duplicates: int
    #: turns of an earlier process that were resumed
    resumed: int
    #: turns that ended without a reply here, because another worker answers them
    abandoned: int = 0


class TurnContext:
    """What a turn is given beside its message."""

    def __init__(self, bus: MessageBus, message: InboundMessage, *, resumed: bool, observer: Observer) -> None:
        self._bus = bus
        self._message = message
        self._over = False
        #: the same in every process that works on it: the key of the journal
        self.turn_id: str = turn_id_of(message)
        #: whether an earlier process has begun it, so that the journal may know some of its steps
        self.resumed = resumed
        #: gets events
        self.observer = observer

    def __repr__(self) -> str:
        return f"<TurnContext {self.turn_id}{' over' if self._over else ''}>"

    async def show(self, kind: Literal["partial", "reset"], content: str = "", **metadata: Any) -> bool:
        """Show a piece of the answer, or take back the pieces so far, while the turn runs.

        The final reply replaces all pieces, whether they were taken back or not.

        Returns:
          Whether it is on its way; see `MessageBus.dispatch_outbound`.

        Raises:
          BusFull: by the outbound policy.
          BusClosed: the turn has its reply, or the bus was closed.

        Cancellation: `Cancelled` means that it was not handed over.
        """
        if self._over:
            raise BusClosed(f"{self.turn_id} has its reply")
        return await self._bus.dispatch_outbound(outbound(self._message, kind, content, metadata))

    def end(self) -> None:
        """Show nothing more."""
        self._over = True


Turn: TypeAlias = Callable[[InboundMessage, TurnContext], Awaitable[OutboundMessage]]
"""Answers one message. What it raises becomes an error reply; `kind` and addresses of what it returns are set."""

TurnEnding: TypeAlias = Literal["answered", "failed", "cancelled"]


def outbound(
    message: InboundMessage, kind: Kind, content: str, metadata: Any, media: tuple[str, ...] = ()
) -> OutboundMessage:
    """A message to the chat that *message* came from."""
    return OutboundMessage(
        channel=message.channel,
        chat_id=message.chat_id,
        content=content,
        reply_to=message.id,
        kind=kind,
        media=media,
        metadata=metadata,
    )
