"""Streams inside async generators: abandoned, closed elsewhere, interleaved, collected. Trio ends the program when a
nursery or a cancel scope is open across such a `yield`."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
import trio
from judged import ScriptedProvider
from trio.testing import MockClock

from clawft_trio import ChatRequest, Message, open_agent, open_stream
from clawft_trio.agent import Agent
from clawft_trio.errors import StreamEnded
from clawft_trio.testing import Finish, Hang, Say, Wait, cancel_everywhere

ANSWER = [Say("a "), Wait(0.05), Say("b "), Wait(0.05), Say("c"), Finish()]
REQUEST = ChatRequest([Message.user("q")])

# Trio warns of each generator that is collected before its end, which is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")

Events = Callable[[], AsyncGenerator[Any, None]]


def _of_agent(agent: Agent) -> Events:
    async def events() -> AsyncGenerator[Any, None]:
        async with agent.stream("q") as answer:
            async for event in answer:
                yield event

    return events


def _of_provider(model: ScriptedProvider) -> Events:
    async def events() -> AsyncGenerator[Any, None]:
        async with open_stream(model, REQUEST) as stream:
            async for event in stream:
                yield event

    return events


async def _left_by_break(events: Events) -> None:
    async for _ in events():
        break


async def _left_by_an_error(events: Events) -> None:
    with pytest.raises(ZeroDivisionError):
        async for _ in events():
            raise ZeroDivisionError


async def _left_by_a_deadline(events: Events) -> None:
    with trio.move_on_after(0.01):
        async for _ in events():
            await trio.sleep(1)


async def _left_by_return(events: Events) -> None:
    async def first() -> Any:
        async for event in events():
            return event
        return None

    await first()


async def _closed_by_the_caller(events: Events) -> None:
    async with aclosing(events()) as shown:
        await anext(shown)


async def _closed_by_another_task(events: Events) -> None:
    shown = events()
    await anext(shown)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shown.aclose)


async def _iterated_by_another_task(events: Events) -> None:
    shown = events()
    await anext(shown)

    async def rest() -> None:
        async for _ in shown:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rest)


async def _first_opened_first_closed(events: Events) -> None:
    one, two = events(), events()
    await anext(one)
    await anext(two)
    await one.aclose()
    await anext(two)
    await two.aclose()


async def _inside_another_generator(events: Events) -> None:
    async def outer() -> AsyncGenerator[Any, None]:
        async for event in events():
            yield event

    async for _ in outer():
        break


async def _left_in_a_cycle(events: Events) -> None:
    shown = events()
    await anext(shown)
    holder: list[Any] = [shown]
    holder.append(holder)
    del shown, holder


async def _left_inside_a_nursery(events: Events) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0.01)
        async for _ in events():
            break


WAYS = [
    _left_by_break,
    _left_by_an_error,
    _left_by_a_deadline,
    _left_by_return,
    _closed_by_the_caller,
    _closed_by_another_task,
    _iterated_by_another_task,
    _first_opened_first_closed,
    _inside_another_generator,
    _left_in_a_cycle,
    _left_inside_a_nursery,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_an_agents_stream_can_be_left_in_any_way(
    way: Callable[[Events], Awaitable[None]], autojump_clock: MockClock
) -> None:
    model = ScriptedProvider([*ANSWER])
    async with open_agent(["s/m"], providers={"s": model}) as agent:
        await way(_of_agent(agent))
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        assert model.running == 0
        assert (await agent.ask("next")).text == "a b c"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_a_providers_stream_can_be_left_in_any_way(
    way: Callable[[Events], Awaitable[None]], autojump_clock: MockClock
) -> None:
    model = ScriptedProvider([*ANSWER])
    await way(_of_provider(model))
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
    assert model.running == 0


def test_a_generator_that_outlives_its_agent_and_the_program_ends_quietly() -> None:
    kept: list[AsyncGenerator[Any, None]] = []

    async def main() -> None:
        async with open_agent(["s/m"], providers={"s": ScriptedProvider([*ANSWER])}) as agent:
            kept.append(_of_agent(agent)())
            await anext(kept[0])

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(kept) == 1


async def test_a_stream_whose_agent_is_closed_raises(autojump_clock: MockClock) -> None:
    async with open_agent(["s/m"], providers={"s": ScriptedProvider([Say("a"), Hang()])}) as agent:
        shown = _of_agent(agent)()
        await anext(shown)
    with pytest.raises(StreamEnded):
        async for _ in shown:
            pass
    with pytest.raises(StreamEnded):
        async with agent.stream("q"):
            pass


async def test_a_stream_of_an_agent_cancelled_anywhere_leaves_nothing(autojump_clock: MockClock) -> None:
    model = ScriptedProvider([*ANSWER])
    async with open_agent(["s/m"], providers={"s": model}) as agent:

        async def operation() -> None:
            async with aclosing(_of_agent(agent)()) as shown:
                async for _ in shown:
                    pass

        async def check() -> None:
            assert model.running == 0

        assert await cancel_everywhere(operation, check) > 10
