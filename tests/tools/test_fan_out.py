"""Calls side by side: one answer for each, in call order, whatever happens to the others."""

from __future__ import annotations

import json
import logging
import math
import threading
import time

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.errors import InvalidArguments, PermissionDenied, ToolTimeout
from clawft_trio.observe import LockWaited, Noted, Recorder, ToolEnded, ToolProgress, ToolStarted
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.tools import FanOutPolicy, Tool, ToolContext, ToolRegistry, repair_ids, tool

ADMIN_CONTEXT = ToolContext(auth=AuthContext.local())


def call(name, /, *, id="", **arguments):  # noqa: A002
    return ToolCall(
        id=id or f"{name}-{json.dumps(arguments, sort_keys=True)}", name=name, arguments=json.dumps(arguments)
    )


def told(answer):
    return json.loads(answer.text)


@tool(mode="read_only")
async def wait(seconds: float, say: str = "done") -> str:
    """Wait."""
    await trio.sleep(seconds)
    return say


@tool(mode="read_only")
async def fail() -> None:
    """Fail."""
    raise ValueError("no luck")


async def test_three_tools_of_100_ms_take_exactly_100_ms(autojump_clock):
    registry = ToolRegistry([wait])
    answers = await registry.execute_all([call("wait", id=str(n), seconds=0.1) for n in range(3)], ADMIN_CONTEXT)
    assert trio.current_time() == pytest.approx(0.1, abs=1e-9)
    assert [answer.duration for answer in answers] == [pytest.approx(0.1)] * 3


async def test_three_tools_of_100_ms_take_less_than_200_ms_of_real_time():
    registry = ToolRegistry([wait])
    began = time.perf_counter()
    await registry.execute_all([call("wait", id=str(n), seconds=0.1) for n in range(3)], ADMIN_CONTEXT)
    assert time.perf_counter() - began < 0.2


async def test_synchronous_tools_run_side_by_side_too():
    all_there = threading.Barrier(3, timeout=30)

    @tool(mode="read_only")
    def meet() -> int:
        return all_there.wait()

    answers = await ToolRegistry([meet]).execute_all([call("meet", id=str(n)) for n in range(3)], ADMIN_CONTEXT)
    assert sorted(answer.text for answer in answers) == ["0", "1", "2"]


async def test_a_thousand_take_as_long_as_the_cap_dictates(autojump_clock):
    registry = ToolRegistry([wait])
    await registry.execute_all([call("wait", id=str(n), seconds=1) for n in range(1000)], ADMIN_CONTEXT)
    assert trio.current_time() == pytest.approx(math.ceil(1000 / 16))


async def test_never_more_at_once_than_the_cap_and_all_of_it_is_used(autojump_clock):
    running = peak = 0

    @tool(mode="read_only")
    async def counted() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await trio.sleep(1)
        running -= 1

    registry = ToolRegistry([counted], policy=FanOutPolicy(concurrency=5))
    await registry.execute_all([call("counted", id=str(n)) for n in range(23)], ADMIN_CONTEXT)
    assert (peak, trio.current_time()) == (5, 5.0)


@given(delays=st.lists(st.integers(0, 9), max_size=30), cap=st.integers(1, 8))
@settings(deadline=None, max_examples=40)
@in_mock_time
async def test_answers_come_in_call_order_however_long_each_takes(delays, cap):
    registry = ToolRegistry([wait], policy=FanOutPolicy(concurrency=cap))
    calls = [call("wait", id=f"id{n}", seconds=delay, say=str(n)) for n, delay in enumerate(delays)]
    answers = await registry.execute_all(calls, ADMIN_CONTEXT)
    assert [(a.call_id, a.text) for a in answers] == [(f"id{n}", str(n)) for n in range(len(delays))]
    assert all(a.message.tool_call_id == a.call_id and a.message.text == a.text for a in answers)


