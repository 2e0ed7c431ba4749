"""Learnt context windows in the store, so that later processes know the limits learnt from refusals."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trio

from clawft_trio.errors import StoreError
from clawft_trio.nursery import cleanup_scope, open_hidden_nursery
from clawft_trio.pipeline import Windows
from clawft_trio.store import Connection, Migration, Store

WINDOW_MIGRATIONS = (
    Migration(
        "windows",
        1,
        """
        CREATE TABLE windows (
            target TEXT PRIMARY KEY,
            tokens INTEGER NOT NULL,  -- estimated input tokens that it takes at most
            learnt_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
"""The tables that `open_stored_windows` needs in its store."""

KEPT_FOR = timedelta(days=7)
"""Lifetime of a learnt window: a local server may be restarted with a larger one, a vendor may enlarge it."""

_GRACE = 2.0
"""Seconds that writing the last learnt windows may take at the end."""

_log = logging.getLogger("clawft_trio.agent")


@asynccontextmanager
async def open_stored_windows(
    store: Store, windows: Windows, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncGenerator[None, None]:
    """Restore the windows learnt by earlier processes, and store the ones learnt during the block.

    Raises:
      StoreError: the store cannot be read.

    Cancellation: learnt windows are written, within a bounded time.
    """
    since = (now() - KEPT_FOR).isoformat()

    def look(connection: Connection) -> list[tuple[str, int]]:
        return connection.execute("SELECT target, tokens FROM windows WHERE learnt_at > ?", (since,)).fetchall()

    for target, tokens in await store.read(look):
        windows.restore(target, tokens)
    writer = _Writer(store, windows, now)
    windows.on_learnt = writer.learnt.set
    async with open_hidden_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel(reason="agent closed")
            with cleanup_scope(_GRACE):
                await writer.write()  # noqa: ASYNC102 - `cleanup_scope` is shielded and bounded


class _Writer:
    def __init__(self, store: Store, windows: Windows, now: Callable[[], datetime]) -> None:
        self._store = store
        self._windows = windows
        self._now = now
        self._written = dict(windows.learnt())
        self.learnt = trio.Event()

    async def run(self) -> None:
        while True:
            await self.learnt.wait()
            self.learnt = trio.Event()
            self._windows.on_learnt = self.learnt.set
            await self.write()

    async def write(self) -> None:
        """Write new windows. If the store is unavailable, only these windows are lost."""
        known = dict(self._windows.learnt())
        new = {target: tokens for target, tokens in known.items() if self._written.get(target) != tokens}
        rows = [(target, tokens, self._now().isoformat()) for target, tokens in new.items()]
        if not rows:
            await trio.lowlevel.checkpoint()
            return
        query = """
            INSERT INTO windows (target, tokens, learnt_at) VALUES (?, ?, ?)
            ON CONFLICT (target) DO UPDATE SET tokens = excluded.tokens, learnt_at = excluded.learnt_at
        """
        try:
            await self._store.transact(lambda connection: connection.executemany(query, rows).rowcount, repeatable=True)
        except StoreError as exc:
            _log.warning("learnt context windows are not stored: %s", exc)
        else:
            self._written.update(new)
