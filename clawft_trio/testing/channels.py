"""Checks that a channel adapter uses only the bounded interface: waits while the bus is full, ends when cancelled."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, NoReturn, TypeVar

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from clawft_trio.bus import Channel
from clawft_trio.messages import InboundMessage, Kind, OutboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.sweep import cancel_everywhere

C = TypeVar("C", bound=Channel)

_ENDED = "check_channel has seen enough"

_SWEEP = "sweep, "
"""Prefix of the cancellation reasons of `cancel_everywhere`."""

_PATIENCE = 20
"""Cancellations that an operation gets before it counts as one that continues regardless."""

_EXTRA = 3
"""Messages beyond the number that an adapter may hold, to test whether it takes too many."""

_REPLIES = 5
"""Final replies that are sent, one after the other."""


async def check_channel(
    make_channel: Callable[[], C],
    say: Callable[[C, str], Awaitable[object]],
    *,
    shown: Callable[[C], Iterable[str]] | None = None,
    chat_id: str = "1",
    in_flight: int = 1,
    backlog: int = 16,
    full: float = 0.5,
    within: float = 5.0,
    seed: int = 0,
) -> None:
    """Assert that an adapter uses only the bounded interface of a `Channel`.

    * Incoming messages go through the `publish` that `receive` gets, and through nothing else of the bus; in order,
      each message once, even when the result is that the message was already known.
    * While the bus is full, at most *in_flight* calls of `publish` wait, none is abandoned, and at most *backlog* more
      messages are taken from the messenger.
    * `receive` runs until it is cancelled. Sent messages are shown in order, each before its `send` returns.
    * Wherever `receive` and `send` are cancelled, they end in time, raise the cancellation, and leave no task and no
      file descriptor.

        async def say(channel: MyChannel, text: str) -> None:
            await server_of(channel).deliver(text)      # returns when the adapter has read it

        await check_channel(lambda: MyChannel(address), say, shown=lambda channel: server_of(channel).texts)

    An adapter that shields itself from cancellation forever hangs this check, as it would hang a program.

    Args:
      make_channel: returns a new adapter for each run; its `receive` connects it.
      say: writes *text* in the messenger as a user, and returns once the adapter has taken it: a buffer in between
        counts as part of the adapter.
      shown: the texts that the messenger shows, oldest first; None skips the checks that need them.
      chat_id: the chat that replies are sent to.
      in_flight: calls of `publish` that may wait at once. With more than 1, the order is not checked.
      backlog: messages that the adapter may have read ahead.
      full: seconds for which the bus stays full.
      within: seconds that each operation of the adapter may take.
      seed: seed of the task order during the cancellation sweep.

    Raises:
      AssertionError: the adapter breaks a rule; the message names it.
      Exception: raised by the adapter.
      Unsupported: this system does not list open file descriptors.

    Cancellation: the adapter that is running is cancelled.
    """
    probe = _Probe(make_channel, say, shown, chat_id, in_flight, backlog, full, within)
    nothing_more = nothing_left()
    for run in (probe.fill_the_bus, probe.send_in_order):
        await run()
        probe.check()
        await nothing_more()

    async def check() -> None:
        probe.check()
        await nothing_more()

    await cancel_everywhere(probe.live, check, seed=seed)


class _Bus:
    """The part of a bus that an adapter can reach: `publish_inbound`; any other access is recorded as a fault."""

    def __init__(self, faults: list[str], *, full: bool = False) -> None:
        self._faults = faults
        self._room = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()
        self.waiting = 0
        #: largest number of calls that waited at once
        self.most_waiting = 0
        self.published: list[InboundMessage] = []
        if not full:
            self.make_room()

    def __getattr__(self, name: str) -> NoReturn:
        # A bound method has its object, which is the one way for an adapter to bypass `publish`.
        if not name.startswith("__"):
            self._faults.append(f"receive reached for {name!r} of the bus behind publish")
        raise AttributeError(name)

    def make_room(self) -> None:
        """Let publishing succeed without waiting from now on."""
        self._room.set()

    async def publish_inbound(self, message: InboundMessage) -> bool:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self._room.wait()
        except trio.Cancelled as exc:
            if not _is_ours(exc):
                self._faults.append(f"receive gave up publishing {message.content!r} while the bus was full")
            raise
        finally:
            self.waiting -= 1
        self.published.append(message)
        self._changed.unpark_all()
        # Every second message is reported as a duplicate, which an adapter has to ignore.
        return len(self.published) % 2 == 1

    async def wait_published(self, count: int) -> None:
        while len(self.published) < count:
            await self._changed.park()
        await trio.lowlevel.checkpoint()


@attrs.frozen
class _Probe(Generic[C]):
    """An adapter, its messenger, and its limits."""

    make_channel: Callable[[], C]
    say: Callable[[C, str], Awaitable[object]]
    shown: Callable[[C], Iterable[str]] | None
    chat_id: str
    in_flight: int
    backlog: int
    full: float
    within: float
    #: violations of the rules
    faults: list[str] = attrs.field(factory=list, init=False)

    def check(self) -> None:
        """Assert that there were no violations so far."""
        if self.faults:
            # Ordered, because the first violation is the cause of the others.
            raise AssertionError("; ".join(dict.fromkeys(self.faults)))

    async def fill_the_bus(self) -> None:
        """Say more messages than fit while the bus is full, then make room."""
        channel, bus = self.make_channel(), _Bus(self.faults, full=True)
        texts = [f"message {n}" for n in range(self.in_flight + self.backlog + _EXTRA)]
        taken: list[str] = []

        async def say_all() -> None:
            for text in texts:
                await self.say(channel, text)
                taken.append(text)

        async with self._receiving(channel, bus) as nursery:
            nursery.start_soon(say_all)
            await trio.sleep(self.full)
            self._look_at_a_full(bus, taken)
            bus.make_room()
            with trio.move_on_after(self.within) as scope:
                await bus.wait_published(len(texts))
            with trio.move_on_after(self.within):
                # A message that is published twice is published now.
                await wait_all_tasks_blocked()
            self._look_at_an_empty(bus, channel, texts, late=scope.cancelled_caught)

    def _look_at_a_full(self, bus: _Bus, taken: list[str]) -> None:
        if bus.most_waiting == 0:
            self.faults.append(f"nothing was published within {self.full} s")
        if bus.most_waiting > self.in_flight:
            self.faults.append(f"{bus.most_waiting} calls of publish waited at once while the bus was full")
        if len(taken) > self.in_flight + self.backlog:
            self.faults.append(
                f"{len(taken)} messages were taken from the messenger while the bus was full: the adapter reads ahead, "
                "or `say` returns before it has read them (a socket buffers: wait until the adapter has the line)"
            )

    def _look_at_an_empty(self, bus: _Bus, channel: C, texts: list[str], *, late: bool) -> None:
        in_order: Callable[[list[str]], list[str]] = list if self.in_flight == 1 else sorted
        published = [message.content for message in bus.published]
        if late:
            self.faults.append(f"{len(published)} of {len(texts)} messages were published once there was room")
        elif in_order(published) != in_order(texts):
            self.faults.append(f"sent {texts}, published {published}")
        named = {message.channel for message in bus.published} - {channel.name}
        if named:
            self.faults.append(f"messages of {channel.name!r} say that they are from {sorted(named)}")

    async def send_in_order(self) -> None:
        """Send replies, preceded by partial messages when the adapter can show them."""
        channel = self.make_channel()
        before: tuple[Kind, ...] = ("partial", "reset", "partial") if channel.shows_partials else ()
        sent: list[str] = []
        async with self._receiving(channel, _Bus(self.faults)):
            for number in range(_REPLIES):
                for kind in before:
                    await self._send(channel, f"piece {number}", kind)
                sent.append(f"reply {number}")
                await self._send(channel, sent[-1], "final")
                self._look_at_shown(channel, sent)

    def _look_at_shown(self, channel: C, sent: list[str]) -> None:
        if self.shown is None:
            return
        seen = [text for text in self.shown(channel) if text.startswith("reply ")]
        if seen != sent:
            self.faults.append(f"sent {sent}, and when send returned, {seen} was shown")

    async def live(self) -> None:
        """Receive a message, send a reply, and end."""
        channel, bus = self.make_channel(), _Bus(self.faults)
        async with self._receiving(channel, bus):
            with trio.fail_after(self.within):
                await self.say(channel, "message")
                await bus.wait_published(1)
            await self._send(channel, "reply", "final")

    @asynccontextmanager
    async def _receiving(self, channel: C, bus: _Bus) -> AsyncGenerator[trio.Nursery, None]:
        """Run `receive` for the duration of the block, and check that it ends in time."""
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._receive, channel, bus)
            yield nursery
            nursery.cancel_scope.cancel(reason=_ENDED)

    async def _receive(self, channel: C, bus: _Bus) -> None:
        async def receive() -> None:
            await channel.receive(bus.publish_inbound)

        await _driven("receive", receive(), self.within)
        self.faults.append("receive ended before it was cancelled")

    async def _send(self, channel: C, text: str, kind: Kind) -> None:
        message = OutboundMessage(
            channel=channel.name, chat_id=self.chat_id, content=text, kind=kind, reply_to=f"to {text}"
        )

        async def send() -> None:
            await channel.send(message)

        with trio.move_on_after(self.within) as scope:
            await _driven("send", send(), self.within)
        if scope.cancelled_caught:
            self.faults.append(f"send took more than {self.within} s")


def _is_ours(exc: BaseException | None) -> bool:
    """Return whether this cancellation was requested by the check, and not by a deadline of the adapter."""
    return isinstance(exc, trio.Cancelled) and (exc.reason or "").startswith((_ENDED, _SWEEP))


@types.coroutine
def _driven(what: str, operation: Coroutine[Any, Any, None], within: float) -> Generator[Any, Any, None]:
    """Run *operation*, and check how it reacts to a cancellation.

    This coroutine runs between trio and the operation, because from outside a cancellation that was swallowed in the
    last step cannot be distinguished from one that came too late.
    """
    cancelled = 0
    first = 0.0
    answer: Any = None
    try:
        while True:
            try:
                trap = operation.send(answer)
            except StopIteration:
                _refuse_if(cancelled, f"{what} swallowed its cancellation")
                return
            except Exception as exc:
                _refuse_if(cancelled, f"{what} made its cancellation into {exc!r}")
                raise
            except BaseException:
                late = trio.current_time() - first if cancelled else 0.0
                _refuse_if(late > within, f"{what} took {late:.3g} s to end after its cancellation")
                raise
            answer = yield trap
            if _is_ours(getattr(answer, "error", None)):
                cancelled += 1
                first = first or trio.current_time()
                _refuse_if(cancelled > _PATIENCE, f"{what} goes on after its cancellation")
    finally:
        # An operation that ignores even this cannot be ended; it has been reported.
        with suppress(RuntimeError):
            operation.close()


def _refuse_if(condition: object, fault: str) -> None:
    if condition:
        raise AssertionError(fault)
