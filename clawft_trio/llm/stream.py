"""Entry points for consumers: one answer by a call with a callback, or as a stream to iterate over.

Lower layers have no consumers, only `Call.emit`. An exception of the consumer passes through every strategy as
`ConsumerLeft` and is unwrapped here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, Self, TypeAlias, TypeVar

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
from clawft_trio.nursery import check_in_trio, reraise
from clawft_trio.observe.recorded import recorded
from clawft_trio.resilience.visibility import Shown
from clawft_trio.target import split_name
from clawft_trio.tracebacks import shorten_traceback

E = TypeVar("E")
R = TypeVar("R")

StreamCallback: TypeAlias = Callable[[StreamEvent], object]
"""Any callable, sync or async. Returning `False` ends the answer early; any other value continues."""


async def complete(
    provider: Provider,
    request: ChatRequest,
    on_event: StreamCallback | None = None,
    *,
    call: Call | None = None,
) -> ChatResponse:
    """Call *provider* once and return its complete answer.

    *on_event* gets every event as it arrives, including `Reset`. When it returns False, the connection is closed at
    once and the response holds what was shown, with `finish_reason="aborted"`. An exception of *on_event* ends the call
    and is raised unchanged: no strategy retries or counts it.

    Args:
      call: ids, observer and log to use; its own `emit` is not used.

    Raises:
      ClawftError: there is no answer; `attempts` has the record of each attempt.
      Exception: what *on_event* raised.

    Cancellation: the running attempts are cancelled and their connections closed.
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
    except Exception as exc:
        if isinstance(exc, ClawftError):
            exc.attempts = call.log.records
        shorten_traceback(exc)
        raise
    return _finished(response, call, started)


async def consuming(
    run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]],
    on_event: Callable[[E], object],
) -> R:
    """Run *run* and pass its events to *on_event*; exceptions of *on_event* pass through all strategies unchanged.

    Raises:
      Exception: what *run* raised, or what *on_event* raised, unchanged.

    Cancellation: *run* is cancelled.
    """
    try:
        return await run(_Consumer(on_event).deliver)
    except ConsumerLeft as left:
        if left.original is not None:
            reraise(left.original)
        raise AssertionError("a provider that emits events must return when the consumer stops") from left


def _finished(response: ChatResponse, call: Call, started: float) -> ChatResponse:
    """Return *response* with the times and attempts of the whole call."""
    records = call.log.records
    decided = deciding_attempt(records, "aborted" if response.finish_reason == "aborted" else "ok")
    return attrs.evolve(response, attempts=records, latency=call_latency(decided, started))


class _Consumer(Generic[E]):
    """Makes an `emit` of a user's callback; wraps its exceptions in `ConsumerLeft`."""

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
        # Any value but False continues: `sys.stdout.write` returns a number.
        if returned is False:
            raise ConsumerLeft


def _aborted(shown: Shown, call: Call, started: float) -> ChatResponse:
    """Return the answer up to where the consumer stopped it."""
    seen = shown.so_far()
    stopped = deciding_attempt(call.log.records, "aborted")
    provider, model = split_name("" if stopped is None else stopped.target)
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
    """An async iterator over the events of an operation that returns a result. Created by `Iteration.open`."""

    def __init__(self, buffer: int) -> None:
        self._ready: deque[E] = deque()
        self._buffer = buffer
        self._reader = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._results: list[R] = []
        self._error: BaseException | None = None
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def result(self) -> R:
        """The result of the operation, available after the loop has ended.

        Raises:
          StreamEnded: there is no result yet, or there will be none.
        """
        if not self._results:
            raise StreamEnded("no result: iterate to the end first")
        return self._results[0]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """Return the next event.

        Raises:
          StopAsyncIteration: all events were returned; `result` is set.
          Exception: the error of the operation. Raised once.

        Cancellation: no event is lost.
        """
        # No checkpoint while events are buffered: it would cost more than all other steps. The buffer is bounded, so
        # after at most `buffer` events the reader waits for the writer.
        while not self._ready:
            if self._ended.is_set():
                if self._error is not None:
                    error, self._error = self._error, None
                    raise shorten_traceback(error)
                raise StopAsyncIteration
            await self._reader.park()
        event = self._ready.popleft()
        if self._writer and len(self._ready) <= self._buffer // 2:
            self._writer.unpark_all()
        return event

    async def show(self, event: E) -> None:
        """Add *event* to the buffer; wait only while the buffer is full.

        Cancellation: the reader still gets the event.
        """
        self._ready.append(event)
        if self._reader:
            self._reader.unpark_all()
        while len(self._ready) >= self._buffer:
            await self._writer.park()

    async def _produce(self, run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]]) -> None:
        """Run *run* to its end. The only exception that leaves this function is the cancellation of its nursery."""
        try:
            with self._scope:
                self._results.append(await run(self.show))
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001  # the reader raises it
            self._error = exc
        finally:
            if not self._results and self._error is None:
                self._error = StreamEnded("the stream was closed before its result was there")
            self._ended.set()
            self._reader.unpark_all()

    async def _close(self) -> None:
        """Cancel the producer and wait until it has ended, even when the caller is cancelled."""
        self._scope.cancel(reason="stream left")
        with trio.CancelScope(shield=True):
            # Bounded by the cleanup of *run*: each of its waits is cancelled.
            await self._ended.wait()
        error = self._error
        if error is not None and not isinstance(error, Exception):
            # KeyboardInterrupt and SystemExit end the program even when the block was left before they were read.
            self._error = None
            raise error

    @classmethod
    def open(
        cls,
        run: Callable[[Callable[[E], Awaitable[None]]], Awaitable[R]],
        *,
        nursery: trio.Nursery | None = None,
        buffer: int = 256,
    ) -> OpenIteration[Self]:
        """Run *run* in a task next to an `async with` block; *run* gets `show` as its argument.

        The task belongs to *nursery*, or to trio's system nursery when that is None; at its end the block cancels the
        task and waits for it. No cancel scope and no nursery is open across the block, so the block may stand inside an
        async generator that is abandoned, closed by another task, or collected as garbage.

        Raises:
          Exception: the loop raises what *run* raises; a block that is left early raises nothing of it.
          ValueError: *buffer* is less than 1.

        Cancellation: *run* is cancelled and waited for, as when the block is left early.
        """
        if buffer < 1:
            raise ValueError("buffer must be at least 1")
        iteration = cls(buffer)
        return OpenIteration(iteration, partial(iteration._produce, run), nursery)


