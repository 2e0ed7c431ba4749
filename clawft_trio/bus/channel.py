"""What a channel adapter is, and how its messages reach it."""

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
"""The way in that an adapter is given: it waits when the bus is full."""


_SETTLING = 5.0
"""Seconds that forgetting a delivered reply may take."""


class Channel(Protocol):
    """An adapter to one messenger, terminal or web page.

    The life of a message, from `serve_channel(bus, channel)`; time goes down:

        messenger        channel                     bus                          agent
            |  "hello"      |                         |                             |
            |-------------->| receive                 |                             |
            |               |-- publish(Inbound) ---->| waits while it is full      |
            |               |                         |-- the message ------------->|
            |               |                         |                             | asks a model
            |               |<- send(kind="partial") -|<- a piece of the answer ----|  } only if
            |  text appears |                         |                             |  } shows_partials
            |               |<- send(kind="reset") ---|<- the attempt has failed ---|  }
            |  text goes    |                         |                             | asks another one
            |               |<- send(kind="final") ---|<- the whole reply ----------|
            |  the reply    |                         |                             |
            |<--------------|  send returns           | forgets the reply           |

    Each accepted message gets exactly one `final`, with `reply_to` set to the message's id: also when every model
    failed (`metadata["error"]` names the failure), and also after a crash, when it may be sent twice. A `partial` is a
    piece of the text that comes next, and is dropped when it cannot be shown; a `reset` takes back every piece since
    the last `final`; the `final` is the whole text and stands in place of the pieces. A channel with `shows_partials`
    off is sent `final` only. `send` is called for one message of the channel at a time, in order.
    """

    @property
    def name(self) -> str:
        """What its messages say in `channel`."""
        ...

    @property
    def shows_partials(self) -> bool:
        """Whether it can show pieces of an answer and take them back.

        Asked once, when `serve_channel` begins. If it cannot, it is sent final replies only.
        """
        ...

    async def send(self, message: OutboundMessage) -> None:
        """Show *message* to its chat. A final reply may come twice, with the same `reply_to`, after a crash.

        Raises:
          Exception: it could not be shown; a final reply will be tried again.

        Cancellation: the message counts as not shown.
        """
        ...

    async def receive(self, publish: Publish) -> None:
        """Run until cancelled, publishing what comes in.

        Raises:
          Exception: the connection is lost for good.

        Cancellation: the connection is closed.
        """
        ...


@attrs.frozen(kw_only=True)
class Redelivery:
    """How long to wait for a channel that fails."""

    #: seconds that one `send` may take
    send: float = 30.0
    #: seconds after the first failure; doubles with each further one
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait_after(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        return backoff(failures, first=self.first_wait, longest=self.longest_wait)


async def serve_channel(
    bus: MessageBus,
    channel: Channel,
    *,
    redelivery: Redelivery | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry messages between *channel* and *bus*, in order, until the bus is closed and empty.

    When `send` fails, a final reply is kept and tried again; a piece of an answer is dropped.

    Raises:
      Exception: what `channel.receive` raised.
      StoreError: a reply could not be kept.

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
    """Give everything in *outbox* to *send*, in order, until the bus is closed and empty.

    Raises:
      StoreError: a reply could not be kept.

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
            # While the channel fails, only what matters is worth its wait.
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
    except Exception as exc:  # noqa: BLE001 - an adapter may fail in any way; the reply outlives it
        return exc
    except BaseException:
        outbox.give_back(delivery)
        raise
    # It was shown: forgetting it is only left undone when the store hangs, and then it may be shown once more.
    with trio.move_on_after(_SETTLING, shield=True):
        await outbox.settle(delivery)
    await trio.lowlevel.checkpoint_if_cancelled()
    return None
