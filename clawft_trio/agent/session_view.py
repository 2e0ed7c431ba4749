"""The part of a session that a model receives: pure functions over stored messages.

A session is stored completely. The part that a model receives begins at a stored cut, so that requests begin with the
same bytes from turn to turn (prompt caches of providers compare prefixes); only a compaction moves the cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

import attrs

from clawft_trio.chat import Message, Text, ToolCall
from clawft_trio.codec import encode_json
from clawft_trio.pipeline.assembler import WORTH_CLEARING, result_line

NO_RESULT = encode_json({"error": "cancelled", "message": "The call was cancelled before it had a result."}).decode()
"""The result of a call that has none in the store."""

READ_RESULT = "read_result"
"""The name of the tool that reads a complete result of which the model received only a part or one line."""


@attrs.frozen(kw_only=True)
class Compaction:
    """The cut of a session, its cleared results and its summary."""

    #: messages up to this place are not sent to models
    cut: int = 0
    #: tool results up to this place are sent as one line each
    cleared: int = 0
    #: text that replaces the messages before the cut; empty: none
    summary: str = ""


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message with its place in the store."""

    #: grows with every message of the store
    place: int
    #: time of writing: ISO 8601, UTC
    at: str
    message: Message


@attrs.frozen(kw_only=True)
class SessionTail:
    """The messages of a session since its cut, oldest first."""

    compaction: Compaction = Compaction()
    #: version of the compaction; a new one must be based on the newest
    version: int = 0
    rows: tuple[StoredMessage, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The stored messages, unchanged."""
        return tuple(row.message for row in self.rows)


def starts_of_turns(messages: Sequence[Message]) -> list[int]:
    """Return the indices at which a history may be cut: its beginning, each user message, and its end."""
    users = (index for index, message in enumerate(messages) if message.role == "user" and index)
    return [0, *users, len(messages)]


def first_within(messages: Sequence[Message], limit: int) -> int:
    """Return the index of the first message to send, so that at most *limit* are sent.

    Whole turns are counted from the first message on. When they exceed *limit*, the oldest are left out until half of
    the limit is left; the newest turn stays if it fits alone. So the index moves in jumps, and is the same for every
    longer history until the next jump.
    """
    boundaries = starts_of_turns(messages)
    first = 0
    for start, end in pairwise(boundaries):
        if end - first > limit:
            possible = [boundary for boundary in boundaries if first < boundary <= start]
            fitting = [boundary for boundary in possible if end - boundary <= limit // 2]
            newest = start if end - start <= limit else end
            first = fitting[0] if fitting else newest
    return first


def shown(tail: SessionTail, *, readable: bool) -> tuple[Message, ...]:
    """Return the messages of *tail* as a model receives them, without the summary.

    Args:
      tail: the messages since the cut.
      readable: whether the model can read cleared results with `READ_RESULT`.
    """
    cleared = tail.compaction.cleared
    if not tail.rows or tail.rows[0].place > cleared:
        return presentable(tail.messages)
    calls = {call.id: call for row in tail.rows for call in row.message.tool_calls}
    return presentable(
        cleared_result(row, calls, readable=readable) if row.place <= cleared else row.message for row in tail.rows
    )


def cleared_result(row: StoredMessage, calls: Mapping[str, ToolCall], *, readable: bool) -> Message:
    """Replace the tool result of *row* by one line: call, size, time, how to read it. Other messages stay unchanged."""
    message = row.message
    text = message.text
    if message.role != "tool" or len(text) < WORTH_CLEARING:
        return message
    again = f' Read it again with {READ_RESULT}(id="{reference(row.place)}").' if readable else ""
    call = calls.get(message.tool_call_id or "")
    line = result_line(call, len(text), f" It is of {row.at[:16]}Z.{again}")
    return Message.tool(line, tool_call_id=message.tool_call_id or "")


def reference(place: int) -> str:
    """Return the id for `READ_RESULT` of the result that is stored at *place*."""
    return f"m{place}"


def place_of(reference: str) -> int | None:
    """Return the place of *reference*; None when it is the reference of a result stored by `keep_result`."""
    digits = reference.removeprefix("m")
    return int(digits) if reference != digits and digits.isdecimal() and len(digits) < 19 else None


def with_summary(messages: Sequence[Message], summary: str) -> tuple[Message, ...]:
    """Insert *summary* as the first part of the first user message.

    It is not a separate message, because some servers refuse two consecutive user messages.
    """
    first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    if not summary or first is None:
        return tuple(messages)
    text = f"[Summary of the earlier conversation]\n{summary}\n[End of the summary]\n\n"
    opened = attrs.evolve(messages[first], content=(Text(text), *messages[first].content))
    return (*messages[:first], opened, *messages[first + 1 :])


def presentable(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return *messages* with exactly one result after each call, because providers refuse anything else."""
    shown: list[Message] = []
    unanswered: dict[str, ToolCall] = {}
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            shown.extend(_results_of(unanswered, group))
            continue
        for message in group:
            shown.extend(_missing(unanswered))
            shown.append(message)
            unanswered.update((call.id, call) for call in message.tool_calls)
    return (*shown, *_missing(unanswered))


def _results_of(unanswered: dict[str, ToolCall], results: Iterable[Message]) -> Iterator[Message]:
    for result in results:
        if result.tool_call_id in unanswered:
            del unanswered[result.tool_call_id]
            yield result


def _missing(unanswered: dict[str, ToolCall]) -> Iterator[Message]:
    while unanswered:
        yield Message.tool(NO_RESULT, tool_call_id=unanswered.pop(next(iter(unanswered))).id)
