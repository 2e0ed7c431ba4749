from __future__ import annotations

import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Discarded,
    Message,
    ReasoningDelta,
    Reset,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    UsageReport,
)
from clawft_trio.errors import ServerError
from clawft_trio.testing import CallTool, Finish, Say, Screen, ScriptedProvider, Think

CALL = ToolCall(id="c", name="f", arguments="{}")
SHOWN = [
    ReasoningDelta("hm"),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCallDelta(0, "c", "f", "{}"),
    ToolCallReady(CALL),
    UsageReport(Usage(output_tokens=2)),
]
RETRACT = Reset(Discarded("Hello", reasoning="hm", tool_calls=(CALL,)), ServerError("down"))


def replayed(*events, **options):
    screen = Screen(**options)
    for event in events:
        screen(event)
    return screen


def test_it_shows_what_the_events_add_up_to():
    screen = replayed(*SHOWN)
    assert (screen.text, screen.reasoning, screen.tool_calls) == ("Hello", "hm", (CALL,))
    assert screen.usage == Usage(output_tokens=2)
    assert screen.events == 6
    screen.check(ChatResponse(content="Hello", reasoning="hm", tool_calls=(CALL,)))


def test_a_reset_clears_it():
    screen = replayed(*SHOWN, RETRACT, TextDelta("Bye"))
    assert (screen.text, screen.reasoning, screen.tool_calls, screen.usage) == ("Bye", "", (), None)
    assert screen.resets == [RETRACT]
    screen.check(ChatResponse(content="Bye"))


def test_it_is_empty_until_something_stands_there():
    assert Screen().empty
    assert replayed(*SHOWN, RETRACT).empty
    assert not replayed(ToolCallDelta(0)).empty


@pytest.mark.parametrize(
    "response",
    [
        ChatResponse(content="Hell"),
        ChatResponse(content="Hello"),
        ChatResponse(content="Hello", reasoning="hm"),
        ChatResponse(content="Hello", reasoning="hm", tool_calls=(CALL, CALL)),
    ],
)
def test_an_answer_that_was_not_what_was_seen_is_found(response):
    with pytest.raises(AssertionError, match="returned"):
        replayed(*SHOWN).check(response)


def test_a_reset_that_discards_something_else_is_found():
    wrong = Reset(Discarded("Hel", reasoning="hm", tool_calls=(CALL,)), ServerError("down"))
    with pytest.raises(AssertionError, match="discards"):
        replayed(*SHOWN, wrong).check(ChatResponse())


def test_a_tool_call_that_comes_twice_is_found():
    screen = replayed(*SHOWN, ToolCallReady(CALL))
    with pytest.raises(AssertionError, match="twice"):
        screen.check(ChatResponse(content="Hello", reasoning="hm", tool_calls=(CALL, CALL)))


def test_a_tool_call_that_is_not_what_its_fragments_said_is_found():
    other = ToolCall(id="c", name="f", arguments='{"a": 1}')
    screen = replayed(ToolCallDelta(0, "c", "f", "{}"), ToolCallReady(other))
    with pytest.raises(AssertionError, match="fragments"):
        screen.check(ChatResponse(tool_calls=(other,)))


def test_a_whole_tool_call_needs_no_fragments():
    replayed(ToolCallReady(CALL)).check(ChatResponse(tool_calls=(CALL,)))


def test_as_a_callback_it_stops_when_told():
    screen = Screen(stop_after=2)
    assert [screen(event) for event in SHOWN[:3]] == [True, False, False]
    assert all(Screen()(event) for event in SHOWN)


async def test_it_follows_an_iterator_and_stops_it():
    async def events():
        for event in SHOWN:
            await trio.lowlevel.checkpoint()
            yield event

    screen, short = Screen(), Screen(stop_after=2)
    await screen.follow(events())
    generator = events()
    await short.follow(generator)
    await generator.aclose()
    assert (screen.text, short.text) == ("Hello", "Hel")


async def test_a_slow_consumer_takes_its_time(autojump_clock):
    screen = Screen(pause=2)
    provider = ScriptedProvider([Think("a"), Say("b"), CallTool("f", fragments=1), Finish()])
    response = await provider.complete(ChatRequest([Message.user("hi")]), Call(emit=screen.emit))
    screen.check(response)
    assert trio.current_time() == 10  # five events
