"""What a conversation must look like, wherever it is seen: in a model's request, on the wire, in the store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from clawft_trio import Message

LOST = "lost "
"""What a model says that is going to break: nobody may be left with it."""

REPEATED = frozenset({"look", "far__echo"})
"""Tools that are given the id of their call, and repeat it in their answer."""

_TAG = re.compile(r"\[(\w+)\.(\d+)\]")


def tag_in(text: str) -> tuple[str, int] | None:
    """The conversation and the number that a message says it has: `[3.1]`, `[local2.17]`."""
    found = _TAG.search(text)
    return None if found is None else (found[1], int(found[2]))


@attrs.frozen
class Line:
    """One message of a conversation, as far as it is looked at."""

    role: str
    text: str
    #: id and name of each call
    calls: tuple[tuple[str, str], ...] = ()
    #: the id of the call that it answers
    answers: str | None = None

    @classmethod
    def of(cls, message: Message) -> Line:
        """The line that *message* is."""
        calls = tuple((call.id, call.name) for call in message.tool_calls)
        return cls(message.role, message.text, calls, message.tool_call_id)

    @classmethod
    def of_wire(cls, message: Mapping[str, Any]) -> Line:
        """The line that a message in the body of an OpenAI-compatible request is."""
        content = message.get("content") or ""
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        calls = tuple((call["id"], call["function"]["name"]) for call in message.get("tool_calls") or ())
        return cls(str(message["role"]), text, calls, message.get("tool_call_id"))


def asked(lines: Sequence[Line]) -> str:
    """The tag of the message that is to be answered: `3.1`."""
    tags = [tag for line in lines if line.role == "user" and (tag := tag_in(line.text))]
    return "{}.{}".format(*tags[-1]) if tags else ""


def faults(lines: Sequence[Line], *, dangling: bool = False) -> Iterator[str]:
    """What is wrong with a conversation, in words.

    Args:
      dangling: whether the last calls may be without answers, because their turn was stopped.
    """
    yield from _faults_of_calls(lines, dangling=dangling)
    tags = [tag for line in lines if line.role == "user" and (tag := tag_in(line.text))]
    if len({chat for chat, _ in tags}) > 1:
        yield f"a conversation of several chats: {tags}"
    if any(before >= after for (_, before), (_, after) in zip(tags, tags[1:], strict=False)):
        yield f"a conversation out of order: {tags}"
    if any(LOST in line.text for line in lines if line.role == "assistant"):
        yield "a broken answer became part of a conversation"


def _faults_of_calls(lines: Sequence[Line], *, dangling: bool) -> Iterator[str]:
    waiting: deque[tuple[str, str]] = deque()
    for line in lines:
        if line.role == "tool":
            yield from _faults_of_answer(line, waiting.popleft() if waiting else ("", "nothing"))
            continue
        if waiting:
            yield f"not answered: {list(waiting)}"
        waiting = deque(line.calls)
    if waiting and not dangling:
        yield f"not answered in the end: {list(waiting)}"


def _faults_of_answer(line: Line, due: tuple[str, str]) -> Iterator[str]:
    id_, name = due
    if line.answers != id_:
        yield f"{line.answers} answered where {id_} ({name}) was due"
    elif name in REPEATED and id_ not in line.text and '"error"' not in line.text:
        yield f"{id_} ({name}) was answered {line.text!r}"
