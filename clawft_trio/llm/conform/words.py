"""Instructions in words for what a target does not accept in a typed field: the schema of an answer."""

from __future__ import annotations

import attrs

from clawft_trio.chat import JsonObject, Message, Text
from clawft_trio.codec import encode_json


def schema_in_words(schema: JsonObject) -> str:
    """Return the instruction to answer with JSON that fits *schema*."""
    return (
        "The final answer is JSON that fits this JSON Schema, and nothing else: no other text, no code fence.\n"
        + encode_json(schema).decode()
    )


def with_words(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """Return *messages* with *words* appended to the first system message; without one, a new one is put first."""
    if messages and messages[0].role == "system":
        first = messages[0]
        return (attrs.evolve(first, content=(*first.content, Text(f"\n\n{words}"))), *messages[1:])
    return (Message.system(words), *messages)
