"""Guest mode for asyncio applications: the recipe that the tests exercise."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from clawft_trio.nursery import open_hidden_nursery


async def until_done(*futures):
    """Wait for one of *futures*; a cancellation is raised after that."""
    cancelled = None
    while not any(future.done() for future in futures):
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled:
        raise cancelled


class Guest:
    """A trio run on asyncio's own loop and thread. In it lives *opening*, whose value is `.value`."""

    def __init__(self, opening: AbstractAsyncContextManager[Any]) -> None:
        self._opening = opening
        self._life = trio.CancelScope()
        self._open = True

    async def __aenter__(self) -> "Guest":
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
            await asyncio.wait([self._ready, self._ended], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.__aexit__()
            raise
        if self._ended.done():
            await self.__aexit__()  # raises why it could not be opened
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._ended.done():
            self._token.run_sync_soon(self._life.cancel)
            await until_done(self._ended)  # within the graces of what was opened
        self._ended.result().unwrap()  # raises what ended it, if it was an error

    async def _main(self) -> None:
        with self._life:
            async with self._opening as self.value, open_hidden_nursery() as self._nursery:
                self._ready.set_result(None)
                try:
                    await trio.sleep_forever()
                finally:
                    self._open = False

    async def call(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Run a trio function to its end. Cancelling this cancels that, and waits until it has ended."""
        answer, scope = self._loop.create_future(), trio.CancelScope()
        answer.add_done_callback(lambda done: done.exception())  # its caller may be gone

        async def run() -> None:
            try:
                with scope:
                    answer.set_result(await function(*args, **kwargs))
            except Exception as exc:
                answer.set_exception(exc)
            finally:
                if not answer.done():
                    answer.set_exception(RuntimeError("cancelled in trio"))

        def start() -> None:
            if self._open:
                self._nursery.start_soon(run)
            else:
                answer.set_exception(RuntimeError("closed"))

        self._token.run_sync_soon(start)
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            if not self._ended.done():
                self._token.run_sync_soon(scope.cancel)
                await until_done(answer)
            raise
        return answer.result()
