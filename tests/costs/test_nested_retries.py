"""Each attempt of a nested turn counts in the budgets of all turns above it, retries too."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.costs import MIGRATIONS, CostTracker, Ledger, Metered, ModelPrice, Prices, TurnBudget
from clawft_trio.errors import BudgetExceeded, RateLimited, ServerError, StreamTruncated
from clawft_trio.pipeline import Target
from clawft_trio.resilience import Resilient, Retry
from clawft_trio.store import open_store
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider

ONE_DOLLAR_A_TOKEN = Prices(explicit={"p/m": ModelPrice(input=1_000_000, output=1_000_000)})
REQUEST = ChatRequest([Message.user("q")], max_tokens=2, auth=AuthContext.local())
"""Two tokens in and two out: an attempt reserves 4 dollars, with the margin of its input 5."""


class Nested:
    """A turn three levels down, with a budget on each level."""

    def __init__(self, store, *, top: str, middle: str, inner: str) -> None:
        self.tracker = CostTracker(Ledger(store), ONE_DOLLAR_A_TOKEN)
        self.budgets = [
            TurnBudget(turn_id="top", usd=top),
            TurnBudget(turn_id="middle", usd=middle),
            TurnBudget(turn_id="inner", usd=inner),
        ]

    async def ask(self, provider: ScriptedProvider, *, retries: int) -> str:
        top, middle, inner = self.budgets
        metered = Metered(provider, self.tracker, Target.parse("p/m"), tokens=lambda _: 2)
        model = Resilient(metered, Retry(max_retries=retries, first_wait=0.01))
        auth, behalf = AuthContext.local(), self.tracker.on_behalf
        with (
            self.tracker.limiting(top, auth),
            behalf("middle", auth, agent="a", parent_turn_id="top", budget=middle),
            behalf("inner", auth, agent="b", parent_turn_id="middle", budget=inner),
        ):
            return (await model.complete(REQUEST, Call(turn_id="inner"))).text

    async def booked(self) -> list[tuple[str, Decimal | None]]:
        entries = await self.tracker.ledger.entries(turn="top")
        return [(entry.state, entry.cost) for entry in reversed(entries)]


BROKEN = [Say("x"), Fail(StreamTruncated("broken off", provider="p"))]
ANSWER = [Say("fine"), Finish()]


async def test_a_retry_that_fits_into_every_budget_is_made(autojump_clock: trio.testing.MockClock) -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        nested = Nested(store, top="100", middle="50", inner="10")
        assert await nested.ask(ScriptedProvider(BROKEN, ANSWER, name="p"), retries=2) == "fine"
        assert [state for state, _ in await nested.booked()] == ["settled", "settled"]


@pytest.mark.parametrize("tight", ["top", "middle", "inner"])
async def test_a_retry_is_refused_by_the_budget_that_the_first_attempt_used_up(
    tight: str, autojump_clock: trio.testing.MockClock
) -> None:
    limits = dict.fromkeys(("top", "middle", "inner"), "100") | {tight: "6"}
    async with open_store(None, migrations=MIGRATIONS) as store:
        nested = Nested(store, **limits)
        model = ScriptedProvider(BROKEN, ANSWER, name="p")
        with pytest.raises(BudgetExceeded) as caught:
            await nested.ask(model, retries=2)
        [(state, cost)] = await nested.booked()
        assert state == "settled"
        assert cost is not None
        # At least its request and what had come of its answer.
        assert cost >= 3
        assert (caught.value.limit, caught.value.spent, caught.value.reserved) == (6, cost, 0)
        assert len(model.requests) == 1


@pytest.mark.parametrize("error", [RateLimited("slow down", provider="p", status=429), ServerError("x", status=503)])
async def test_an_attempt_that_was_refused_leaves_its_room_to_the_retry(
    error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        nested = Nested(store, top="5", middle="5", inner="5")
        assert await nested.ask(ScriptedProvider([Fail(error)], ANSWER, name="p"), retries=1) == "fine"
        assert [state for state, _ in await nested.booked()] == ["refunded", "settled"]


async def test_two_nested_turns_share_the_budget_above_them(autojump_clock: trio.testing.MockClock) -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        nested = Nested(store, top="100", middle="8", inner="8")
        await nested.ask(ScriptedProvider(ANSWER, name="p"), retries=0)
        nested.budgets[2] = TurnBudget(turn_id="inner", usd="8")
        with pytest.raises(BudgetExceeded) as caught:
            for _ in range(3):
                await nested.ask(ScriptedProvider(ANSWER, name="p"), retries=0)
        assert caught.value.limit == 8
