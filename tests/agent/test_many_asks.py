"""Thousands of questions at once, counted in steps of the scheduler and not in seconds."""

from __future__ import annotations

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import open_agent


class Passes(trio.abc.Instrument):
    """Counts the steps that tasks take between two looks at the operating system."""

    def __init__(self) -> None:
        self.steps: list[int] = [0]

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[-1] += 1

    def before_io_wait(self, timeout: float) -> None:
        self.steps.append(0)


@pytest.mark.parametrize("asks", [500, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_thousands_of_asks_at_once_start_a_few_at_a_time(asks: int) -> None:
    """The caller's own pass, in which it starts its tasks, is left out. A step of a turn takes about 0.1 ms."""
    model = ScriptedProvider.saying("Hello.")
    passes = Passes()
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        await agent.ask("warm up")
        trio.lowlevel.add_instrument(passes)
        replies: list[str] = []

        async def ask(number: int) -> None:
            replies.append((await agent.ask("go", session=f"s{number % (asks // 4)}")).text)

        async with trio.open_nursery() as nursery:
            for number in range(asks):
                nursery.start_soon(ask, number)
        trio.lowlevel.remove_instrument(passes)
    assert replies == ["Hello."] * asks
    caller = max(range(len(passes.steps)), key=passes.steps.__getitem__)
    assert passes.steps[caller] >= asks
    rest = [steps for number, steps in enumerate(passes.steps) if number != caller]
    assert max(rest) <= 300
