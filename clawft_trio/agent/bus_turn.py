"""The turn of a message from the bus: with the sender's permissions; pieces of the answer go to its channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
import trio

from clawft_trio.agent.media import media_parts
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_context import TurnContext
from clawft_trio.agent.turn_types import AgentEvent, Reply, TurnRequest
from clawft_trio.chat import Call, Message, Reset, TextDelta
from clawft_trio.costs import CostTracker
from clawft_trio.errors import BusClosed, BusFull, StoreError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.net import AddressPolicy
from clawft_trio.pipeline import PermissionResolver

_PIECE = 0.25
"""Seconds between two pieces of an answer: chat services let a message be edited about once a second, a terminal can
show more, and the final reply replaces all pieces in any case."""


@attrs.frozen(kw_only=True)
class BusTurn:
    """Answers messages of the bus: the turn function of `AgentLoop`."""

    turns: Turns
    permissions: PermissionResolver
    #: policy for web addresses of attachments that are passed to models: `tools.url_policy` of the configuration
    addresses: AddressPolicy = AddressPolicy()
    #: tracker in which a resumed turn releases the reservations of its earlier process
    costs: CostTracker | None = None

    async def __call__(self, message: InboundMessage, context: TurnContext) -> OutboundMessage:
        """Answer *message*.

        Raises:
          ClawftError: there is no answer; the loop converts the error to a reply.

        Cancellation: models and tools are cancelled and awaited.
        """
        if context.resumed and self.costs is not None:
            # If the ledger cannot be written, the reservations stay until their leases end.
            with suppress(StoreError):
                await self.costs.take_over(context.turn_id)
        auth = self.permissions.resolve(message.channel, message.sender_id)
        question = TurnRequest(
            content=await self._content(message, context),
            auth=auth,
            session=message.session_key,
            turn_id=context.turn_id,
        )
        call = Call(id=context.turn_id, turn_id=context.turn_id, observer=context.observer)
        if auth.permissions.streaming_allowed:
            call = call.showing(_Pieces(context).show)
            if context.resumed:
                # The earlier process may have sent pieces of its answer.
                with suppress(BusFull, BusClosed):
                    await context.show("reset")
        reply = await self.turns.answer(question, call)
        return OutboundMessage(
            channel=message.channel, chat_id=message.chat_id, content=reply.text, metadata=_metadata(reply)
        )

    async def _content(self, message: InboundMessage, context: TurnContext) -> Message:
        if not message.media:
            return Message.user(message.content)
        parts = await media_parts(
            message.media,
            workspace=self.turns.workspace,
            policy=self.addresses,
            observer=context.observer,
            turn_id=context.turn_id,
        )
        return Message.user(message.content, *parts)


class _Pieces:
    """Collects text and sends it in pieces."""

    def __init__(self, context: TurnContext) -> None:
        self._context = context
        self._text: list[str] = []
        self._last = -math.inf

    async def show(self, event: AgentEvent) -> None:
        if isinstance(event, TextDelta):
            self._text.append(event.text)
            if trio.current_time() >= self._last + _PIECE:
                self._last = trio.current_time()
                text, self._text = "".join(self._text), []
                await self._context.show("partial", text)
        elif isinstance(event, Reset):
            self._text = []
            await self._context.show("reset")


def _metadata(reply: Reply) -> Mapping[str, Any]:
    """Return the metadata of a reply for its channel."""
    metadata: dict[str, Any] = {
        "provider": reply.provider,
        "model": reply.model,
        "latency_ms": reply.latency.total * 1000,
        "finish_reason": reply.finish_reason,
    }
    if reply.cost is not None:
        metadata["cost_usd"] = str(reply.cost)
    return metadata
