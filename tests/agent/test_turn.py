"""One turn: rounds of model and tools, one reply, and what stays in the session."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_types import RoundStarted, ToolsAnswered, TurnPolicy, TurnRequest
from clawft_trio.auth import ADMIN, ZERO_TRUST, AuthContext
from clawft_trio.chat import Call, Message
from clawft_trio.errors import AllProvidersExhausted, ConsumerLeft, ServerError
from clawft_trio.observe import Recorder, TurnEnded, TurnStarted
from clawft_trio.pipeline import OneProvider, Pipeline, StaticRouter
from clawft_trio.testing import CallTool, Fail, Finish, Say, cancel_everywhere
from clawft_trio.tools import ToolRegistry, tool


class Notebook:
    """A history in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Message]] = {}

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        await trio.lowlevel.checkpoint()
        kept = self.kept.get(session, [])
        return tuple(kept if limit is None else kept[-limit:] if limit else [])

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.kept.setdefault(session, []).extend(messages)


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    await trio.sleep(1)
    return f"{city}: rain"


@tool(mode="read_only")
async def broken() -> str:
    """Always fails."""
    raise RuntimeError("no")


def turns(provider: object, *, notebook: Notebook | None = None, **policy: object) -> Turns:
    return Turns(
        models=Pipeline(router=StaticRouter(["p/m"]), transport=OneProvider(provider)),
        tools=ToolRegistry([weather, broken]),
        history=notebook or Notebook(),
        policy=TurnPolicy(**policy),
    )


def question(text: str = "What do I wear?", *, permissions: object = ADMIN) -> TurnRequest:
    return TurnRequest(
        content=Message.user(text),
        auth=AuthContext(sender_id="ana", channel="test", permissions=permissions),
        session="test:1",
        turn_id="t1",
    )


THREE = [CallTool("weather", {"city": city}, id=city) for city in ("Oslo", "Bergen", "Tromso")]


async def test_a_plain_answer_takes_one_round(autojump_clock: trio.testing.MockClock) -> None:
    notebook = Notebook()
    reply = await turns(ScriptedProvider.saying("A coat."), notebook=notebook).answer(question(), Call())
    assert (reply.text, len(reply.rounds), reply.tools) == ("A coat.", 1, ())
    assert [message.role for message in notebook.kept["test:1"]] == ["user", "assistant"]
    assert reply.decision.sender_id == "test:ana"


async def test_tools_run_side_by_side_and_their_answers_go_back_in_call_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider.using_tools(*THREE, then="Rain everywhere.")
    notebook = Notebook()
    reply = await turns(model, notebook=notebook).answer(question(), Call())
    assert reply.text == "Rain everywhere."
    assert trio.current_time() == 1.0
    assert [answer.text for answer in reply.tools] == ["Oslo: rain", "Bergen: rain", "Tromso: rain"]
    sent = model.requests[1].messages
    assert [(message.role, message.tool_call_id) for message in sent[-3:]] == [
        ("tool", c) for c in ("Oslo", "Bergen", "Tromso")
    ]
    assert [message.role for message in notebook.kept["test:1"]] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "tool",
        "assistant",
    ]
    assert reply.latency.total == 1.0


async def test_a_failing_tool_is_an_answer() -> None:
    model = ScriptedProvider.using_tools(CallTool("broken", id="x"), then="Sorry.")
    reply = await turns(model).answer(question(), Call())
    assert reply.text == "Sorry."
    assert reply.tools[0].outcome == "error"


