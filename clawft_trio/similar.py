"""Suggestions for misspelled names, with bounded cost for any input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_LONGEST_NAME = 48
"""Compared characters of a name: the cost of difflib grows with the square of the length."""

_MOST_NAMES = 1000
"""Names that are ranked by common pairs of letters: about 5 µs each."""

_MOST_COMPARED = 12
"""Names that difflib compares: about 0.2 ms each."""


def closest(name: str, known: Iterable[str], *, most: int = 1) -> list[str]:
    """Return the names among *known* that are most similar to *name*, best first; none when nothing is similar.

    The names that share the most pairs of letters with *name* are compared by `difflib`. This takes at most about
    10 ms, for any input.

    Args:
      name: the misspelled name.
      known: names of any number and length. The first 1 000 are ranked, by 48 characters of each.
      most: how many to return.
    """
    wanted = name[:_LONGEST_NAME]
    pairs = _pairs(wanted)
    ranked = {one[:_LONGEST_NAME]: one for one in islice(known, _MOST_NAMES)}
    candidates = sorted(ranked, key=lambda one: len(pairs & _pairs(one)), reverse=True)[:_MOST_COMPARED]
    return [ranked[one] for one in difflib.get_close_matches(wanted, candidates, n=most)]


def _pairs(name: str) -> set[tuple[str, str]]:
    # The name's ends count as letters, so that a name of one letter has pairs.
    return set(zip(f"^{name}", f"{name}$", strict=True))
