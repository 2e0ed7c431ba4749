"""Running one command: SIGTERM ends it as gracefully as Ctrl-C does, SIGUSR1 shows what its tasks wait for."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, TypeVarTuple

import trio

from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import serve_task_tree

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TERMINATED = 128 + signal.SIGTERM


def run(command: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run *command* to its end, or until SIGTERM asks for it: then it is cancelled, and its goodbyes are said.

    `kill -USR1 PID` writes its nursery tree to stderr, where the platform has that signal.

    Raises:
      SystemExit: 143, the shell's code for it, when SIGTERM cut it short.
      BaseException: whatever *command* raised.
    """
    return trio.run(_until_terminated, partial(command, *args))


async def _until_terminated(command: Callable[[], Awaitable[T]]) -> T:
    done: list[T] = []
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_hidden_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel(reason="SIGTERM")

            nursery.start_soon(listen)
            if hasattr(signal, "SIGUSR1"):
                await nursery.start(serve_task_tree)
            done.append(await command())
            nursery.cancel_scope.cancel(reason="the command is done")
    if not done:
        print("Terminated.", file=sys.stderr)
        raise SystemExit(TERMINATED)
    return done[0]
