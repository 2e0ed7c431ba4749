"""Settlement of reservations, with the next write of their turn or at once, and retries while that is impossible."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial

import trio

from clawft_trio.backoff import backoff
from clawft_trio.costs import charges
from clawft_trio.costs.ledger import DURABILITY, Ledger, Write
from clawft_trio.costs.owed import OwedFile
from clawft_trio.costs.records import Claim, Closing, Reservation
from clawft_trio.errors import StoreError
from clawft_trio.store.ownership import Ownership

_log = logging.getLogger("clawft_trio.costs")

_AT_ONCE = 256
"""Largest number of settlements in one transaction."""

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 30.0
"""Seconds between two attempts to write the pending settlements: doubled each time, with jitter."""

_LONGEST_WAIT_CLOSING = 2.0
"""The same while closing, where one attempt must fall into the last seconds of the grace period."""

_CLOSING_GRACE = 30.0
"""Seconds that writing the pending settlements may take while closing: several times a store's wait for a lock."""


_ANY = Claim(sender_id="", target="")
"""A placeholder, because the id alone identifies the reservation."""


class Settling:
    """Writes settlements to *ledger*, and keeps those that cannot be written yet.

    Args:
      ledger: the ledger that they are written to.
      owed: the file that keeps them after this process ends; None keeps them in memory only.
    """

    def __init__(self, ledger: Ledger, owed: OwedFile | None = None) -> None:
        self._ledger = ledger
        self._file = owed
        #: ownership with the fenced writes that settlements join; None: each settlement is written at once
        self.ownership: Ownership | None = None
        #: settlements that are not written yet, by the id of the reservation
        self._owed: dict[int, Closing] = {}
        #: ids of those that are in the file, too
        self._in_file: set[int] = set()
        self._new = trio.Event()
        self._writing = trio.Lock()

    def __repr__(self) -> str:
        return f"<Settling: {len(self._owed)} charges not written>"

    def __len__(self) -> int:
        return len(self._owed)

    async def close(self, closing: Closing, turn_id: str = "") -> None:
        """Write *closing*, with the next write of the turn *turn_id* if its writes are fenced; keep it if that fails.

        Raises:
          StoreError: the ledger cannot be written now; *closing* is kept.

        Cancellation: it is written or kept.
        """
        if self.ownership is not None and self.ownership.guards(turn_id):
            self._join(self.ownership, turn_id, closing)
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._close_one(closing)
            return
        except StoreError as exc:
            self._keep(closing)
            error = exc
        except BaseException:
            self._keep(closing)
            raise
        await self._append()
        raise error

    def _join(self, ownership: Ownership, turn_id: str, closing: Closing) -> None:
        def ended(written: bool) -> None:
            if not written:
                self._keep(closing)

        step = partial(charges.close, self._ledger.moment(), closing)
        ownership.postpone(turn_id, step, outlives_turn=True, ended=ended)

    def write_of(self, turn_id: str) -> Write | None:
        """Return how to write a reservation of *turn_id*: with the pending steps of the turn; None: alone."""
        if self.ownership is None or not self.ownership.guards(turn_id):
            return None
        return partial(self.ownership.write, turn_id, durability=DURABILITY, concurrent=False)

    def _keep(self, closing: Closing) -> None:
        """Keep *closing* until `serve` or the next reservation writes it.

        If this process crashes before, the reservation is still open in the ledger: when its lease has ended, the
        ledger charges it as lost.
        """
        self._owed[closing.id] = closing
        self._new.set()

    async def _append(self) -> None:
        """Append the pending settlements to the file, so that the next process finds them if this one ends first."""
        missing = [closing for id_, closing in self._owed.items() if id_ not in self._in_file]
        if self._file is None or not missing:
            await trio.lowlevel.checkpoint()
            return
        self._in_file.update(closing.id for closing in missing)
        try:
            await self._file.append(missing)
        except OSError:
            _log.exception("%d settlements are kept in memory alone", len(missing))
        except trio.Cancelled:
            self._in_file.difference_update(closing.id for closing in missing)
            raise

    async def _close_one(self, closing: Closing) -> None:
        reservation = Reservation(id=closing.id, claim=_ANY, amount=None)
        if closing.state == "refunded":
            await self._ledger.refund(reservation, outcome=closing.bill.outcome)
        else:
            await self._ledger.settle(reservation, closing.bill)

    async def write_owed(self) -> None:
        """Try once to write all pending settlements.

        A settlement that the store cannot store does not stop the others. If another task is writing them, this one
        does not wait: until a settlement is written, the reserved amount counts.

        Raises:
          StoreError: the ledger cannot be written now; the rest is still pending.

        Cancellation: each is written or still pending.
        """
        await trio.lowlevel.checkpoint()
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            waiting = list(self._owed.values())
            # The first one alone: while the store is unavailable, one short transaction is enough to detect that.
            await self._write(waiting[:1])
            for start in range(1, len(waiting), _AT_ONCE):
                await self._write(waiting[start : start + _AT_ONCE])
            if self._in_file and not self._owed:
                self._in_file.clear()
                await self.read_file()
        finally:
            self._writing.release()

    async def _write(self, closings: Sequence[Closing]) -> None:
        """Write *closings* in one transaction or, if one of them fails, one by one."""
        try:
            if len(closings) == 1 and closings[0].id in self._owed:
                await self._close_one(closings[0])
            elif closings:
                await self._ledger.close_all(closings)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - errors of the database: sqlite3's, psycopg's, an OverflowError
            if len(closings) > 1:
                for closing in closings:
                    await self._write([closing])
                return
            # The database's error for a value that it cannot store: it would never be accepted. The reserved amount
            # counts until the lease ends, and the cost of the request from then on.
            _log.exception("the settlement of reservation %d cannot be written and is given up", closings[0].id)
        for closing in closings:
            self._owed.pop(closing.id, None)

    async def read_file(self) -> None:
        """Write the settlements in the file, from this process or an earlier one, and delete it.

        Raises:
          StoreError: the ledger cannot be written; the file stays.

        Cancellation: each is written or still in the file.
        """
        if self._file is None:
            return
        try:
            closings, taken = await self._file.take()
            if taken is not None:
                for start in range(0, len(closings), _AT_ONCE):
                    await self._write(closings[start : start + _AT_ONCE])
                await self._file.remove(taken)
        except OSError:
            _log.exception("the file of what is owed cannot be used")

    async def serve(self) -> None:
        """Write pending settlements, with growing waits in between, until cancelled; then for a bounded time.

        Cancellation: pending settlements are written within its grace period, or stay in the file.
        """
        recovered = self._file is None
        try:
            while True:
                recovered = await self._write_until_done(recovered=recovered)
                await self._new.wait()
                self._new = trio.Event()
        finally:
            with trio.move_on_after(_CLOSING_GRACE, shield=True):
                await self._write_until_done(recovered=True, longest=_LONGEST_WAIT_CLOSING)  # noqa: ASYNC102 - shielded and bounded above
            if self._owed:
                _log.error("%d settlements are owed at the end", len(self._owed))

    async def _write_until_done(self, *, recovered: bool, longest: float = _LONGEST_WAIT) -> bool:
        """Write pending settlements and, unless *recovered*, those of an earlier process; return True when done."""
        failures = 0
        while self._owed or not recovered:
            try:
                await self.write_owed()
                if not recovered:
                    await self.read_file()
                    recovered = True
            except StoreError as exc:
                _log.warning("%d settlements are still owed: %s", len(self._owed), exc)
                await self._append()
            if self._owed or not recovered:
                failures += 1
                wait = backoff(failures, first=_FIRST_WAIT, longest=longest)
                await trio.sleep(random.uniform(wait / 2, wait))
        await trio.lowlevel.checkpoint()
        return True
