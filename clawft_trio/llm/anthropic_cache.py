"""Cache marks for Anthropic's prompt cache, in the Messages dialect and in the chat dialect of gateways.

`cache_control` on a block asks the server to cache the request up to and including that block; the order is tools,
system, messages. A request may carry four marks, and a mark finds an earlier cache entry at most 20 blocks before it
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching). The marks:

1. the last tool,
2. the last block of the system prompt,
3. the last block before the newest answer of the model, where the previous request ended: its entry is found there
  however many tool results were added since,
4. the last block: the entry that the next request will find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clawft_trio.chat import PromptCache

MAX_MARKS = 4
"""Largest number of marks in a request; the server refuses more."""

_UNMARKABLE = frozenset({"thinking", "redacted_thinking"})
"""Types of blocks that may not carry a mark."""


def mark_cache(body: dict[str, Any], cache: PromptCache) -> None:
    """Put the cache marks into *body*, the body of a request. Blocks are replaced, never changed in place."""
    control = _control(cache)
    for key in ("tools", "system"):
        if body.get(key):
            body[key] = _marked(body[key], control)
    turns: list[dict[str, Any]] = body["messages"]
    for index in _ends(turns):
        turns[index] = {**turns[index], "content": _marked(turns[index]["content"], control)}


def mark_chat_cache(messages: list[dict[str, Any]], cache: PromptCache) -> None:
    """Put the cache marks into *messages* of a chat completion that OpenRouter forwards to one of Anthropic's models.

    OpenRouter accepts marks on texts of the system and of users, not on tool results. Marked are the system prompt (the
    tools come before it) and the last two user messages: the second finds the cache entry of the first.
    """
    control = _control(cache)
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    systems = [index for index, message in enumerate(messages) if message["role"] in {"system", "developer"}]
    for index in (*systems[-1:], *users[-2:]):
        content = messages[index]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        last = max((n for n, part in enumerate(parts) if part["type"] == "text" and part["text"]), default=None)
        marked = [{**part, "cache_control": control} if n == last else part for n, part in enumerate(parts)]
        messages[index] = {**messages[index], "content": marked}


def _control(cache: PromptCache) -> dict[str, Any]:
    return {"type": "ephemeral"} if cache.lifetime == "5m" else {"type": "ephemeral", "ttl": cache.lifetime}


def _ends(turns: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the indexes of the turns to mark: the last turn, and the one before the newest answer."""
    ends = {len(turns) - 1} if turns else set()
    newest = max((index for index, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    return ends | ({newest - 1} if newest else set())


def _marked(blocks: Sequence[Mapping[str, Any]], control: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return *blocks* with a mark on the last block that may carry one."""
    last = max((index for index, block in enumerate(blocks) if block.get("type") not in _UNMARKABLE), default=None)
    return [{**block, "cache_control": control} if index == last else block for index, block in enumerate(blocks)]
