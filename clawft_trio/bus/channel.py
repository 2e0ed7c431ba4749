"""The protocol of a channel adapter, and the delivery of messages between adapter and bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import attrs
import trio

from clawft_trio.backoff import backoff
from clawft_trio.bus.bus import MessageBus
from clawft_trio.bus.outbox import Delivery, Outbox
from clawft_trio.errors import BusClosed
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.nursery import open_hidden_nursery

Publish: TypeAlias = Callable[[InboundMessage], Awaitable[bool]]
"""Publishes a message of an adapter; waits when the bus is full."""


_SETTLING = 5.0
"""Seconds in which a delivered reply must be removed from the store."""


class Channel(Protocol):
    """An adapter to one messenger, terminal or web page.

    The path of a message under `serve_channel(bus, channel)`; time goes down:

        messenger        channel                     bus                          agent
            |  "hello"      |                         |                             |
            |-------------->| receive                 |                             |
            |               |-- publish(Inbound) ---->| waits while it is full      |
            |               |                         |-- the message ------------->|
            |               |                         |                             | calls a model
            |               |<- send(kind="partial") -|<- a piece of the answer ----|  } only if
            |  text appears |                         |                             |  } shows_partials
            |               |<- send(kind="reset") ---|<- the attempt has failed ---|  }
            |  text goes    |                         |                             | calls another one
            |               |<- send(kind="final") ---|<- the whole reply ----------|
            |  the reply    |                         |                             |
            |<--------------|  send returns           | removes the reply           |

    Each accepted message gets exactly one `final`, with `reply_to` set to the message's id: also if every model fails
    (`metadata["error"]` names the failure), and also after a crash, when it may be sent twice. A `partial` is the next
    piece of the text, and is dropped when it cannot be shown; a `reset` removes all pieces since the last `final`; the
    `final` is the whole text and replaces the pieces. A channel with `shows_partials` off gets only `final`. `send` is
    called for one message of the channel at a time, in order.
    """

    @property
    def name(self) -> str:
        """Name of the channel, as in the field `channel` of its messages."""
        ...

    @property
    def shows_partials(self) -> bool:
        """Whether it can show pieces of an answer and remove them.

        Read once, when `serve_channel` begins. If False, the channel gets only final replies.
        """
        ...

    async def send(self, message: OutboundMessage) -> None:
        """Show *message* in its chat. After a crash a final reply may come twice, with the same `reply_to`.

        Raises:
          Exception: *message* could not be shown; a final reply will be sent again.

        Cancellation: the message counts as not shown.
        """
        ...

    async def receive(self, publish: Publish) -> None:
        """Publish incoming messages until cancelled.

        Raises:
          Exception: the connection is lost and cannot be restored.

        Cancellation: the connection is closed.
        """
        ...


@attrs.frozen(kw_only=True)
class Redelivery:
    """Limits and waits for sending to a channel that fails."""

    #: seconds that one `send` may take
    send: float = 30.0
    #: seconds to wait after the first failure; doubled with each further one
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait_after(self, failures: int) -> float:
        """Return the seconds to wait after that many failures in a row."""
        return backoff(failures, first=self.first_wait, longest=self.longest_wait)


async def serve_channel(
    bus: MessageBus,
    channel: Channel,
    *,
    redelivery: Redelivery | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry messages between *channel* and *bus*, in order, until the bus is closed and empty.

    If `send` fails, a final reply is stored and sent again; a piece of an answer is dropped.

    Raises:
      Exception: as `channel.receive` raises it.
      StoreError: a reply could not be stored.

    Cancellation: a message that is being sent goes back to the head of its queue.
    """
    outbox = bus.outbound(channel.name)
    outbox.shows_partials = channel.shows_partials
    async with open_hidden_nursery() as nursery:
        nursery.start_soon(channel.receive, bus.publish_inbound)
        task_status.started()
        await deliver(outbox, channel.send, redelivery or Redelivery())
        nursery.cancel_scope.cancel(reason=f"bus closed, channel {channel.name} is done")


async def deliver(outbox: Outbox, send: Callable[[OutboundMessage], Awaitable[None]], redelivery: Redelivery) -> None:
    """Call *send* with every message in *outbox*, in order, until the bus is closed and empty.

    Raises:
      StoreError: a reply could not be stored.

    Cancellation: a message that is being sent goes back to the head of its queue.
    """
    await trio.lowlevel.checkpoint()
    failures = 0
    while True:
        try:
            delivery = await outbox.take()
        except BusClosed:
            return
        final = delivery.message.kind == "final"
        if failures and not final:
            # While the channel fails, pieces are dropped: only final replies are worth a wait.
            outbox.drop(delivery)
            continue
        error = await _try(outbox, delivery, send, redelivery.send)
        failures = failures + 1 if error else 0
        if error and final:
            await outbox.keep(delivery, error)
            await trio.sleep(redelivery.wait_after(failures))
        elif error:
            outbox.drop(delivery)


async def _try(
    outbox: Outbox, delivery: Delivery, send: Callable[[OutboundMessage], Awaitable[None]], limit: float
) -> Exception | None:
    try:
        with trio.fail_after(limit):
            await send(delivery.message)
    except Exception as exc:  # noqa: BLE001 - an adapter may raise anything; the reply is stored
        return exc
    except BaseException:
        outbox.give_back(delivery)
        raise
    # The message was shown. If the store hangs here, a reply stays stored and may be shown again.
    with trio.move_on_after(_SETTLING, shield=True):
        await outbox.settle(delivery)
    await trio.lowlevel.checkpoint_if_cancelled()
    return None
