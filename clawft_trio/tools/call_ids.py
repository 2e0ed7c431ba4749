"""Call ids as they have to be: one for each call, and each only once."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from clawft_trio.chat import ToolCall


def repair_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """*calls* with an id each, and each id once. What is in order stays as it is.

    The message that holds the calls has to be repaired the same way: providers refuse an answer without a call,
    and a call without an answer.
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