async def test_what_is_seen_of_a_turn(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[object] = []

    async def emit(event: object) -> None:
        seen.append(event)

    await turns(ScriptedProvider.using_tools(*THREE, then="Rain.")).answer(question(), Call(emit=emit))
    kinds = [type(event) for event in seen]
    assert kinds[0] is RoundStarted
    assert kinds.count(RoundStarted) == 2
    assert [len(event.answers) for event in seen if isinstance(event, ToolsAnswered)] == [3]


async def test_when_rounds_run_out_the_model_is_asked_once_more_without_tools(
    autojump_clock: trio.testing.MockClock,
) -> None:
    insists = ScriptedProvider(
        [CallTool("weather", {"city": "Oslo"}), Finish()],
        [CallTool("weather", {"city": "Oslo"}), Finish()],
        [Say("Enough: rain."), Finish()],
    )
    reply = await turns(insists, max_tool_iterations=2).answer(question(), Call())
    assert reply.text == "Enough: rain."
    assert [request.tool_choice for request in insists.requests] == ["auto", "auto", "none"]


async def test_a_model_that_calls_tools_even_then_gets_refusals_and_the_turn_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    insists = ScriptedProvider([Say("Hm. "), CallTool("weather", {"city": "Oslo"}), Finish()])
    notebook = Notebook()
    reply = await turns(insists, notebook=notebook, max_tool_iterations=1).answer(question(), Call())
    assert (len(reply.rounds), insists.calls) == (2, 2)
    assert reply.tools[-1].outcome == "refused"
    # Every call in the session has its answer, or the next request would be refused.
    kept = notebook.kept["test:1"]
    asked = [call.id for message in kept for call in message.tool_calls]
    assert len(asked) == sum(message.role == "tool" for message in kept)


async def test_a_sender_without_rights_is_offered_no_tools() -> None:
    model = ScriptedProvider.saying("Hello.")
    await turns(model).answer(question(permissions=ZERO_TRUST), Call())
    assert model.requests[0].tools == ()


async def test_repeated_call_ids_are_distinguished(autojump_clock: trio.testing.MockClock) -> None:
    twice = [CallTool("weather", {"city": "Oslo"}, id="x"), CallTool("weather", {"city": "Bergen"}, id="x")]
    model = ScriptedProvider.using_tools(*twice, then="Rain.")
    reply = await turns(model).answer(question(), Call())
    assert [answer.text for answer in reply.tools] == ["Oslo: rain", "Bergen: rain"]
    assistant = model.requests[1].messages[-3]
    answers = model.requests[1].messages[-2:]
    assert [call.id for call in assistant.tool_calls] == [message.tool_call_id for message in answers]


async def test_a_failure_keeps_what_was_done(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider([THREE[0], Finish()], [Fail(ServerError("down"))])
    notebook, seen = Notebook(), Recorder()
    with pytest.raises((ServerError, AllProvidersExhausted)) as caught:
        await turns(model, notebook=notebook).answer(question(), Call(observer=seen))
    assert [message.role for message in notebook.kept["test:1"]] == ["user", "assistant", "tool"]
    assert [event.outcome for event in seen.of(TurnEnded)] == ["error"]
    assert len(seen.of(TurnStarted)) == 1
    assert caught.value.attempts


async def test_a_consumer_that_stops_early_gets_the_text_that_was_shown(autojump_clock: trio.testing.MockClock) -> None:
    async def enough(event: object) -> None:
        if not isinstance(event, RoundStarted):
            raise ConsumerLeft

    model = ScriptedProvider([Say("One "), Say("two"), Finish()])
    notebook = Notebook()
    reply = await turns(model, notebook=notebook).answer(question(), Call(emit=enough))
    assert (reply.text, reply.finish_reason, model.running) == ("One ", "aborted", 0)
    assert [message.text for message in notebook.kept["test:1"]] == ["What do I wear?", "One "]


async def test_cancelled_anywhere_a_turn_is_stored_and_leaves_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider.using_tools(*THREE, then="Rain.")
    parts = turns(model)
    notebook = parts.history

    async def operation() -> None:
        notebook.kept.clear()
        await parts.answer(question(), Call())

    async def check() -> None:
        assert model.running == 0
        assert parts.tools.statistics().locks.holders == 0
        kept = notebook.kept.get("test:1", [])
        assert not kept or kept[0].role == "user"

    assert await cancel_everywhere(operation, check, limit=2000) > 20


async def test_the_conversation_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider.saying("Yes.")
    parts = turns(model, memory_window=2)
    for text in ("one", "two", "three"):
        await parts.answer(question(text), Call())
    assert [message.text for message in model.requests[-1].messages] == ["two", "Yes.", "three"]


async def test_calls_of_an_answer_cut_off_by_its_limit_are_not_run(autojump_clock: trio.testing.MockClock) -> None:
    cut = [CallTool("weather", {"city": "Oslo"}), Finish(reason="length")]
    model = ScriptedProvider(cut, [Say("Sorry."), Finish()])
    reply = await turns(model).answer(question(), Call())
    assert [answer.outcome for answer in reply.tools] == ["refused"]
    assert (reply.text, trio.current_time()) == ("Sorry.", 0.0)
