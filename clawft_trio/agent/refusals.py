"""Replies to messages that were taken out of the queue without a turn, because they were cancelled."""

from __future__ import annotations

import trio

from clawft_trio.agent.final_replies import FinalReplies
from clawft_trio.agent.journal import turn_id_of
from clawft_trio.messages import InboundMessage


class Refusals:
    """Replies to messages that were stopped while they waited."""

    def __init__(self, replies: FinalReplies) -> None:
        self._replies = replies
        #: messages to reply to, by turn, with the reason
        self._waiting: dict[str, tuple[InboundMessage, str]] = {}
        #: by turn: set when its reply was sent
        self._replying: dict[str, trio.Event] = {}

    def add(self, message: InboundMessage, reason: str) -> None:
        """Let the next `reply_to_all` reply to *message* with *reason*."""
        self._waiting.setdefault(turn_id_of(message), (message, reason))

    def withdraw(self, turn_id: str) -> str | None:
        """Remove a turn that has begun and replies itself; return the reason to stop it, or None."""
        _, reason = self._waiting.pop(turn_id, (None, None))
        return reason

    async def wait_replied(self, turn_id: str) -> None:
        """Wait while the reply of this turn is being sent.

        Cancellation: safe.
        """
        replying = self._replying.get(turn_id)
        if replying is not None:
            await replying.wait()

    async def reply_to_all(self) -> None:
        """Reply to all added messages.

        Cancellation: the current reply is finished; the others wait for the next call.
        """
        await trio.lowlevel.checkpoint()
        while self._waiting:
            turn_id = next(iter(self._waiting))
            message, reason = self._waiting.pop(turn_id)
            replied = self._replying[turn_id] = trio.Event()
            try:
                with trio.move_on_after(self._replies.grace, shield=True):
                    if await self._replies.send_cancelled(message, reason):
                        self._replies.remember(message)
            finally:
                del self._replying[turn_id]
                replied.set()
