"""Where a consumer is handed in: one answer as a call with a callback, or as a stream to iterate.

Nothing below this file knows consumers, only `Call.emit`. An exception of the consumer's travels up through every
strategy as `ConsumerLeft` and is unwrapped here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Generic, Self, TypeAlias, TypeVar

import attrs
import trio

from clawft_trio.attempts import call_latency, deciding_attempt
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Emit,
    Provider,
    StreamEvent,
    new_id,
)
from clawft_trio.errors import ClawftError, ConsumerLeft, StreamEnded
from clawft_trio.nursery import open_hidden_nursery, reraise
from clawft_trio.observe.recorded import recorded
from clawft_trio.resilience.visibility import Shown

E = TypeVar("E")
R = TypeVar("R")

StreamCallback: TypeAlias = Callable[[StreamEvent], object]
"""Any callable, sync or async. It ends the answer early by returning `False`; anything else goes on."""


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
    shown = None if on_event is None else Shown(_Consumer(on_event).deliver)
    try:
        response = await recorded(provider).complete(request, call if shown is None else call.showing(shown))
    except ConsumerLeft as left:
        if left.original is not None:
            reraise(left.original)
        assert shown is not None
        return _aborted(shown, call, started)
    except ClawftError as exc:
        exc.attempts = call.log.records
        raise
    return _finished(response, call, started)


async def consuming(
    run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]],
    on_event: Callable[[E], object],
) -> R:
    """Run *run*, showing *on_event* what it shows, with the consumer's exceptions taken out of everybody's way.

    Raises:
      Exception: what *run* raised, or what *on_event* raised, as it is.

    Cancellation: *run* is cancelled.
    """
    try:
        return await run(_Consumer(on_event).deliver)
    except ConsumerLeft as left:
        if left.original is not None:
            reraise(left.original)
        raise AssertionError("who shows events has to answer a consumer that had enough") from left


def _finished(response: ChatResponse, call: Call, started: float) -> ChatResponse:
    """*response* with the times and attempts of the whole call."""
    records = call.log.records
    decided = deciding_attempt(records, "aborted" if response.finish_reason == "aborted" else "ok")
    return attrs.evolve(response, attempts=records, latency=call_latency(decided, started))


class _Consumer(Generic[E]):
    """A user's callback as an `emit`, its failures told apart from everybody else's."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[E], object]) -> None:
        self._callback = callback

    async def deliver(self, event: E) -> None:
        try:
            returned = self._callback(event)
            if returned is None or returned is True:
                return
            if isawaitable(returned):
                returned = await returned
        except Exception as exc:
            raise ConsumerLeft(exc) from exc
        # Anything but False goes on: `sys.stdout.write` returns a number.
        if returned is False:
            raise ConsumerLeft


def _aborted(shown: Shown, call: Call, started: float) -> ChatResponse:
    """The answer as far as it was wanted."""
    seen = shown.so_far()
    stopped = deciding_attempt(call.log.records, "aborted")
    provider, _, model = ("" if stopped is None else stopped.target).partition("/")
    response = ChatResponse(
        content=seen.text,
        reasoning=seen.reasoning,
        tool_calls=seen.tool_calls,
        finish_reason="aborted",
        provider=provider,
        model=model,
        usage=None if stopped is None else stopped.usage,
    )
    return _finished(response, call, started)


class Iteration(Generic[E, R]):
    """Something that shows events on its way to a result, to iterate over. Made by `open_iteration`."""

    def __init__(self, buffer: int) -> None:
        self._ready: deque[E] = deque()
        self._buffer = buffer
        self._reader = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._results: list[R] = []
        self._error: Exception | None = None
        self._ended = False

    @property
    def result(self) -> R:
        """The result, once the loop has ended.

        Raises:
          StreamEnded: it is not there yet, or there will be none.
        """
        if not self._results:
            raise StreamEnded("no result: iterate to the end first")
        return self._results[0]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """The next event.

        Raises:
          StopAsyncIteration: everything was shown; the result is there.
          Exception: what kept the result from coming. Raised once.

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

    async def show(self, event: E) -> None:
        """Hand *event* to the reader; waits only while the reader is too far behind.

        Cancellation: the reader still gets the event.
        """
        self._ready.append(event)
        if self._reader:
            self._reader.unpark_all()
        while len(self._ready) >= self._buffer:
            await self._writer.park()

    async def _produce(self, run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]]) -> None:
        try:
            self._results.append(await run(self.show))
        except Exception as exc:  # noqa: BLE001  # the reader raises it
            self._error = exc
        finally:
            self._ended = True
            self._reader.unpark_all()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]], *, buffer: int = 256
    ) -> AsyncGenerator[Self, None]:
        """Run *run*, which is given `show`, beside the block.

        A reader that is slower holds it up after *buffer* events.

        Raises:
          Exception: what *run* raises comes out of the loop; nothing of it comes out of a block left early.

        Cancellation: *run* is cancelled and waited for; so it is when the block is left early.
        """
        if buffer < 1:
            raise ValueError("buffer must be at least 1")
        iteration = cls(buffer)
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(iteration._produce, run)
            try:
                yield iteration
            finally:
                nursery.cancel_scope.cancel(reason="stream left")


class Stream(Iteration[StreamEvent, ChatResponse]):
    """An answer to iterate over. Made by `open_stream`."""

    @property
    def response(self) -> ChatResponse:
        """The whole answer, once the loop has ended; what was shown of it, once the block was left early.

        Raises:
          StreamEnded: it is not there yet, or there will be none.
        """
        return self.result


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
    call = call or Call(id=new_id())

    async def run(show: Emit) -> ChatResponse:
        started = trio.current_time()
        shown = Shown(show)
        try:
            response = await recorded(provider).complete(request, call.showing(shown))
        except trio.Cancelled:
            stream._results.append(_aborted(shown, call, started))
            raise
        except ClawftError as exc:
            exc.attempts = call.log.records
            raise
        return _finished(response, call, started)

    async with Stream.open(run, buffer=buffer) as stream:
        yield stream
