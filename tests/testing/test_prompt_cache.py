"""The simulated prompt caches follow the vendors' rules."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.testing import SeenRequest, SimulatedPromptCache

LONG = "x" * 8000
MARK = {"cache_control": {"type": "ephemeral"}}


def seen(dialect: str, body: dict[str, Any], time: float = 0.0) -> SeenRequest:
    return SeenRequest(
        number=0,
        turn=0,
        elapsed=0.0,
        time=time,
        connection=0,
        dialect=dialect,
        path="/",
        headers={},
        body={"model": "m", **body},
    )


def anthropic(*blocks: dict[str, Any], time: float = 0.0, system: object = None) -> SeenRequest:
    given = {} if system is None else {"system": system}
    return seen("anthropic", {**given, "messages": [{"role": "user", "content": list(blocks)}]}, time)


def text(words: str, **mark: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **mark}


def test_what_is_marked_is_written_and_then_found() -> None:
    cache = SimulatedPromptCache()
    first = cache.usage(anthropic(text(LONG, **MARK), text("q")))
    assert (first.cached_tokens, first.cache_write_tokens > 2000) == (0, True)
    second = cache.usage(anthropic(text(LONG, **MARK), text("other question")))
    assert (second.cached_tokens, second.cache_write_tokens) == (first.cache_write_tokens, 0)


def test_a_mark_moves_without_a_change_of_what_is_cached() -> None:
    cache = SimulatedPromptCache()
    first = cache.usage(anthropic(text(LONG, **MARK)))
    second = cache.usage(anthropic(text(LONG), text("more", **MARK)))
    assert second.cached_tokens == first.cache_write_tokens
    assert 0 < second.cache_write_tokens < 100


def test_without_marks_nothing_is_cached() -> None:
    cache = SimulatedPromptCache()
    usages = [cache.usage(anthropic(text(LONG))) for _ in range(2)]
    assert [(one.cached_tokens, one.cache_write_tokens) for one in usages] == [(0, 0), (0, 0)]


def test_a_short_prefix_and_another_beginning_are_not_found() -> None:
    cache = SimulatedPromptCache()
    for block in (text("short", **MARK), text("short", **MARK), text(LONG, **MARK), text("y" + LONG, **MARK)):
        assert cache.usage(anthropic(block)).cached_tokens == 0


def test_an_entry_is_not_found_more_than_twenty_blocks_back() -> None:
    cache = SimulatedPromptCache()
    cache.usage(anthropic(text(LONG, **MARK)))
    near = [text(f"{n}") for n in range(18)]
    assert cache.usage(anthropic(text(LONG), *near, text("end", **MARK))).cached_tokens > 0
    far = [text(f"far {n}") for n in range(25)]
    assert cache.usage(anthropic(text(LONG), *far, text("end", **MARK))).cached_tokens == 0


def test_entries_live_as_long_as_they_are_asked_to_after_their_last_use() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    for mark, lifetime in ((MARK, 300), (hour, 3600)):
        cache = SimulatedPromptCache()
        written = cache.usage(anthropic(text(LONG, **mark)))
        assert (written.cache_write_1h_tokens > 0) is (mark is hour)
        assert cache.usage(anthropic(text(LONG, **mark), time=lifetime - 1)).cached_tokens > 0
        assert cache.usage(anthropic(text(LONG, **mark), time=2 * lifetime - 2)).cached_tokens > 0
        assert cache.usage(anthropic(text(LONG, **mark), time=4 * lifetime)).cached_tokens == 0


def test_more_than_four_marks_are_an_error() -> None:
    with pytest.raises(ValueError, match="5 blocks"):
        SimulatedPromptCache().usage(anthropic(*(text(f"{n}", **MARK) for n in range(5))))


def openai(words: str, **body: Any) -> SeenRequest:
    return seen("openai", {"messages": [{"role": "user", "content": words}], **body})


def test_openai_finds_the_common_beginning_in_steps() -> None:
    cache = SimulatedPromptCache()
    assert cache.usage(openai(LONG)).cached_tokens == 0
    found = cache.usage(openai(LONG + "and more"))
    assert 1900 < found.cached_tokens <= found.input_tokens
    assert (found.cached_tokens - 1024) % 128 == 0
    assert found.cache_write_tokens == 0


def test_openai_looks_where_the_key_leads_and_for_long_prefixes_only() -> None:
    cache = SimulatedPromptCache()
    cache.usage(openai(LONG, prompt_cache_key="a"))
    assert cache.usage(openai(LONG, prompt_cache_key="b")).cached_tokens == 0
    assert cache.usage(openai(LONG, prompt_cache_key="a")).cached_tokens > 0
    cache.usage(openai("short"))
    assert cache.usage(openai("short")).cached_tokens == 0