async def test_no_calls_no_answers():
    assert await ToolRegistry().execute_all([], ADMIN_CONTEXT) == ()


async def test_one_call_is_answered_like_many():
    (answer,) = await ToolRegistry([wait]).execute_all([call("wait", id="a", seconds=0, say="hi")], ADMIN_CONTEXT)
    assert (answer.call_id, answer.name, answer.text, answer.outcome, answer.error) == ("a", "wait", "hi", "ok", None)


async def test_an_error_is_its_calls_answer_and_the_others_go_on(autojump_clock, caplog):
    caplog.set_level(logging.CRITICAL, "clawft_trio.tools")
    registry = ToolRegistry([wait, fail])
    slow, failed, quick = await registry.execute_all(
        [call("wait", seconds=2), call("fail"), call("wait", seconds=1)], ADMIN_CONTEXT
    )
    assert [slow.outcome, failed.outcome, quick.outcome] == ["ok", "error", "ok"]
    assert told(failed) == {"error": "failed", "message": "ValueError: no luck"}
    assert isinstance(failed.error.__cause__, ValueError)
    assert trio.current_time() == 2


async def test_a_tool_that_raises_is_one_log_line_and_a_traceback_at_debug_level(caplog):
    @tool
    async def secretive() -> None:
        raise ValueError("two\nlines, password=hunter22")

    caplog.set_level(logging.INFO, "clawft_trio.tools")
    await ToolRegistry([secretive]).execute_all([call("secretive")], ADMIN_CONTEXT)
    (record,) = caplog.records
    assert record.getMessage() == "tool secretive failed: ValueError: two lines, password=***"
    assert record.exc_info is None
    caplog.clear()
    caplog.set_level(logging.DEBUG, "clawft_trio.tools")
    await ToolRegistry([secretive]).execute_all([call("secretive")], ADMIN_CONTEXT)
    _, traceback = caplog.records
    assert "in secretive" in traceback.getMessage()
    assert traceback.getMessage().endswith("ValueError: two\nlines, password=***\n")
    assert "hunter22" not in traceback.getMessage().replace('raise ValueError("two\\nlines, password=hunter22")', "")


@tool(mode="read_only", total=3)
async def hang() -> None:
    """Hang."""
    await trio.sleep_forever()


async def test_a_tools_own_limit_answers_for_it_alone(autojump_clock):
    hung, done = await ToolRegistry([hang, wait]).execute_all([call("hang"), call("wait", seconds=5)], ADMIN_CONTEXT)
    assert (hung.outcome, hung.duration, done.outcome) == ("timeout", 3.0, "ok")
    assert told(hung) == {"error": "timeout", "message": "not finished after 3 s"}
    assert isinstance(hung.error, ToolTimeout)


async def test_a_tool_without_a_limit_has_the_registrys(autojump_clock):
    registry = ToolRegistry([wait], policy=FanOutPolicy(total=7))
    (answer,) = await registry.execute_all([call("wait", seconds=1e6)], ADMIN_CONTEXT)
    assert (answer.outcome, trio.current_time()) == ("timeout", 7.0)


async def test_the_deadline_of_all_calls_answers_what_runs_and_what_has_not_begun(autojump_clock):
    registry = ToolRegistry([wait], policy=FanOutPolicy(concurrency=1))
    context = attrs.evolve(ADMIN_CONTEXT, deadline=trio.current_time() + 2.5)
    answers = await registry.execute_all([call("wait", id=str(n), seconds=1) for n in range(5)], context)
    assert [answer.outcome for answer in answers] == ["ok", "ok", "timeout", "timeout", "timeout"]
    assert [answer.duration for answer in answers] == [1, 1, 0.5, 0, 0]
    assert "not started" in answers[4].text
    assert trio.current_time() == 2.5


