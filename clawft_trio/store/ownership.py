"""Which sessions and channels this process owns, and the fence around the writes of their turns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import attrs
import trio

from clawft_trio.chat import new_id
from clawft_trio.errors import LeaseLost, StoreError
from clawft_trio.store.interface import Connection, Durability, Store, Work
from clawft_trio.store.leases import (
    Lease,
    acquire,
    check,
    expire_ended,
    new_owner,
    outlasts,
    release,
    release_all,
    release_named,
    renew,
    shorten,
)

T = TypeVar("T")

RELEASED = "released"
"""Topic of the notification that a process has freed its leases."""

_RENEWALS = 4
"""Renewals within the length of a lease: three may be late."""


_LONGEST = 8
"""Lengths for which a lease of another process may be valid. More than one, because processes may differ in theirs."""

_GRACE = 5.0
"""Seconds that freeing the leases may take."""


def session_name(session: str) -> str:
    """Return the name of a session's lease."""
    return f"session:{session}"


def channel_name(channel: str) -> str:
    """Return the name of a channel's lease."""
    return f"channel:{channel}"


@attrs.frozen(eq=False)
class _Step:
    """A write that waits for the next write of its turn."""

    work: Work[object]
    #: whether it is needed after the turn has ended
    outlives_turn: bool
    #: called once: with True when it is written, with False when the turn has ended without it
    ended: Callable[[bool], None]
    #: as for `Store.transact`
    large: bool = False


@attrs.define(eq=False)
class _Guarded:
    """A turn with fenced writes."""

    lease: Lease
    #: whether no earlier run of the turn can have written steps
    fresh: bool
    pending: list[_Step] = attrs.field(factory=list)


