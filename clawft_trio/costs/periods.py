"""Days and months of budgets: their keys and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import attrs

PeriodName = Literal["daily", "monthly"]


@attrs.frozen
class Period:
    """One day or one month of a budget."""

    name: PeriodName
    #: `2026-11-21`, or `2026-11`
    key: str
    ends: datetime


@attrs.frozen
class Calendar:
    """Hour at which the days of budgets begin. A month begins with its first day."""

    reset_hour_utc: int = attrs.field(default=0, validator=[attrs.validators.ge(0), attrs.validators.le(23)])

    def day(self, now: datetime) -> Period:
        """Return the day that contains *now*, a time with a zone."""
        midnight = self._shifted(now).replace(hour=0, minute=0, second=0, microsecond=0)
        return Period("daily", f"{midnight:%Y-%m-%d}", self._back(midnight + timedelta(days=1)))

    def month(self, now: datetime) -> Period:
        """Return the month that contains *now*, a time with a zone."""
        first = self._shifted(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        # 32 days after any first lie in the next month.
        return Period("monthly", f"{first:%Y-%m}", self._back((first + timedelta(days=32)).replace(day=1)))

    def _shifted(self, now: datetime) -> datetime:
        if now.tzinfo is None:
            raise ValueError("now() must give times with a zone")
        return now.astimezone(UTC) - timedelta(hours=self.reset_hour_utc)

    def _back(self, moment: datetime) -> datetime:
        return moment + timedelta(hours=self.reset_hour_utc)
