"""Any nesting of strategies over any script: what the reader sees is what was returned, and nothing keeps running."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import Call, ChatRequest, Message, Provider, StreamEvent, TextDelta
from clawft_trio.errors import ClawftError, ConsumerLeft, ProviderError, ServerError
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import (
    Bulkhead,
    CircuitBreaker,
    Failover,
    Hedge,
    Hold,
    Live,
    Policy,
    Preview,
    Resilient,
    Retry,
    RetryBudget,
    Timeout,
    compose,
)
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import Fail, Finish, Say, Wait
from clawft_trio.testing.scripted import ScriptedProvider
from clawft_trio.testing.sweep import cancel_everywhere

REQUEST = ChatRequest([Message.user("hello")])

POLICIES: dict[str, Policy] = {
    "retry": Retry(max_retries=2),
    "retry_of_everything": Retry(max_retries=1, on=ProviderError),
    "breaker": CircuitBreaker(minimum_calls=2, open_for=3.0),
    "gap": Timeout(first_content=4.0, gap=2.0),
    "total": Timeout(total=9.0),
    "hedge": Hedge(after=0.5),
    "hold": Hold(),
    "preview": Preview(characters=3),
    "preview_seconds": Preview(seconds=1.0),
    "final": Live(after_content="raise"),
    "bulkhead": Bulkhead(max_concurrent=2, queue=1, queue_for=1.0),
}

steps = st.one_of(
    st.builds(Say, st.text("abc", min_size=1, max_size=3)),
    st.builds(Wait, st.sampled_from([0.1, 1.0, 3.0, 20.0])),
    st.just(Fail(lambda: ServerError("scripted"))),
    st.just(Finish()),
)
says = st.lists(st.builds(Say, st.text("abc", min_size=1, max_size=3)), min_size=1, max_size=3)
whole = says.map(lambda said: [*said, Finish()])
broken = says.map(lambda said: [*said, Fail(lambda: ServerError("scripted"))])
scripts = st.lists(steps, max_size=6) | whole | broken
layers = st.lists(st.sampled_from(sorted(POLICIES)), max_size=4)
targets = st.lists(st.tuples(st.lists(scripts, min_size=1, max_size=3), layers), min_size=1, max_size=3)
hedges = st.none() | st.sampled_from([0.5, 2.0])


def chain(plan: list, outer: list[str], hedge_after: float | None) -> tuple[list[ScriptedProvider], Provider]:
    leaves = [ScriptedProvider(*own, name=f"p{number}") for number, (own, _) in enumerate(plan)]
    links = [
        Resilient(leaf, compose(*(POLICIES[name] for name in names)))
        for leaf, (_, names) in zip(leaves, plan, strict=True)
    ]
    failover = Failover(*links, hedge_after=hedge_after, budget=RetryBudget())
    return leaves, Resilient(failover, compose(*(POLICIES[name] for name in outer)))


@settings(deadline=None, max_examples=300)
@given(targets, layers, hedges)
@in_mock_time
async def test_what_the_reader_sees_is_what_was_returned(plan: list, outer: list[str], hedge: float | None) -> None:
    leaves, provider = chain(plan, outer, hedge)
    screen = Screen()
    call = Call(emit=screen.emit)
    try:
        response = await provider.complete(REQUEST, call)
    except ClawftError as exc:
        assert not screen.faults
        assert exc.attempts == call.log.records
    else:
        screen.check(response)
        assert response.attempts == call.log.records
    assert not any(leaf.running for leaf in leaves)
    assert len(call.log.records) == sum(leaf.calls for leaf in leaves)


@settings(deadline=None, max_examples=150)
@given(targets, layers, hedges)
@in_mock_time
async def test_iterating_shows_the_same_as_calling(plan: list, outer: list[str], hedge: float | None) -> None:
    leaves, provider = chain(plan, outer, hedge)
    screen = Screen()
    try:
        async with open_stream(provider, REQUEST, buffer=2) as stream:
            await screen.follow(stream)
        screen.check(stream.response)
    except ClawftError:
        assert not screen.faults
    assert not any(leaf.running for leaf in leaves)


@settings(deadline=None, max_examples=150)
@given(targets, layers, hedges, st.integers(1, 5), st.booleans())
@in_mock_time
async def test_a_consumers_word_is_final(
    plan: list, outer: list[str], hedge: float | None, nth: int, stop: bool
) -> None:
    class Mine(Exception):
        pass

    leaves, provider = chain(plan, outer, hedge)
    screen = Screen()

    def consumer(event: StreamEvent) -> bool:
        screen(event)
        assert screen.events <= nth, "something came after the consumer had left"
        if screen.events == nth and not stop:
            raise Mine
        return screen.events < nth

    try:
        response = await complete(provider, REQUEST, consumer)
    except Mine:
        assert screen.events == nth
    except ClawftError:
        assert screen.events < nth
    else:
        assert (response.finish_reason == "aborted") == (screen.events == nth)
        assert response.text == screen.text
    assert not any(leaf.running for leaf in leaves)


@settings(deadline=None, max_examples=15)
@given(targets, layers, hedges)
@in_mock_time
async def test_cancelled_anywhere_nothing_keeps_running(plan: list, outer: list[str], hedge: float | None) -> None:
    leaves: list[ScriptedProvider] = []

    async def operation() -> None:
        nonlocal leaves
        leaves, provider = chain(plan, outer, hedge)
        try:
            await complete(provider, REQUEST, Screen())
        except ClawftError:
            pass

    async def check() -> None:
        assert not any(leaf.running for leaf in leaves)

    await cancel_everywhere(operation, check, limit=5000)


@pytest.mark.parametrize("name", sorted(POLICIES))
async def test_each_strategy_is_swept(name: str, autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Wait(1), Say("a"), Fail(lambda: ServerError("x"))], [Wait(3), Say("b"), Finish()])
    provider = Resilient(leaf, compose(POLICIES[name]))

    async def operation() -> None:
        try:
            await complete(provider, REQUEST, Screen())
        except ClawftError:
            pass

    async def check() -> None:
        assert leaf.running == 0
        await trio.sleep(100)

    assert await cancel_everywhere(operation, check, limit=500) > 2


async def test_everything_composed_is_swept(autojump_clock: trio.testing.MockClock) -> None:
    """One composition of every policy, cancelled at every step; afterwards its slots are free and it still answers."""
    leaf = ScriptedProvider([Say("a"), Fail(lambda: ServerError("x"))], [Wait(1), Say("b"), Finish()])
    everything = compose(*POLICIES.values())
    provider = Resilient(Failover(Resilient(leaf, everything), leaf, hedge_after=0.5), POLICIES["bulkhead"])

    async def operation() -> None:
        try:
            await complete(provider, REQUEST, Screen())
        except ClawftError:
            pass

    async def check() -> None:
        assert leaf.running == 0
        await trio.sleep(100)
        assert (await complete(provider, REQUEST)).text == "b"

    assert await cancel_everywhere(operation, check, limit=2000) > 10


async def test_consumer_left_is_no_failure_of_a_target(autojump_clock: trio.testing.MockClock) -> None:
    breaker = CircuitBreaker(minimum_calls=1, failure_ratio=0.01)
    leaf = ScriptedProvider.saying("hello")
    provider = Resilient(leaf, breaker)

    async def leave(event: StreamEvent) -> None:
        raise ConsumerLeft

    for _ in range(3):
        try:
            await provider.complete(REQUEST, Call(emit=leave))
        except ConsumerLeft:
            pass
    assert provider.strategy.statistics().failures == 0
    assert provider.strategy.state == "closed"


def test_policies_are_values() -> None:
    assert Retry(max_retries=2) == Retry(max_retries=2)
    assert attrs.evolve(CircuitBreaker(), window=5.0) == CircuitBreaker(window=5.0)
    assert TextDelta("a") == TextDelta("a")
