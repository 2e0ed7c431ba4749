"""Tool calls that start while the model's answer is still streamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_types import ToolsAnswered, TurnPolicy, TurnRequest
from clawft_trio.auth import ADMIN, AuthContext
from clawft_trio.chat import Call, Message, Reset, ToolCall
from clawft_trio.errors import AllProvidersExhausted, ServerError
from clawft_trio.observe import Recorder, ToolStarted
from clawft_trio.observe.events import Noted
from clawft_trio.pipeline import OneProvider, Pipeline, StaticRouter
from clawft_trio.resilience import Failover
from clawft_trio.testing import CallTool, Fail, Finish, Say, Wait, cancel_everywhere
from clawft_trio.testing.threadless import threadless
from clawft_trio.tools import FanOutPolicy, Tool, ToolRegistry, ToolResult, tool


class Log:
    """A history, a journal of tool calls and a list of what ran, in memory."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.journal: list[tuple[str, str, str]] = []
        self.ran: list[tuple[str, str, float]] = []

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        await trio.lowlevel.checkpoint()
        return ()

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.messages.extend(messages)

    async def answers(self, turn_id: str) -> tuple[()]:
        await trio.lowlevel.checkpoint()
        return ()

    async def answered(self, turn_id: str, number: int, response: object) -> None:
        await trio.lowlevel.checkpoint()

    def tools(self, turn_id: str, number: int) -> Log:
        return self

    async def tool_answers(self, turn_id: str, number: int, calls: object) -> dict[str, ToolResult]:
        await trio.lowlevel.checkpoint()
        return {}

    async def started(self, call: ToolCall, tool: Tool) -> None:
        await trio.lowlevel.checkpoint()
        self.journal.append(("started", call.id, ""))

    async def ended(self, answer: ToolResult) -> None:
        await trio.lowlevel.checkpoint()
        self.journal.append(("ended", answer.call_id, answer.outcome))


def tools_of(log: Log) -> list[Tool]:
    async def run(what: str, seconds: float, text: str) -> str:
        log.ran.append(("begin", f"{what} {text}", trio.current_time()))
        try:
            await trio.sleep(seconds)
        finally:
            log.ran.append(("end", f"{what} {text}", trio.current_time()))
        return f"{what} {text}"

    @tool(mode="read_only")
    async def look(place: str) -> str:
        """Look at a place."""
        return await run("look", 2, place)

    @tool(mode="read_only", reads="path")
    async def read(path: str) -> str:
        """Read a file."""
        return await run("read", 2, path)

    @tool(writes="path")
    async def write(path: str) -> str:
        """Write a file."""
        return await run("write", 2, path)

    @tool(idempotent=True)
    async def switch(lamp: str) -> str:
        """Switch a lamp on."""
        return await run("switch", 2, lamp)

    @tool(mode="exclusive")
    async def install(what: str) -> str:
        """Install something."""
        return await run("install", 2, what)

    @tool(mode="read_only", idempotent=False)
    async def delegate(task: str) -> str:
        """Have another agent look, which costs money."""
        return await run("delegate", 2, task)

    return [look, read, write, switch, install, delegate]


def turns(
    log: Log,
    *providers: ScriptedProvider,
    fan_out: FanOutPolicy | None = None,
    approve: object = None,
    workspace: Path | None = None,
    **policy: object,
) -> Turns:
    provider = providers[0] if len(providers) == 1 else Failover(*providers)
    return Turns(
        models=Pipeline(router=StaticRouter(["p/m"]), transport=OneProvider(provider)),
        tools=ToolRegistry(tools_of(log), policy=fan_out, approve=approve),
        history=log,
        journal=log,
        policy=TurnPolicy(**policy),
        workspace=workspace,
    )


def question() -> TurnRequest:
    return TurnRequest(
        content=Message.user("What do I wear?"),
        auth=AuthContext(sender_id="ana", channel="test", permissions=ADMIN),
        session="test:1",
        turn_id="t1",
    )


