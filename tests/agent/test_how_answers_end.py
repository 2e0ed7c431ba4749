"""What a turn makes of how an answer ended: calls that run or are dropped, pauses, empty answers, the last round."""

from __future__ import annotations

import attrs
import pytest
from judged import ScriptedProvider, open_fault_server

from clawft_trio import Message, TurnPolicy, open_agent, tool
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Opaque
from clawft_trio.errors import AllProvidersExhausted, ClawftError, EmptyAnswer
from clawft_trio.llm import OpenAICompatible, complete
from clawft_trio.resilience import Failover, Resilient, Retry
from clawft_trio.testing import CallTool, Finish, Say, Think

ran: list[str] = []


@tool
async def delete(name: str) -> str:
    """Delete a file."""
    ran.append(name)
    return f"{name} is deleted"


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.mark.parametrize("reason", ["content_filter", "length", "aborted", "incomplete", "anything"])
async def test_calls_of_an_answer_that_did_not_mean_them_do_not_run(reason: str) -> None:
    model = ScriptedProvider(
        [Say("I"), CallTool("delete", {"name": "a"}), Finish(reason)],
        [Say("Then not."), Finish()],
        [Say("Yes?"), Finish()],
    )
    async with open_agent(["s/m"], providers={"s": model}, tools=[delete]) as agent:
        await agent.ask("go", session="s")
        await agent.ask("and now?", session="s")
    assert ran == []
    # What goes back with the next turn holds no call without its result.
    for request in model.requests:
        results = {message.tool_call_id for message in request.messages if message.role == "tool"}
        assert {call.id for message in request.messages for call in message.tool_calls} == results


@pytest.mark.parametrize("reason", ["stop", "tool_calls", None])
async def test_calls_of_an_answer_that_ended_well_run(reason: str | None) -> None:
    model = ScriptedProvider([CallTool("delete", {"name": "a"}), Finish(reason)], [Say("done"), Finish()])
    async with open_agent(["s/m"], providers={"s": model}, tools=[delete]) as agent:
        assert (await agent.ask("go")).text == "done"
    assert ran == ["a"]


@pytest.mark.parametrize("word", ["content_filter", "sensitive", "network_error", "abort", "error", "new_in_2031"])
async def test_over_a_socket_a_bad_finish_reason_never_runs_a_call(word: str) -> None:
    bad = [CallTool("delete", {"name": "a"}), Finish(word)]
    async with open_fault_server(bad) as server, OpenAICompatible("p", base_url=server.url, api_key="k") as provider:
        async with open_agent(["p/m"], providers={"p": provider}, tools=[delete], policy=Retry(max_retries=0)) as agent:
            try:
                await agent.ask("go")
            except ClawftError as exc:
                assert word in str(exc)
    assert ran == []


async def test_a_paused_answer_goes_back_and_the_model_goes_on() -> None:
    model = ScriptedProvider([Say("Looking. "), Finish("pause_turn")], [Say("It is 7."), Finish()])
    async with open_agent(["s/m"], providers={"s": model}) as agent:
        reply = await agent.ask("how many?", session="s")
        await agent.ask("sure?", session="s")
    assert reply.text == "It is 7."
    first, second, third = model.requests
    assert [message.text for message in second.messages[len(first.messages) :]] == ["Looking. "]
    assert [message.text for message in third.messages if message.role == "assistant"] == ["Looking. ", "It is 7."]


@pytest.mark.parametrize("step", [[], [Say("Still looking.")]])
async def test_a_model_that_pauses_for_ever_ends_at_the_limit_with_a_text(step: list[Say]) -> None:
    model = ScriptedProvider([*step, Finish("pause_turn")])
    policy = TurnPolicy(max_tool_iterations=3)
    async with open_agent(["s/m"], providers={"s": model}, turn=policy) as agent:
        reply = await agent.ask("how many?")
    assert len(model.requests) == 4
    assert reply.text == (step[0].text if step else reply.text)
    assert reply.text.strip()


