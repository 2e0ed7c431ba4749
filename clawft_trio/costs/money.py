"""US dollars as whole picodollars, which SQLite can add without rounding."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_PICO = Decimal(10) ** 12
"""Prices per million tokens have at most six decimals, so one token is a whole number of picodollars."""

_MOST = Decimal(1_000_000)
"""Largest charge of one attempt in dollars: more is a mistake, and 64 bits hold nine times as much."""

SATURATED = 9 * 10**18
"""Picodollars at which a sum of many attempts stops, because 64 bits hold little more."""


def to_pico(amount: Decimal) -> int:
    """Convert *amount* to picodollars, rounded up, and at most a million dollars.

    Raises:
      ValueError: *amount* is negative or not a number.
    """
    return int((min(dollars(amount), _MOST) * _PICO).to_integral_value(ROUND_CEILING))


def from_pico(picodollars: int) -> Decimal:
    """Convert picodollars to dollars, exactly."""
    # PostgreSQL returns sums in its own decimal type.
    return Decimal(int(picodollars)) / _PICO


def as_kept(amount: Decimal) -> Decimal:
    """Round *amount* as the ledger does."""
    return from_pico(to_pico(amount))


def dollars(amount: Decimal | float | str) -> Decimal:
    """Convert *amount* to a Decimal, from its `str`: 0.1 is a tenth of a dollar and not its nearest binary fraction.

    Raises:
      ValueError: *amount* is negative or not a number.
    """
    value = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    if not value.is_finite() or value < 0:
        raise ValueError(f"expected US dollars, 0 or more, got {amount}")
    return value


def limit(amount: Decimal | float | str | None) -> Decimal | None:
    """Convert a limit from permissions or the configuration: 0 and None are unlimited.

    Raises:
      ValueError: *amount* is negative or not a number.
    """
    return None if amount is None else dollars(amount) or None
