"""What the scripted provider and the fault server answer: counts, pieces, order, and each vendor's words for a status."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import Call, ChatRequest, Message, TextDelta, ToolCallDelta, ToolCallReady, ToolCallSealed
from clawft_trio.errors import RateLimited, StreamTruncated
from clawft_trio.testing import CallTool, Fail, Finish, Report, Say, ScriptedProvider, Status, Think, Wait
from clawft_trio.testing.dialects import error_body
from clawft_trio.testing.scripted import pieces

ASK = ChatRequest([Message.user("q")], model="m")


@pytest.mark.parametrize(
    ("dialect", "status", "kind", "code"),
    [
        ("openai", 400, "invalid_request_error", "invalid_request_error"),
        ("openai", 401, "invalid_request_error", "invalid_api_key"),
        ("openai", 402, "invalid_request_error", "insufficient_quota"),
        ("openai", 404, "invalid_request_error", "model_not_found"),
        ("openai", 418, "invalid_request_error", "invalid_request_error"),
        ("openai", 429, "invalid_request_error", "rate_limit_exceeded"),
        ("openai", 499, "invalid_request_error", "invalid_request_error"),
        ("openai", 500, "server_error", "server_error"),
        ("responses", 503, "server_error", "server_error"),
        ("anthropic", 400, "invalid_request_error", None),
        ("anthropic", 401, "authentication_error", None),
        ("anthropic", 402, "billing_error", None),
        ("anthropic", 403, "permission_error", None),
        ("anthropic", 404, "not_found_error", None),
        ("anthropic", 413, "request_too_large", None),
        ("anthropic", 418, "invalid_request_error", None),
        ("anthropic", 429, "rate_limit_error", None),
        ("anthropic", 499, "invalid_request_error", None),
        ("anthropic", 500, "api_error", None),
        ("anthropic", 503, "api_error", None),
        ("anthropic", 504, "timeout_error", None),
        ("anthropic", 529, "overloaded_error", None),
    ],
)
def test_a_status_has_the_words_of_its_vendor(dialect, status, kind, code) -> None:
    error = error_body(dialect, Status(status, message="no"))["error"]
    assert (error["type"], error.get("code"), error["message"]) == (kind, code, "no")
    own = error_body(dialect, Status(status, code="own", message="no"))["error"]
    assert (own["type"] if dialect == "anthropic" else own["code"]) == "own"


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("abcdef", 1, ["abcdef"]),
        ("abcdef", 2, ["abc", "def"]),
        ("abcdefg", 2, ["abcd", "efg"]),
        ("abcdefg", 3, ["abc", "def", "g"]),
        ("ab", 5, ["a", "b"]),
        ("", 3, [""]),
    ],
)
def test_arguments_are_cut_into_pieces_of_one_length(text, count, expected) -> None:
    assert pieces(text, count) == expected


async def complete(provider: ScriptedProvider, request: ChatRequest = ASK):
    events = []

    async def emit(event) -> None:
        events.append(event)

    return await provider.complete(request, Call(emit=emit)), events


async def test_a_provider_plays_its_scripts_in_turn_and_the_last_one_again() -> None:
    provider = ScriptedProvider([Say("a"), Finish()], [Say("b"), Finish()], name="n", model="own")
    assert (provider.calls, provider.peak, provider.running) == (0, 0, 0)
    answers = [(await complete(provider))[0] for _ in range(3)]
    assert [one.text for one in answers] == ["a", "b", "b"]
    assert [one.id for one in answers] == ["n-1", "n-2", "n-3"]
    assert {(one.provider, one.model, one.finish_reason) for one in answers} == {("n", "m", "stop")}
    assert (await complete(provider, ChatRequest([Message.user("q")])))[0].model == "own"
    assert provider.requests[:3] == [ASK] * 3
    assert (provider.calls, provider.peak, provider.running) == (4, 1, 0)


async def test_the_peak_is_the_largest_number_of_calls_at_once(autojump_clock: object) -> None:
    provider = ScriptedProvider([Wait(1), Finish()])
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(complete, provider)
    await complete(provider)
    assert (provider.peak, provider.running, provider.calls) == (3, 0, 4)


async def test_the_events_of_a_call_are_its_pieces_and_then_the_whole_call() -> None:
    usage = Usage(input_tokens=2, output_tokens=1)
    provider = ScriptedProvider(
        [Think("hm"), CallTool("look", {"a": 1}, fragments=2), CallTool("odd", "{", id="own"), Finish(usage=usage)]
    )
    answer, events = await complete(provider)
    deltas = [one for one in events if isinstance(one, ToolCallDelta)]
    assert [(one.index, one.id, one.name) for one in deltas] == [(0, "call_0", "look"), (0, "", ""), (1, "own", "odd")]
    assert "".join(one.arguments for one in deltas[:2]) == answer.tool_calls[0].arguments
    # Arguments that are no object are reported to the model, and not run.
    assert [one.call.name for one in events if isinstance(one, ToolCallSealed)] == ["look"]
    assert [one.call.name for one in events if isinstance(one, ToolCallReady)] == ["look"]
    assert isinstance(events[-1], ToolCallReady)
    assert (answer.finish_reason, answer.reasoning, answer.usage) == ("tool_calls", "hm", usage)
    assert [call.id for call in answer.tool_calls] == ["call_0", "own"]


async def test_a_call_of_an_answer_that_was_cut_is_not_ready() -> None:
    answer, events = await complete(ScriptedProvider([CallTool("look", {}), Finish(reason="length")]))
    assert answer.finish_reason == "length"
    assert not any(isinstance(one, ToolCallReady) for one in events)


async def test_a_script_without_an_end_is_a_truncated_answer_without_its_calls() -> None:
    provider = ScriptedProvider([Say("so"), CallTool("look", {}), Report(Usage(input_tokens=1))], name="n")
    with pytest.raises(StreamTruncated) as caught:
        await complete(provider)
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.tool_calls, partial.finish_reason) == ("so", (), "")
    assert (caught.value.provider, caught.value.model) == ("n", "m")
    assert partial.usage == Usage(input_tokens=1)


async def test_a_failure_is_a_new_error_each_time_and_names_the_provider() -> None:
    error = RateLimited("slow", provider="given")
    provider = ScriptedProvider([Say("so"), Fail(error)], [Fail(RateLimited("slow"))], name="n")
    caught = []
    for _ in range(3):
        with pytest.raises(RateLimited) as one:
            await complete(provider)
        caught.append(one.value)
    assert [one.provider for one in caught] == ["given", "n", "n"]
    assert [one.model for one in caught] == ["m"] * 3
    assert caught[1] is not caught[2]
    assert caught[0].partial is not None
    assert caught[0].partial.text == "so"
    assert error.partial is None
    assert provider.running == 0


async def test_a_model_with_tools_answers_after_their_results() -> None:
    provider = ScriptedProvider.using_tools(CallTool("look", {}), CallTool("go", {}), then="done")
    first, _ = await complete(provider)
    assert [call.name for call in first.tool_calls] == ["look", "go"]
    result = ChatRequest([*ASK.messages, Message.tool("seen", tool_call_id="call_0")])
    second, events = await complete(provider, result)
    assert (second.text, second.tool_calls) == ("done", ())
    assert [one.text for one in events if isinstance(one, TextDelta)] == ["done"]
    spoken = ScriptedProvider.saying("hi", usage=Usage(output_tokens=3))
    assert (await complete(spoken))[0].usage == Usage(output_tokens=3)


def test_a_provider_needs_a_script() -> None:
    with pytest.raises(ValueError, match="a script is needed"):
        ScriptedProvider()
