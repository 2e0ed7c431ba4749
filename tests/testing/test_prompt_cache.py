"""The simulated prompt caches follow the vendors' rules."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.attempts import Usage
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


def sized(tokens: int, role: str = "user", **mark: Any) -> dict[str, Any]:
    """A block that counts so many tokens: a quarter of the bytes of its JSON and its role."""
    return text("x" * (4 * tokens - len('{"type":"text","text":""}') - len(role)), **mark)


def test_tokens_are_a_quarter_of_the_bytes_of_tools_system_and_messages() -> None:
    cache = SimulatedPromptCache()
    assert cache.usage(anthropic(sized(100)), output_tokens=7) == Usage(input_tokens=100, output_tokens=7)
    assert cache.usage(anthropic(sized(100))).output_tokens == 1
    tool = {"name": "x" * 1000, **MARK}
    whole = seen("anthropic", {"tools": [tool], "messages": [{"role": "user", "content": [sized(100)]}]})
    assert cache.usage(whole).input_tokens == 100 + len('{"name":""}' + "x" * 1000) // 4
    for system in ("y" * 1000, [text("y" * 1000)]):
        assert cache.usage(anthropic(sized(100), system=system)).input_tokens == 100 + (1000 + 25) // 4
    plain = seen("anthropic", {"messages": [{"role": "user", "content": "z" * 1000}]})
    assert cache.usage(plain).input_tokens == len('{"role":"user","content":""}' + "z" * 1000) // 4
    assert cache.usage(seen("anthropic", {"messages": []})).input_tokens == 0


def test_what_is_written_are_the_tokens_up_to_the_mark_that_are_not_known() -> None:
    cache, hour = SimulatedPromptCache(), {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    first = cache.usage(anthropic(sized(1100, **hour), sized(200, **MARK), sized(50)))
    assert (first.input_tokens, first.cached_tokens, first.cache_write_tokens) == (1350, 0, 1300)
    assert first.cache_write_1h_tokens == 1100
    second = cache.usage(anthropic(sized(1100, **hour), sized(200, **MARK), sized(60, **MARK)))
    assert (second.cached_tokens, second.cache_write_tokens, second.cache_write_1h_tokens) == (1300, 60, 0)


@pytest.mark.parametrize(("tokens", "cached"), [(1023, 0), (1024, 1024)])
def test_a_prefix_of_1024_tokens_is_cached(tokens: int, cached: int) -> None:
    cache = SimulatedPromptCache()
    assert cache.usage(anthropic(sized(tokens, **MARK))).cache_write_tokens == cached
    assert cache.usage(anthropic(sized(tokens, **MARK))).cached_tokens == cached


@pytest.mark.parametrize(("between", "found"), [(18, True), (19, False)])
def test_twenty_blocks_are_searched_with_the_mark_itself(between: int, found: bool) -> None:
    cache = SimulatedPromptCache()
    cache.usage(anthropic(text("first"), text(LONG, **MARK)))
    later = anthropic(text("first"), text(LONG), *(text(f"{n}") for n in range(between)), text("end", **MARK))
    assert (cache.usage(later).cached_tokens > 0) is found


def test_an_entry_ends_with_its_last_second_and_is_of_one_model() -> None:
    for time, found in ((299, True), (300, False)):
        cache = SimulatedPromptCache()
        cache.usage(anthropic(text(LONG, **MARK)))
        assert (cache.usage(anthropic(text(LONG, **MARK), time=time)).cached_tokens > 0) is found
    other = seen("anthropic", {"model": "other", "messages": [{"role": "user", "content": [text(LONG, **MARK)]}]})
    assert cache.usage(other).cached_tokens == 0


def test_four_marks_are_allowed_and_a_mark_of_a_tool_or_the_system_counts() -> None:
    four = [text(f"{n}", **MARK) for n in range(4)]
    assert SimulatedPromptCache().usage(anthropic(*four)).cached_tokens == 0
    with pytest.raises(ValueError, match="5 blocks"):
        SimulatedPromptCache().usage(anthropic(*four, system=[text("s", **MARK)]))


@pytest.mark.parametrize(("size", "found"), [(1023, 0), (1024, 1024), (1151, 1024), (1152, 1152), (1153, 1152)])
def test_a_prefix_of_openai_grows_by_128_tokens_from_1024_on(size: int, found: int) -> None:
    words = "x" * (4 * size - len('{"role":"user","content":""}'))
    cache = SimulatedPromptCache()
    assert cache.usage(openai(words)).cached_tokens == 0
    again = cache.usage(openai(words), output_tokens=3)
    assert (again.input_tokens, again.cached_tokens, again.output_tokens) == (size, found, 3)


def test_an_entry_of_openai_lives_five_minutes_after_its_last_use() -> None:
    cache = SimulatedPromptCache()
    for time, found in ((0, False), (299, True), (598, True), (898, False)):
        asked = seen("openai", {"messages": [{"role": "user", "content": LONG}]}, time)
        assert (cache.usage(asked).cached_tokens > 0) is found


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
