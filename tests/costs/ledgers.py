"""Ledgers, clocks and targets for tests of money."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from clawft_trio.costs import MIGRATIONS, Calendar, Claim, Ledger
from clawft_trio.store import open_store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Clock:
    """Calendar time that moves when a test says so."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, **time: float) -> None:
        self.at += timedelta(**time)


@asynccontextmanager
async def open_ledger(
    clock: Clock | None = None, *, path: Path | None = None, lease: float = 900.0, reset_hour_utc: int = 0
) -> AsyncGenerator[Ledger, None]:
    async with open_store(path, migrations=MIGRATIONS, durability="process", busy=30.0) as store:
        yield Ledger(store, calendar=Calendar(reset_hour_utc), lease=lease, now=clock or Clock())


def claim(sender: str = "telegram:ana", target: str = "p/m", **more: str) -> Claim:
    return Claim(sender_id=sender, target=target, **more)


def usd(amount: str) -> Decimal:
    return Decimal(amount)