async def test_a_tool_is_told_its_deadline(autojump_clock):
    seen = []

    @tool(total=10)
    async def look(context: ToolContext) -> None:
        seen.append(context.deadline)

    registry = ToolRegistry([look])
    await registry.execute_all([call("look")], ADMIN_CONTEXT)
    await registry.execute_all([call("look")], attrs.evolve(ADMIN_CONTEXT, deadline=4.0))
    assert seen == [10.0, 4.0]


async def test_a_tools_clock_stands_while_it_waits_for_a_lock(autojump_clock):
    @tool(writes="path", total=3)
    async def change(path: str) -> None:
        await trio.sleep(2)

    registry = ToolRegistry([change])
    answers = await registry.execute_all([call("change", id=str(n), path="x") for n in range(4)], ADMIN_CONTEXT)
    assert [answer.outcome for answer in answers] == ["ok"] * 4
    assert [answer.waited for answer in answers] == [0, 2, 4, 6]
    assert [answer.duration for answer in answers] == [2] * 4


async def test_a_lock_that_does_not_come_is_a_timeout(autojump_clock, tmp_path):
    @tool(writes="path")
    async def change(path: str) -> None:
        raise AssertionError("it does not hold its path")

    registry = ToolRegistry([change], policy=FanOutPolicy(lock_wait=5))
    async with registry.locks.hold([(tmp_path / "x", "read")]):
        (answer,) = await registry.execute_all(
            [call("change", path="x")], attrs.evolve(ADMIN_CONTEXT, workspace=tmp_path)
        )
    assert (answer.outcome, answer.waited) == ("timeout", 5.0)
    assert "has not started" in answer.text
    assert registry.statistics().locks.waiters == 0


async def test_an_error_on_the_way_out_does_not_hide_that_time_was_over(autojump_clock, caplog):
    caplog.set_level(logging.CRITICAL, "clawft_trio.tools")

    @tool(total=1)
    async def untidy() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("while cleaning up")

    (answer,) = await ToolRegistry([untidy]).execute_all([call("untidy")], ADMIN_CONTEXT)
    assert answer.outcome == "timeout"


@tool(required_level=2)
async def secret() -> str:
    return "told"


async def answer_to(registry, permissions, name, **arguments):
    context = ToolContext(auth=AuthContext(sender_id="ana", channel="test", permissions=permissions))
    (answer,) = await registry.execute_all([call(name, id="1", **arguments)], context)
    return answer


async def test_who_may_not_does_not_learn_what_there_is():
    registry = ToolRegistry([wait, secret])
    may_call_anything = attrs.evolve(USER, tool_access=("*",))
    there = await answer_to(registry, may_call_anything, "secret")
    missing = await answer_to(registry, may_call_anything, "secreu")
    assert there.text.replace("secret", "secreu") == missing.text
    assert (there.outcome, missing.outcome) == ("refused", "unknown")
    assert isinstance(there.error, PermissionDenied)

    nothing_there = await answer_to(registry, ZERO_TRUST, "nothing")
    something_there = await answer_to(registry, ZERO_TRUST, "wait", seconds=0)
    assert nothing_there.text.replace("nothing", "wait") == something_there.text
    assert nothing_there.outcome == something_there.outcome == "refused"


async def test_permission_comes_before_arguments():
    answer = await answer_to(ToolRegistry([wait]), ZERO_TRUST, "wait", seconds="not a number")
    assert answer.outcome == "refused"


async def test_the_senders_permissions_reach_every_call():
    registry = ToolRegistry([wait, secret])
    assert (await answer_to(registry, ADMIN, "secret")).text == "told"
    denied = attrs.evolve(ADMIN, tool_denylist=("sec*",))
    assert (await answer_to(registry, denied, "secret")).outcome == "refused"


async def test_only_allowed_tools_are_offered_sorted_by_name():
    registry = ToolRegistry([wait, secret, fail])
    assert [spec.name for spec in registry.specs(ADMIN)] == ["fail", "secret", "wait"]
    assert [spec.name for spec in registry.specs(attrs.evolve(USER, tool_access=("*",)))] == ["fail", "wait"]
    assert registry.specs(ZERO_TRUST) == ()


