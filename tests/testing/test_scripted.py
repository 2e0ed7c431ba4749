from __future__ import annotations

import math

import pytest
import trio

from clawft_trio.attempts import AttemptLog, Usage
from clawft_trio.chat import (
    Call,
    ChatRequest,
    Message,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    UsageReport,
)
from clawft_trio.errors import PeerError, ServerError, StreamTruncated
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import CallTool, Fail, Finish, Hang, Report, Say, Think, Wait, say
from clawft_trio.testing.scripted import ScriptedProvider
from clawft_trio.testing.sweep import cancel_everywhere

ASK = ChatRequest([Message.user("hi")], model="m")
USAGE = Usage(input_tokens=3, output_tokens=2)


async def test_the_answer_is_what_its_events_add_up_to():
    provider = ScriptedProvider(
        [Think("hm"), Say("Hel"), Say("lo"), CallTool("f", {"a": 1}, "id1"), Finish(usage=USAGE)], name="p"
    )
    screen, log = Screen(), AttemptLog()
    response = await provider.complete(ASK, Call(emit=screen.emit, log=log))
    screen.check(response)
    assert (response.text, response.reasoning, response.finish_reason) == ("Hello", "hm", "tool_calls")
    assert response.tool_calls == (ToolCall(id="id1", name="f", arguments='{"a":1}'),)
    assert (response.provider, response.model, response.usage) == ("p", "m", USAGE)
    assert response.attempts == log.records
    assert [(r.target, r.outcome, r.usage, r.certainty, r.sent) for r in log.records] == [
        ("p/m", "ok", USAGE, "exact", True)
    ]


async def test_the_last_script_repeats():
    provider = ScriptedProvider([Say("one"), Finish()], [Say("two"), Finish()])
    assert [(await provider.complete(ASK, Call())).text for _ in range(4)] == ["one", "two", "two", "two"]
    assert provider.calls == 4
    assert provider.requests == [ASK] * 4


async def test_arguments_come_in_fragments_and_are_ready_once():
    events = []

    async def emit(event):
        events.append(event)

    await ScriptedProvider([CallTool("f", '{"a": 12}', fragments=4), Finish()]).complete(ASK, Call(emit=emit))
    *deltas, sealed, ready = events
    assert sealed == ToolCallSealed(ready.call)
    assert [d.arguments for d in deltas] == ['{"a', '": ', "12}"]
    assert deltas[0] == ToolCallDelta(0, "call_0", "f", '{"a')
    assert ready == ToolCallReady(ToolCall(id="call_0", name="f", arguments='{"a": 12}'))


async def test_an_end_without_finish_is_a_truncation_with_its_partial():
    log = AttemptLog()
    with pytest.raises(StreamTruncated) as caught:
        await ScriptedProvider([Say("Hel")], name="p").complete(ASK, Call(log=log))
    assert caught.value.partial.text == "Hel"
    assert caught.value.partial.finish_reason == ""
    assert caught.value.target == "p/m"
    assert [r.outcome for r in log.records] == ["failed"]


async def test_a_call_that_breaks_off_in_its_arguments_is_never_ready():
    screen = Screen()
    with pytest.raises(StreamTruncated) as caught:
        await ScriptedProvider([CallTool("f", '{"a": ')]).complete(ASK, Call(emit=screen.emit))
    assert screen.tool_calls == caught.value.partial.tool_calls == ()
    assert not screen.empty


async def test_a_finished_call_with_wrong_arguments_is_returned_and_never_ready():
    screen = Screen()
    response = await ScriptedProvider([CallTool("f", "[1]"), Finish()]).complete(ASK, Call(emit=screen.emit))
    screen.check(response)
    assert screen.tool_calls == ()
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("f", "[1]")]


async def test_each_call_gets_its_own_copy_of_a_failure():
    told = ServerError("down", status=503)
    provider = ScriptedProvider([Say("a"), Fail(told)], name="p")
    caught = []
    for _ in range(2):
        with pytest.raises(ServerError) as info:
            await provider.complete(ASK, Call())
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert told.partial is None and told.provider == "" and told.__traceback__ is None
    assert [(e.status, e.partial.text, e.target, str(e)) for e in caught] == [(503, "a", "p/m", "p/m: down (503)")] * 2


async def test_a_failure_may_be_made_afresh():
    provider = ScriptedProvider([Fail(lambda: PeerError("no", code=7))])
    with pytest.raises(PeerError) as caught:
        await provider.complete(ASK, Call())
    assert caught.value.code == 7


async def test_times_are_exact_under_a_mock_clock(autojump_clock):
    provider = ScriptedProvider([Wait(1.5), Think("x"), Wait(2), *say("a b", every=0.25), Report(USAGE), Finish()])
    response = await provider.complete(ASK, Call())
    [record] = response.attempts
    assert (record.latency.first_byte, record.latency.first_content, record.latency.total) == (1.5, 1.5, 4.0)
    assert response.latency == record.latency
    assert response.usage == USAGE


@pytest.mark.parametrize("script", [[Say("a"), Hang()], [Say("a"), Wait(math.inf)]])
async def test_a_hang_ends_only_by_cancellation(script, autojump_clock):
    provider, log = ScriptedProvider(script), AttemptLog()
    with trio.move_on_after(1000) as scope:
        await provider.complete(ASK, Call(log=log))
    assert scope.cancelled_caught
    assert [(r.outcome, r.latency.total) for r in log.records] == [("cancelled", 1000)]
    assert provider.running == 0


async def test_running_counts_the_calls_under_way(autojump_clock):
    provider = ScriptedProvider([Wait(1), Finish()])
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(provider.complete, ASK, Call())
        await trio.sleep(0.5)
        assert provider.running == 3
    assert (provider.running, provider.peak) == (0, 3)


async def test_a_model_that_uses_tools_answers_when_it_sees_their_results():
    provider = ScriptedProvider.using_tools(CallTool("f"), CallTool("g"), then="done")
    first = await provider.complete(ASK, Call())
    assert [(c.id, c.name) for c in first.tool_calls] == [("call_0", "f"), ("call_1", "g")]
    answers = [Message.tool("ok", tool_call_id=c.id) for c in first.tool_calls]
    second = await provider.complete(ChatRequest([*ASK.messages, first.message, *answers]), Call())
    assert (second.text, second.finish_reason) == ("done", "stop")


async def test_a_healthy_model_just_answers():
    response = await ScriptedProvider.saying("Hello.", usage=USAGE).complete(ASK, Call())
    assert (response.text, response.finish_reason, response.usage) == ("Hello.", "stop", USAGE)


def test_a_provider_without_a_script_is_refused():
    with pytest.raises(ValueError, match="script"):
        ScriptedProvider()


async def test_usage_is_reported_as_an_event():
    events = []

    async def emit(event):
        events.append(event)

    await ScriptedProvider([Say("a"), Finish(usage=USAGE)]).complete(ASK, Call(emit=emit))
    assert events[-1] == UsageReport(USAGE)


async def test_a_call_cancelled_anywhere_is_on_record_and_no_longer_running(autojump_clock):
    provider = ScriptedProvider([Think("x"), Wait(1), Say("a"), CallTool("f"), Finish(usage=USAGE)])
    logs = []

    async def operation():
        logs.append(AttemptLog())
        return await provider.complete(ASK, Call(log=logs[-1]))

    async def check():
        assert provider.running == 0
        assert len(logs[-1].records) == 1
        assert logs[-1].records[0].outcome in ("ok", "cancelled")

    assert await cancel_everywhere(operation, check) > 8
