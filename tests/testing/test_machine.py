from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from clawft_trio.testing.machine import TrioMachine, in_mock_time

FEW = settings(max_examples=20, stateful_step_count=15, deadline=None)


@given(wait=st.floats(0, 1e6))
@FEW
@in_mock_time
async def test_every_example_starts_at_zero_and_takes_its_time(wait):
    assert trio.current_time() == 0.0
    await trio.sleep(wait)
    assert trio.current_time() == wait


class LockMachine(TrioMachine):
    def __init__(self):
        super().__init__()
        self.lock = trio.Lock()
        self.held = 0
        self.most = 0

    async def hold(self):
        async with self.lock:
            self.held += 1
            self.most = max(self.most, self.held)
            await trio.sleep(1)
            self.held -= 1

    @rule()
    def start(self):
        self.nursery.start_soon(self.hold)

    @rule(seconds=st.integers(0, 3))
    def wait(self, seconds):
        self.advance(seconds)

    @invariant()
    def one_holder(self):
        self.settle()
        assert self.held <= 1


def test_a_machine_that_keeps_its_invariants_passes():
    run_state_machine_as_test(LockMachine, settings=FEW)


def test_a_machine_that_breaks_them_is_found():
    class Broken(LockMachine):
        async def hold(self):
            self.held += 1
            await trio.sleep(1)
            self.held -= 1

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broken, settings=FEW)


async def boom():
    raise KeyError("mine")


def test_a_step_returns_and_raises_as_it_would_by_itself():
    machine = Machine()
    try:
        assert machine.run(answer, 6) == 42
        with pytest.raises(KeyError, match="mine"):
            machine.run(boom)
        assert machine.run(answer, 1) == 7
    finally:
        machine.teardown()


async def answer(number):
    await trio.lowlevel.checkpoint()
    return number * 7


class Machine(TrioMachine):
    patience = 0.2

    @rule()
    def nothing(self):
        pass


def test_time_passes_only_when_told():
    machine = Machine()
    done = []

    async def later():
        await trio.sleep(2)
        done.append(trio.current_time())

    machine.nursery.start_soon(later)
    machine.advance(1.5)
    assert done == []
    machine.advance(0.5)
    assert done == [2.0]
    machine.teardown()


def test_a_background_error_is_seen_by_the_step_it_interrupts():
    machine = Machine()

    async def step():
        machine.nursery.start_soon(boom)
        await trio.sleep_forever()

    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="mine")):
        machine.run(step)
    with pytest.raises(AssertionError, match="ended under"):
        machine.run(answer, 1)
    machine.teardown()


def test_a_background_error_that_no_step_saw_fails_the_teardown():
    machine = Machine()
    machine.nursery.start_soon(boom)
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="mine")):
        machine.teardown()


def test_a_step_that_would_wait_for_ever_fails_and_the_machine_still_ends():
    machine = Machine()
    with pytest.raises(AssertionError, match="advance"):
        machine.run(trio.sleep, 1)
    machine.teardown()


def test_teardown_cancels_what_still_runs():
    machine = Machine()
    ended = []

    async def task():
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_effective_deadline())

    machine.nursery.start_soon(task)
    machine.settle()
    machine.teardown()
    assert len(ended) == 1
