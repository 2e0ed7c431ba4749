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
    """Limits of the agent loop on concurrent turns, waiting messages and times."""

    #: largest number of turns that run at the same time
    max_concurrent_turns: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    #: largest number of messages that wait in one session; with more, only its publishers wait
    session_buffer_size: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    #: seconds that one turn may take; None is no limit
    turn: float | None = attrs.field(default=600.0, validator=_unlimited_or_positive)
    #: seconds in which running turns may finish at `shutdown`
    grace: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    #: seconds that the replies to cancelled messages may take
    final_reply_grace: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    #: number of message ids stored to recognise duplicates; a journal stores more
    remembered_ids: int = attrs.field(default=10_000, validator=attrs.validators.ge(0))
    #: number of times that a turn is resumed after a crash before it is given up
    max_resumes: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    #: whether to answer messages that other processes accepted and no longer work on
    resume: bool = True
    #: seconds between checks for such messages, without a notification
    poll: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    #: seconds after which another worker may take over a session if this process stops renewing its lease
    lease: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    #: whether unfinished turns at the end are left to other workers, instead of a reply that they were cancelled
    hand_over: bool = False


@attrs.frozen(kw_only=True)
class LoopStatistics:
    """Counters and state of the agent loop. `answered + failed + cancelled` is the number of final replies."""

    #: number of turns that run now
    running: int
    #: number of waiting messages
    waiting: int
    #: number of messages with a reply from their turn
    answered: int
    #: number of messages with an error reply
    failed: int
    #: number of messages with a reply that they were cancelled
    cancelled: int
    #: number of messages that were recognised as duplicates; they get no second reply
    duplicates: int
    #: number of resumed turns of an earlier process
    resumed: int
    #: number of turns that ended here without a reply, because another worker answers them
    abandoned: int = 0


class TurnContext:
    """The context of a turn for a message: its id, events, and pieces of the answer."""

    def __init__(self, bus: MessageBus, message: InboundMessage, *, resumed: bool, observer: Observer) -> None:
        self._bus = bus
        self._message = message
        self._over = False
        #: id of the turn, the same in every process; key of the journal
        self.turn_id: str = turn_id_of(message)
        #: whether an earlier process began the turn, so that the journal may have some of its steps
        self.resumed = resumed
        #: receives events
        self.observer = observer

    def __repr__(self) -> str:
        return f"<TurnContext {self.turn_id}{' over' if self._over else ''}>"

    async def show(self, kind: Literal["partial", "reset"], content: str = "", **metadata: Any) -> bool:
        """Send a piece of the answer, or a request to remove the pieces so far, while the turn runs.

        The final reply replaces all pieces, whether they were removed or not.

        Returns:
          Whether the message was accepted; see `MessageBus.dispatch_outbound`.

        Raises:
          BusFull: by the outbound policy.
          BusClosed: the turn has its reply, or the bus was closed.

        Cancellation: `Cancelled` means that it was not sent.
        """
        if self._over:
            raise BusClosed(f"{self.turn_id} has its reply")
        return await self._bus.dispatch_outbound(outbound(self._message, kind, content, metadata))

    def end(self) -> None:
        """Refuse further pieces."""
        self._over = True


Turn: TypeAlias = Callable[[InboundMessage, TurnContext], Awaitable[OutboundMessage]]
"""Answers one message. Its exceptions become error replies; `kind` and addresses of its return value are set."""

TurnEnding: TypeAlias = Literal["answered", "failed", "cancelled"]


def outbound(
    message: InboundMessage, kind: Kind, content: str, metadata: Any, media: tuple[str, ...] = ()
) -> OutboundMessage:
    """Make a message to the chat of *message*."""
    return OutboundMessage(
        channel=message.channel,
        chat_id=message.chat_id,
        content=content,
        reply_to=message.id,
        kind=kind,
        media=media,
        metadata=metadata,
    )