class Ownership:
    """The leases of one process, for all of its tasks.

    Args:
      store: store with the leases; it needs `LEASE_MIGRATIONS`.
      length: seconds after the last renewal when another process may take a lease over.
      owner: name of this process. When empty, it is generated, which reads files; `open_ownership` does that in a
        thread.
    """

    def __init__(self, store: Store, *, length: float = 10.0, owner: str = "") -> None:
        self.store = store
        self.length = length
        self.owner: str = owner or (new_id() if store.private else new_owner())
        self._longest = length * _LONGEST
        self._held: dict[str, Lease] = {}
        self._turns: dict[str, _Guarded] = {}
        self._on_lost: list[Callable[[str], None]] = []
        self._renewed = -float("inf")
        #: by name: when `acquire` last took or renewed the lease
        self._acquired: dict[str, float] = {}
        #: names that the last renewal found and that this process has no record of
        self._unknown: set[str] = set()

    def __repr__(self) -> str:
        return f"<Ownership {len(self._held)} leases>"

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call *callback* with the name of every lease that another process has taken."""
        self._on_lost.append(callback)

    def lease_of(self, name: str) -> Lease | None:
        """Return the lease of *name*, if this process holds it according to its own record."""
        return self._held.get(name)

    def is_valid(self, name: str) -> bool:
        """Whether this process holds the lease of *name*, and it cannot have expired by this process's clock.

        It may expire when this process or its machine was stopped, or the store could not be reached for too long.
        """
        if name not in self._held:
            return False
        since = max(self._renewed, self._acquired.get(name, -float("inf")))
        return self.store.private or trio.current_time() < since + self.length

    @property
    def held(self) -> int:
        """Number of leases that this process holds, according to its own record."""
        return len(self._held)

    def note(self, lease: Lease) -> None:
        """Record a lease that a transaction has acquired."""
        self._held[lease.name] = lease

    def forget(self, name: str) -> None:
        """Remove the record of a lease that a transaction has released."""
        self._held.pop(name, None)

    def lose(self, name: str) -> None:
        """Remove the record of a lease that another process has taken, and call the callbacks."""
        if self._held.pop(name, None) is not None:
            for callback in self._on_lost:
                callback(name)

    async def acquire(self, name: str) -> bool:
        """Take the lease of *name*, if it is free, expired, or of a process that has ended.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it was not taken.
        """

        def take(connection: Connection) -> Lease | None:
            found = acquire(connection, name, self.owner, self.length, again=True)
            if found is None and self.expire_ended_in(connection):
                found = acquire(connection, name, self.owner, self.length, again=True)
            return found

        started = trio.current_time()
        lease = await self.store.transact(take, concurrent=True, durability="process", repeatable=True)
        if lease is not None:
            self.note(lease)
            self._acquired[name] = started
        return lease is not None

    def acquire_in(self, connection: Connection, name: str) -> Lease | None:
        """Take the lease of *name* inside a transaction, if no task of any process has it; `note` it after the commit.

        A lease that this process holds is never taken, not even when it has expired because its renewal is late: it is
        still valid, and the turn that holds it may end at any time.
        """
        if name in self._held:
            return None
        return acquire(connection, name, self.owner, self.length)

    def expire_ended_in(self, connection: Connection) -> int:
        """Expire the leases of processes of this machine that have ended, inside a transaction; return their number.

        Leases that are valid for longer than any process asks for, because the database's clock was set back, are
        shortened.
        """
        shorten(connection, self._longest)
        return expire_ended(connection)

    def has_overlong(self, connection: Connection) -> bool:
        """Whether `expire_ended_in` would shorten a lease."""
        return outlasts(connection, self._longest)

    async def release(self, name: str) -> None:
        """Free the lease of *name*, if it is held.

        Raises:
          StoreError: the store cannot be used; the lease expires.

        Cancellation: it is free, or expires.
        """
        lease = self._held.pop(name, None)
        if lease is None:
            await trio.lowlevel.checkpoint()
        else:
            free = partial(release, lease=lease)
            await self.store.transact(free, concurrent=True, durability="process", repeatable=True)

    async def release_all(self, prefix: str = "") -> None:
        """Free the leases of this process with names that begin with *prefix*.

        Raises:
          StoreError: the store cannot be used; they expire.

        Cancellation: they are free, or expire.
        """
        for name in [name for name in self._held if name.startswith(prefix)]:
            del self._held[name]

        def free(connection: Connection) -> None:
            if release_all(connection, self.owner, prefix):
                connection.execute("SELECT notify_listeners(?)", (f"{RELEASED}\n",)).fetchone()

        await self.store.transact(free, concurrent=True, durability="process", repeatable=True)

    async def keep_renewed(self) -> None:
        """Renew the leases and write pending steps, until cancelled.

        Raises:
          Exception: raised by a callback; while the store cannot be used, it retries.

        Cancellation: the leases expire, unless `release_all` is called.
        """
        self._renewed = trio.current_time()
        while True:
            await trio.sleep(self.length / _RENEWALS)
            try:
                await self._renew()
            except StoreError:
                if trio.current_time() > self._renewed + self.length:
                    # Other processes may have taken all leases.
                    for name in tuple(self._held):
                        self.lose(name)

    async def _renew(self) -> None:
        started, held = trio.current_time(), tuple(self._held)
        if held:
            renewing = partial(renew, owner=self.owner, length=self.length)
            renewed = await self.store.transact(renewing, concurrent=True, durability="process", repeatable=True)
            await self._release_forgotten(renewed)
            for name in held:
                # A lease that was released or lost in the meantime is no longer held.
                if name not in renewed and name in self._held:
                    self.lose(name)
        self._renewed = started
        for turn_id, guarded in tuple(self._turns.items()):
            if guarded.pending:
                with suppress(LeaseLost):
                    await self.write(turn_id, lambda _: None, durability="process")

    async def _release_forgotten(self, renewed: frozenset[str]) -> None:
        """Free the leases that the database has but this process has no record of: the result of acquiring was lost.

        A lease that was acquired just now is recorded before the next renewal.
        """
        unknown = {name for name in renewed if name not in self._held}
        for name in unknown & self._unknown:
            free = partial(release_named, name=name, owner=self.owner)
            await self.store.transact(free, concurrent=True, durability="process", repeatable=True)
        self._unknown = unknown

    def guard(self, turn_id: str, lease: Lease, *, fresh: bool = False) -> None:
        """Fence the writes of *turn_id* with *lease* from now on; *fresh*: this is its first run."""
        self._turns[turn_id] = _Guarded(lease, fresh)

    def is_fresh(self, turn_id: str) -> bool:
        """Whether *turn_id* is fenced and in its first run, so that there are no steps of an earlier one."""
        guarded = self._turns.get(turn_id)
        return guarded is not None and guarded.fresh

    def unguard(self, turn_id: str) -> None:
        """End a turn; its pending steps are dropped."""
        guarded = self._turns.pop(turn_id, None)
        for step in () if guarded is None else guarded.pending:
            step.ended(False)

    def guards(self, turn_id: str) -> bool:
        """Return whether the writes of *turn_id* are fenced."""
        return turn_id in self._turns

    def postpone(
        self,
        turn_id: str,
        work: Work[object],
        *,
        outlives_turn: bool,
        large: bool = False,
        ended: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Write a step together with the next write of the turn, or within a quarter of the leases' length.

        *work* may run twice. Unless it *outlives_turn*, it is left out of the write that ends the turn. *ended* is
        called once: with True when it is written, with False when the turn has ended without it.

        Raises:
          LeaseLost: the turn has ended.
        """
        guarded = self._turns.get(turn_id)
        if guarded is None:
            raise LeaseLost("the turn is over")
        guarded.pending.append(_Step(work, outlives_turn, ended, large=large))

    async def write(
        self,
        turn_id: str,
        work: Work[T],
        *,
        concurrent: bool = True,
        durability: Durability = "power",
        ends: bool = False,
    ) -> T:
        """Run *work* in one transaction with the pending steps of the turn, if its lease is still held.

        *work* may run again after it was committed; see `Store.transact`, also for *concurrent*. When it *ends* the
        turn, steps that only its next run would need are left out.

        Raises:
          LeaseLost: another process has taken the session over. Nothing was written.
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that nothing was written.
        """
        guarded = self._turns.get(turn_id)
        if guarded is None:
            await trio.lowlevel.checkpoint()
            raise LeaseLost("the turn is over")
        lease, pending = guarded.lease, tuple(guarded.pending)
        steps = [step for step in pending if step.outlives_turn or not ends]
        try:
            result = await self.store.transact(
                _fenced(lease, [step.work for step in steps], work),
                concurrent=concurrent,
                durability=durability,
                repeatable=True,
                large=any(step.large for step in steps),
            )
        except LeaseLost:
            if self._held.get(lease.name) == lease:
                self.lose(lease.name)
            raise
        guarded.pending = [step for step in guarded.pending if step not in pending]
        for step in pending:
            step.ended(step in steps)
        return result


@asynccontextmanager
async def open_ownership(
    store: Store, *, durable: bool, length: float = 10.0
) -> AsyncGenerator[Ownership | None, None]:
    """Hold the leases of this process while the block runs, and free them at its end; None when *durable* is false.

    Args:
      store: store with the leases.
      durable: whether anything in *store* outlives this process.
      length: seconds after the last renewal when another process may take a lease over.

    Cancellation: the leases are freed, or expire.
    """
    if not durable:
        await trio.lowlevel.checkpoint()
        yield None
        return
    owner = new_id() if store.private else await trio.to_thread.run_sync(new_owner)
    ownership = Ownership(store, length=length, owner=owner)
    try:
        yield ownership
    finally:
        with trio.move_on_after(_GRACE, shield=True), suppress(StoreError):
            await ownership.release_all()


def _fenced(lease: Lease, pending: Sequence[Work[object]], work: Work[T]) -> Work[T]:
    def run(connection: Connection) -> T:
        check(connection, lease)
        for step in pending:
            step(connection)
        return work(connection)

    return run