@pytest.mark.parametrize("text", ["", "Let me see. "])
async def test_a_model_that_calls_again_in_its_last_round_gets_no_result_and_the_reply_has_a_text(text: str) -> None:
    model = ScriptedProvider([Say(text), CallTool("delete", {"name": "a"}), Finish()])
    async with open_agent(
        ["s/m"], providers={"s": model}, tools=[delete], turn=TurnPolicy(max_tool_iterations=2)
    ) as agent:
        reply = await agent.ask("go", session="s")
        assert ran == ["a", "a"]
        assert len(model.requests) == 3
        assert reply.text.strip()
        assert reply.text == text or not text
        # The session is whole: the next turn has a result for each call.
        await agent.ask("go on", session="s")
    messages: list[Message] = list(model.requests[3].messages)
    results = {message.tool_call_id for message in messages if message.role == "tool"}
    assert {call.id for message in messages for call in message.tool_calls} == results


EMPTY = [[Finish()], [Think("hm"), Finish()], [Say(" \n"), Finish()], [Say(""), Finish()]]
ASKED = ChatRequest([Message.user("q")], model="m")


@pytest.mark.parametrize("script", EMPTY, ids=["nothing", "reasoning", "blank", "empty text"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_without_content_is_an_error_with_what_came(script: list[object], stream: bool) -> None:
    async with open_fault_server(script) as server:  # type: ignore[arg-type]
        async with OpenAICompatible("p", base_url=server.url) as provider:
            with pytest.raises(EmptyAnswer) as caught:
                await provider.complete(attrs.evolve(ASKED, stream=stream), Call())
            assert (caught.value.retryable, caught.value.curable_elsewhere) == (True, True)
            assert caught.value.partial is not None
            response = await provider.complete(attrs.evolve(ASKED, stream=stream, allow_empty=True), Call())
            assert not response.text.strip()


@pytest.mark.parametrize("script", EMPTY, ids=["nothing", "reasoning", "blank", "empty text"])
async def test_an_empty_answer_is_asked_for_once_more_and_then_elsewhere(script: list[object]) -> None:
    empty, good = ScriptedProvider(script, name="a"), ScriptedProvider([Say("Hi"), Finish()], name="b")  # type: ignore[arg-type]
    chain = Failover(*(Resilient(one, Retry(max_retries=5, first_wait=0.001)) for one in (empty, good)))
    assert (await complete(chain, ASKED)).text == "Hi"
    assert (len(empty.requests), len(good.requests)) == (2, 1)


async def test_an_answer_that_is_empty_once_costs_one_retry() -> None:
    model = ScriptedProvider([Finish()], [Say("Hi"), Finish()])
    response = await complete(Resilient(model, Retry(max_retries=5, first_wait=0.001)), ASKED)
    assert response.text == "Hi"
    assert [record.outcome for record in response.attempts] == ["failed", "ok"]


async def test_an_agent_whose_model_stays_empty_fails_with_that() -> None:
    async with open_agent(["s/m"], providers={"s": ScriptedProvider([Think("hm"), Finish()])}) as agent:
        with pytest.raises((EmptyAnswer, AllProvidersExhausted)):
            await agent.ask("q")


@pytest.mark.parametrize(
    "script", [[CallTool("w"), Finish()], [Say("x"), Finish()], [Finish("content_filter")], [Finish("length")]]
)
async def test_what_is_not_empty_is_no_empty_answer(script: list[object]) -> None:
    model = ScriptedProvider(script)  # type: ignore[arg-type]
    response = await complete(Resilient(model, Retry(max_retries=0)), ASKED)
    assert not response.is_empty


def test_an_answer_of_server_tools_alone_is_not_empty() -> None:
    blocks = [("compaction", False), ("thinking", True), ("redacted_thinking", True), ("server_tool_use", False)]
    for kind, empty in blocks:
        response = ChatResponse(
            content=(Opaque("anthropic", {"type": kind}),), tool_calls=(), finish_reason="stop", provider="p", model="m"
        )
        assert response.is_empty == empty, kind
