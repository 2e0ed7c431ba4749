"""Open a store by its place: a file, memory, or the address of a PostgreSQL database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from clawft_trio.errors import StoreError
from clawft_trio.store.address import is_address, unknown_scheme
from clawft_trio.store.interface import Durability, Store
from clawft_trio.store.migrations import Migration, checked
from clawft_trio.store.sqlite import open_sqlite
from clawft_trio.tracebacks import short_opening


@short_opening
@asynccontextmanager
async def open_store(
    path: Path | str | None,
    *,
    migrations: Iterable[Migration] = (),
    busy: float = 5.0,
    durability: Durability = "power",
) -> AsyncGenerator[Store, None]:
    """Open the store at *path*, or a new one in memory, and bring its schema up to date.

    A new file is accessible only to its user (0600), and so are the folders created for it. A store in memory uses no
    threads, so that tests in mock time stay exact.

    Args:
      path: a file, created if it is missing; `postgresql://…`, which needs the extra `postgres`; None is memory.
      migrations: the schema of every subpackage that will use it; other tables are left alone.
      busy: seconds to wait for locks of other processes, or for a database server that is not reachable.
      durability: what a commit survives at most: a power cut (one fsync each), or the end of the process.

    Raises:
      StoreCorrupt: the file is damaged or another application's. It is not changed.
      StoreTooNew: a later version of this package has written it. It is not changed.
      StoreReadOnly: it cannot be written.
      StoreBusy: other processes kept it locked, or the server is not reachable.
      StoreError: it cannot be opened, or *path* is an address and psycopg is not installed.

    Cancellation: everything is closed; migrations are applied completely or not at all.
    """
    steps = checked(migrations)
    if scheme := unknown_scheme(path):
        raise StoreError(f"a store is a file or postgresql://…, not {scheme}://…")
    if is_address(path):
        # Imported here, because psycopg is an extra and its import takes long.
        try:
            from clawft_trio.store.postgres import open_postgres  # noqa: PLC0415
        except ImportError as exc:
            raise StoreError("a store on PostgreSQL needs the extra: pip install 'clawft-trio[postgres]'") from exc

        async with open_postgres(str(path), steps, busy=busy) as server:
            yield server
    else:
        file = None if path is None else Path(path)
        async with open_sqlite(file, steps, busy=busy, durability=durability) as store:
            yield store
