"""Windows of targets: what is known, what a refusal teaches, and how a request that was too long is asked again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ProviderError,
    RequestRejected,
    ServerError,
)
from clawft_trio.llm.failures import Failures
from clawft_trio.observe import Recorder, RequestShortened
from clawft_trio.pipeline import Pipeline, RoutingDecision, StaticRouter, Target
from clawft_trio.pipeline.assembler import AssembledContext
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.pipeline.windows import (
    KEPT_FOR_OUTPUT,
    LARGE,
    LEAST_OUTPUT,
    MODEL_WINDOWS,
    Windows,
    by_pattern,
    input_window,
)
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider

KNOWN = Target("p", "known", max_context_tokens=40_000)
UNKNOWN = Target("p", "unknown")


def history(turns: int, words: int = 400) -> list[Message]:
    """A conversation of *turns* turns, each of about *words* times 1.2 tokens, with a short question at its end."""
    told = [m for n in range(turns) for m in (Message.user(f"{n} " + "word " * words), Message.assistant(f"{n}"))]
    return [Message.system("be kind"), *told, Message.user("now?")]


def answering(limit: int, error: ProviderError) -> ScriptedProvider:
    """A model that refuses what is longer than *limit* estimated tokens by *error*."""

    def choose(request: ChatRequest):
        return [Fail(error)] if request_tokens(request) > limit else [Say("ok"), Finish()]

    return ScriptedProvider(choose=choose, name="p")


class Reach:
    def __init__(self, **providers: ScriptedProvider) -> None:
        self.providers = providers

    def reach(self, target: Target) -> ScriptedProvider:
        return self.providers[target.model]


async def ask(
    providers: dict[str, ScriptedProvider],
    *targets: Target,
    messages: list[Message],
    pipeline: Pipeline | None = None,
    output: int = 500,
) -> tuple[ChatResponse, Pipeline, Recorder]:
    recorder = Recorder()
    pipeline = pipeline or Pipeline(router=StaticRouter(targets), transport=Reach(**providers))
    auth = AuthContext.local()
    request = ChatRequest(messages, auth=auth, max_tokens=output)
    decision = RoutingDecision(targets, sender_id=auth.identity, permissions=auth.permissions)
    return await pipeline.complete(request, Call(observer=recorder), decision), pipeline, recorder


def sizes(model: ScriptedProvider) -> list[int]:
    return [request_tokens(request) for request in model.requests]


async def test_a_refusal_is_healed_by_half_of_what_was_refused() -> None:
    model = answering(4000, ContextLengthExceeded())
    response, pipeline, recorder = await ask({"unknown": model}, UNKNOWN, messages=history(10))
    assert response.text == "ok"
    first, second = sizes(model)
    assert first > 4000
    assert second <= first // 2
    assert [(e.target, e.tokens, e.stated) for e in recorder.of(RequestShortened)] == [("p/unknown", first, True)]
    assert pipeline.windows.applied(UNKNOWN).max_input_tokens == first - 1


async def test_what_was_learnt_keeps_later_requests_from_being_refused() -> None:
    model = answering(4000, ContextLengthExceeded())
    _, pipeline, _ = await ask({"unknown": model}, UNKNOWN, messages=history(10))
    model.requests.clear()
    await ask({"unknown": model}, UNKNOWN, messages=history(11), pipeline=pipeline)
    assert len(model.requests) == 1
    # Of another target nothing was learnt.
    assert pipeline.windows.applied(KNOWN).max_input_tokens is None


async def test_it_is_asked_again_twice_at_most() -> None:
    model = answering(0, ContextLengthExceeded())
    with pytest.raises(ContextLengthExceeded):
        await ask({"unknown": model}, UNKNOWN, messages=history(20))
    first, second, third = sizes(model)
    assert second <= first // 2
    assert third <= second // 2


async def test_what_cannot_be_shortened_is_asked_again_only_with_less_output() -> None:
    model = answering(0, ContextLengthExceeded())
    with pytest.raises(ContextLengthExceeded):
        await ask({"unknown": model}, UNKNOWN, messages=[Message.user("word " * 3000)], output=16_384)
    assert len(set(sizes(model))) == 1
    assert [request.max_tokens for request in model.requests] == [16_384, 4096, 1024]


async def test_a_long_question_is_asked_without_its_history() -> None:
    model = answering(3600, ContextLengthExceeded())
    messages = [*history(3)[:-1], Message.user("word " * 3400)]
    response, _, _ = await ask({"unknown": model}, UNKNOWN, messages=messages)
    assert (response.text, len(model.requests)) == ("ok", 3)
    assert [m.role for m in model.requests[-1].messages] == ["system", "user"]


async def test_a_target_with_a_larger_window_is_asked_first() -> None:
    small = answering(4000, ContextLengthExceeded())
    large = answering(100_000, ContextLengthExceeded())
    targets = Target("p", "known", max_context_tokens=40_000), Target("p", "large", max_context_tokens=200_000)
    response, _, recorder = await ask({"known": small, "large": large}, *targets, messages=history(20))
    assert response.text == "ok"
    assert (len(small.requests), len(large.requests)) == (1, 1)
    assert request_tokens(large.requests[0]) > 4000


async def test_where_the_others_fail_the_first_is_asked_with_less() -> None:
    small = answering(4000, ContextLengthExceeded())
    down = ScriptedProvider([Fail(ServerError("down"))], name="p")
    response, _, _ = await ask({"unknown": small, "large": down}, UNKNOWN, Target("p", "large"), messages=history(10))
    assert response.text == "ok"
    assert len(small.requests) == 2


async def test_a_failure_of_another_kind_is_not_healed() -> None:
    down = ScriptedProvider([Fail(ServerError("down"))], name="p")
    with pytest.raises(ServerError):
        await ask({"unknown": down}, UNKNOWN, messages=history(10))
    assert len(down.requests) == 1


BARE = RequestRejected("no", status=400)


async def test_a_bare_refusal_near_a_known_window_is_one_of_length() -> None:
    model = answering(2000, BARE)
    target = Target("p", "known", max_context_tokens=7000)
    messages = [Message.user("word " * 5800)]
    auth = AuthContext.local()
    pipeline = Pipeline(router=StaticRouter([target]), transport=Reach(known=model))
    request = ChatRequest(messages, auth=auth, max_tokens=100)
    decision = RoutingDecision((target,), sender_id=auth.identity, permissions=auth.permissions)
    with pytest.raises(ContextLengthExceeded) as caught:
        await pipeline.complete(request, Call(), decision)
    assert (caught.value.status, caught.value.target) == (400, "p/known")
    assert type(caught.value.__cause__) is RequestRejected


async def test_a_bare_refusal_far_from_a_known_window_stays_what_it_is() -> None:
    model = answering(2000, BARE)
    with pytest.raises(RequestRejected) as caught:
        await ask({"known": model}, KNOWN, messages=history(10))
    assert type(caught.value) is RequestRejected
    assert len(model.requests) == 1


async def test_of_an_unknown_window_a_shorter_request_finds_out() -> None:
    model = answering(4000, BARE)
    pipeline = Pipeline(router=StaticRouter((UNKNOWN,)), transport=Reach(unknown=model))
    await ask({"unknown": model}, UNKNOWN, messages=history(1), pipeline=pipeline)
    model.requests.clear()
    response, pipeline, recorder = await ask({"unknown": model}, UNKNOWN, messages=history(10), pipeline=pipeline)
    assert response.text == "ok"
    assert [event.stated for event in recorder.of(RequestShortened)] == [False]
    assert pipeline.windows.applied(UNKNOWN).max_input_tokens == sizes(model)[0] - 1


def counting_both(window: int, error: ProviderError) -> ScriptedProvider:
    """A model that refuses what is longer than *window* together with the output that it allows."""

    def choose(request: ChatRequest):
        both = request_tokens(request) + (request.max_tokens or 0)
        return [Fail(error)] if both > window else [Say("ok"), Finish()]

    return ScriptedProvider(choose=choose, name="p")


VLLM = RequestRejected("no", status=400, code="BadRequestError")
TGI = RequestRejected("no", status=422, code="validation")


@pytest.mark.parametrize("error", [VLLM, TGI, ContextLengthExceeded("no", status=400)])
@pytest.mark.parametrize("window", [1500, 4096, 8192])
async def test_a_limit_on_output_that_is_larger_than_the_window_is_lowered(error: ProviderError, window: int) -> None:
    model = counting_both(window, error)
    messages = [Message.user("hi")]
    response, pipeline, _ = await ask({"unknown": model}, UNKNOWN, messages=messages, output=16_384)
    assert response.text == "ok"
    assert len(model.requests) <= 3
    # What was learnt saves the refusals of the next request, and nothing of the conversation is cut for it.
    model.requests.clear()
    told = [Message.user("my name is Ana"), Message.assistant("yes"), *messages]
    await ask({"unknown": model}, UNKNOWN, messages=told, pipeline=pipeline, output=16_384)
    assert [len(request.messages) for request in model.requests] == [3]


@pytest.mark.parametrize("error", [BARE, ContextLengthExceeded("no", status=400)])
@pytest.mark.parametrize("turns", [3, 6, 9])
async def test_a_conversation_at_a_server_that_counts_both_is_shortened(error: ProviderError, turns: int) -> None:
    model = counting_both(4096, error)
    response, _, _ = await ask({"unknown": model}, UNKNOWN, messages=history(turns), output=4096)
    assert response.text == "ok"
    assert len(model.requests) <= 3


async def test_a_bare_refusal_near_what_the_output_leaves_of_a_known_window_is_one_of_length() -> None:
    """The server counts a fifth more than the estimate."""
    model = counting_both(7000, BARE)
    target = Target("p", "known", max_context_tokens=8192)
    response, _, _ = await ask({"known": model}, target, messages=history(8), output=4096)
    assert response.text == "ok"
    assert len(model.requests) == 2


async def test_what_may_not_be_left_out_is_sent_with_less_output() -> None:
    model = counting_both(8192, BARE)
    target = Target("p", "known", max_context_tokens=8192)
    response, _, _ = await ask({"known": model}, target, messages=[Message.user("word " * 5000)], output=4096)
    assert (response.text, len(model.requests)) == ("ok", 1)


INTERNAL = ServerError("no user query found in messages", status=500)


async def test_status_500_of_a_local_server_near_its_window_is_a_refusal_of_length() -> None:
    local, cloud = (
        Target("ollama", "known", max_context_tokens=4000),
        Target("openai", "known", max_context_tokens=4000),
    )
    model = answering(2500, INTERNAL)
    response, pipeline, _ = await ask({"known": model}, local, messages=history(7))
    assert (response.text, len(model.requests)) == ("ok", 2)
    assert pipeline.windows.learnt() == {"ollama/known": sizes(model)[0] - 1}
    model = answering(2500, INTERNAL)
    with pytest.raises(ServerError):
        await ask({"known": model}, cloud, messages=history(7))
    assert len(model.requests) == 1


async def test_status_500_of_a_local_server_with_an_unknown_window_is_tried_with_less() -> None:
    local = Target("ollama", "unknown")
    model = answering(4000, INTERNAL)
    response, _, _ = await ask({"unknown": model}, local, messages=history(10))
    assert response.text == "ok"
    assert sizes(model)[-1] <= sizes(model)[0] // 2
    # At the beginning of a conversation it is what it is, and other failures of a server always are.
    for error, messages in [(INTERNAL, [Message.user("hi")]), (ServerError("busy", status=503), history(10))]:
        model = answering(0, error)
        with pytest.raises(ServerError):
            await ask({"unknown": model}, local, messages=messages)
        assert len(model.requests) == 1


async def test_an_answered_request_shows_that_so_much_output_may_be_allowed() -> None:
    model = answering(100_000, BARE)
    _, pipeline, _ = await ask({"unknown": model}, UNKNOWN, messages=[Message.user("word " * 2000)])
    wrong = answering(0, BARE)
    pipeline.transport.providers["unknown"] = wrong
    with pytest.raises(RequestRejected):
        await ask({"unknown": wrong}, UNKNOWN, messages=[Message.user("hi")], pipeline=pipeline)
    assert len(wrong.requests) == 1


async def test_a_request_that_is_wrong_in_itself_stays_rejected_and_teaches_nothing() -> None:
    model = answering(0, BARE)
    with pytest.raises(RequestRejected) as caught:
        await ask({"unknown": model}, UNKNOWN, messages=history(10))
    assert type(caught.value) is RequestRejected


@pytest.mark.parametrize(
    ("error", "requests"),
    # Of a server that never gives a reason, the output may be it.
    [(BARE, 1), (VLLM, 3), (ContentFiltered("no", status=400), 1), (RequestRejected("no", status=403), 1)],
)
async def test_what_begins_a_conversation_is_asked_whole(error: ProviderError, requests: int) -> None:
    model = answering(0, error)
    with pytest.raises(ProviderError) as caught:
        await ask({"unknown": model}, UNKNOWN, messages=[Message.user("word " * 2000)], output=16_384)
    assert type(caught.value) is type(error)
    assert len(set(sizes(model))) == 1
    assert len(model.requests) == requests


async def test_what_was_answered_before_at_that_length_is_not_too_long() -> None:
    model = answering(100_000, BARE)
    _, pipeline, _ = await ask({"unknown": model}, UNKNOWN, messages=history(12))
    wrong = answering(0, BARE)
    pipeline.transport.providers["unknown"] = wrong
    with pytest.raises(RequestRejected):
        await ask({"unknown": wrong}, UNKNOWN, messages=history(8), pipeline=pipeline)
    assert len(wrong.requests) == 1


async def test_what_is_nearly_as_long_as_an_answered_request_may_be_too_long() -> None:
    _, pipeline, _ = await ask({"unknown": answering(100_000, BARE)}, UNKNOWN, messages=history(12))
    # Tokens are estimated: the server may count more in a request that is a little shorter by the estimate.
    model = pipeline.transport.providers["unknown"] = answering(3000, BARE)
    response, _, _ = await ask({"unknown": model}, UNKNOWN, messages=history(10), pipeline=pipeline)
    assert (response.text, len(model.requests)) == ("ok", 2)


def test_a_length_that_was_answered_before_has_to_be_refused_twice() -> None:
    windows = Windows()
    windows.accepted(UNKNOWN, 5000)
    windows.refused(UNKNOWN, 3000, ContextLengthExceeded())
    windows.refused(UNKNOWN, 1500, ContextLengthExceeded())
    assert windows.learnt() == {}
    # A server that was started again with a smaller window.
    windows.accepted(UNKNOWN, 1000)
    windows.refused(UNKNOWN, 3000, ContextLengthExceeded())
    assert windows.learnt() == {"p/unknown": 2999}
    naming = ContextLengthExceeded()
    naming.window = 2000
    windows.refused(UNKNOWN, 2999, naming)
    assert windows.learnt() == {"p/unknown": 2000}


def test_a_window_that_a_refusal_names_is_learnt() -> None:
    body = (
        b'{"error":{"code":400,"type":"exceed_context_size_error","message":"m","n_prompt_tokens":5000,"n_ctx":4096}}'
    )
    error = Failures(provider="llamacpp").of_response(status=400, headers={}, body=body)
    assert isinstance(error, ContextLengthExceeded)
    assert (error.window, error.prompt_tokens) == (4096, 5000)
    windows = Windows()
    # The server counted a quarter more than the estimate: its window is a fifth less in estimated tokens.
    windows.refused(UNKNOWN, 4000, error)
    assert windows.applied(UNKNOWN).max_input_tokens == int(4096 * 0.8)


@pytest.mark.parametrize("named", [b"0", b"-1", b"true", b'"4096"', b"1e9", b"99999999999"])
def test_a_window_that_is_no_number_of_tokens_is_not_believed(named: bytes) -> None:
    body = b'{"error":{"type":"exceed_context_size_error","n_ctx":' + named + b"}}"
    error = Failures(provider="p").of_response(status=400, headers={}, body=body)
    assert isinstance(error, ContextLengthExceeded)
    assert error.window is None


def test_the_least_that_was_refused_counts() -> None:
    windows = Windows()
    for tokens in (5000, 3000, 4000):
        windows.refused(UNKNOWN, tokens)
    assert windows.applied(UNKNOWN).max_input_tokens == 2999


def test_the_routers_word_comes_before_the_table_and_patterns_are_looked_up() -> None:
    windows = Windows(by_pattern({"p/*": 8000}))
    assert windows.applied(UNKNOWN).max_context_tokens == 8000
    assert windows.applied(KNOWN).max_context_tokens == 40_000
    assert Windows().applied(Target("anthropic", "claude-haiku-4-5")).max_context_tokens == 200_000
    assert Windows().applied(Target("somewhere", "claude-haiku-4-5")).max_context_tokens is None


def test_refusals_of_endless_targets_are_not_all_remembered() -> None:
    windows = Windows()
    for number in range(1500):
        windows.refused(Target("p", f"m{number}"), 1000)
    assert windows.applied(Target("p", "m0")).max_input_tokens is None
    assert windows.applied(Target("p", "m1499")).max_input_tokens == 999


def test_every_window_in_the_tables_is_a_number_of_tokens_that_a_model_has() -> None:
    assert all(4096 <= tokens <= 10_000_000 for tokens in MODEL_WINDOWS.values())
    assert all(32_000 <= tokens <= 400_000 for tokens in KEPT_FOR_OUTPUT.values())


def test_a_limit_is_learnt_kept_and_given_up() -> None:
    windows, lowered = Windows(), list[int]()
    windows.on_learnt = lambda: lowered.append(windows.learnt()["p/unknown"])
    windows.refused(UNKNOWN, 1000)
    windows.refused(UNKNOWN, 2000)
    windows.accepted(UNKNOWN, 999)
    assert (windows.learnt(), lowered) == ({"p/unknown": 999}, [999])
    assert windows.applied(UNKNOWN).max_input_tokens == 999
    windows.accepted(UNKNOWN, 1000)
    assert (windows.learnt(), windows.applied(UNKNOWN)) == ({}, UNKNOWN)


@pytest.mark.parametrize(("tokens", "again"), [(1001, 0), (1000, 1), (900, 1)])
def test_only_a_length_that_was_answered_before_is_refused_twice(tokens: int, again: int) -> None:
    windows = Windows()
    windows.accepted(UNKNOWN, 1000)
    for _ in range(again):
        windows.refused(UNKNOWN, tokens)
        assert windows.learnt() == {}
    windows.refused(UNKNOWN, tokens)
    assert windows.learnt() == {"p/unknown": tokens - 1}


def test_a_limit_is_at_least_one_token() -> None:
    windows = Windows()
    windows.refused(UNKNOWN, 1)
    windows.restore("p/known", 0)
    assert windows.learnt() == {"p/unknown": 1, "p/known": 1}


def test_a_part_of_a_large_window_is_kept_for_output() -> None:
    target = Target("openai", "gpt-5")
    kept = by_pattern(KEPT_FOR_OUTPUT)(target)
    assert kept is not None
    assert [input_window(target, window) for window in (LARGE - 1, LARGE)] == [LARGE - 1, LARGE - kept]
    assert input_window(UNKNOWN, LARGE) == LARGE


def test_a_limit_on_output_is_the_one_that_was_refused_last() -> None:
    windows = Windows()
    assert windows.output_limit(UNKNOWN) is None
    windows.refused_output(UNKNOWN, 4096)
    windows.refused_output(UNKNOWN, 1024)
    assert (windows.output_limit(UNKNOWN), windows.output_limit(KNOWN)) == (1024, None)


def sent(tokens: int, *roles: str, output: int | None = None) -> AssembledContext:
    """A request of *tokens* with messages of *roles*."""
    messages = [Message(cast("Any", role), "x") for role in roles or ("user",)]
    request = ChatRequest(messages, max_tokens=output)
    return cast("AssembledContext", SimpleNamespace(token_estimate=tokens, request=request))


@pytest.mark.parametrize(
    ("output", "tokens", "much"),
    [(None, 0, False), (LEAST_OUTPUT, 0, False), (LEAST_OUTPUT + 1, 0, True), (1000, 999, True), (1000, 1000, False)],
)
def test_output_is_the_likely_reason_where_it_is_the_larger_part(output: int | None, tokens: int, much: bool) -> None:
    windows = Windows()
    assert windows.allows_too_much(UNKNOWN, sent(tokens, output=output)) is much
    windows.refused_output(UNKNOWN, 5)
    assert windows.allows_too_much(UNKNOWN, sent(tokens, output=output)) is much
    windows.accepted(UNKNOWN, 1)
    assert not windows.allows_too_much(UNKNOWN, sent(tokens, output=output))


BARE = RequestRejected("no", status=400)


@pytest.mark.parametrize(
    ("tokens", "output", "near"), [(600, 200, True), (599, 200, False), (750, 0, True), (749, 0, False)]
)
def test_near_a_known_window_a_bare_refusal_is_one_of_length(tokens: int, output: int, near: bool) -> None:
    windows, target = Windows(), Target("p", "m", max_context_tokens=1000)
    assert windows.means_too_long(BARE, target, tokens, output) is near
    assert not windows.means_too_long(RequestRejected("no", status=404), target, tokens, output)
    assert not windows.means_too_long(BARE, UNKNOWN, tokens, output)
    assert not windows.may_be_too_long(BARE, target, sent(tokens, "user", "user"))


@pytest.mark.parametrize(
    ("roles", "continues"),
    [
        (("user",), False),
        (("system", "user"), False),
        (("user", "user"), True),
        (("system", "assistant"), True),
        (("user", "assistant", "user"), True),
    ],
)
def test_of_an_unknown_window_a_longer_conversation_than_any_before_is_tested(
    roles: tuple[str, ...], continues: bool
) -> None:
    windows = Windows()
    assert [windows.may_be_too_long(BARE, UNKNOWN, sent(size, *roles)) for size in (256, 257)] == [False, continues]
    windows.accepted(UNKNOWN, 1000)
    assert [windows.may_be_too_long(BARE, UNKNOWN, sent(size, *roles)) for size in (750, 751)] == [False, continues]


def test_of_a_server_without_reasons_more_output_than_ever_before_is_tested() -> None:
    windows, error = Windows(), RequestRejected("no", status=400, code="BadRequestError")
    assert windows.may_be_too_long(error, UNKNOWN, sent(100, output=1000))
    assert not windows.may_be_too_long(error, UNKNOWN, sent(100, output=100))
    assert not windows.may_be_too_long(BARE, UNKNOWN, sent(100, output=1000))
    failed = ServerError("no", status=500, code="BadRequestError")
    assert not windows.may_be_too_long(failed, UNKNOWN, sent(100, output=1000))
    windows.accepted(UNKNOWN, 100, 1000)
    windows.accepted(UNKNOWN, 200, 300)
    assert not windows.may_be_too_long(error, UNKNOWN, sent(100, output=1000))
    assert windows.may_be_too_long(error, UNKNOWN, sent(100, output=1001))
