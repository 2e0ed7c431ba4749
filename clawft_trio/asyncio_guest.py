"""An agent in an asyncio application: a trio run as a guest of asyncio's event loop, on its thread.

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with Guest(open_agent(["openai/gpt-5-mini"])) as app.state.agent:
            yield

    @app.get("/ask")
    async def ask(request: Request, question: str) -> str:
        guest = request.app.state.agent
        return (await guest.call(guest.value.ask, question)).text

Call every async function of the agent through `call`: a direct call from asyncio raises `RuntimeError`. To stream,
read a queue that `ask` fills: `on_event=queue.put_nowait`. `agent.stream` is for trio only.

Only this module imports asyncio, and nothing in the package imports this module. A loop can have one guest: to run
several agents, open them in one context manager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

import trio

from clawft_trio.nursery import open_hidden_nursery

if TYPE_CHECKING:
    from outcome import Outcome

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Guest(Generic[T]):
    """A trio run on asyncio's own loop and thread. It enters *opening*, whose value is `value`.

    Entering raises what *opening* raises. Leaving ends the run within *opening*'s grace periods and raises its error.

    Args:
      opening: an async context manager for trio, such as `open_agent(…)`. It is used once.
    """

    def __init__(self, opening: AbstractAsyncContextManager[T]) -> None:
        self._opening = opening
        self._life = trio.CancelScope()
        self._open = self._opened = False
        self._value: T | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ready: asyncio.Future[None]
        self._ended: asyncio.Future[Outcome[None]]
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery

    def __repr__(self) -> str:
        return f"<Guest {'open' if self._open else 'closed'}>"

    @property
    def value(self) -> T:
        """The value of *opening*: an agent, for `open_agent`.

        Raises:
          RuntimeError: the guest has not been opened yet.
        """
        if not self._opened:
            raise RuntimeError("the guest is not open: use it inside `async with Guest(…)`")
        return self._value  # type: ignore[return-value]  # T may be None itself

    async def __aenter__(self) -> Self:
        """Start trio and enter *opening*.

        Raises:
          BaseException: what *opening* raised.

        Cancellation: the trio run is cancelled, and this waits until it has ended.
        """
        self._loop = asyncio.get_running_loop()
        self._ready, self._ended = self._loop.create_future(), self._loop.create_future()
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._loop.call_soon_threadsafe,
            done_callback=self._ended.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._token = trio.lowlevel.current_trio_token()
        try:
            either: list[asyncio.Future[Any]] = [self._ready, self._ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()  # noqa: ASYNC102 - asyncio's cancellation; it ends within the grace periods
            raise
        if self._ended.done():
            self._ended.result().unwrap()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave *opening* and end the trio run.

        Raises:
          BaseException: the error that ended the run, if there was one.

        Cancellation: delayed until the run has ended.
        """
        await self._end()  # noqa: ASYNC102 - likewise

    async def _end(self) -> None:
        if not self._ended.done():
            self._token.run_sync_soon(self._life.cancel)
            await _until_done(self._ended)  # within the grace periods of what was opened
        self._ended.result().unwrap()

    async def _main(self) -> None:
        with self._life:
            async with self._opening as self._value, open_hidden_nursery() as self._nursery:
                self._open = self._opened = True
                self._ready.set_result(None)
                try:
                    await trio.sleep_forever()
                finally:
                    self._open = False

    async def call(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a trio function to its end, and return its result.

        Raises:
          RuntimeError: the guest is closed, or the function was cancelled inside trio.
          Exception: what *function* raised.

        Cancellation: *function* is cancelled inside trio, and has ended when this returns.
        """
        answer: asyncio.Future[R] = self._loop.create_future()
        scope = trio.CancelScope()
        # Reading the exception keeps asyncio from logging it when no caller waits for it any more.
        answer.add_done_callback(lambda done: done.exception())

        async def run() -> None:
            try:
                with scope:
                    answer.set_result(await function(*args, **kwargs))
            except Exception as exc:  # noqa: BLE001 - it is raised in asyncio
                answer.set_exception(exc)
            finally:
                if not answer.done():
                    answer.set_exception(RuntimeError("cancelled in trio"))

        def start() -> None:
            if self._open:
                self._nursery.start_soon(run)
            else:
                answer.set_exception(RuntimeError("the guest is closed"))

        self._token.run_sync_soon(start)
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            if not self._ended.done():
                self._token.run_sync_soon(scope.cancel)
                await _until_done(answer)  # noqa: ASYNC102 - it ends once the cancelled function has
            raise
        return answer.result()


async def _until_done(*futures: asyncio.Future[Any]) -> None:
    """Wait for one of *futures*; a cancellation during the wait is raised after it."""
    cancelled: asyncio.CancelledError | None = None
    while not any(future.done() for future in futures):
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as exc:  # noqa: ASYNC103 - raised below
            cancelled = exc
    if cancelled is not None:
        raise cancelled