def call(name: str, text: str) -> CallTool:
    argument = {"look": "place", "switch": "lamp", "install": "what", "delegate": "task"}.get(name, "path")
    return CallTool(name, {argument: text}, id=f"{name} {text}")


LOOKS = [Wait(1), call("look", "a"), Wait(1), call("look", "b"), Wait(1), call("look", "c"), Wait(1)]
DONE = [Say("Wear a coat."), Finish()]


def started(log: Log) -> dict[str, float]:
    return {what: at for kind, what, at in log.ran if kind == "begin"}


async def test_a_turn_takes_the_longer_of_stream_and_tools(autojump_clock: trio.testing.MockClock) -> None:
    log = Log()
    reply = await turns(log, ScriptedProvider([*LOOKS, Finish()], DONE)).answer(question(), Call())
    assert reply.latency.total == pytest.approx(5)
    assert [one.text for one in reply.tools] == ["look a", "look b", "look c"]
    assert started(log) == {"look a": pytest.approx(1), "look b": pytest.approx(2), "look c": pytest.approx(3)}
    assert sorted(log.journal) == sorted(
        [("started", f"look {x}", "") for x in "abc"] + [("ended", f"look {x}", "ok") for x in "abc"]
    )


async def test_a_stream_that_outlasts_its_tools_costs_no_time_for_them(autojump_clock: object) -> None:
    script = [call("look", "a"), Wait(7), Finish()]
    reply = await turns(Log(), ScriptedProvider(script, DONE)).answer(question(), Call())
    assert reply.latency.total == pytest.approx(7)


async def test_switched_off_tools_start_after_the_answer(autojump_clock: object) -> None:
    log = Log()
    reply = await turns(log, ScriptedProvider([*LOOKS, Finish()], DONE), eager="off").answer(question(), Call())
    assert reply.latency.total == pytest.approx(6)
    assert list(started(log).values()) == pytest.approx([4, 4, 4])


async def test_calls_at_once_are_bounded_over_early_and_later_calls(autojump_clock: object) -> None:
    log = Log()
    model = ScriptedProvider([*LOOKS, call("switch", "d"), Finish()], DONE)
    reply = await turns(log, model, fan_out=FanOutPolicy(concurrency=2)).answer(question(), Call())
    running = peak = 0
    for kind, _, _ in log.ran:
        running += 1 if kind == "begin" else -1
        peak = max(peak, running)
    assert peak == 2
    assert [one.text for one in reply.tools] == ["look a", "look b", "look c", "switch d"]
    assert reply.latency.total == pytest.approx(6)


@pytest.mark.parametrize(
    ("eager", "early"), [("off", set()), ("read_only", {"look a"}), ("idempotent", {"look a", "switch b"})]
)
async def test_only_tools_that_the_policy_names_start_early(
    autojump_clock: object, eager: str, early: set[str]
) -> None:
    log = Log()
    script = [call("look", "a"), call("switch", "b"), call("write", "c"), call("delegate", "d"), Wait(1), Finish()]
    reply = await turns(log, ScriptedProvider(script, DONE), eager=eager).answer(question(), Call())
    assert {what for what, at in started(log).items() if at < 1} == early
    assert [one.text for one in reply.tools] == ["look a", "switch b", "write c", "delegate d"]


async def test_a_read_waits_for_an_earlier_write_of_the_same_path(autojump_clock: object, tmp_path: Path) -> None:
    log = Log()
    script = [call("write", "f"), call("read", "f"), call("read", "g"), Wait(1), Finish()]
    turn = turns(log, ScriptedProvider(script, DONE), workspace=tmp_path)
    with threadless():
        reply = await turn.answer(question(), Call())
    begun = started(log)
    assert begun["read f"] == pytest.approx(3)
    assert begun["write f"] == pytest.approx(1)
    assert begun["read g"] < 1
    assert [one.text for one in reply.tools] == ["write f", "read f", "read g"]


