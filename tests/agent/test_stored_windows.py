"""Windows that refusals have taught, kept in the store from process to process."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import open_agent
from clawft_trio.agent.stored_windows import WINDOW_MIGRATIONS, open_stored_windows
from clawft_trio.chat import ChatRequest
from clawft_trio.errors import ContextLengthExceeded, StoreError
from clawft_trio.pipeline import Target, Windows
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.store import open_store
from clawft_trio.testing import Fail, Finish, Say

SMALL = Target("p", "small")


def small(limit: int) -> ScriptedProvider:
    def choose(request: ChatRequest):
        too_long = request_tokens(request) > limit
        return [Fail(ContextLengthExceeded())] if too_long else [Say("ok"), Finish()]

    return ScriptedProvider(choose=choose, name="p")


async def test_the_next_process_uses_the_window_derived_from_a_refusal(tmp_path: Path) -> None:
    store = tmp_path / "agent.db"
    model = small(4000)
    async with open_agent(["p/small"], providers={"p": model}, store=store) as agent:
        for number in range(5):
            await agent.ask(f"{number} " + "word " * 1000, session="s")
    refused = [request for request in model.requests if request_tokens(request) > 4000]
    assert len(refused) == 1
    again = small(4000)
    async with open_agent(["p/small"], providers={"p": again}, store=store) as agent:
        for number in range(5):
            await agent.ask(f"{number} " + "word " * 1000, session="t")
    assert again.requests
    assert all(request_tokens(request) < request_tokens(refused[0]) for request in again.requests)


async def test_the_last_derived_window_is_stored_at_the_end_and_expires_after_a_week() -> None:
    today = datetime(2026, 11, 1, tzinfo=UTC)
    async with open_store(None, migrations=WINDOW_MIGRATIONS) as store:
        async with open_stored_windows(store, windows := Windows(), now=lambda: today):
            windows.refused(SMALL, 5000)
            windows.refused(SMALL, 4000)
        for days, known in ((6, {"p/small": 3999}), (8, {})):
            later = today + timedelta(days=days)
            async with open_stored_windows(store, windows := Windows(), now=lambda later=later: later):
                assert windows.learnt() == known


async def test_each_refusal_is_written_while_the_agent_runs() -> None:
    async with (
        open_store(None, migrations=WINDOW_MIGRATIONS) as store,
        open_stored_windows(store, windows := Windows()),
    ):
        for tokens in (5000, 4000):
            windows.refused(SMALL, tokens)
            with trio.fail_after(30):
                while await store.read(_stored) != [("p/small", tokens - 1)]:
                    await trio.sleep(0.01)


async def test_a_store_that_is_away_costs_the_knowledge_only(caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        async def read(self, function: object) -> list[object]:
            return []

        async def transact(self, function: object, **_: object) -> None:
            raise StoreError("away")

    with caplog.at_level(logging.WARNING):
        async with open_stored_windows(Away(), windows := Windows()):  # type: ignore[arg-type]  # two methods are used
            windows.refused(SMALL, 5000)
    assert windows.learnt() == {"p/small": 4999}
    assert "away" in caplog.text


def _stored(connection) -> list[tuple[str, int]]:
    return connection.execute("SELECT target, tokens FROM windows").fetchall()
