"""Repair of call ids: every call has one, and no id occurs twice."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from clawft_trio.chat import ToolCall


def repair_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return *calls* where each has a unique id. Valid ids do not change.

    Repair the message with the calls in the same way: providers refuse a tool result without a call, and a call without
    a tool result.
    """
    taken = {call.id for call in calls}
    seen: set[str] = set()
    repaired = []
    for index, call in enumerate(calls):
        fresh = call
        if not call.id or call.id in seen:
            fresh = attrs.evolve(call, id=_free(call.id or f"call_{index}", taken))
        taken.add(fresh.id)
        seen.add(fresh.id)
        repaired.append(fresh)
    return tuple(repaired)


def _free(wanted: str, taken: set[str]) -> str:
    free, number = wanted, 2
    while free in taken:
        free = f"{wanted}_{number}"
        number += 1
    return free
