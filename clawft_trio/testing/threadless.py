"""Runs the functions that are meant for threads without threads: for simulations in mock time, never for programs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import outcome
import trio

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def threadless() -> Iterator[None]:
    """Let `trio.to_thread.run_sync` call its function at once, in the calling task.

    A clock that jumps when all tasks wait does not wait for threads, and the end of a thread is not deterministic.
    Without threads a whole agent with its files and its store runs in mock time, and in the same way for the same seed:

        with seeded_scheduler(7), threadless():
            trio.run(main, clock=MockClock(autojump_threshold=0))

    Limiters, checkpoints and copied context variables work as with threads. Inside the function
    `trio.from_thread.run_sync` and `check_cancelled` work; `trio.from_thread.run` does not. A function that takes long
    blocks the whole run. The replacement holds for the whole process, until the block ends.
    """
    replaced: list[tuple[Any, str, object]] = [
        (trio.to_thread, "run_sync", _run_sync),
        (trio.lowlevel, "start_thread_soon", _start_thread_soon),
        (trio.from_thread, "run_sync", _call),
        (trio.from_thread, "check_cancelled", _do_nothing),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


async def _run_sync(
    function: Callable[..., T],
    *args: Any,
    thread_name: str | None = None,  # noqa: ARG001 - trio's signature
    abandon_on_cancel: bool = False,  # noqa: ARG001 - same
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    await trio.lowlevel.checkpoint_if_cancelled()
    if limiter is None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return contextvars.copy_context().run(function, *args)
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    try:
        return contextvars.copy_context().run(function, *args)
    finally:
        limiter.release_on_behalf_of(borrower)


def _start_thread_soon(
    function: Callable[[], T],
    deliver: Callable[[outcome.Outcome[T]], object],
    name: str | None = None,  # noqa: ARG001 - trio's signature
) -> None:
    deliver(outcome.capture(function))


def _call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    # trio uses this keyword itself, to find the run. Here there is only one.
    kwargs.pop("trio_token", None)
    return function(*args, **kwargs)


def _do_nothing() -> None:
    """Do nothing; replaces `check_cancelled`, because the function is not interrupted."""
