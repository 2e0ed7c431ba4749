"""What happens exactly at a limit: windows, estimates, rate limits, values of rounds, prices and permissions."""

from __future__ import annotations

import math
from decimal import Decimal

import attrs
import pytest
import trio

from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.auth import ADMIN, UserPermissions
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, Text, ToolCall
from clawft_trio.costs import Allowance
from clawft_trio.errors import ContextLengthExceeded, RateLimitExceeded, RequestRejected, ServerError
from clawft_trio.pipeline import (
    FitnessScorer,
    QualityScore,
    RateLimiter,
    RateLimitPolicy,
    ResponseOutcome,
    RoutingDecision,
    Selection,
    StaticRouter,
    Target,
    TokenBudgetAssembler,
    TrajectoryLearner,
)
from clawft_trio.pipeline.latency import FORGOTTEN_AFTER, LatencyBoard
from clawft_trio.pipeline.permissions import PermissionOverrides, lesser
from clawft_trio.pipeline.stages import AssembledContext, TaskProfile
from clawft_trio.pipeline.tokens import count_tokens, message_tokens
from clawft_trio.pipeline.windows import Windows, input_window

UNKNOWN = Target("p", "unknown")
BARE = RequestRejected("no", status=400)


def sent(tokens: int, output: int = 0, *, turns: int = 1) -> AssembledContext:
    messages = [Message.user("q"), *[Message.assistant("a"), Message.user("q")] * (turns - 1)]
    return AssembledContext(request=ChatRequest(messages, max_tokens=output or None), token_estimate=tokens)


# Windows.


def test_a_part_of_a_large_window_is_for_output_only() -> None:
    target = Target("openai", "gpt-5")
    assert [input_window(target, tokens) for tokens in (399_999, 400_000)] == [399_999, 272_000]
    assert input_window(UNKNOWN, 400_000) == 400_000


@pytest.mark.parametrize(("limit", "applied"), [(0, 1), (1, 1), (2, 2), (5000, 5000)])
def test_a_restored_limit_applies_and_is_at_least_one_token(limit: int, applied: int) -> None:
    windows = Windows()
    windows.restore("p/unknown", limit)
    assert windows.applied(UNKNOWN).max_input_tokens == applied
    assert windows.learnt() == {"p/unknown": applied}


@pytest.mark.parametrize("limit", [3000, 5000])
def test_the_smaller_of_a_learnt_and_a_configured_limit_applies(limit: int) -> None:
    windows = Windows()
    windows.restore("p/unknown", limit)
    assert windows.applied(attrs.evolve(UNKNOWN, max_input_tokens=4000)).max_input_tokens == min(limit, 4000)


def test_a_longer_answered_request_ends_a_learnt_limit_and_one_of_its_length_does_not() -> None:
    windows = Windows()
    windows.refused(UNKNOWN, 3001)
    windows.accepted(UNKNOWN, 3000)
    assert windows.learnt() == {"p/unknown": 3000}
    windows.accepted(UNKNOWN, 3001)
    assert windows.learnt() == {}


def test_a_refusal_of_the_length_that_was_answered_last_needs_a_second_one() -> None:
    windows = Windows()
    windows.accepted(UNKNOWN, 3000)
    windows.refused(UNKNOWN, 3000)
    assert windows.learnt() == {}
    windows.refused(UNKNOWN, 3000)
    assert windows.learnt() == {"p/unknown": 2999}


def test_only_a_lower_limit_is_reported() -> None:
    windows, lowered = Windows(), []
    windows.on_learnt = lambda: lowered.append(dict(windows.learnt()))
    for tokens in (3000, 3000, 4000, 2000):
        windows.refused(UNKNOWN, tokens)
    assert lowered == [{"p/unknown": 2999}, {"p/unknown": 1999}]


@pytest.mark.parametrize(("tokens", "output", "is_length"), [(749, 0, False), (750, 0, True), (599, 200, False),
                                                             (600, 200, True)])  # fmt: skip
