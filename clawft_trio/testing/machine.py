"""Hypothesis with trio: state machines over one live run, and properties in mock time."""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

import outcome
import trio
import trio.testing
from hypothesis.stateful import RuleBasedStateMachine

P = ParamSpec("P")
T = TypeVar("T")


def in_mock_time(function: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test in a separate trio run with a clock that jumps whenever all tasks wait.

    Use it below `@given`: each example gets a new clock that starts at 0.0, and every wait is instant.

        @given(wait=st.floats(0, 1e6))
        @in_mock_time
        async def test_a_wait_takes_its_time(wait: float) -> None:
            await trio.sleep(wait)
            assert trio.current_time() == wait
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await function(*args, **kwargs)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


class _GuestRun:
    """A trio run whose steps the thread of its owner executes."""

    def __init__(self, patience: float) -> None:
        self.clock = trio.testing.MockClock()
        self._patience = patience
        self._stuck = False
        self._raised = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._callbacks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ended: outcome.Outcome[Any] | None = None
        self._jobs: trio.MemorySendChannel[Any] | None = None
        trio.lowlevel.start_guest_run(
            self._serve,
            run_sync_soon_threadsafe=self._callbacks.put,
            done_callback=self._note_end,
            clock=self.clock,
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
        while self._jobs is None:
            self._pump()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery:
            self._jobs, jobs = trio.open_memory_channel[Any](1)
            async for function, args, result in jobs:
                result.append(await outcome.acapture(function, *args))
            self.nursery.cancel_scope.cancel(reason="machine torn down")

    def _note_end(self, ended: outcome.Outcome[Any]) -> None:
        self._ended = ended

    def _pump(self) -> None:
        try:
            callback = self._callbacks.get(timeout=self._patience)
        except queue.Empty:
            self._stuck = True
            raise AssertionError(
                f"nothing happened for {self._patience:g} s: the step waits for something that no other rule can "
                "bring while it runs; start it with self.nursery.start_soon, and let time pass with self.advance"
            ) from None
        callback()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        assert self._jobs is not None
        result: list[outcome.Outcome[T]] = []
        if self._ended is None:
            self._jobs.send_nowait((function, args, result))
        while not result and self._ended is None:
            self._pump()
        if result and not _cancelled(result[0]):
            return result[0].unwrap()
        # A background task failed and cancelled the step: its error is the one to raise.
        self._finish()
        raise AssertionError("the trio run ended under the machine")

    def close(self) -> None:
        if self._stuck:
            # The step would never end by itself, and until it ends no task reads the jobs.
            assert self._token is not None
            self._token.run_sync_soon(lambda: self.nursery.cancel_scope.cancel(reason="step never ended"))
            self._stuck = False
        elif self._ended is None:
            assert self._jobs is not None
            self._jobs.close()
        self._finish()

    def _finish(self) -> None:
        """Wait for the end of the run; the first time, raise what it raised."""
        while self._ended is None:
            self._pump()
        if not self._raised:
            self._raised = True
            self._ended.unwrap()


def _cancelled(result: outcome.Outcome[Any]) -> bool:
    return isinstance(result, outcome.Error) and isinstance(result.error, trio.Cancelled)


class TrioMachine(RuleBasedStateMachine):
    """A hypothesis state machine whose rules run inside one live trio run per example.

    Rules and invariants are plain functions (hypothesis awaits nothing); `self.run(fn, *args)` runs an async function.
    All code runs in hypothesis' own thread, so it is deterministic and shrinks. Time advances only by
    `self.advance(seconds)`, which is usually a rule. Subclasses call `super().__init__()` first. `self.nursery` is open
    as long as the example runs.

        class LockMachine(TrioMachine):
            def __init__(self) -> None:
                super().__init__()
                self.lock = trio.Lock()
                self.held = 0

            async def hold(self) -> None:
                async with self.lock:
                    self.held += 1
                    await trio.sleep(1)
                    self.held -= 1

            @rule()
            def start(self) -> None:
                self.nursery.start_soon(self.hold)

            @rule(seconds=st.integers(0, 3))
            def wait(self, seconds: int) -> None:
                self.advance(seconds)

            @invariant()
            def one_holder(self) -> None:
                self.settle()
                assert self.held <= 1

        TestLock = LockMachine.TestCase
    """

    #: real seconds without any activity after which a rule fails, because it would wait forever
    patience: ClassVar[float] = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._trio = _GuestRun(self.patience)

    @property
    def nursery(self) -> trio.Nursery:
        """Nursery for tasks that continue after the rule that started them; cancelled at teardown."""
        return self._trio.nursery

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run one async step to its end and return its result.

        Raises:
          AssertionError: the step waits for something that cannot happen, for longer than *patience*.
          BaseException: raised by the step, or by a task in `self.nursery`.
        """
        return self._trio.call(function, *args)

    def advance(self, seconds: float) -> None:
        """Advance the clock, and run everything that waited for it."""

        async def pass_time() -> None:
            await trio.testing.wait_all_tasks_blocked()
            self._trio.clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked()

        self.run(pass_time)

    def settle(self) -> None:
        """Run all tasks until they wait, without advancing the clock."""
        self.run(trio.testing.wait_all_tasks_blocked)

    def teardown(self) -> None:
        """End the run; its exceptions fail the example."""
        self._trio.close()
