"""US dollars as they are kept: whole picodollars, so that SQLite can add them up without rounding."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_PICO = Decimal(10) ** 12
"""Prices per million tokens have at most six decimals, so one token is a whole number of picodollars."""

_MOST = Decimal(1_000_000)
"""Dollars of one attempt: whatever asks for more is a mistake, and 64 bits hold nine of them."""

SATURATED = 9 * 10**18
"""Picodollars at which a sum of many attempts stops, because 64 bits hold no more."""


def to_pico(amount: Decimal) -> int:
    """*amount* in picodollars, rounded up, and at most a million dollars.

    Raises:
      ValueError: it is negative, or no number.
    """
    return int((min(dollars(amount), _MOST) * _PICO).to_integral_value(ROUND_CEILING))


def from_pico(picodollars: int) -> Decimal:
    """Dollars again, exactly."""
    # PostgreSQL adds up in its own decimal type.
    return Decimal(int(picodollars)) / _PICO


def as_kept(amount: Decimal) -> Decimal:
    """*amount* as the ledger has it."""
    return from_pico(to_pico(amount))


def dollars(amount: Decimal | float | str) -> Decimal:
    """*amount* as a Decimal, by way of `str`: 0.1 is a tenth of a dollar and not its nearest binary fraction.

    Raises:
      ValueError: it is negative, or no number.
    """
    value = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    if not value.is_finite() or value < 0:
        raise ValueError(f"expected US dollars, 0 or more, got {amount}")
    return value


def limit(amount: Decimal | float | str | None) -> Decimal | None:
    """A limit as permissions and configs spell it: 0 is unlimited, and so is None.

    Raises:
      ValueError: it is negative, or no number.
    """
    return None if amount is None else dollars(amount) or None
