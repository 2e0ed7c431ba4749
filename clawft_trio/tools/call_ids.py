"""Repair of call ids: every call has one that can be stored, and no id occurs twice."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from clawft_trio.chat import ToolCall
from clawft_trio.keys import storable_text

MAX_ID = 16_384
"""Characters of an id. Some gateways put a signature of several thousand characters into it."""


def repair_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return *calls* where each has a unique id of at most `MAX_ID` characters that a store can keep.

    Valid ids do not change.

    Repair the message with the calls in the same way: providers refuse a tool result without a call, and a call without
    a tool result.
    """
    taken = {call.id for call in calls}
    seen: set[str] = set()
    repaired = []
    for index, call in enumerate(calls):
        fresh = call
        wanted = call.id if _is_usable(call.id) else f"call_{index}"
        if wanted != call.id or wanted in seen:
            fresh = attrs.evolve(call, id=_free(wanted, taken))
        taken.add(fresh.id)
        seen.add(fresh.id)
        repaired.append(fresh)
    return tuple(repaired)


def _is_usable(call_id: str) -> bool:
    return 0 < len(call_id) <= MAX_ID and storable_text(call_id) == call_id


def _free(wanted: str, taken: set[str]) -> str:
    free, number = wanted, 2
    while free in taken:
        free = f"{wanted}_{number}"
        number += 1
    return free
