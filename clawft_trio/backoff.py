"""Exponential backoff: the formula for waits that grow with each failure."""

from __future__ import annotations

# After 40 doublings every reasonable policy has reached its longest wait; after 1023 a float overflows.
_MOST_STEPS = 40


def backoff(failures: int, *, first: float, longest: float, multiplier: float = 2.0) -> float:
    """Return the seconds to wait after *failures* in a row: `first * multiplier**(failures - 1)`, at most *longest*."""
    return min(longest, first * multiplier ** min(failures - 1, _MOST_STEPS))