def test_a_bare_refusal_from_three_quarters_of_what_the_output_leaves_is_one_of_length(
    tokens: int, output: int, is_length: bool
) -> None:
    target = attrs.evolve(UNKNOWN, max_context_tokens=1000)
    assert Windows().means_too_long(BARE, target, tokens, output) is is_length


@pytest.mark.parametrize(
    ("error", "is_length"),
    [
        (BARE, True),
        (RequestRejected("no", status=422), True),
        (RequestRejected("no"), True),
        (RequestRejected("no", status=404), False),
        (ServerError("no", status=500), True),
        (ServerError("no", status=502), False),
        (ContextLengthExceeded(), False),
    ],
    ids=["400", "422", "in a stream", "404", "500", "502", "with a reason"],
)
def test_which_failures_without_a_reason_may_be_refusals_of_length(error: Exception, is_length: bool) -> None:
    windows = Windows(self_hosted=lambda target: True)
    assert windows.means_too_long(error, attrs.evolve(UNKNOWN, max_context_tokens=1000), 900) is is_length
    assert windows.may_be_too_long(error, UNKNOWN, sent(900, turns=2)) is is_length
    vendor = Windows(self_hosted=lambda target: False)
    bare = is_length and not isinstance(error, ServerError)
    assert vendor.may_be_too_long(error, UNKNOWN, sent(900, turns=2)) is bare


def test_a_conversation_may_be_too_long_when_it_is_longer_than_three_quarters_of_what_was_answered() -> None:
    windows = Windows()
    assert not windows.may_be_too_long(BARE, UNKNOWN, sent(256, turns=2))
    assert windows.may_be_too_long(BARE, UNKNOWN, sent(257, turns=2))
    windows.accepted(UNKNOWN, 1000)
    assert not windows.may_be_too_long(BARE, UNKNOWN, sent(750, turns=2))
    assert windows.may_be_too_long(BARE, UNKNOWN, sent(751, turns=2))
    assert not windows.may_be_too_long(BARE, UNKNOWN, sent(751))


def test_more_output_than_was_ever_answered_may_be_too_much() -> None:
    windows = Windows()
    refusal = RequestRejected("no", status=400, code="BadRequestError")
    windows.accepted(UNKNOWN, 100, 500)
    assert not windows.may_be_too_long(refusal, UNKNOWN, sent(100, 500))
    assert windows.may_be_too_long(refusal, UNKNOWN, sent(100, 501))
    assert not windows.may_be_too_long(BARE, UNKNOWN, sent(100, 501))
    # The output is not the larger part, or hardly anything.
    assert not windows.may_be_too_long(refusal, UNKNOWN, sent(700, 700))
    assert not Windows().may_be_too_long(refusal, UNKNOWN, sent(100, 256))
    assert Windows().may_be_too_long(refusal, UNKNOWN, sent(100, 257))


def test_the_output_is_the_likely_reason_only_before_the_first_answer() -> None:
    windows = Windows()
    assert windows.allows_too_much(UNKNOWN, sent(100, 257))
    assert not windows.allows_too_much(UNKNOWN, sent(257, 257))
    windows.refused_output(UNKNOWN, 64)
    assert windows.allows_too_much(UNKNOWN, sent(100, 257))
    windows.accepted(UNKNOWN, 1)
    assert not windows.allows_too_much(UNKNOWN, sent(100, 257))
    assert windows.output_limit(UNKNOWN) == 64


# Estimates of tokens.


def test_the_parts_of_a_message_are_added() -> None:
    bare = message_tokens(Message.user(""))
    assert message_tokens(Message.user("word " * 40)) == bare + count_tokens("word " * 40)
    result = Message.tool("word " * 40, tool_call_id="call-1")
    assert message_tokens(result) == bare + count_tokens("word " * 40) + count_tokens("call-1")
    calls = (ToolCall(id="a", name="read", arguments='{"path": "x"}'),) * 2
    each = message_tokens(Message.assistant("", tool_calls=calls[:1])) - bare
    assert each == 4 + count_tokens("aread") + count_tokens('{"path": "x"}')
    assert message_tokens(Message.assistant("", tool_calls=calls)) == bare + 2 * each