async def test_custom_permissions_must_be_equal():
    @tool(custom_permissions={"region": "eu"})
    async def regional() -> str:
        return "ok"

    registry = ToolRegistry([regional])
    allowed = attrs.evolve(ADMIN, custom_permissions={"region": "eu"})
    other = attrs.evolve(ADMIN, custom_permissions={"region": "us"})
    outcomes = [(await answer_to(registry, who, "regional")).outcome for who in (allowed, other, ADMIN)]
    assert outcomes == ["ok", "refused", "refused"]


async def test_the_original_names_of_tools_count_in_permissions():
    @tool(aliases=("exec_shell", "spawn"))
    async def run_command() -> str:
        return "ran"

    registry = ToolRegistry([run_command])
    by_old_name = attrs.evolve(USER, tool_access=("exec_shell",))
    assert (await answer_to(registry, by_old_name, "run_command")).text == "ran"
    assert (await answer_to(registry, by_old_name, "exec_shell")).outcome == "unknown"
    denied = attrs.evolve(ADMIN, tool_denylist=("exec_*",))
    assert (await answer_to(registry, denied, "run_command")).outcome == "refused"


async def test_an_unknown_tool_is_answered_with_what_is_near():
    answer = await answer_to(ToolRegistry([wait]), ADMIN, "wiat")
    assert (answer.outcome, told(answer)["error"]) == ("unknown", "unknown_tool")
    assert "Did you mean 'wait'?" in told(answer)["message"]


