"""Sessions that fill a model's window: cleared results, summaries between turns, and what is sent in the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from judged import ScriptedProvider

from clawft_trio import Config, TurnPolicy, open_agent, tool
from clawft_trio.agent import CompactionPolicy, Excess, SummaryCompactor
from clawft_trio.agent.agent import Agent
from clawft_trio.agent.background import open_background
from clawft_trio.agent.compaction import Ask, plan, transcript, within
from clawft_trio.agent.session_view import Compaction, SessionTail, StoredMessage, shown, with_summary
from clawft_trio.agent.turn_types import TurnRequest
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, ToolCall
from clawft_trio.errors import InvalidResponse, ServerError
from clawft_trio.observe import Recorder, SessionCompacted
from clawft_trio.pipeline.tokens import count_tokens, message_tokens, request_tokens
from clawft_trio.testing import CallTool, Fail, Finish, Say, cancel_everywhere

POLICY = CompactionPolicy()
NO_SUMMARY = CompactionPolicy(compactor=None)


def tail(turns: Sequence[tuple[int, int]], compaction: Compaction | None = None) -> SessionTail:
    """A session of turns, each given by the characters of its tool result (0: no tool) and of its answer."""
    messages: list[Message] = []
    for number, (result, answer) in enumerate(turns):
        messages.append(Message.user(f"q{number}"))
        if result:
            call = ToolCall(id=f"c{number}", name="look")
            messages += [Message.assistant(tool_calls=(call,)), Message.tool("r" * result, tool_call_id=call.id)]
        messages.append(Message.assistant("a" * answer))
    rows = tuple(StoredMessage(place=3 * n, at="2026-11-28T12:00", message=m) for n, m in enumerate(messages, 1))
    return SessionTail(compaction=compaction or Compaction(), rows=rows)


def applied(of: SessionTail, compaction: Compaction) -> tuple[Message, ...]:
    rows = tuple(row for row in of.rows if row.place > compaction.cut)
    return shown(attrs.evolve(of, compaction=compaction, rows=rows), readable=True)


def tokens(messages: Sequence[Message]) -> int:
    return sum(map(message_tokens, messages))


turns = st.lists(st.tuples(st.sampled_from([0, 0, 300, 3000]), st.integers(1, 600)), min_size=1, max_size=25)


@given(turns, st.integers(100, 8000), st.integers(0, 300), st.booleans(), st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_a_plan_gets_down_to_the_goal_or_leaves_the_newest_turn(of, limit, overhead, summarizing, kept) -> None:
    session = tail(of)
    policy = CompactionPolicy(compactor=SummaryCompactor() if summarizing else None, kept_results=kept)
    made = plan(session, policy, overhead=overhead, limit=limit, readable=True)
    if made is None:
        return
    left = applied(session, made.compaction)
    summary = policy.summary_budget(limit) if summarizing and made.excess else 0
    newest = sum(message.role == "user" for message in left) <= 1
    fits = overhead + tokens(left) + summary <= limit // 2 + 1
    assert fits or newest or not made.excess
    # Whole turns go, and what is left begins with a user's message.
    assert not left or left[0].role == "user"
    assert tokens(left) < tokens(session.messages)
    before = applied(session, attrs.evolve(made.compaction, cut=0))
    assert made.excess == before[: len(before) - len(left)]


def test_old_results_are_cleared_first_and_that_may_be_enough() -> None:
    session = tail([(4000, 10)] * 6)
    made = plan(session, POLICY, overhead=0, limit=6000, readable=True)
    assert made is not None
    assert (made.excess, made.compaction.cut) == ((), 0)
    results = [message.text for message in applied(session, made.compaction) if message.role == "tool"]
    assert ["cleared" in text for text in results] == [True] * 4 + [False] * 2


def test_when_it_is_not_enough_the_oldest_turns_go() -> None:
    session = tail([(4000, 2000)] * 6)
    made = plan(session, NO_SUMMARY, overhead=0, limit=4800, readable=True)
    assert made is not None
    assert made.compaction.cut > 0
    assert made.excess[0] == Message.user("q0")
    assert tokens(applied(session, made.compaction)) <= 2400


@pytest.mark.parametrize("kept", range(7))
def test_the_results_of_the_newest_turns_stay(kept: int) -> None:
    session = tail([(4000, 10)] * 6)
    made = plan(session, attrs.evolve(POLICY, kept_results=kept), overhead=0, limit=100_000, readable=True)
    assert (made is None) == (kept == 6)
    left = session.messages if made is None else applied(session, made.compaction)
    cleared = ["cleared" in message.text for message in left if message.role == "tool"]
    assert cleared == [True] * (6 - kept) + [False] * kept


def test_what_is_cleared_stays_cleared() -> None:
    session = tail([(4000, 10)] * 6, Compaction(cleared=100, summary="so far"))
    assert plan(session, attrs.evolve(POLICY, kept_results=6), overhead=0, limit=100_000, readable=True) is None
    made = plan(session, POLICY, overhead=0, limit=400, readable=True)
    assert made is not None
    assert (made.compaction.cleared, made.compaction.summary) == (100, "so far")


@pytest.mark.parametrize("summary", ["", "s" * 400])
def test_turns_are_cut_until_the_rest_fits_the_goal_with_the_summary(summary: str) -> None:
    session = tail([(0, 400)] * 6, Compaction(summary=summary))
    rest = tokens(session.messages[-6:]) + count_tokens(summary)
    for room, turns in ((rest, 3), (rest - 1, 2), (rest + 1, 3)):
        made = plan(session, attrs.evolve(NO_SUMMARY, goal=1), overhead=50, limit=room + 50, readable=True)
        assert made is not None
        assert applied(session, made.compaction) == session.messages[-2 * turns :]
        assert made.excess == session.messages[: -2 * turns]
    # A new summary may take its whole budget.
    made = plan(session, attrs.evolve(POLICY, goal=1), overhead=0, limit=rest, readable=True)
    assert made is not None
    assert tokens(applied(session, made.compaction)) <= rest - POLICY.summary_budget(rest)


def test_a_newest_turn_that_fits_the_window_stays_and_a_larger_one_goes() -> None:
    session = tail([(0, 10), (0, 4000)], Compaction(summary="s" * 400))
    newest = tokens(session.messages[-2:]) + count_tokens("s" * 400) + 30
    made = plan(session, NO_SUMMARY, overhead=30, limit=newest, readable=True)
    assert made is not None
    assert applied(session, made.compaction) == session.messages[-2:]
    made = plan(session, NO_SUMMARY, overhead=30, limit=newest - 1, readable=True)
    assert made is not None
    assert applied(session, made.compaction) == ()


def test_results_are_cleared_even_if_the_newest_turn_exceeds_the_goal() -> None:
    session = tail([(4000, 2000)])
    made = plan(session, attrs.evolve(NO_SUMMARY, kept_results=0), overhead=0, limit=800, readable=True)
    assert made is not None
    assert made.excess == ()
    assert tokens(applied(session, made.compaction)) > 400


def test_nothing_is_planned_where_nothing_can_be_done() -> None:
    assert plan(tail([(0, 10)]), POLICY, overhead=0, limit=10_000, readable=True) is None
    assert plan(SessionTail(), POLICY, overhead=9000, limit=1000, readable=True) is None


WINDOW = 4000


class Model:
    """A model with a window: it refuses what is longer, writes summaries, and answers by what it is shown."""

    def __init__(self, *, summary: Callable[[ChatRequest], object] | None = None) -> None:
        self.provider = ScriptedProvider(choose=self._choose, name="p")
        self.turns: list[ChatRequest] = []
        self.summaries: list[ChatRequest] = []
        self._summary = summary

    def _choose(self, request: ChatRequest):
        if "You summarize" in request.messages[0].text:
            self.summaries.append(request)
            if self._summary is not None:
                return self._summary(request)
            known = "the word is orange" if "orange" in request.messages[1].text else "nothing"
            return [Say(f"Summary: {known}."), Finish()]
        self.turns.append(request)
        assert request_tokens(request) <= WINDOW
        text = "known" if any("orange" in message.text for message in request.messages) else "unknown"
        return [Say(f"{text} " + "word " * 100), Finish()]


@asynccontextmanager
async def opened(
    model: Model, *, store: Path | None = None, observers: Sequence[object] = (), **policy: object
) -> AsyncGenerator[Agent, None]:
    config = Config(context_windows={"p/*": WINDOW})
    turn = TurnPolicy(max_tokens=500, **policy)
    async with open_agent(
        ["p/m"], providers={"p": model.provider}, config=config, turn=turn, store=store, observers=observers
    ) as agent:
        yield agent


async def ask(agent: Agent, number: int) -> str:
    first = "Remember: the word is orange. " if number == 0 else ""
    reply = await agent.ask(f"{first}question {number} " + "x " * 100, session="s")
    await trio.testing.wait_all_tasks_blocked(0.01)
    return reply.text.partition(" ")[0]


async def test_the_first_fact_is_known_by_way_of_the_summary() -> None:
    model, recorder = Model(), Recorder()
    async with opened(model, observers=[recorder]) as agent:
        answers = [await ask(agent, number) for number in range(40)]
        history = await agent.history("s")
        spent = await agent.parts.costs.ledger.spending("sender", "target")
    assert set(answers) == {"known"}
    assert len(model.summaries) >= 2
    assert not any("Remember" in str(message.content) for message in model.turns[-1].messages[1:])
    assert "[Summary of the earlier conversation]" in model.turns[-1].messages[0].text
    # Nothing is lost, everything is charged to the sender, and observers get each compaction.
    assert len(history) == 80
    assert [(one.group["sender"], one.attempts) for one in spent] == [("local:local", 40 + len(model.summaries))]
    assert [event.summarized for event in recorder.of(SessionCompacted)] == [True] * len(model.summaries)


async def test_between_compactions_each_request_begins_as_the_one_before() -> None:
    model = Model()
    async with opened(model) as agent:
        for number in range(40):
            await ask(agent, number)
    jumps = [
        number
        for number, (one, other) in enumerate(zip(model.turns, model.turns[1:], strict=False))
        if other.messages[: len(one.messages)] != one.messages
    ]
    assert len(jumps) == len(model.summaries)
    assert all(after - before >= 3 for before, after in zip(jumps, jumps[1:], strict=False))


async def test_a_summary_that_fails_costs_no_answer() -> None:
    model = Model(summary=lambda request: [Fail(ServerError("down"))])
    async with opened(model) as agent:
        answers = [await ask(agent, number) for number in range(25)]
    assert answers[-1] == "unknown"
    assert len(model.turns) == 25
    assert model.summaries


async def test_without_a_compactor_old_turns_are_cut() -> None:
    model = Model()
    async with opened(model, compaction=NO_SUMMARY) as agent:
        answers = [await ask(agent, number) for number in range(25)]
    assert (answers[0], answers[-1], model.summaries) == ("known", "unknown", [])


async def test_a_compactor_that_the_user_gives_is_called() -> None:
    seen: list[Excess] = []

    class Own:
        async def compact(self, excess: Excess, ask: Ask) -> str:
            await trio.lowlevel.checkpoint()
            seen.append(excess)
            return f"{excess.summary} orange {len(seen)}"

    model = Model()
    async with opened(model, compaction=CompactionPolicy(compactor=Own())) as agent:
        for number in range(30):
            await ask(agent, number)
    assert model.summaries == []
    assert [excess.summary for excess in seen][:2] == ["", " orange 1"]
    assert all(excess.messages[0].role == "user" and excess.session == "s" for excess in seen)
    assert all(0 < excess.budget <= WINDOW // 8 for excess in seen)
    assert f"orange {len(seen)}" in model.turns[-1].messages[0].text


async def test_a_summary_that_ignores_its_budget_is_cut() -> None:
    class Endless:
        async def compact(self, excess: Excess, ask: Ask) -> str:
            await trio.lowlevel.checkpoint()
            return "begin " + "word " * 100_000

    model = Model()
    async with opened(model, compaction=CompactionPolicy(compactor=Endless())) as agent:
        for number in range(30):
            await ask(agent, number)
    shown = model.turns[-1].messages[0].text
    assert "begin" in shown
    assert count_tokens(shown) < WINDOW // 2


@pytest.mark.parametrize("background", [True, False])
async def test_a_compactor_that_raises_costs_no_answer(background: bool) -> None:  # noqa: FBT001 - parametrized
    class Broken:
        async def compact(self, excess: Excess, ask: Ask) -> str:
            await trio.lowlevel.checkpoint()
            raise ValueError("a bug")

    model = Model()
    async with opened(model, compaction=CompactionPolicy(compactor=Broken())) as agent:
        turns = agent.parts.turns if background else attrs.evolve(agent.parts.turns, background=None)
        for number in range(30):
            question = TurnRequest(
                content=Message.user(f"{number} " + "x " * 100), auth=AuthContext.local(), session="s"
            )
            await turns.answer(question, Call(turn_id=question.turn_id))
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert len(model.turns) == 30


async def test_another_model_may_write_the_summaries() -> None:
    model, cheap = Model(), ScriptedProvider.saying("orange, in short", name="cheap")
    config = Config(context_windows={"p/*": WINDOW})
    turn = TurnPolicy(max_tokens=500, compaction=CompactionPolicy(compactor=SummaryCompactor(model="cheap/small")))
    async with open_agent(["p/m"], providers={"p": model.provider, "cheap": cheap}, config=config, turn=turn) as agent:
        for number in range(20):
            await ask(agent, number)
    assert model.summaries == []
    assert {request.model for request in cheap.requests} == {"small"}
    assert "orange, in short" in model.turns[-1].messages[0].text


async def test_a_summary_that_hangs_ends_with_the_agent() -> None:
    gone = trio.Event()

    class Hanging:
        async def compact(self, excess: Excess, ask: Ask) -> str:
            try:
                await trio.sleep_forever()
            finally:
                gone.set()
            return ""

    async with opened(Model(), compaction=CompactionPolicy(compactor=Hanging())) as agent:
        for number in range(18):
            await ask(agent, number)
        assert not gone.is_set()
    assert gone.is_set()


async def test_the_cut_is_the_same_after_a_restart(tmp_path: Path) -> None:
    model = Model()
    for number in range(24):
        async with opened(model, store=tmp_path / "s.db") as agent:
            assert await ask(agent, number) == "known"
    changed = sum(
        other.messages[: len(one.messages)] != one.messages
        for one, other in zip(model.turns, model.turns[1:], strict=False)
    )
    assert 0 < changed <= len(model.summaries)


@pytest.mark.parametrize("reason", ["length", "tool_calls", "content_filter"])
async def test_a_summary_that_is_not_whole_is_refused(reason: str) -> None:
    async def asked(request: ChatRequest, model: str) -> ChatResponse:
        await trio.lowlevel.checkpoint()
        return ChatResponse(content="half", finish_reason=reason)

    excess = Excess(session="s", messages=(Message.user("q"),), summary="", budget=100, room=4000)
    with pytest.raises(InvalidResponse):
        await SummaryCompactor().compact(excess, asked)


def test_the_transcript_has_calls_and_the_beginning_of_results() -> None:
    messages = tail([(5000, 3)]).messages
    text = transcript(messages, 10_000)
    assert text.splitlines()[:2] == ["user: q0", "assistant: (calls look with {})"]
    assert "(5000 characters)" in text
    assert len(text) < 1200
    exact, longer = (transcript([Message.tool("r" * size, tool_call_id="c")], 10_000) for size in (1000, 1001))
    assert exact == "tool: " + "r" * 1000
    assert longer == "tool: " + "r" * 1000 + "… (1001 characters)"


@given(st.text(st.sampled_from("ab Z9.é漢\n"), max_size=3000), st.integers(0, 400))
@settings(deadline=None)
def test_a_text_is_cut_to_its_tokens(text: str, room: int) -> None:
    cut = within(text, room)
    assert cut == text or count_tokens(cut) <= max(room, count_tokens("[...]"))
    assert cut != text or count_tokens(text) <= room or text == "[...]"


async def test_the_request_for_a_summary_fits_its_room() -> None:
    asked: list[ChatRequest] = []

    async def ask_model(request: ChatRequest, model: str) -> ChatResponse:
        await trio.lowlevel.checkpoint()
        asked.append(request)
        return ChatResponse(content="short")

    messages = tail([(3000, 3000)] * 20).messages
    excess = Excess(session="s", messages=messages, summary="old " * 50, budget=100, room=1500)
    assert await SummaryCompactor().compact(excess, ask_model) == "short"
    assert 1000 < request_tokens(asked[0]) <= 1500
    assert "old old" in asked[0].messages[1].text


def test_a_summary_counts_as_it_is_shown() -> None:
    (message,) = with_summary([Message.user("q")], "s" * 400)
    assert message_tokens(message) >= count_tokens("s" * 400)


async def test_work_in_the_background_ends_everywhere() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await trio.sleep(0)
        finally:
            ended.append("w")

    async def run() -> None:
        async with open_background() as background:
            assert background.start("s", work)
            assert not background.start("s", work)
            await background.wait("s")
            await background.wait("other")

    async def nothing_runs() -> None:
        await trio.lowlevel.checkpoint()

    assert await cancel_everywhere(run, nothing_runs) >= 2


@tool(mode="read_only")
async def read_log(lines: int) -> str:
    """Read a log."""
    return "\n".join(f"line {number}: nothing happened" for number in range(lines))


def agent_with_log(choose: Callable[[ChatRequest], object]) -> AbstractAsyncContextManager[Agent]:
    """Open an agent with the tool `read_log` and a model with a window of 8 000 tokens."""
    model, config = ScriptedProvider(choose=choose, name="p"), Config(context_windows={"p/*": 8000})
    return open_agent(["p/m"], providers={"p": model}, tools=[read_log], config=config)


async def test_a_result_larger_than_its_share_is_cut_and_can_be_read(tmp_path: Path) -> None:
    asked: list[ChatRequest] = []

    def choose(request: ChatRequest):
        asked.append(request)
        last = request.messages[-1]
        if len(asked) == 1:
            return [CallTool("read_log", {"lines": 2000}, id="c1"), Finish()]
        if len(asked) == 2:
            reference = last.text.rpartition('read_result(id="')[2].partition('"')[0]
            return [CallTool("read_result", {"id": reference, "start": 40_000, "length": 200}, id="c2"), Finish()]
        return [Say("done"), Finish()]

    async with agent_with_log(choose) as agent:
        reply = await agent.ask("look", session="s")
        assert [one.name for one in agent.tools] == ["read_log"]
    whole = "\n".join(f"line {number}: nothing happened" for number in range(2000))
    first, second = reply.tools
    assert first.text.startswith(whole[:1000])
    assert f"The whole has {len(whole)} characters" in first.text
    assert count_tokens(first.text) <= 8000 // 4
    assert second.text == f"{whole[40_000:40_200]}\n[Characters 40000 to 40200 of {len(whole)}.]"
    # The tool is offered once there is something to read.
    assert [[spec.name for spec in request.tools] for request in asked] == [
        ["read_log"],
        ["read_log", "read_result"],
        ["read_log", "read_result"],
    ]


@pytest.mark.parametrize(("lines", "calls"), [([2000] * 8, 8), ([5, 5, 2000, 5], 4), ([2000, 2000], 2)])
async def test_the_results_of_one_round_fit_into_the_window_together(lines: list[int], calls: int) -> None:
    sent: list[ChatRequest] = []

    def choose(request: ChatRequest):
        sent.append(request)
        if len(sent) == 1:
            return [*(CallTool("read_log", {"lines": many}, id=f"c{n}") for n, many in enumerate(lines)), Finish()]
        return [Say("done"), Finish()]

    async with agent_with_log(choose) as agent:
        reply = await agent.ask("look", session="s")
    assert reply.text == "done"
    sizes = [count_tokens(result.text) for result in reply.tools]
    assert len(sizes) == calls
    # Half of the window for all, a quarter for each, and the line that says how to read the rest.
    assert sum(sizes) <= 8000 // 2 + 100 * calls
    assert max(sizes) <= 8000 // 4 + 100
    # What others do not need, a large one may use.
    assert (max(sizes) > 800) == (calls < 8)


async def test_another_sessions_results_cannot_be_read(tmp_path: Path) -> None:
    references: list[str] = []

    def choose(request: ChatRequest):
        last = request.messages[-1]
        if last.role == "user":
            return [CallTool("read_log", {"lines": 5000}, id="c1"), Finish()]
        if last.tool_call_id == "c1":
            references.append(last.text.rpartition('read_result(id="')[2].partition('"')[0])
            return [CallTool("read_result", {"id": references[0]}, id="c2"), Finish()]
        return [Say("done"), Finish()]

    model = ScriptedProvider(choose=choose, name="p")
    async with open_agent(["p/m"], providers={"p": model}, tools=[read_log]) as agent:
        own = await agent.ask("look", session="one")
        foreign = await agent.ask("look", session="two")
    assert (own.tools[1].outcome, foreign.tools[1].outcome) == ("ok", "error")
    assert "line 0" not in foreign.tools[1].text


async def test_a_small_result_stays_as_it_is() -> None:
    model = ScriptedProvider.using_tools(CallTool("read_log", {"lines": 3}), then="done", name="p")
    async with open_agent(["p/m"], providers={"p": model}, tools=[read_log]) as agent:
        reply = await agent.ask("look")
    assert reply.tools[0].text == "\n".join(f"line {number}: nothing happened" for number in range(3))
    assert "read_result" not in {spec.name for request in model.requests for spec in request.tools}