async def test_a_write_waits_for_a_read_that_started_early(autojump_clock: object, tmp_path: Path) -> None:
    log = Log()
    script = [call("read", "f"), call("write", "f"), Wait(1), Finish()]
    with threadless():
        await turns(log, ScriptedProvider(script, DONE), workspace=tmp_path).answer(question(), Call())
    ends = {what: at for kind, what, at in log.ran if kind == "end"}
    assert started(log)["write f"] == pytest.approx(ends["read f"])


async def test_nothing_overtakes_a_call_that_runs_alone(autojump_clock: object) -> None:
    log = Log()
    script = [call("install", "a"), call("look", "b"), Wait(1), Finish()]
    await turns(log, ScriptedProvider(script, DONE)).answer(question(), Call())
    assert [what for kind, what, _ in log.ran if kind == "begin"] == ["install a", "look b"]
    assert started(log) == {"install a": pytest.approx(1), "look b": pytest.approx(3)}


async def test_one_at_a_time_means_in_call_order(autojump_clock: object) -> None:
    log = Log()
    script = [call("switch", "a"), call("look", "b"), Wait(1), Finish()]
    turn = turns(log, ScriptedProvider(script, DONE), fan_out=FanOutPolicy(concurrency=1))
    await turn.answer(question(), Call())
    assert [what for kind, what, _ in log.ran if kind == "begin"] == ["switch a", "look b"]


async def test_approval_is_not_requested_before_the_answer_is_complete(autojump_clock: object) -> None:
    log = Log()
    asked = []

    async def approve(request: object) -> bool:
        await trio.lowlevel.checkpoint()
        asked.append(trio.current_time())
        return True

    script = [call("switch", "a"), Wait(1), Finish()]
    await turns(log, ScriptedProvider(script, DONE), approve=approve, eager="idempotent").answer(question(), Call())
    assert asked == [pytest.approx(1)]


async def test_arguments_that_do_not_fit_are_refused_after_the_answer(autojump_clock: object) -> None:
    script = [CallTool("look", {"where": 3}, id="x"), call("look", "b"), Wait(1), Finish()]
    reply = await turns(Log(), ScriptedProvider(script, DONE)).answer(question(), Call())
    assert [one.outcome for one in reply.tools] == ["invalid", "ok"]


async def test_a_reset_leaves_nothing_of_the_calls_before_it(autojump_clock: object) -> None:
    log, seen = Log(), []
    broken = ScriptedProvider([*LOOKS[:-1], Wait(0.5), Fail(ServerError("down"))], DONE)
    other = ScriptedProvider([call("look", "d"), Wait(1), Finish()])

    async def show(event: object) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(event)
        if isinstance(event, Reset):
            # By the time that a consumer sees it, everything has ended and is journalled.
            assert sum(kind == "begin" for kind, _, _ in log.ran) == sum(kind == "end" for kind, _, _ in log.ran) == 3
            assert {row for row in log.journal if row[0] == "ended"} == {
                ("ended", f"look {x}", "discarded") for x in "abc"
            }

    events = Recorder()
    reply = await turns(log, broken, other).answer(question(), Call(emit=show, observer=events))
    assert sum(isinstance(event, Reset) for event in seen) == 1
    assert {what: at for kind, what, at in log.ran if kind == "end"} == {
        "look a": pytest.approx(3),
        "look b": pytest.approx(3.5),
        "look c": pytest.approx(3.5),
        "look d": pytest.approx(5.5),
    }
    assert [one.text for one in reply.tools] == ["look d"]
    assert all("look a" not in message.text for request in broken.requests for message in request.messages)
    assert all("look a" not in message.text for message in log.messages)
    discarded = [event for event in events.events if isinstance(event, Noted) and event.what == "early calls discarded"]
    assert [event.details["calls"] for event in discarded] == [["look a", "look b", "look c"]]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_a_cut_or_filtered_answer_discards_its_calls(autojump_clock: object, reason: str) -> None:
    log = Log()
    model = ScriptedProvider([call("look", "a"), Wait(3), Finish(reason=reason)], DONE)
    reply = await turns(log, model).answer(question(), Call())
    assert ("ended", "look a", "discarded") in log.journal
    assert ("ended", "look a", "ok") not in log.journal
    assert all(one.outcome == "refused" for one in reply.tools)
    assert all("look a" not in message.text for message in log.messages)


