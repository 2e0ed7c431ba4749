"""The part of a session that a model is shown: pure functions over stored messages.

A session is stored whole. What a model is shown of it begins at a stored cut, so that requests begin with the same
bytes from turn to turn (prompt caches of providers compare prefixes), and it changes at a compaction only.
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
"""The name of the tool that reads the whole of a result which the model was shown in part or not at all."""


@attrs.frozen(kw_only=True)
class Compaction:
    """What stands between a stored session and what a model is shown of it."""

    #: messages up to this place are not shown
    cut: int = 0
    #: tool results up to this place are shown as one line each
    cleared: int = 0
    #: shown in place of the messages that were cut; empty: nothing is
    summary: str = ""


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message with its place in the store."""

    #: grows with every message of the store
    place: int
    #: when it was written: ISO 8601, UTC
    at: str
    message: Message


@attrs.frozen(kw_only=True)
class SessionTail:
    """The messages of a session since its cut, oldest first."""

    compaction: Compaction = Compaction()
    #: of the compaction; a later one is stored only on top of the newest
    version: int = 0
    rows: tuple[StoredMessage, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages as they are stored."""
        return tuple(row.message for row in self.rows)


def starts_of_turns(messages: Sequence[Message]) -> list[int]:
    """The indices at which a history may be cut: its beginning, those of user messages, and the end."""
    users = (index for index, message in enumerate(messages) if message.role == "user" and index)
    return [0, *users, len(messages)]


def first_within(messages: Sequence[Message], limit: int) -> int:
    """The index of the first message to show so that at most *limit* are shown: the end of a jump.

    Whole turns are counted from the first message on. Where they become more than *limit*, the oldest go until half
    of the limit is left; the newest turn stays if it fits by itself. So the result moves in jumps, and is the same
    for every later history until the next jump.
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
    """The messages of *tail* as a model is shown them, without the summary.

    Args:
      tail: the messages since the cut.
      readable: whether the model may read cleared results again by `READ_RESULT`.
    """
    cleared = tail.compaction.cleared
    if not tail.rows or tail.rows[0].place > cleared:
        return presentable(tail.messages)
    calls = {call.id: call for row in tail.rows for call in row.message.tool_calls}
    return presentable(
        cleared_result(row, calls, readable=readable) if row.place <= cleared else row.message for row in tail.rows
    )


def cleared_result(row: StoredMessage, calls: Mapping[str, ToolCall], *, readable: bool) -> Message:
    """The tool result of *row* as one line: what, when, how large, and how to get it again. Others stay as they are."""
    message = row.message
    text = message.text
    if message.role != "tool" or len(text) < WORTH_CLEARING:
        return message
    again = f' Read it again with {READ_RESULT}(id="{reference(row.place)}").' if readable else ""
    call = calls.get(message.tool_call_id or "")
    line = result_line(call, len(text), f" It is of {row.at[:16]}Z.{again}")
    return Message.tool(line, tool_call_id=message.tool_call_id or "")


def reference(place: int) -> str:
    """What `READ_RESULT` calls the result that is stored at *place*."""
    return f"m{place}"


def place_of(reference: str) -> int | None:
    """The place that *reference* names; None when it names another kind of result."""
    digits = reference.removeprefix("m")
    return int(digits) if reference != digits and digits.isdecimal() and len(digits) < 19 else None


def with_summary(messages: Sequence[Message], summary: str) -> tuple[Message, ...]:
    """*messages* with *summary* as a first part of the first user message.

    Not a message of its own: some servers refuse two messages of the user in a row.
    """
    first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    if not summary or first is None:
        return tuple(messages)
    text = f"[Summary of the earlier conversation]\n{summary}\n[End of the summary]\n\n"
    opened = attrs.evolve(messages[first], content=(Text(text), *messages[first].content))
    return (*messages[:first], opened, *messages[first + 1 :])


# --- calls and their results -------------------------------------------------------------------------


def presentable(messages: Iterable[Message]) -> tuple[Message, ...]:
    """*messages* with each call answered once, and each result behind its call: providers refuse anything else."""
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