def test_two_tools_of_one_name_are_an_error_unless_said_otherwise():
    registry = ToolRegistry([wait])
    with pytest.raises(ValueError, match="already"):
        registry.add(wait)
    registry.add(wait, replace=True)
    assert registry.remove("wait") is wait
    assert (len(registry), "wait" in registry) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ('{"seconds": ', "$"),
        ("[1]", "$"),
        ('"seconds"', "$"),
        ("NaN", "$"),
        ("{}", "$"),
        ('{"seconds": "one"}', "$.seconds"),
        ('{"seconds": 1, "sey": "x"}', "$.sey"),
        ("[" * 200_000, "$"),
        ('{"seconds": 1' + " " * 5_000_000 + "}", "$"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_with_their_place_and_nothing_runs(arguments, place):
    registry = ToolRegistry([wait])
    (answer,) = await registry.execute_all([ToolCall(id="1", name="wait", arguments=arguments)], ADMIN_CONTEXT)
    assert (answer.outcome, answer.duration) == ("invalid", 0.0)
    assert isinstance(answer.error, InvalidArguments)
    assert any(problem.startswith(f"{place}: ") for problem in told(answer)["problems"])
    assert len(answer.text) < 3000


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
async def test_nothing_written_is_no_arguments(arguments):
    @tool
    async def ping() -> str:
        return "pong"

    (answer,) = await ToolRegistry([ping]).execute_all(
        [ToolCall(id="1", name="ping", arguments=arguments)], ADMIN_CONTEXT
    )
    assert answer.text == "pong"


@given(st.lists(st.sampled_from(["", "a", "b", "a_2", "call_0", "\0", "\ud800", "x" * 20_000]), max_size=8))
@settings(deadline=None, max_examples=200)
def test_repaired_ids_are_there_and_different_and_good_ones_stay(ids):
    calls = [ToolCall(id=one, name="x") for one in ids]
    fixed = [one.id for one in repair_ids(calls)]
    assert len(set(fixed)) == len(fixed)
    assert all(fixed)
    assert all(len(one) < 17_000 and one.encode() and "\0" not in one for one in fixed)
    first_use = {one: ids.index(one) for one in ids if one in {"a", "b", "a_2", "call_0"}}
    assert all(fixed[at] == one for one, at in first_use.items())
    assert repair_ids(repair_ids(calls)) == repair_ids(calls)


async def test_repeated_and_missing_ids_are_answered_each_and_told():
    told_events = Recorder()
    context = attrs.evolve(ADMIN_CONTEXT, observer=told_events)
    calls = [attrs.evolve(call("wait", seconds=0, say=str(n)), id=given) for n, given in enumerate(["a", "a", ""])]
    answers = await ToolRegistry([wait]).execute_all(calls, context)
    assert [(answer.call_id, answer.text) for answer in answers] == [("a", "0"), ("a_2", "1"), ("call_2", "2")]
    (noted,) = told_events.of(Noted)
    assert noted.details == {"was": {"a_2": "a", "call_2": ""}}


@tool
async def change(what: str = "") -> str:
    """Change something."""
    return f"changed {what}"


async def test_what_changes_something_waits_for_approval_and_what_looks_does_not(autojump_clock):
    asked = []

    async def approve(request):
        asked.append((request.tool.name, dict(request.arguments), request.context.call_id))
        await trio.sleep(10)
        return True

    registry = ToolRegistry([wait, change], approve=approve)
    looked, changed = await registry.execute_all(
        [call("wait", id="w", seconds=0), call("change", id="c", what="it")], ADMIN_CONTEXT
    )
    assert asked == [("change", {"what": "it"}, "c")]
    assert (looked.waited, changed.waited, changed.duration, changed.text) == (0, 10, 0, "changed it")


@pytest.mark.parametrize(("said", "message"), [(False, "not approved"), ("not on Sundays", "not on Sundays")])
async def test_a_refusal_is_an_answer_to_the_model(said, message):
    async def approve(request):
        return said

    (answer,) = await ToolRegistry([change], approve=approve).execute_all([call("change")], ADMIN_CONTEXT)
    assert (answer.outcome, told(answer)["error"]) == ("refused", "refused")
    assert message in told(answer)["message"]


async def test_silence_is_refusal(autojump_clock):
    async def approve(request):
        await trio.sleep_forever()

    registry = ToolRegistry([change], approve=approve, policy=FanOutPolicy(approval=30))
    (answer,) = await registry.execute_all([call("change")], ADMIN_CONTEXT)
    assert (answer.outcome, trio.current_time()) == ("refused", 30.0)


async def test_a_decision_after_its_time_is_refusal(autojump_clock):
    async def approve(request):
        with trio.CancelScope(shield=True):
            await trio.sleep(31)
        return True

    registry = ToolRegistry([change], approve=approve, policy=FanOutPolicy(approval=30))
    (answer,) = await registry.execute_all([call("change")], ADMIN_CONTEXT)
    assert answer.outcome == "refused"


async def test_asking_that_fails_is_refusal():
    async def approve(request):
        raise OSError("no terminal")

    (answer,) = await ToolRegistry([change], approve=approve).execute_all([call("change")], ADMIN_CONTEXT)
    assert answer.outcome == "refused"
    assert "no terminal" not in answer.text


async def test_an_unfinished_approval_holds_no_path(tmp_path):
    asked, answer = trio.Event(), trio.Event()

    async def approve(request):
        asked.set()
        await answer.wait()
        return True

    @tool(writes="path")
    async def write(path: str) -> str:
        return "written"

    registry = ToolRegistry([write], approve=approve)
    context = attrs.evolve(ADMIN_CONTEXT, workspace=tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.execute_all, [call("write", path="x")], context)
        await asked.wait()
        # On the real clock: a mock one would jump while the path is looked at in a thread.
        with trio.fail_after(20):
            async with registry.locks.hold([(tmp_path / "x", "write")]):
                assert not answer.is_set()
        answer.set()


async def test_calls_of_a_turn_keep_their_order_on_a_path_also_when_one_waits_for_approval(autojump_clock, tmp_path):
    content = "old"

    async def approve(request):
        await trio.sleep(60)
        return True

    @tool(writes="path")
    async def write(path: str) -> None:
        nonlocal content
        content = "new"

    @tool(mode="read_only", reads="path")
    async def read(path: str) -> str:
        return content

    registry = ToolRegistry([write, read], approve=approve)
    _, same, other = await registry.execute_all(
        [call("write", path="x"), call("read", path="x"), call("read", path="y")],
        attrs.evolve(ADMIN_CONTEXT, workspace=tmp_path),
    )
    assert (same.text, other.text) == ("new", "old")


@given(
    turns=st.lists(st.tuples(st.sampled_from(["a", "a/b", "a/c", "d"]), st.booleans(), st.integers(0, 3)), max_size=12),
    cap=st.integers(1, 6),
)
@settings(deadline=None, max_examples=60)
@in_mock_time
async def test_calls_of_a_turn_that_touch_the_same_path_have_their_effects_in_call_order(turns, cap):
    effects = []

    @tool(writes="path")
    async def write(path: str, delay: float, number: int) -> None:
        await trio.sleep(delay)
        effects.append(number)
        await trio.sleep(delay)

    @tool(mode="read_only", reads="path")
    async def read(path: str, delay: float, number: int) -> None:
        await trio.sleep(delay)
        effects.append(number)
        await trio.sleep(delay)

    registry = ToolRegistry([write, read], policy=FanOutPolicy(concurrency=cap, total=1e6, lock_wait=1e6))
    calls = [
        call("write" if writes else "read", path=path, delay=delay, number=n)
        for n, (path, writes, delay) in enumerate(turns)
    ]
    answers = await registry.execute_all(calls, ADMIN_CONTEXT)
    assert all(answer.outcome == "ok" for answer in answers)
    for later, (path, writes, _) in enumerate(turns):
        for earlier, (other, also, _) in enumerate(turns[:later]):
            if (writes or also) and (f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")):
                assert effects.index(earlier) < effects.index(later)
    assert registry.statistics().locks.paths == 0


async def test_an_exclusive_tool_runs_alone_and_in_its_place(autojump_clock):
    log = []

    @tool(mode="exclusive")
    async def alone() -> None:
        log.append("in")
        await trio.sleep(1)
        log.append("out")

    @tool(mode="read_only")
    async def other(name: str) -> None:
        log.append(name)
        await trio.sleep(1)

    await ToolRegistry([alone, other]).execute_all(
        [call("other", name="before"), call("alone"), call("other", name="after")], ADMIN_CONTEXT
    )
    assert log == ["before", "in", "out", "after"]
    assert trio.current_time() == 3


async def test_a_list_of_paths_is_locked_as_a_whole(autojump_clock):
    @tool(writes=("source", "others"))
    async def move(source: str, others: list[str] | None = None) -> None:
        await trio.sleep(1)

    registry = ToolRegistry([move])
    await registry.execute_all(
        [call("move", source="a", others=["b", "c"]), call("move", source="c"), call("move", source="d")],
        ADMIN_CONTEXT,
    )
    assert trio.current_time() == 2


async def test_a_path_that_is_none_is_a_problem_of_the_argument():
    @tool(writes="path")
    async def write(path: str) -> None:
        raise AssertionError("not called")

    (answer,) = await ToolRegistry([write]).execute_all([call("write", path="a\0b")], ADMIN_CONTEXT)
    assert answer.outcome == "invalid"


async def test_every_call_is_told_with_what_it_waited_and_took(autojump_clock):
    seen = Recorder()

    @tool(writes="path")
    async def write(path: str, context: ToolContext) -> str:
        await trio.sleep(1)
        context.progress(0.5, 1, "half")
        await trio.sleep(1)
        return "ok"

    context = attrs.evolve(ADMIN_CONTEXT, observer=seen, turn_id="t", workspace="/w")
    await ToolRegistry([write]).execute_all(
        [call("write", id="a", path="x"), call("write", id="b", path="x"), call("nope", id="c")], context
    )
    started = [(e.tool_call_id, e.at, e.waited) for e in seen.of(ToolStarted)]
    ended = {e.tool_call_id: (e.outcome, e.at, e.duration) for e in seen.of(ToolEnded)}
    assert started == [("a", 0, 0), ("b", 2, 2)]
    assert ended == {"a": ("ok", 2, 2), "b": ("ok", 4, 2), "c": ("unknown", 0, 0)}
    assert [(e.tool_call_id, e.paths, e.waited) for e in seen.of(LockWaited)] == [("b", ("/w/x",), 2)]
    assert [(e.tool_call_id, e.tool, e.done, e.message) for e in seen.of(ToolProgress)] == [
        ("a", "write", 0.5, "half"),
        ("b", "write", 0.5, "half"),
    ]
    assert {e.turn_id for e in seen.events} == {"t"}


class Journal:
    def __init__(self, fail_at=()):
        self.entries = []
        self.fail_at = fail_at

    async def started(self, call, tool):
        await trio.lowlevel.checkpoint()
        self._enter("started", call.id)

    async def ended(self, answer):
        await trio.lowlevel.checkpoint()
        self._enter("ended", answer.call_id)

    def _enter(self, what, call_id):
        if what in self.fail_at:
            raise OSError("disk full")
        self.entries.append((what, call_id))


async def test_the_intent_is_kept_before_and_the_answer_after_and_nothing_of_what_never_ran():
    journal = Journal()

    @tool
    async def act() -> None:
        journal.entries.append(("acts", ""))

    await ToolRegistry([act]).execute_all([call("act", id="a"), call("nope", id="b")], ADMIN_CONTEXT, journal=journal)
    assert journal.entries == [("started", "a"), ("acts", ""), ("ended", "a")]


async def test_what_finished_is_recorded_also_when_everything_is_being_cancelled():
    journal = Journal()
    scope = trio.CancelScope()

    @tool
    async def act() -> None:
        scope.cancel(reason="test")

    with scope:
        await ToolRegistry([act]).execute_all([call("act", id="a")], ADMIN_CONTEXT, journal=journal)
    assert journal.entries == [("started", "a"), ("ended", "a")]


async def test_a_call_whose_intent_cannot_be_kept_does_not_run(caplog):
    caplog.set_level(logging.CRITICAL, "clawft_trio.tools")

    @tool
    async def act() -> None:
        raise AssertionError("it is not on record")

    journal = Journal(fail_at=["started"])
    (answer,) = await ToolRegistry([act]).execute_all([call("act")], ADMIN_CONTEXT, journal=journal)
    assert (answer.outcome, answer.duration) == ("error", 0.0)
    assert "disk full" in answer.text


async def test_an_answer_that_cannot_be_recorded_stands(caplog):
    caplog.set_level(logging.CRITICAL, "clawft_trio.tools")
    (answer,) = await ToolRegistry([change]).execute_all(
        [call("change")], ADMIN_CONTEXT, journal=Journal(fail_at=["ended"])
    )
    assert answer.outcome == "ok"


async def test_a_tool_made_by_hand_is_checked_against_its_schema():
    async def add(arguments, context):
        return arguments["a"] + arguments["b"]

    numbers = {"type": "integer"}
    by_hand = Tool(
        "add",
        function=add,
        parameters={"type": "object", "properties": {"a": numbers, "b": numbers}, "required": ["a"]},
    )
    registry = ToolRegistry([by_hand])
    good, bad = await registry.execute_all([call("add", a=1, b=2), call("add", b="x")], ADMIN_CONTEXT)
    assert good.text == "3"
    assert {problem.partition(":")[0] for problem in told(bad)["problems"]} == {"$", "$.b"}
