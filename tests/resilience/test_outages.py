"""Simulated minutes with 500 callers, three targets and random outages, in mock time."""

from __future__ import annotations

import random

import pytest
import trio

from clawft_trio.attempts import AttemptLog
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, TextDelta
from clawft_trio.errors import ClawftError, RateLimited, ServerError, TransportFailed
from clawft_trio.resilience import RetryBudget, resilient_chain
from clawft_trio.testing.screen import Screen

REQUEST = ChatRequest([Message.user("hello")])
MINUTES = 5
CALLERS = 500
NAMES = "abc"
FAULTS = ["error", "unreachable", "silent", "breaks", "limited", "slow"]


class Outages:
    """Which target has which fault at what time: at least one is always well, and the next is well before it ends."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.well: list[tuple[float, float, str]] = []
        self.faults: list[tuple[float, float, str, str]] = []
        time, name = 0.0, chance.choice(NAMES)
        while time < MINUTES * 60 + 120:
            end = time + chance.uniform(70.0, 120.0)
            # 40 s together: more than twice the longest time for which a circuit stays open.
            self.well.append((time - 40.0, end, name))
            time, name = end, chance.choice([other for other in NAMES if other != name])
        for name in NAMES:
            time = chance.uniform(0.0, 30.0)
            while time < MINUTES * 60 + 120:
                end = time + chance.uniform(5.0, 90.0)
                self.faults.append((time, end, name, chance.choice(FAULTS)))
                time = end + chance.uniform(5.0, 60.0)

    def fault_of(self, name: str) -> str:
        now = trio.current_time()
        if any(start <= now < end for start, end, well in self.well if well == name):
            return ""
        return next((fault for start, end, n, fault in self.faults if n == name and start <= now < end), "")


class Target:
    keeps_records = True

    def __init__(self, name: str, outages: Outages, chance: random.Random) -> None:
        self.name = name
        self.requests = 0
        self.asked_by: set[str] = set()
        self._outages = outages
        self._chance = chance

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        self.requests += 1
        self.asked_by.add(call.id)
        fault = self._outages.fault_of(self.name)
        await trio.sleep(self._chance.uniform(0.05, 0.5))
        if fault == "error":
            raise ServerError("down", provider=self.name)
        if fault == "unreachable":
            raise TransportFailed("refused", provider=self.name)
        if fault == "limited":
            raise RateLimited("slow down", provider=self.name, retry_after=self._chance.choice([None, 2.0, 15.0]))
        if fault == "silent":
            await trio.sleep_forever()
        if fault == "slow":
            await trio.sleep(25.0)
        await call.emit(TextDelta("hello "))
        await trio.sleep(self._chance.uniform(0.05, 1.0))
        if fault == "breaks":
            raise TransportFailed("broke", provider=self.name)
        await call.emit(TextDelta(self.name))
        return ChatResponse(content=f"hello {self.name}", provider=self.name)


@pytest.mark.parametrize("seed", range(3))
async def test_no_call_is_lost_while_any_target_is_well(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    outages, chance = Outages(seed), random.Random(seed)
    targets = [Target(name, outages, chance) for name in NAMES]
    budget = RetryBudget(capacity=20.0, ratio=0.2, per_second=0.0)
    chain = resilient_chain(*targets, budget=budget, first_content=20.0, hedge_after=5.0)
    lost: list[ClawftError] = []
    answered = 0

    async def caller(number: int) -> None:
        nonlocal answered
        own = random.Random(seed * CALLERS + number)
        turn = 0
        await trio.sleep(own.uniform(0.0, 30.0))
        while trio.current_time() < MINUTES * 60:
            turn += 1
            screen = Screen()
            try:
                response = await chain.complete(
                    REQUEST, Call(id=f"{number}/{turn}", emit=screen.emit, log=AttemptLog())
                )
            except ClawftError as exc:
                lost.append(exc)
            else:
                screen.check(response)
                answered += 1
            await trio.sleep(own.uniform(10.0, 60.0))

    async with trio.open_nursery() as nursery:
        for number in range(CALLERS):
            nursery.start_soon(caller, number)
    assert not lost, f"seed {seed}: {len(lost)} of {len(lost) + answered} lost, first {lost[0]!r}"
    assert answered > 2000
    for target in targets:
        bound = len(target.asked_by) * (1 + budget.ratio) + budget.capacity
        assert target.requests <= bound, (seed, target.name, target.requests, bound)
