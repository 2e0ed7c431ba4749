"""Tools that misbehave: it is their own affair."""

from __future__ import annotations

import json
import logging
import sys
import threading

import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.errors import OutcomeUnknown, PermissionDenied, ToolFailed
from clawft_trio.testing.seeding import seeded_scheduler
from clawft_trio.tools import RESULT_LIMIT, FanOutPolicy, Tool, ToolContext, ToolRegistry, tool

CONTEXT = ToolContext(auth=AuthContext.local(), log=logging.getLogger("test.silent"))
CONTEXT.log.disabled = True


@tool
async def good() -> str:
    """Do well, in three steps."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    return "well done"


async def beside_good(bad, **policy):
    """What *bad* is answered; a good tool before and one after it do well."""
    registry = ToolRegistry([good, bad], policy=FanOutPolicy(**policy))
    names = ["good", bad.name, "good"]
    answers = await registry.execute_all([ToolCall(id=str(n), name=name) for n, name in enumerate(names)], CONTEXT)
    assert [answer.call_id for answer in answers] == ["0", "1", "2"]
    assert [answers[0].text, answers[2].text] == ["well done"] * 2
    now = registry.statistics()
    assert (now.locks.paths, now.threads.running) == (0, 0)
    return answers[1]


def raising(error):
    @tool
    async def bad() -> None:
        raise error

    return bad


@pytest.mark.parametrize(
    ("error", "outcome", "kind", "message"),
    [
        (ValueError("no"), "error", "failed", "ValueError: no"),
        (KeyError("x"), "error", "failed", "KeyError: 'x'"),
        (Exception(), "error", "failed", "Exception"),
        (RecursionError("deep"), "error", "failed", "RecursionError: deep"),
        (MemoryError(), "error", "failed", "MemoryError"),
        (StopIteration(), "error", "failed", "RuntimeError: coroutine raised StopIteration"),
        (StopAsyncIteration(), "error", "failed", "StopAsyncIteration"),
        (SystemExit(3), "error", "failed", "the tool tried to end the program"),
        (trio.TooSlowError(), "timeout", "timeout", "TooSlowError"),
        (ToolFailed("say it so"), "error", "failed", "say it so"),
        (OutcomeUnknown("perhaps"), "error", "outcome_unknown", "perhaps"),
        (PermissionDenied("not you"), "refused", "refused", "not you"),
        (ExceptionGroup("two", [ValueError("a"), OSError("b")]), "error", "failed", "ValueError: a; OSError: b"),
        (ExceptionGroup("one", [ExceptionGroup("inner", [ToolFailed("deep")])]), "error", "failed", "deep"),
        (BaseExceptionGroup("exit", [SystemExit(1), OSError("b")]), "error", "failed",
         "the tool tried to end the program; OSError: b"),
        (ValueError("lone \udcff"), "error", "failed", "ValueError: lone ?"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)  # fmt: skip
async def test_what_a_tool_raises_is_its_answer(error, outcome, kind, message):
    answer = await beside_good(raising(error))
    assert answer.outcome == outcome
    assert json.loads(answer.text) == {"error": kind, "message": message}


async def test_a_long_error_is_cut():
    answer = await beside_good(raising(ValueError("x" * 100_000)))
    assert len(answer.text) < 2200


async def test_an_error_that_cannot_be_shown_is_still_an_answer():
    class Rude(Exception):
        def __str__(self):
            raise OSError("not even that")

    answer = await beside_good(raising(Rude()))
    assert "Rude" in answer.text


async def test_a_result_that_cannot_be_shown_is_an_error():
    class Rude:
        def __str__(self):
            raise OSError("no")

    @tool
    async def bad() -> object:
        return Rude()

    assert (await beside_good(bad)).outcome == "error"


async def test_a_tool_that_hangs_is_ended(autojump_clock):
    @tool(total=2)
    async def bad() -> None:
        await trio.sleep_forever()

    assert (await beside_good(bad)).outcome == "timeout"


async def test_a_tool_that_holds_on_to_its_life_is_answered_when_it_ends(autojump_clock):
    @tool(total=2)
    async def bad() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return "late"

    answer = await beside_good(bad)
    assert (answer.text, answer.duration) == ("late", 10)


async def test_a_hundred_megabytes_are_cut():
    @tool
    async def bad() -> dict:
        return {"content": "x" * 100_000_000, "note": "short"}

    answer = await beside_good(bad)
    assert len(answer.text.encode()) <= RESULT_LIMIT
    assert json.loads(answer.text)["note"] == "short"


async def test_printing_is_not_answering(capsys):
    @tool
    def bad() -> str:
        print("to the screen")
        sys.stderr.write("and there")
        return "to the model"

    assert (await beside_good(bad)).text == "to the model"
    assert capsys.readouterr() == ("to the screen\n", "and there")


async def test_a_thread_that_tries_to_end_the_program_does_not():
    @tool
    def bad() -> None:
        sys.exit("bye")

    assert "tried to end the program" in (await beside_good(bad)).text


async def test_a_tool_that_cancels_itself_is_answered():
    @tool
    async def bad() -> str:
        with trio.CancelScope() as scope:
            scope.cancel(reason="itself")
            await trio.lowlevel.checkpoint()
        return "cancelled and well"

    assert (await beside_good(bad)).text == "cancelled and well"


async def test_a_check_that_fails_is_its_calls_affair():
    async def function(arguments, context):
        raise AssertionError("not called")

    def check(raw):
        raise ZeroDivisionError("in the check")

    assert "in the check" in (await beside_good(Tool("bad", function=function, check=check))).text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [OSError(), KeyboardInterrupt()])])
async def test_ctrl_c_in_a_tool_is_not_the_tools(error):
    with pytest.raises(KeyboardInterrupt):
        await beside_good(raising(error))


async def test_an_error_beside_a_cancellation_from_outside_does_not_leave_the_turn(autojump_clock):
    @tool
    async def bad() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("while being cancelled")

    with trio.move_on_after(1) as scope:
        await beside_good(bad)
    assert scope.cancelled_caught


async def test_a_tool_that_swallows_its_cancellation_does_not_keep_the_turn_alive(autojump_clock):
    @tool
    async def bad() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return "no"

    with trio.move_on_after(1) as scope:
        await ToolRegistry([bad]).execute_all([ToolCall(id=str(n), name="bad") for n in range(40)], CONTEXT)
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_a_thread_is_waited_for_on_cancellation():
    release, ended = threading.Event(), []

    @tool
    def slow() -> None:
        release.wait(10)
        ended.append(True)

    registry = ToolRegistry([slow])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.execute_all, [ToolCall(id="1", name="slow")], CONTEXT)
        while not registry.statistics().threads.running:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel(reason="test")
        release.set()
    assert ended == [True]
    assert registry.statistics().threads.abandoned == 0


async def test_a_thread_that_may_be_left_behind_is_and_is_counted_until_it_ends():
    release = threading.Event()

    @tool(abandon_thread=True, total=0.05)
    def slow() -> None:
        release.wait(10)

    registry = ToolRegistry([slow], threads=2)
    try:
        answers = await registry.execute_all([ToolCall(id=str(n), name="slow") for n in range(3)], CONTEXT)
        assert {answer.outcome for answer in answers} == {"timeout"}
        now = registry.statistics().threads
        # The third never got a thread: the two that are left behind keep theirs.
        assert (now.abandoned, now.running, now.waiting, now.limit) == (2, 2, 0, 2)
    finally:
        release.set()
    with trio.fail_after(5):
        while registry.statistics().threads.running:
            await trio.sleep(0.001)
    assert registry.statistics().threads.abandoned == 0


async def test_the_order_in_which_tasks_take_turns_does_not_matter():
    for seed in range(5):
        with seeded_scheduler(seed):
            assert (await beside_good(raising(ValueError("no")))).outcome == "error"