Opened = TypeVar("Opened", bound=Iteration[Any, Any])


class OpenIteration(AbstractAsyncContextManager[Opened]):
    """The context manager of an `Iteration`. A class, because an async generator could be finalized in another task."""

    def __init__(self, iteration: Opened, produce: Callable[[], Awaitable[None]], nursery: trio.Nursery | None) -> None:
        self.iteration = iteration
        self._produce = produce
        self._nursery = nursery

    async def __aenter__(self) -> Opened:
        """Start the producer.

        Raises:
          RuntimeError: the caller is not a trio task, for example under asyncio.
          StreamEnded: the nursery of the producer is closed.

        Cancellation: nothing was started.
        """
        check_in_trio()
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            # A nursery of this block would have to be closed in the task that opened it. The system nursery outlives
            # every block, and `__aexit__` waits for the task.
            trio.lowlevel.spawn_system_task(self._produce, context=copy_context())
        else:
            try:
                self._nursery.start_soon(self._produce)
            except RuntimeError as exc:
                raise StreamEnded("nothing can be started: its owner is closed") from exc
        return self.iteration

    async def __aexit__(self, *_: object) -> None:
        """Cancel the producer and wait until it has ended.

        Cancellation: it waits nevertheless; the producer is cancelled, too.
        """
        await self.iteration._close()  # noqa: ASYNC102  # shielded there, bounded by the producer's own cleanup


class Stream(Iteration[StreamEvent, ChatResponse]):
    """An async iterator over the events of one answer. Created by `open_stream`."""

    @property
    def response(self) -> ChatResponse:
        """The complete answer after the loop has ended; the part that was shown, after the block was left early.

        Raises:
          StreamEnded: there is no result yet, or there will be none.
        """
        return self.result


def open_stream(
    provider: Provider,
    request: ChatRequest,
    *,
    call: Call | None = None,
    buffer: int = 256,
    nursery: trio.Nursery | None = None,
) -> AbstractAsyncContextManager[Stream]:
    """Call *provider* and iterate over the events of its answer as they arrive.

        async with open_stream(provider, request) as stream:
            async for event in stream:
                ...
        stream.response

    A reader that is slower than the model makes the model wait after *buffer* events. Leaving the block early closes
    the connection at once. The block may stand inside an async generator, even one that is left by `break`.

    Args:
      nursery: runs the call; by default trio's system nursery.

    Raises:
      ClawftError: raised by the loop when there is no answer.

    Cancellation: the call is cancelled and its connections closed.
    """
    call = call or Call(id=new_id())

    async def run(show: Emit) -> ChatResponse:
        started = trio.current_time()
        shown = Shown(show)
        try:
            response = await recorded(provider).complete(request, call.showing(shown))
        except trio.Cancelled:
            opened.iteration._results.append(_aborted(shown, call, started))
            raise
        except ClawftError as exc:
            exc.attempts = call.log.records
            raise
        return _finished(response, call, started)

    opened = Stream.open(run, nursery=nursery, buffer=buffer)
    return opened
