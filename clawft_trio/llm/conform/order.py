"""The order of roles that a target accepts: first and last message, repetitions, system messages, blank messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from clawft_trio.chat import File, Image, Message, Opaque, Part, Text
from clawft_trio.llm.conform.content import split_media
from clawft_trio.llm.conform.rules import Rules

BEGINNING = "[The beginning of this conversation is not shown.]"
"""First user message, inserted when there is none and the target requires one."""

CONTINUE = "Continue."
"""Last user message, inserted after an assistant message when the target refuses that at the end."""

RECEIVED = "[Tool results received.]"
"""Assistant message between a tool result and a user message, for targets that require one."""


_REASONING_TYPES = frozenset({"thinking", "redacted_thinking", "reasoning"})
"""Types of opaque blocks with reasoning; a block without a type holds reasoning fields of the OpenAI dialect."""


def legal_order(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    """Return *messages*, paired and with legal contents, in an order that the target accepts."""
    ordered = messages
    for arrange in (_without_blank, _media_after_results, _system, _alternate, _user_after_tool, _ends):
        ordered = arrange(ordered, rules, changes)
    return ordered


def is_blank(message: Message) -> bool:
    """Return whether *message* has no tool calls, no visible text and no other visible part."""
    if message.tool_calls:
        return False
    return all(isinstance(part, Text) and (not part.text or part.text.isspace()) for part in message.content)


def _without_blank(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    if not any(_is_empty(message, rules) for message in messages):
        return messages
    kept: list[Message] = []
    for message in messages:
        if not _is_empty(message, rules):
            kept.append(message)
        elif message.role == "tool":
            kept.append(attrs.evolve(message, content=(Text(rules.blank_result),)))
            changes["blank tool results filled in"] += 1
        else:
            changes["blank messages left out"] += 1
    return kept


def _is_empty(message: Message, rules: Rules) -> bool:
    content = message.content
    # The usual message first: one text that begins with a visible character.
    if len(content) == 1 and type(content[0]) is Text and content[0].text[:1].strip():
        return False
    if message.role == "tool":
        return bool(rules.blank_result) and is_blank(message)
    if message.role == "assistant":
        return not message.tool_calls and not any(map(_shows, message.content))
    return is_blank(message)


def _shows(part: Part) -> bool:
    """Return whether *part* suffices for an assistant message without calls; reasoning alone does for no vendor."""
    if isinstance(part, Text):
        return bool(part.text) and not part.text.isspace()
    return not isinstance(part, Opaque) or part.block.get("type", "reasoning") not in _REASONING_TYPES


def _media_after_results(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    """Move images and files of tool results into a user message after all results of their round."""
    if rules.media_in_results or not any(message.role == "tool" and _has_media(message) for message in messages):
        return messages
    placed: list[Message] = []
    shown: list[Part] = []
    for message in messages:
        if message.role != "tool" and shown:
            placed.append(Message("user", tuple(shown)))
            shown = []
        if message.role == "tool" and _has_media(message):
            message, media = split_media(message)  # noqa: PLW2901 - the rest of it takes its place
            shown.extend(media)
            changes["images of tool results sent after them"] += len(media)
        placed.append(message)
    if shown:
        placed.append(Message("user", tuple(shown)))
    return placed


def _has_media(message: Message) -> bool:
    return any(isinstance(part, Image | File) for part in message.content)


def _system(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    if rules.system_role == "user":
        if any(message.role == "system" for message in messages):
            changes["system messages sent as the user's"] += 1
            return [attrs.evolve(message, role="user") if message.role == "system" else message for message in messages]
        return messages
    if not rules.system_first:
        return messages
    found = [message for message in messages if message.role == "system"]
    if len(found) <= 1 and (not found or messages[0] is found[0]):
        return messages
    changes["system messages joined at the beginning"] += len(found)
    rest = [message for message in messages if message.role != "system"]
    return [_joined(found), *rest]


def _joined(messages: Iterable[Message]) -> Message:
    """Join messages into one; adjacent texts become one text, separated by a blank line."""
    first, *others = messages
    parts = list(first.content)
    calls = first.tool_calls
    for message in others:
        if message.tool_calls:
            # The OpenAI dialect keeps reasoning beside the text: a message has one block of each kind.
            parts = [part for part in parts if not (isinstance(part, Opaque) and part.dialect.startswith("openai:"))]
        parts = _with_parts(parts, message.content)
        calls += message.tool_calls
    origins = {message.origin for message in (first, *others)}
    return attrs.evolve(first, content=tuple(parts), tool_calls=calls, origin=first.origin if len(origins) == 1 else "")


def _with_parts(parts: list[Part], more: Sequence[Part]) -> list[Part]:
    if parts and more and isinstance(parts[-1], Text) and isinstance(more[0], Text):
        return [*parts[:-1], attrs.evolve(parts[-1], text=f"{parts[-1].text}\n\n{more[0].text}"), *more[1:]]
    return [*parts, *more]


def _alternate(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    if not (rules.alternate or rules.calls_after_user):
        return messages
    joined: list[Message] = []
    for message in messages:
        if joined and _meet(joined[-1], message, rules):
            joined[-1] = _joined((joined[-1], message))
            changes["messages of one role joined"] += 1
        else:
            joined.append(message)
    return joined if len(joined) < len(messages) else messages


def _meet(one: Message, other: Message, rules: Rules) -> bool:
    # Results follow calls, so of two consecutive assistant messages only the second can have calls.
    if one.role != other.role or one.role not in {"user", "assistant"}:
        return False
    return rules.alternate or one.role == "assistant"


def _user_after_tool(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    if rules.user_after_tool:
        return messages
    placed: list[Message] = []
    for message in messages:
        if placed and placed[-1].role == "tool" and message.role in {"user", "system"}:
            placed.append(Message.assistant(RECEIVED))
            changes["assistant messages put between results and questions"] += 1
        placed.append(message)
    return placed if len(placed) > len(messages) else messages


def _ends(messages: Sequence[Message], rules: Rules, changes: Counter[str]) -> Sequence[Message]:
    first = next((place for place, message in enumerate(messages) if message.role != "system"), len(messages))
    ordered = messages
    # Most servers refuse a conversation that has only system messages.
    if first == len(messages) or (rules.first_user and messages[first].role != "user"):
        changes["a first user message put in"] += 1
        ordered = [*messages[:first], Message.user(BEGINNING), *messages[first:]]
    if rules.last_user and ordered and ordered[-1].role == "assistant":
        changes["a last user message put in"] += 1
        return [*ordered, Message.user(CONTINUE)]
    if not rules.blank_end and ordered and ordered[-1].role == "assistant":
        return _without_blank_end(ordered, changes)
    return ordered


def _without_blank_end(messages: Sequence[Message], changes: Counter[str]) -> Sequence[Message]:
    last = messages[-1]
    place = next((place for place in reversed(range(len(last.content))) if isinstance(last.content[place], Text)), None)
    if place is None or last.tool_calls:
        return messages
    part = last.content[place]
    assert isinstance(part, Text)
    if part.text == part.text.rstrip():
        return messages
    changes["blanks at the end of a begun answer left out"] += 1
    kept = attrs.evolve(part, text=part.text.rstrip())
    content = (*last.content[:place], kept, *last.content[place + 1 :])
    return [*messages[:-1], attrs.evolve(last, content=content)]
