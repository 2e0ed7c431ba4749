"""Where a consumer is handed in: one answer as a call with a callback, or as a stream to iterate.

Nothing below this file knows consumers, only `Call.emit`. An exception of the consumer's travels up through every
strategy as `ConsumerLeft` and is unwrapped here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import trio

from clawft_trio.attempts import Latency
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Provider,
    StreamEvent,
    UsageReport,
    new_id,
)
from clawft_trio.errors import ClawftError, ConsumerLeft, StreamEnded
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.resilience.delivery import Shown
from clawft_trio.resilience.resilient import witnessed

StreamCallback: TypeAlias = Callable[[StreamEvent], bool | Awaitable[bool | None] | None]
"""What a user hands in: any callable, sync or async, stateful or not. `False` ends the answer early."""


async def complete(
    provider: Provider,
    request: ChatRequest,
    on_event: StreamCallback | None = None,
    *,
    call: Call | None = None,
) -> ChatResponse:
    """Ask *provider* once and return its whole answer.

    *on_event* sees everything as it comes, `Reset`s included. When it returns False the connection is closed at
    once and the response holds what was shown, with `finish_reason="aborted"`. What it raises ends the call and
    comes out as it is: no strategy retries or counts it.

    Args:
      call: ids, observer and log to use; its own `emit` is not used.

    Raises:
      ClawftError: there is no answer; `attempts` tells what was tried.
      Exception: what *on_event* raised.

    Cancellation: the running attempts are cancelled, their connections closed.
    """
    call = call or Call(id=new_id())
    started = trio.current_time()
    consumer = None if on_event is None else _Consumer(on_event)
    try:
        response = await witnessed(provider, request, call if consumer is None else call.showing(consumer.shown))
    except ConsumerLeft as left:
        if left.original is not None:
            raise left.original from None
        assert consumer is not None
        return consumer.aborted(call, started)
    except ClawftError as exc:
        exc.attempts = call.log.records
        raise
    return _finished(response, call, started)


def _finished(response: ChatResponse, call: Call, started: float) -> ChatResponse:
    """*response* with the times and attempts of the whole call."""
    records = call.log.records
    content = [r.started + r.latency.first_content for r in records if r.latency.first_content is not None]
    first_bytes = [r.started + r.latency.first_byte for r in records if r.latency.first_byte is not None]
    latency = Latency(
        total=trio.current_time() - started,
        queued=records[-1].latency.queued if records else 0.0,
        first_byte=min(first_bytes) - started if first_bytes else None,
        first_content=min(content) - started if content else None,
    )
    return attrs.evolve(response, attempts=records, latency=latency)


class _Consumer:
    """A user's callback as an `emit`: knows what was shown, and takes the callback's failures out of the way."""

    __slots__ = ("_callback", "_usage", "shown")

    def __init__(self, callback: StreamCallback) -> None:
        self._callback = callback
        self._usage: UsageReport | None = None
        self.shown = Shown(self._deliver)

    async def _deliver(self, event: StreamEvent) -> None:
        if isinstance(event, UsageReport):
            self._usage = event
        try:
            said = self._callback(event)
            if said is None or said is True:
                return
            if said is not False:
                said = await said
        except Exception as exc:
            raise ConsumerLeft(exc) from exc
        if said is False:
            raise ConsumerLeft

    def aborted(self, call: Call, started: float) -> ChatResponse:
        """The answer as far as it was wanted."""
        seen = self.shown.so_far()
        records = call.log.records
        target = records[-1].target if records else ""
        provider, _, model = target.partition("/")
        response = ChatResponse(
            content=seen.text,
            reasoning=seen.reasoning,
            tool_calls=seen.tool_calls,
            finish_reason="aborted",
            provider=provider,
            model=model,
            usage=None if self._usage is None else self._usage.usage,
        )
        return _finished(response, call, started)


class Stream:
    """An answer to iterate over. Made by `open_stream`."""

    def __init__(self, buffer: int) -> None:
        self._ready: deque[StreamEvent] = deque()
        self._buffer = buffer
        self._reader = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._response: ChatResponse | None = None
        self._error: BaseException | None = None
        self._ended = False

    @property
    def response(self) -> ChatResponse:
        """The whole answer, once the loop has ended; what was shown of it, once the block was left early.

        Raises:
          StreamEnded: it is not there yet, or there will be none.
        """
        if self._response is None:
            raise StreamEnded("no response: iterate to the end first")
        return self._response

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event.

        Raises:
          StopAsyncIteration: the answer is whole; `response` has it.
          ClawftError: there is none.

        Cancellation: no event is lost.
        """
        # No checkpoint while events are at hand: that alone would cost more than everything else. The buffer is
        # bounded, so after `buffer` events at the latest the reader waits for the writer.
        while not self._ready:
            if self._ended:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            await self._reader.park()
        event = self._ready.popleft()
        if self._writer and len(self._ready) <= self._buffer // 2:
            self._writer.unpark_all()
        return event

    async def _show(self, event: StreamEvent) -> None:
        self._ready.append(event)
        if self._reader:
            self._reader.unpark_all()
        while len(self._ready) >= self._buffer:
            await self._writer.park()

    async def _produce(self, provider: Provider, request: ChatRequest, call: Call) -> None:
        started = trio.current_time()
        consumer = _Consumer(self._show)
        try:
            response = await witnessed(provider, request, call.showing(consumer.shown))
            self._response = _finished(response, call, started)
        except Exception as exc:  # noqa: BLE001  # the reader raises it
            if isinstance(exc, ClawftError):
                exc.attempts = call.log.records
            self._error = exc
        except trio.Cancelled:
            self._response = consumer.aborted(call, started)
            raise
        finally:
            self._ended = True
            self._reader.unpark_all()


@asynccontextmanager
async def open_stream(
    provider: Provider, request: ChatRequest, *, call: Call | None = None, buffer: int = 256
) -> AsyncGenerator[Stream, None]:
    """Ask *provider* and iterate over what it says, as it says it.

        async with open_stream(provider, request) as stream:
            async for event in stream:
                ...
        stream.response

    A reader that is slower than the model holds it up after *buffer* events. Leaving the block early closes the
    connection at once.

    Raises:
      ClawftError: out of the loop, when there is no answer.

    Cancellation: the call is cancelled, its connections closed.
    """
    if buffer < 1:
        raise ValueError("buffer must be at least 1")
    stream = Stream(buffer)
    async with open_hidden_nursery() as nursery:
        nursery.start_soon(stream._produce, provider, request, call or Call(id=new_id()))
        try:
            yield stream
        finally:
            nursery.cancel_scope.cancel(reason="stream left")
