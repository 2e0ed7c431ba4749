"""Prompt caches: sessions stay where their prefix is, and what loses a prefix is named to the byte."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, File, Image, Message, Opaque, PromptCache, ToolSpec
from clawft_trio.errors import ServerError
from clawft_trio.observe import CacheBusted, Recorder
from clawft_trio.pipeline import OneProvider, Pipeline, RoutingDecision, StaticRouter, Target
from clawft_trio.pipeline.prompt_cache import PromptCaches
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider
from clawft_trio.testing.machine import in_mock_time

A, B = Target("p", "a"), Target("p", "b")
USED = Usage(input_tokens=2000, output_tokens=1, cached_tokens=1500, cache_write_tokens=300)


def request(*texts: str, key: str = "s", tools: tuple[ToolSpec, ...] = ()) -> ChatRequest:
    roles = ("user", "assistant")
    messages = [Message(roles[n % 2], text) for n, text in enumerate(texts)]
    return ChatRequest([Message.system("be kind"), *messages], tools=tools, cache=PromptCache(key=key))


def decision(*targets: Target, tier: str = "") -> RoutingDecision:
    return RoutingDecision(targets, tier=tier)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (File(data=b"%PDF one"), File(data=b"%PDF two")),
        (File(url="https://example.org/1.pdf"), File(url="https://example.org/2.pdf")),
        (Image(data=b"one", media_type="image/png"), Image(data=b"two", media_type="image/png")),
        (Opaque("anthropic", {"type": "thinking", "n": 1}), Opaque("anthropic", {"type": "thinking", "n": 2})),
    ],
)
async def test_every_kind_of_part_is_compared(part, other) -> None:
    caches = PromptCaches()

    def holding(kind) -> ChatRequest:
        return ChatRequest([Message("user", (kind,)), Message.user("more")], cache=PromptCache(key="s"))

    caches.answered(holding(part), A, USED, estimate=0)
    assert caches.sent(holding(part), A) is None
    bust = caches.sent(holding(other), A)
    assert bust is not None
    assert (bust.part, bust.index) == ("messages", 0)


async def test_a_session_stays_with_the_target_that_has_its_prefix(autojump_clock: trio.testing.MockClock) -> None:
    caches = PromptCaches()
    caches.answered(request("q"), B, USED, estimate=0)
    assert caches.ordered(request("q", "a", "q2"), decision(A, B)) == (B, A)
    assert caches.ordered(request("q", key="other"), decision(A, B)) == (A, B)
    assert caches.ordered(ChatRequest([Message.user("q")]), decision(A, B)) == (A, B)
    assert caches.ordered(request("q"), decision(A)) == (A,)
    await trio.sleep(301)
    assert caches.ordered(request("q"), decision(A, B)) == (A, B)


async def test_another_tier_is_not_left_for_a_cache() -> None:
    caches = PromptCaches()
    caches.answered(request("q"), B, USED, estimate=0)
    cheap, dear = attrs.evolve(A, tier="free"), attrs.evolve(B, tier="elite")
    assert caches.ordered(request("q"), decision(cheap, dear, tier="free")) == (cheap, dear)


async def test_what_is_too_short_to_be_cached_keeps_no_session() -> None:
    caches = PromptCaches()
    caches.answered(request("q"), B, Usage(input_tokens=1000), estimate=9999)
    assert caches.ordered(request("q"), decision(A, B)) == (A, B)
    caches.answered(request("q"), B, None, estimate=2000)
    assert caches.ordered(request("q"), decision(A, B)) == (B, A)


async def test_a_continued_request_is_no_bust() -> None:
    caches = PromptCaches()
    caches.answered(request("q"), A, USED, estimate=0)
    assert caches.sent(request("q", "a", "q2"), A) is None
    assert caches.sent(request("q"), A) is None
    assert (caches.statistics().compared, caches.statistics().busts) == (2, 0)


async def test_a_bust_names_the_first_byte_that_differs() -> None:
    caches = PromptCaches()
    caches.answered(request("hello there", "a", "q"), A, USED, estimate=0)
    same = caches.sent(request("hello thore", "a", "q"), A)
    earlier = caches.sent(request("hexlo there", "a", "q"), A)
    assert same is not None
    assert earlier is not None
    assert (same.part, same.index) == (earlier.part, earlier.index) == ("messages", 0)
    assert same.byte - earlier.byte == len("hello th") - len("he")
    assert caches.statistics().busts == 2


@pytest.mark.parametrize(
    ("changed", "part", "index"),
    [
        (request("q", "a", tools=(ToolSpec(name="look", description="other"),)), "tools", 0),
        (request("q", "a", tools=(ToolSpec(name="look"), ToolSpec(name="more"))), "system", 0),
        (attrs.evolve(request("q", "a", tools=(ToolSpec(name="look"),)), messages=()), "tools", 1),
        (request("q", "b", tools=(ToolSpec(name="look"),)), "messages", 1),
        (request("q", tools=(ToolSpec(name="look"),)), "messages", 1),
    ],
)
async def test_a_bust_names_the_part(changed: ChatRequest, part: str, index: int) -> None:
    caches = PromptCaches()
    caches.answered(request("q", "a", tools=(ToolSpec(name="look"),)), A, USED, estimate=0)
    bust = caches.sent(changed, A)
    assert bust is not None
    if part == "system":
        # A tool more stands where the system prompt stood.
        assert bust.part in {"tools", "system"}
    else:
        assert (bust.part, bust.index) == (part, index)


async def test_another_target_or_an_entry_that_is_too_old_is_no_bust(autojump_clock: trio.testing.MockClock) -> None:
    caches = PromptCaches()
    caches.answered(request("q"), A, USED, estimate=0)
    assert caches.sent(request("x"), B) is None
    await trio.sleep(301)
    assert caches.sent(request("x"), A) is None


async def test_images_are_compared_by_what_they_show() -> None:
    def shown(data: bytes) -> ChatRequest:
        return ChatRequest([Message.user(Image(data=data))], cache=PromptCache(key="s"))

    caches = PromptCaches()
    caches.answered(shown(b"one"), A, USED, estimate=0)
    assert caches.sent(shown(b"one"), A) is None
    assert caches.sent(shown(b"two"), A) is not None


texts = st.lists(st.text(max_size=6), max_size=6)


@given(texts, texts)
@settings(deadline=None)
@in_mock_time
async def test_it_is_a_bust_exactly_when_the_one_before_is_no_beginning(before: list[str], after: list[str]) -> None:
    caches = PromptCaches()
    caches.answered(request(*before), A, USED, estimate=0)
    assert (caches.sent(request(*after), A) is None) is (after[: len(before)] == before)


async def test_what_is_kept_is_bounded() -> None:
    caches = PromptCaches()
    for number in range(1200):
        caches.answered(request("x" * 40_000, key=str(number)), A, USED, estimate=0)
    assert caches.statistics().sessions == 1000
    assert sum(len(warm.sent) for warm in caches._warm.values()) <= 16 * 1024 * 1024
    # The newest are compared, and of the oldest it is known where they are.
    assert caches.sent(request("y", key="1199"), A) is not None
    assert caches.sent(request("y", key="201"), A) is None
    assert caches.ordered(request("y", key="201"), decision(B, A)) == (A, B)


async def test_tokens_are_counted_by_what_is_paid_for_them() -> None:
    caches = PromptCaches()
    caches.answered(request("q"), A, USED, estimate=0)
    counted = caches.statistics()
    assert (counted.cached_tokens, counted.written_tokens, counted.plain_tokens) == (1500, 300, 200)


async def complete(pipeline: Pipeline, asked: ChatRequest, recorder: Recorder) -> str:
    auth = AuthContext.local()
    made = RoutingDecision((A, B), sender_id=auth.identity, permissions=auth.permissions)
    await pipeline.complete(attrs.evolve(asked, auth=auth), Call(observer=recorder), made)
    return ""


async def test_after_a_failover_the_session_stays_where_it_was_answered() -> None:
    def choose(asked: ChatRequest):
        if asked.model == "a" and len(model.requests) == 1:
            return [Fail(ServerError("down"))]
        return [Say("ok"), Finish(usage=USED)]

    model = ScriptedProvider(choose=choose, name="p")
    pipeline, recorder = Pipeline(router=StaticRouter([A, B]), transport=OneProvider(model)), Recorder()
    for asked in (request("q"), request("q", "a", "q2")):
        await complete(pipeline, asked, recorder)
    assert [sent.model for sent in model.requests] == ["a", "b", "b"]
    await complete(pipeline, request("q", key="new"), recorder)
    assert model.requests[-1].model == "a"


async def test_observers_get_every_bust() -> None:
    model = ScriptedProvider([Say("ok"), Finish(usage=USED)], name="p")
    pipeline, recorder = Pipeline(router=StaticRouter([A, B]), transport=OneProvider(model)), Recorder()
    for asked in (request("q"), request("q", "a", "q2"), request("other")):
        await complete(pipeline, asked, recorder)
    (bust,) = recorder.of(CacheBusted)
    assert (bust.target, bust.part, bust.index) == ("p/a", "messages", 0)
    assert pipeline.caches.statistics().busts == 1
