"""The resources that a program holds: tasks, and file descriptors (sockets, pipes, files)."""

from __future__ import annotations

import math
import os
import select
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from clawft_trio.errors import Unsupported

_GRACE = 2.0
"""Seconds that the system gets to finish closing: a peer may still have to close its socket."""

_NAP = 0.01
"""Seconds between two looks."""

_FD_FOLDER = Path("/dev/fd")


@attrs.frozen(kw_only=True)
class HeldResources:
    """Resources that this process holds at one moment."""

    #: number of living tasks of the trio run
    tasks: int
    #: open file descriptors, each with its target where the system reports it
    descriptors: frozenset[str]

    @classmethod
    def now(cls) -> HeldResources:
        """Return the resources that are held now.

        Raises:
          Unsupported: this system does not list open file descriptors.
        """
        if not _FD_FOLDER.is_dir():
            raise Unsupported("open file descriptors are listed in /dev/fd, which is not here")
        tasks = trio.lowlevel.current_statistics().tasks_living
        return cls(tasks=tasks, descriptors=frozenset(filter(None, map(_described, list(_FD_FOLDER.iterdir())))))


def _described(descriptor: Path) -> str:
    """Return the descriptor and its target; empty when it is closed, as the one that listed them is."""
    try:
        os.fstat(int(descriptor.name))
    except OSError:
        return ""
    try:
        return f"{descriptor.name} {descriptor.readlink()}"
    except OSError:
        # macOS has no links there.
        return descriptor.name


def nothing_left(*, grace: float = _GRACE) -> Callable[[], Awaitable[None]]:
    """Remember the resources that are held now; return a check that asserts that no more are held later.

    The check waits up to *grace* real seconds for resources that are being closed, and fails with those that are left:

        check = nothing_left()
        await cancel_everywhere(operation, check)

    Open resources that are meant to stay (a server, a client with its pool) before.

    Raises:
      Unsupported: this system does not list open file descriptors.
    """
    before = HeldResources.now()

    async def check() -> None:
        """Assert that no more resources are held.

        Raises:
          AssertionError: more are held; the message lists them.

        Cancellation: nothing was changed.
        """
        await trio.lowlevel.checkpoint()
        for _ in range(math.ceil(grace / _NAP)):
            if not _left(before):
                break
            # Real time, because the system closes these resources, and the clock of the trio run may not advance.
            await trio.to_thread.run_sync(select.select, [], [], [], _NAP)
        left = _left(before)
        if left:
            raise AssertionError(f"left behind: {left}")

    return check


def _left(before: HeldResources) -> str:
    now = HeldResources.now()
    tasks = f"{now.tasks - before.tasks} tasks" if now.tasks > before.tasks else ""
    descriptors = sorted(now.descriptors - before.descriptors)
    return ", ".join(filter(None, [tasks, *descriptors]))