async def test_a_failed_answer_cancels_its_calls(autojump_clock: object) -> None:
    log = Log()
    model = ScriptedProvider([call("look", "a"), Wait(1), Fail(ServerError("down"))])
    with pytest.raises((ServerError, AllProvidersExhausted)):
        await turns(log, model).answer(question(), Call())
    assert [(kind, at) for kind, _, at in log.ran] == [("begin", pytest.approx(0)), ("end", pytest.approx(1))]
    assert log.journal == [("started", "look a", ""), ("ended", "look a", "discarded")]
    assert [message.role for message in log.messages] == ["user"]


async def test_the_same_id_with_other_arguments_runs_again(autojump_clock: object) -> None:
    log = Log()
    first = ScriptedProvider([CallTool("look", {"place": "a"}, id="1"), Wait(1), Fail(ServerError("down"))], DONE)
    second = ScriptedProvider([CallTool("look", {"place": "b"}, id="1"), Wait(1), Finish()])
    reply = await turns(log, first, second).answer(question(), Call())
    assert [one.text for one in reply.tools] == ["look b"]
    assert log.journal[-1] == ("ended", "1", "ok")


async def test_the_last_round_starts_nothing(autojump_clock: object) -> None:
    log = Log()
    script = [call("look", "a"), Wait(1), Finish()]
    await turns(log, ScriptedProvider(script, script), max_tool_iterations=1).answer(question(), Call())
    assert [what for kind, what, _ in log.ran if kind == "begin"] == ["look a"]


async def test_tools_report_their_start_while_the_answer_is_streamed(autojump_clock: object) -> None:
    events, seen = Recorder(), []

    async def show(event: object) -> None:
        await trio.lowlevel.checkpoint()
        seen.append((trio.current_time(), event))

    model = ScriptedProvider([call("look", "a"), Wait(1), Finish()], DONE)
    await turns(Log(), model).answer(question(), Call(emit=show, observer=events))
    assert [event.at for event in events.events if isinstance(event, ToolStarted)] == [pytest.approx(0)]
    assert [at for at, event in seen if isinstance(event, ToolsAnswered)] == [pytest.approx(2)]


@pytest.mark.parametrize("ending", ["ok", "reset"])
async def test_cancelled_anywhere_nothing_stays_behind(autojump_clock: object, ending: str) -> None:
    log, made = Log(), []

    async def operation() -> None:
        broken = ScriptedProvider([call("look", "a"), call("write", "f"), Wait(0.1), Fail(ServerError("down"))])
        good = ScriptedProvider([call("look", "a"), call("switch", "b"), Wait(0.1), Finish()], DONE)
        turn = turns(log, *([broken, good] if ending == "reset" else [good]))
        made.append(turn)
        await turn.answer(question(), Call())

    async def check() -> None:
        await trio.lowlevel.checkpoint()
        assert sum(kind == "begin" for kind, _, _ in log.ran) == sum(kind == "end" for kind, _, _ in log.ran)
        begun = [name for kind, name, _ in log.journal if kind == "started"]
        ended = [name for kind, name, _ in log.journal if kind == "ended"]
        assert set(ended) <= set(begun)
        locks = made[-1].tools.statistics().locks if made else None
        assert locks is None or (locks.holders, locks.waiters) == (0, 0)
        log.ran.clear()
        log.journal.clear()

    assert await cancel_everywhere(operation, check, limit=2000) > 20