def test_a_very_long_text_is_counted_by_samples_of_all_of_it() -> None:
    letters, digits = "a" * 3_000_000, "1" * 3_000_000
    assert count_tokens(letters * 2) == 6_000_000 * 4 // 20
    assert count_tokens(letters + digits) == pytest.approx(3_000_000 * (4 + 13) / 20, rel=0.01)


# The assembler.


@pytest.mark.parametrize("limit", ["of the model's input", "of the sender"])
async def test_what_fits_exactly_is_sent_with_the_answer_that_the_window_leaves(limit: str) -> None:
    request = ChatRequest([Message.user("word " * 500)], max_tokens=500)
    tokens = sum(map(message_tokens, request.messages))

    async def output(most: int, window: int) -> int | None:
        own = limit == "of the sender"
        target = Target("p", "m", max_context_tokens=window, max_input_tokens=None if own else most)
        permissions = attrs.evolve(ADMIN, max_context_tokens=most) if own else ADMIN
        assembled = await TokenBudgetAssembler().assemble(request, target, permissions)
        return assembled.request.max_tokens

    assert await output(tokens, tokens + 200) == 200
    with pytest.raises(ContextLengthExceeded):
        await output(tokens - 1, tokens + 200)


async def test_an_answer_of_a_sixteenth_of_the_window_is_the_shortest_that_is_worth_a_request() -> None:
    request = ChatRequest([Message.user("word " * 500)], max_tokens=500)
    tokens = sum(map(message_tokens, request.messages))
    least = next(room for room in range(1, 200) if room >= (tokens + room) // 16)
    for room in (least, least - 1):
        target = Target("p", "m", max_context_tokens=tokens + room)
        if room == least:
            assembled = await TokenBudgetAssembler().assemble(request, target, ADMIN)
            assert assembled.request.max_tokens == least
        else:
            with pytest.raises(ContextLengthExceeded):
                await TokenBudgetAssembler().assemble(request, target, ADMIN)


# Rate limits.


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("strategy", ["sliding_window", "token_bucket"])
async def test_who_comes_a_part_of_a_second_too_early_is_refused(own: bool, strategy: str, autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=60, strategy=strategy, global_rate_limit_rpm=0 if own else 1))
    limit = 1 if own else 0
    limiter.admit("ana", limit)
    await trio.sleep(59.5)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.admit("ana", limit)
    assert caught.value.retry_after == pytest.approx(0.5)
    assert ("ana" in str(caught.value)) is own
    await trio.sleep(0.5)
    limiter.admit("ana", limit)
    assert (limiter.statistics().admitted, limiter.statistics().refused) == (2, 1)


async def test_the_number_of_senders_with_a_count_of_their_own_is_exact(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(max_tracked_senders=2))
    for sender in ("a", "b", "c"):
        limiter.admit(sender, 1)
    assert limiter.statistics().tracked == 2
    # The others share one count.
    with pytest.raises(RateLimitExceeded):
        limiter.admit("d", 1)


def test_the_default_is_a_minute_for_ten_thousand_senders() -> None:
    policy = RateLimitPolicy()
    assert (policy.window_seconds, policy.global_rate_limit_rpm, policy.max_tracked_senders) == (60, 0, 10_000)
    assert RateLimitPolicy(max_tracked_senders=1).max_tracked_senders == 1


# Rounds.


async def test_a_value_of_exactly_the_threshold_is_not_poor(autojump_clock) -> None:
    learner = TrajectoryLearner(poor_below=0.5)
    decision = RoutingDecision((UNKNOWN,), sender_id="ana")
    for quality in (0.5, 0.49):
        score = QualityScore(quality)
        outcome = ResponseOutcome(ending="ok", latency=Latency(total=1.0), quality=score, answered_by="p/unknown")
        learner.record(ChatRequest([Message.user("q")]), decision, outcome, Call(id=f"{quality}"))
    assert [found.call_id for found in learner.poor()] == ["0.49"]
    assert [learner.feedback("0.5", value) for value in (-1, 1)] == [1, 1]


