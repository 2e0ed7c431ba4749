"""Runs one command: SIGTERM ends it as gracefully as Ctrl-C, SIGUSR1 prints its task tree."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar, TypeVarTuple

import trio

from clawft_trio.cli.logs import logs_on_terminal
from clawft_trio.cli.output import write_line
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import serve_task_tree

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TERMINATED = 128 + signal.SIGTERM


def run(command: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run *command* to its end, or until SIGTERM: then it is cancelled and closed.

    `kill -USR1 PID` writes its task tree to stderr, if the platform has that signal.

    Raises:
      SystemExit: 143, the shell's code for it, when SIGTERM ended the command.
      BaseException: raised by *command*.
    """
    # Not `trio.open_signal_receiver`: signals that it has not delivered when it closes are raised again, and would then
    # kill the process, half closed and with another exit code.
    termination = _Termination()
    before = signal.signal(signal.SIGTERM, termination)
    try:
        with logs_on_terminal():
            return trio.run(_until_terminated, partial(command, *args), termination)
    finally:
        # One is enough: more of them are ignored until the process has ended.
        if termination.received and hasattr(signal, "pthread_sigmask"):
            # During its exit the interpreter restores signal handlers, but not the mask of blocked signals.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGTERM, signal.SIG_IGN if termination.received else before)


class _Termination:
    """Handles SIGTERM: cancels the running command, as soon as there is one."""

    def __init__(self) -> None:
        self.received: bool = False
        self._cancel: Callable[[], object] | None = None

    def __call__(self, *_: object) -> None:
        self.received = True
        if self._cancel is not None:
            self._cancel()

    @contextmanager
    def ending(self, scope: trio.CancelScope) -> Iterator[None]:
        """Let SIGTERM cancel *scope*, even one that came before the block."""
        cancel = partial(scope.cancel, reason="SIGTERM")
        # A signal may arrive at any point, so trio runs the cancellation between two steps of tasks.
        self._cancel = partial(trio.lowlevel.current_trio_token().run_sync_soon, cancel, idempotent=True)
        try:
            if self.received:
                cancel()
            yield
        finally:
            self._cancel = None


async def _until_terminated(command: Callable[[], Awaitable[T]], termination: _Termination) -> T:
    done: list[T] = []
    async with open_hidden_nursery() as nursery:
        with termination.ending(nursery.cancel_scope):
            if hasattr(signal, "SIGUSR1"):
                await nursery.start(serve_task_tree)
            done.append(await command())
        nursery.cancel_scope.cancel(reason="the command is done")
    if not done:
        write_line("Terminated.", error=True)
        raise SystemExit(TERMINATED)
    return done[0]
