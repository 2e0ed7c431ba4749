"""Metered calls: every attempt is reserved before it leaves and settled on every way out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial

import attrs
import pytest
import trio
from costs.ledgers import Clock, open_ledger, usd

from clawft_trio.attempts import AttemptRecord, Latency, Usage, record_attempt
from clawft_trio.auth import USER, AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, Provider, TextDelta
from clawft_trio.costs import (
    MIGRATIONS,
    Bill,
    CostTracker,
    Ledger,
    LedgerEntry,
    Limits,
    Metered,
    ModelPrice,
    Prices,
    Reservation,
)
from clawft_trio.errors import (
    AuthFailed,
    BudgetExceeded,
    CircuitOpen,
    ContentFiltered,
    ContextLengthExceeded,
    ModelNotFound,
    NotConfigured,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerError,
    StoreBusy,
    TransportFailed,
)
from clawft_trio.llm import open_stream
from clawft_trio.observe import Charged, Noted, Recorder
from clawft_trio.pipeline import Target
from clawft_trio.resilience import Failover, Hedge, Resilient, Retry, compose
from clawft_trio.store import open_store
from clawft_trio.testing import (
    Fail,
    Finish,
    Hang,
    Report,
    Say,
    ScriptedProvider,
    Think,
    Wait,
    cancel_everywhere,
)

USAGE = Usage(input_tokens=1000, output_tokens=200)
#: 1000 * 1 + 200 * 10 dollars for a million
COST = usd("0.003")
PRICE = ModelPrice(input=1, output=10)
PRICES = Prices(explicit={"p/m": PRICE, "q/n": PRICE})
ANA = AuthContext(sender_id="ana", channel="telegram", permissions=USER)
REQUEST = ChatRequest([Message.user("x" * 40)], model="m", max_tokens=100, auth=ANA)
SENT = 40


def one_per_character(request: ChatRequest) -> int:
    return sum(len(message.text) for message in request.messages)


@asynccontextmanager
async def open_tracker(
    clock: Clock | None = None, prices: Prices = PRICES, **more
) -> AsyncGenerator[CostTracker, None]:
    async with open_ledger(clock) as ledger:
        yield CostTracker(ledger, prices, **more)


def metered(provider: Provider, tracker: CostTracker, target: str = "p/m") -> Metered:
    return Metered(provider, tracker, Target.parse(target), tokens=one_per_character)


async def the_entry(tracker: CostTracker) -> LedgerEntry:
    (entry,) = await tracker.ledger.entries()
    return entry


async def test_an_answer_says_what_it_cost_and_so_does_the_ledger() -> None:
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Say("Hello."), Finish(usage=USAGE)], name="p"), tracker)
        response = await model.complete(REQUEST, Call(id="c1", turn_id="t1"))
        assert response.cost == COST
        entry = await the_entry(tracker)
        assert (entry.sender, entry.target, entry.turn, entry.call) == ("telegram:ana", "p/m", "t1", "c1")
        assert (entry.input_tokens, entry.output_tokens, entry.cost) == (1000, 200, COST)
        assert (entry.state, entry.certainty, entry.outcome) == ("settled", "exact", "ok")


async def test_the_money_is_reserved_before_anything_leaves() -> None:
    seen: list[Decimal | None] = []

    class Looking(ScriptedProvider):
        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            seen.extend(entry.reserved for entry in await tracker.ledger.entries() if entry.state == "open")
            return await super().complete(request, call)

    async with open_tracker() as tracker:
        await metered(Looking([Finish(usage=USAGE)]), tracker).complete(REQUEST, Call())
    # 40 tokens and the margin, and 100 tokens of answer.
    assert seen == [usd("0.001056")]


async def test_a_refused_attempt_sends_nothing_and_is_on_record() -> None:
    async with open_tracker(everybody=Limits(daily="0.001")) as tracker:
        provider = ScriptedProvider([Finish()], name="p")
        call = Call()
        with pytest.raises(BudgetExceeded) as caught:
            await metered(provider, tracker).complete(REQUEST, call)
        assert provider.calls == 0
        assert caught.value.limit == usd("0.001")
        (record,) = call.log.records
        assert (record.outcome, record.sent, record.error) == ("failed", False, caught.value)
        assert await tracker.ledger.entries() == ()


async def test_an_answer_without_usage_is_estimated() -> None:
    async with open_tracker() as tracker:
        provider = ScriptedProvider([Think("y" * 40), Say("z" * 36), Finish()])
        response = await metered(provider, tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.input_tokens, entry.output_tokens, entry.certainty) == (SENT, 76, "estimated")
        assert response.cost == entry.cost == (SENT + 76 * 10) * usd("0.000001")


async def test_an_unknown_price_is_unpriced_and_not_guessed() -> None:
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker, "nobody/knows")
        assert (await model.complete(REQUEST, Call())).cost is None
        cached = attrs.evolve(USAGE, cached_tokens=1)
        model = metered(ScriptedProvider([Finish(usage=cached)]), tracker)
        assert (await model.complete(REQUEST, Call())).cost is None
        (total,) = await tracker.ledger.spending()
        assert (total.cost, total.unpriced, total.certainty) == (0, 2, "at_least")


REFUSALS = [
    RateLimited,
    QuotaExhausted,
    AuthFailed,
    ModelNotFound,
    RequestRejected,
    ContextLengthExceeded,
    NotConfigured,
]


@pytest.mark.parametrize("error", [*(cls("no", status=400) for cls in REFUSALS), ServerError("no", status=529)])
async def test_what_the_provider_refused_before_it_began_is_given_back(error: Exception) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(type(error)):
            await metered(ScriptedProvider([Fail(error)]), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.state, entry.cost, entry.outcome) == ("refunded", 0, "failed")


@pytest.mark.parametrize("error", [ServerError("?", status=500), TransportFailed("gone"), ContentFiltered("no")])
async def test_what_may_have_been_billed_costs_at_least_its_request(error: Exception) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(type(error)):
            await metered(ScriptedProvider([Fail(error)]), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.state, entry.certainty) == ("settled", "at_least")
        assert (entry.input_tokens, entry.output_tokens) == (SENT, 0)


async def test_a_refusal_after_content_is_none() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(RateLimited):
            await metered(ScriptedProvider([Say("z" * 36), Fail(RateLimited)]), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.certainty, entry.input_tokens, entry.output_tokens) == ("at_least", SENT, 36)


async def test_a_broken_answer_is_counted_whole_while_its_text_is_not_kept() -> None:
    counted: list[int] = []

    def four_more_for_a_message(request: ChatRequest) -> int:
        counted.append(one_per_character(request))
        return counted[-1] + 4 * len(request.messages)

    async with open_tracker() as tracker:
        broken = ScriptedProvider([*[Say("word ")] * 1000, Fail(ServerError("?", status=500))])
        model = Metered(broken, tracker, Target.parse("p/m"), tokens=four_more_for_a_message)
        with pytest.raises(ServerError):
            await model.complete(REQUEST, Call())
        assert (await the_entry(tracker)).output_tokens == 5000 + 4
    assert max(counted) < 2000


class Unsent:
    """A provider that never gets as far as sending."""

    name = "p"
    keeps_records = True

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await trio.lowlevel.checkpoint()
        error = TransportFailed("no connection")
        call.log.add(AttemptRecord(target="p/m", outcome="failed", started=0.0, latency=Latency(), error=error))
        raise error


async def test_what_never_left_costs_nothing() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            await metered(Unsent(), tracker).complete(REQUEST, Call())
        assert ((await the_entry(tracker)).state, (await the_entry(tracker)).cost) == ("refunded", 0)


class Untried:
    """A provider that has a reason not to try."""

    name = "p"
    keeps_records = True

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await trio.lowlevel.checkpoint()
        raise CircuitOpen("later")


async def test_what_was_not_tried_costs_nothing() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(CircuitOpen):
            await metered(Untried(), tracker).complete(REQUEST, Call())
        assert ((await the_entry(tracker)).state, (await the_entry(tracker)).outcome) == ("refunded", "failed")


class Early:
    """Reports its usage at the start, as Anthropic does, and breaks off."""

    name = "p"
    keeps_records = True

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        with record_attempt(call.log, "p/m") as attempt:
            attempt.sent = True
            attempt.usage, attempt.certainty = Usage(input_tokens=1000, output_tokens=1), "at_least"
            await trio.lowlevel.checkpoint()
            await call.emit(TextDelta("z" * 36))
            raise TransportFailed("broke off")


async def test_a_broken_stream_costs_what_was_reported_and_seen_of_it() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            await metered(Early(), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.certainty, entry.input_tokens, entry.output_tokens) == ("at_least", 1000, 36)


async def test_every_retry_pays(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        provider = ScriptedProvider([Fail(TransportFailed)], [Fail(RateLimited)], [Finish(usage=USAGE)], name="p")
        model = Resilient(metered(provider, tracker), Retry(max_retries=3))
        response = await model.complete(REQUEST, Call(turn_id="t"))
        assert response.cost == COST
        states = [(e.state, e.certainty, e.outcome) for e in reversed(await tracker.ledger.entries(turn="t"))]
        assert states == [
            ("settled", "at_least", "failed"),
            ("refunded", "exact", "failed"),
            ("settled", "exact", "ok"),
        ]
        assert [record.outcome for record in response.attempts] == ["failed", "failed", "ok"]


@pytest.mark.parametrize("through", ["hedge", "failover"])
async def test_both_arms_of_a_hedge_pay(through: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        if through == "hedge":
            provider = ScriptedProvider([Hang()], [Say("Hi."), Finish(usage=USAGE)], name="p")
            model: Provider = Resilient(metered(provider, tracker), compose(Hedge(after=5)))
        else:
            slow = metered(ScriptedProvider([Hang()], name="p"), tracker)
            fast = metered(ScriptedProvider([Say("Hi."), Finish(usage=USAGE)], name="q"), tracker, "q/n")
            model = Failover(slow, fast, hedge_after=5)
        response = await model.complete(REQUEST, Call())
        assert response.cost == COST
        winner, loser = await tracker.ledger.entries()
        assert (winner.outcome, winner.certainty, winner.cost) == ("ok", "exact", COST)
        assert (loser.state, loser.outcome, loser.certainty) == ("settled", "cancelled", "at_least")
        assert loser.cost == SENT * usd("0.000001")
        (total,) = await tracker.ledger.spending()
        assert (total.cost, total.certainty) == (winner.cost + loser.cost, "at_least")


async def test_a_consumer_that_had_enough_pays_for_what_it_saw() -> None:
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Say("z" * 36), Hang()]), tracker)
        async with open_stream(model, REQUEST) as stream:
            async for _ in stream:
                break
        entry = await the_entry(tracker)
        assert (entry.state, entry.certainty, entry.output_tokens) == ("settled", "at_least", 36)


async def test_wherever_a_call_is_cancelled_no_reservation_is_left() -> None:
    async with open_tracker() as tracker:
        script = [Say("one"), Report(Usage(input_tokens=9)), Say("two"), Finish(usage=USAGE)]
        model = Resilient(metered(ScriptedProvider(script), tracker), Retry(max_retries=1))
        limits = Limits(monthly=100)

        async def ask() -> None:
            await model.complete(REQUEST, Call())

        async def nothing_is_open() -> None:
            assert all(entry.state in {"settled", "refunded"} for entry in await tracker.ledger.entries())
            (budget,) = await tracker.ledger.budgets("telegram:ana", own=limits)
            assert budget.reserved == 0

        assert await cancel_everywhere(ask, nothing_is_open) >= 12
        outcomes = {entry.outcome for entry in await tracker.ledger.entries()}
        assert {"cancelled", "ok"} <= outcomes


async def test_a_hedge_that_is_cancelled_anywhere_leaves_no_reservation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        slow = metered(ScriptedProvider([Wait(20), Say("late"), Finish()]), tracker)
        fast = metered(ScriptedProvider([Wait(1), Say("Hi."), Finish(usage=USAGE)]), tracker, "q/n")

        async def ask() -> None:
            await Failover(slow, fast, hedge_after=5).complete(REQUEST, Call())

        async def nothing_is_open() -> None:
            assert all(entry.state != "open" for entry in await tracker.ledger.entries(limit=10_000))

        assert await cancel_everywhere(ask, nothing_is_open) >= 20


class Locked(Ledger):
    """A ledger into which nothing can be settled while somebody else has it."""

    locked = False

    async def settle(self, reservation: Reservation, bill: Bill) -> bool:
        await trio.lowlevel.checkpoint()
        if self.locked:
            raise StoreBusy("locked")
        return await super().settle(reservation, bill)


async def test_a_ledger_that_is_locked_afterwards_costs_neither_the_answer_nor_a_cent() -> None:
    seen = Recorder()
    async with open_store(None, migrations=MIGRATIONS) as store:
        ledger = Locked(store)
        tracker = CostTracker(ledger, PRICES)
        model = metered(ScriptedProvider([Say("Hello."), Finish(usage=USAGE)]), tracker)
        ledger.locked = True
        response = await model.complete(REQUEST, Call(observer=seen))
        assert (response.text, response.cost) == ("Hello.", COST)
        (noted,) = seen.of(Noted)
        assert "could not be settled" in noted.what
        assert "1 charges not written" in repr(tracker)
        ledger.locked = False
        await model.complete(REQUEST, Call())
        assert [entry.cost for entry in await ledger.entries()] == [COST, COST]
        assert "0 charges not written" in repr(tracker)


async def test_while_a_ledger_is_locked_nothing_more_is_sent() -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        ledger = Locked(store)
        provider = ScriptedProvider([Say("Hello."), Finish(usage=USAGE)])
        model = metered(provider, CostTracker(ledger, PRICES))
        ledger.locked = True
        await model.complete(REQUEST, Call())
        with pytest.raises(StoreBusy):
            await model.complete(REQUEST, Call())
        assert provider.calls == 1


async def test_every_charge_is_told() -> None:
    seen = Recorder()
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        await model.complete(REQUEST, Call(turn_id="t", observer=seen))
    (charged,) = seen.of(Charged)
    assert (charged.sender, charged.target, charged.cost, charged.certainty, charged.turn_id) == (
        "telegram:ana",
        "p/m",
        COST,
        "exact",
        "t",
    )


async def test_what_is_too_dear_for_what_is_left_may_be_had_for_less_elsewhere() -> None:
    prices = Prices(explicit={"p/m": PRICE, "q/n": ModelPrice.flat("0.0001")})
    async with open_tracker(prices=prices, everybody=Limits(daily="0.001")) as tracker:
        dear = ScriptedProvider([Say("Dear."), Finish(usage=USAGE)], name="p")
        cheap = ScriptedProvider([Say("Cheap."), Finish(usage=USAGE)], name="q")
        chain = Failover(
            Resilient(metered(dear, tracker), Retry(max_retries=2)), Resilient(metered(cheap, tracker, "q/n"), Retry())
        )
        response = await chain.complete(REQUEST, Call())
        assert (response.text, response.cost, dear.calls) == ("Cheap.", usd("0.00012"), 0)
        assert [(record.sent, record.outcome) for record in response.attempts] == [(False, "failed"), (True, "ok")]


async def test_a_sub_agent_spends_the_money_of_whoever_started_it() -> None:
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        own = attrs.evolve(REQUEST, auth=AuthContext.local("researcher"))
        with tracker.on_behalf("child", ANA, agent="researcher", parent_turn_id="parent"):
            with tracker.on_behalf("grandchild", own.auth, agent="reader", parent_turn_id="child"):
                await model.complete(own, Call(turn_id="grandchild"))
            await model.complete(own, Call(turn_id="child"))
        await model.complete(REQUEST, Call(turn_id="parent"))
        await model.complete(own, Call(turn_id="child"))  # nobody's child any more
        found = [(e.sender, e.agent, e.turn, e.parent_turn) for e in reversed(await tracker.ledger.entries())]
        assert found == [
            ("telegram:ana", "reader", "grandchild", "child"),
            ("telegram:ana", "researcher", "child", "parent"),
            ("telegram:ana", "", "parent", ""),
            ("local:researcher", "", "child", ""),
        ]
        assert "0 turns on behalf" in repr(tracker)


async def test_a_sub_agent_has_the_limits_of_whoever_pays() -> None:
    poor = attrs.evolve(ANA, permissions=attrs.evolve(USER, cost_budget_daily_usd=0.001))
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        own = attrs.evolve(REQUEST, auth=AuthContext.local("researcher"))
        with tracker.on_behalf("child", poor, agent="researcher", parent_turn_id="parent"):
            with pytest.raises(BudgetExceeded):
                await model.complete(own, Call(turn_id="child"))
        await model.complete(own, Call(turn_id="other"))


async def test_who_asks_for_nobody_has_next_to_no_money() -> None:
    async with open_tracker() as tracker:
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        nobody = attrs.evolve(REQUEST, auth=None, max_tokens=20_000)
        with pytest.raises(BudgetExceeded) as caught:
            await model.complete(nobody, Call())
        assert caught.value.limit == usd("0.1")


async def test_the_allowance_is_what_the_tightest_limit_leaves() -> None:
    clock = Clock()
    permissions = attrs.evolve(USER, cost_budget_daily_usd=0.01, cost_budget_monthly_usd=1)
    async with open_tracker(clock, everybody=Limits(daily="0.005", monthly=10)) as tracker:
        everything = await tracker.allowance("telegram:ana", permissions)
        assert (everything.left, everything.limit) == (usd("0.005"), usd("0.005"))
        model = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        await model.complete(attrs.evolve(REQUEST, auth=attrs.evolve(ANA, permissions=permissions)), Call())
        rest = await tracker.allowance("telegram:ana", permissions)
        assert (rest.left, rest.spent, rest.retry_after) == (usd("0.002"), COST, 12 * 3600)
        assert (rest.covers(usd("0.002")), rest.covers(usd("0.0021")), rest.covers(None)) == (True, False, True)
        clock.pass_(days=1)
        assert (await tracker.allowance("telegram:ana", permissions)).left == usd("0.005")


async def test_no_limit_is_no_limit() -> None:
    async with open_tracker() as tracker:
        allowance = await tracker.allowance("local:me", AuthContext.local().permissions)
        assert (allowance.left, allowance.covers(None), allowance.covers(usd("1000000"))) == (None, True, True)


async def test_the_estimate_is_the_one_that_is_reserved() -> None:
    async with open_tracker() as tracker:
        estimate = partial(tracker.estimate, Target.parse("p/m"))
        assert estimate(SENT, 100) == usd("0.001056")
        assert tracker.estimate(Target.parse("nobody/knows"), 1, 1) is None


IMPOSSIBLE = [
    Usage(input_tokens=2**63, output_tokens=1),
    Usage(input_tokens=-1),
    Usage(output_tokens=True),
    Usage(input_tokens=float("nan")),  # type: ignore[arg-type]
    Usage(input_tokens=5, cached_tokens=6),
    Usage(output_tokens=5, reasoning_tokens=6),
    Usage(input_tokens=5, cost=usd("-1")),
    Usage(input_tokens=5, cost=usd("NaN")),
]


@pytest.mark.parametrize("usage", IMPOSSIBLE, ids=str)
async def test_impossible_usage_is_refused_and_stops_nobody(usage: Usage) -> None:
    seen = Recorder()
    async with open_tracker() as tracker:
        hostile = metered(ScriptedProvider([Say("z" * 36), Finish(usage=usage)]), tracker)
        response = await hostile.complete(REQUEST, Call(observer=seen))
        entry = await the_entry(tracker)
        assert (entry.input_tokens, entry.output_tokens, entry.certainty) == (SENT, 36, "estimated")
        assert "the reported usage is refused" in entry.note
        assert response.cost == entry.cost
        (noted,) = seen.of(Noted)
        assert noted.details["problem"] == usage.problem()
        (charged,) = seen.of(Charged)
        assert charged.note == entry.note
        honest = metered(ScriptedProvider([Finish(usage=USAGE)]), tracker)
        assert (await honest.complete(REQUEST, Call())).cost == COST


class Failing:
    """Reports the whole of its usage, and fails all the same."""

    name = "p"
    keeps_records = True

    def __init__(self, certainty: str, usage: Usage = USAGE) -> None:
        self.certainty = certainty
        self.usage = usage

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        with record_attempt(call.log, "p/m") as attempt:
            attempt.sent = True
            attempt.usage, attempt.certainty = self.usage, self.certainty
            await trio.lowlevel.checkpoint()
            await call.emit(TextDelta("z" * 900))
            raise TransportFailed("broke off")


async def test_the_exact_usage_of_a_failed_attempt_is_what_it_costs() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            await metered(Failing("exact"), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.certainty, entry.outcome, entry.cost) == ("exact", "failed", COST)
        assert (entry.input_tokens, entry.output_tokens) == (1000, 200)


async def test_the_last_attempt_decides_how_certain_a_failure_is() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            await metered(Failing("at_least"), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.certainty, entry.output_tokens) == ("at_least", 900)


async def test_impossible_usage_of_a_failed_attempt_is_estimated() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            await metered(Failing("exact", Usage(input_tokens=-1)), tracker).complete(REQUEST, Call())
        entry = await the_entry(tracker)
        assert (entry.certainty, entry.input_tokens, entry.output_tokens) == ("at_least", SENT, 900)


async def test_what_the_answer_says_it_cost_goes_before_any_price() -> None:
    async with open_tracker() as tracker:
        for target in ("p/m", "nobody/knows"):
            model = metered(
                ScriptedProvider([Finish(usage=attrs.evolve(USAGE, cost=usd("0.5")))]), tracker, target=target
            )
            assert (await model.complete(REQUEST, Call())).cost == usd("0.5")
        assert {(entry.cost, entry.certainty) for entry in await tracker.ledger.entries()} == {(usd("0.5"), "exact")}


async def test_a_cost_reported_before_the_end_is_not_the_cost_of_a_failure() -> None:
    async with open_tracker() as tracker:
        with pytest.raises(TransportFailed):
            provider = Failing("at_least", attrs.evolve(USAGE, cost=usd("0.000001")))
            await metered(provider, tracker).complete(REQUEST, Call())
        assert (await the_entry(tracker)).cost == usd("0.01")


async def test_the_reason_of_a_missing_price_is_in_the_ledger() -> None:
    async with open_tracker() as tracker:
        for target, usage, why in (
            ("nobody/knows", USAGE, "no price list is loaded"),
            ("p/m", attrs.evolve(USAGE, cached_tokens=1), "p/m has no price for cached input"),
            ("p/m", attrs.evolve(USAGE, service_tier="flex"), "no price for the service tier 'flex'"),
        ):
            response = await metered(ScriptedProvider([Finish(usage=usage)]), tracker, target).complete(REQUEST, Call())
            assert response.cost is None
            assert why in (await tracker.ledger.entries())[0].note