async def test_a_latency_counts_until_exactly_its_time_has_passed(autojump_clock) -> None:
    board = LatencyBoard()
    record = AttemptRecord(target="p/unknown", outcome="ok", started=0.0, latency=Latency(total=2.0))
    board.note(ResponseOutcome(ending="ok", latency=Latency(total=2.0), attempts=(record,)))
    await trio.sleep(FORGOTTEN_AFTER)
    assert board.expected("p/unknown") == 2.0
    await trio.sleep(0.001)
    assert board.expected("p/unknown") == 0.0


async def test_a_free_model_costs_least() -> None:
    prices = {"p/half": Decimal("0.5"), "p/free": Decimal(0)}
    selection = Selection(estimate=lambda target, given, output: prices.get(target.name))
    router = StaticRouter(["p/unpriced", "p/half", "p/free"], strategy="lowest_cost", selection=selection)

    request = ChatRequest([Message.user("q")])
    decision = await router.route(request, TaskProfile(), Allowance())
    assert [target.name for target in decision.targets] == ["p/free", "p/half", "p/unpriced"]


@pytest.mark.parametrize(("used", "overall"), [(50, 1.0), (75, 0.95), (100, 0.9), (200, 0.9)])
def test_an_answer_that_takes_more_than_half_of_its_budget_scores_less_down_to_half(used: int, overall: float) -> None:
    request = ChatRequest([Message.user("q")], max_tokens=100)
    response = ChatResponse(content=[Text("Yes.")], usage=Usage(output_tokens=used))
    assert FitnessScorer().score(request, response).overall == pytest.approx(overall)


# Permissions.


@pytest.mark.parametrize(
    "name",
    [
        "max_context_tokens",
        "max_output_tokens",
        "rate_limit",
        "escalation_threshold",
        "cost_budget_daily_usd",
        "cost_budget_monthly_usd",
        "token_budget_daily",
        "token_budget_monthly",
        "turn_budget_daily",
        "turn_budget_monthly",
    ],
)
def test_zero_is_a_setting_and_less_is_refused(name: str) -> None:
    below = UserPermissions(**{name: 1})
    assert getattr(PermissionOverrides(**{name: 0}).over(below), name) == 0
    assert PermissionOverrides().over(below) == below
    with pytest.raises(ValueError, match=name):
        PermissionOverrides(**{name: -1})


def test_levels_and_thresholds_end_where_they_are_documented() -> None:
    assert PermissionOverrides(level=2, escalation_threshold=1).over(UserPermissions()).level == 2
    for wrong in ({"level": 3}, {"level": -1}, {"escalation_threshold": 1.01}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PermissionOverrides(**wrong)


async def test_a_large_limit_rounds_times_up_to_a_sixty_fourth_of_the_window(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=32))
    await trio.sleep(0.1)
    began = trio.current_time()
    for _ in range(100):
        limiter.admit("ana", 100)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.admit("ana", 100)
    rounded = math.ceil(began / 0.5) * 0.5
    assert caught.value.retry_after == pytest.approx(rounded + 32 - began)
    assert 32 <= caught.value.retry_after <= 32.5
    # A limit of up to 64 is exact.
    for _ in range(64):
        limiter.admit("ben", 64)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.admit("ben", 64)
    assert caught.value.retry_after == pytest.approx(32)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (("p/*",), ("p/a", "q/b"), ("p/a",)),
        (("p/?",), ("p/*",), ("p/?",)),
        # Sets of characters are compared as texts only: `?` also matches an `a`.
        (("p/[!a]",), ("p/?",), ()),
        (("p/?",), ("p/[ab]",), ()),
        (("p/[ab]",), ("p/[ab]",), ("p/[ab]",)),
        (None, ("p/a",), ("p/a",)),
        (("p/a",), None, ("p/a",)),
        (None, None, None),
    ],
)
def test_of_two_lists_of_patterns_only_what_both_match_is_allowed(
    one: tuple[str, ...] | None, other: tuple[str, ...] | None, both: tuple[str, ...] | None
) -> None:
    found = lesser(UserPermissions(model_access=one), UserPermissions(model_access=other), tiers=("free",))
    assert found.model_access == both
