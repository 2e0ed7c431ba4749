"""Pairs tool calls with their results in a history: each call has one result, right after it, in call order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from clawft_trio.chat import Message

NO_RESULT = "No result: the call was interrupted before it was answered."
"""Tool result that a model gets for a call without one."""


def mend(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the conversation with each call's result right after it, in call order, and without refused turns.

    A call without a result gets `NO_RESULT`. Results without a call and second results are left out; messages between a
    call and its results are moved after them. A turn that a model refused is left out together with its question, as
    Anthropic's documentation requires, because the model refuses everything that follows it. A history that is in order
    is returned unchanged.
    """
    whole = tuple(messages)
    if in_order(whole):
        return whole
    kept = _without_refused(whole)
    mended: list[Message] = []
    for place, message in enumerate(kept):
        if message.role == "tool":
            continue
        mended.append(message)
        if message.tool_calls:
            mended.extend(_results(message, kept[place + 1 :]))
    return tuple(mended)


def in_order(messages: Sequence[Message]) -> bool:
    """Return whether `mend` would change nothing."""
    expected: deque[str] = deque()
    for message in messages:
        if message.role == "tool":
            if not expected or expected.popleft() != message.tool_call_id:
                return False
        elif expected or message.refused:
            return False
        elif message.tool_calls:
            expected.extend(call.id for call in message.tool_calls)
    return not expected


def _without_refused(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return *messages* without the turns that were refused.

    The turn that is being answered keeps its question: only its refused answers are left out.
    """
    if not any(message.refused for message in messages):
        return messages
    kept: list[Message] = []
    turns = _turns(messages)
    for number, turn in enumerate(turns):
        if not any(message.refused for message in turn):
            kept.extend(turn)
        elif number == len(turns) - 1 and not turn[-1].refused:
            kept.extend(message for message in turn if not message.refused)
        else:
            kept.extend(message for message in turn if message.role == "system")
    return tuple(kept)


def _turns(messages: Iterable[Message]) -> list[list[Message]]:
    """Return the messages grouped by the user message that each belongs to."""
    turns: list[list[Message]] = [[]]
    for message in messages:
        if message.role == "user":
            turns.append([])
        turns[-1].append(message)
    return turns


def _results(calling: Message, after: Iterable[Message]) -> list[Message]:
    """Return a result for each call of *calling*, from the messages before the next calls."""
    given: dict[str, deque[Message]] = {}
    for message in after:
        if message.tool_calls:
            break
        if message.role == "tool" and message.tool_call_id is not None:
            given.setdefault(message.tool_call_id, deque()).append(message)
    return [
        given[call.id].popleft() if given.get(call.id) else Message.tool(NO_RESULT, tool_call_id=call.id)
        for call in calling.tool_calls
    ]
