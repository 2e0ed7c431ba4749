"""What a program holds on to: tasks, and file descriptors (sockets, pipes, files)."""

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
"""Seconds that the system gets to finish what was already closed: a socket that its peer still has to close."""

_NAP = 0.01
"""Seconds between two looks."""

_FD_FOLDER = Path("/dev/fd")


@attrs.frozen(kw_only=True)
class HeldResources:
    """What this process holds at one moment."""

    #: living tasks of the trio run
    tasks: int
    #: open file descriptors, each with what it leads to where the system reports it
    descriptors: frozenset[str]

    @classmethod
    def now(cls) -> HeldResources:
        """Look around.

        Raises:
          Unsupported: this system does not list open file descriptors.
        """
        if not _FD_FOLDER.is_dir():
            raise Unsupported("open file descriptors are listed in /dev/fd, which is not here")
        tasks = trio.lowlevel.current_statistics().tasks_living
        return cls(tasks=tasks, descriptors=frozenset(filter(None, map(_described, list(_FD_FOLDER.iterdir())))))


def _described(descriptor: Path) -> str:
    """The descriptor and what it leads to; empty when it is gone, as the one that listed them is."""
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
    """Remember what is held now; the check that comes back asserts that no more is held later.

    It waits up to *grace* real seconds for what is about to end, and fails with what is left:

        check = nothing_left()
        await cancel_everywhere(operation, check)

    Whatever is meant to stay (a server, a client with its pool) is opened before.

    Raises:
      Unsupported: this system does not list open file descriptors.
    """
    before = HeldResources.now()

    async def check() -> None:
        """Assert that nothing more is held.

        Raises:
          AssertionError: something is; the message lists it.

        Cancellation: nothing was changed.
        """
        await trio.lowlevel.checkpoint()
        for _ in range(math.ceil(grace / _NAP)):
            if not _left(before):
                break
            # Real time, because what is left is the system's, and the trio run's clock may be standing still.
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
