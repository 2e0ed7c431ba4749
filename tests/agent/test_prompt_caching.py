"""A long session against simulated prompt caches: nearly all of each request was sent before, and the bill shows it."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from judged import ScriptedProvider, open_fault_server

from clawft_trio import TurnPolicy, open_agent, provider_named, tool
from clawft_trio.attempts import Usage
from clawft_trio.observe import CacheBusted, Recorder
from clawft_trio.testing import CallTool, Finish, Say, SeenRequest, SimulatedPromptCache

TURNS = 60

# US dollars for a million tokens, as the vendors list them: input, cached, written, output.
PRICES = {
    "anthropic/claude-sonnet-4-5": ("3", "0.30", "3.75", "15"),
    "openai/gpt-5": ("1.25", "0.125", "1.25", "10"),
}


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city, with all that was measured there during the last day."""
    return f"{city}: rain, wind from the west. " + "Nothing else was measured. " * 20


def bill(target: str, usages: list[Usage]) -> Decimal:
    given, cached, written, answered = (Decimal(price) / 1_000_000 for price in PRICES[target])
    total = Decimal(0)
    for usage in usages:
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        total += plain * given + usage.cached_tokens * cached
        total += usage.cache_write_tokens * written + usage.output_tokens * answered
    return total


def before(request: SeenRequest) -> SeenRequest:
    """*request* as it was when the last 50 messages were sent, without marks and keys."""
    messages = request.body["messages"]
    system = [message for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    asked = max(n for n, m in enumerate(others) if m["role"] == "user" and "question" in str(m["content"]))
    kept = others[max(0, asked - 50) :]
    body = {key: value for key, value in request.body.items() if key != "prompt_cache_key"}
    return attrs.evolve(request, body=unmarked({**body, "messages": [*system, *kept]}))


def unmarked(value: object) -> object:
    if isinstance(value, dict):
        return {key: unmarked(one) for key, one in value.items() if key != "cache_control"}
    return [unmarked(one) for one in value] if isinstance(value, list) else value


@attrs.frozen
class Talk:
    """What a session of `TURNS` turns consists of."""

    #: the model calls a tool in every turn of that number, counted from 0
    every: int
    #: sentences that the user pastes in each turn
    pasted: int


# A tool in every turn; and a user who pastes text, with a tool now and then.
ACTING, PASTING = Talk(every=1, pasted=0), Talk(every=20, pasted=100)


@pytest.mark.parametrize(
    ("target", "talk", "share"),
    [
        ("anthropic/claude-sonnet-4-5", ACTING, 1 / 3),
        ("anthropic/claude-sonnet-4-5", PASTING, 1 / 3),
        ("openai/gpt-5", PASTING, 1 / 3),
        # OpenAI's cache needs no marks: it found the system prompt and the second request of each turn before, too,
        # and the sessions of before were 50 messages long where all 240 are sent now.
        ("openai/gpt-5", ACTING, 0.8),
    ],
)
async def test_nine_tenths_of_every_request_were_sent_before(tmp_path, target: str, talk: Talk, share: float) -> None:
    cache, old_cache = SimulatedPromptCache(), SimulatedPromptCache()
    usages: list[Usage] = []
    old_usages: list[Usage] = []

    def choose(request: SeenRequest):
        usages.append(cache.usage(request, output_tokens=20))
        old_usages.append(old_cache.usage(before(request), output_tokens=20))
        turn = sum("question" in str(m["content"]) for m in request.body["messages"] if m["role"] == "user") - 1
        if request.answers_tools or turn % talk.every:
            return [Say("It rains."), Finish(usage=usages[-1])]
        return [CallTool("weather", {"city": "Oslo"}, id=f"c{len(usages)}"), Finish(usage=usages[-1])]

    (tmp_path / "SOUL.md").write_text("You advise travellers on what to wear. " * 500)
    provider, _, model = target.partition("/")
    recorder = Recorder()
    async with (
        open_fault_server(choose=choose, accepts=provider) as server,
        provider_named(provider, base_url=server.url, api_key="k", model=model) as given,
        open_agent(
            [target],
            providers={provider: given},
            tools=[weather],
            workspace=tmp_path,
            store=tmp_path / "store.db",
            turn=TurnPolicy(max_tokens=1000),
            observers=[recorder],
        ) as agent,
    ):
        pasted = "It was said before. " * talk.pasted
        replies = [await agent.ask(f"question {number}: and now? {pasted}", session="s") for number in range(TURNS)]
        spent = await agent.parts.costs.ledger.spending("target")
    assert len(usages) == TURNS + len(range(0, TURNS, talk.every))
    shares = [usage.cached_tokens / usage.input_tokens for usage in usages[1:]]
    assert min(shares) >= 0.9
    assert recorder.of(CacheBusted) == []
    paid, paid_before = bill(target, usages), bill(target, old_usages)
    assert paid <= paid_before * Decimal(share)
    # What the caches gave is told in replies and in the ledger.
    assert sum(reply.usage.cached_tokens for reply in replies) == sum(usage.cached_tokens for usage in usages)
    assert sum(one.cached_tokens for one in spent) == sum(usage.cached_tokens for usage in usages)
    assert sum(one.cache_write_tokens for one in spent) == sum(usage.cache_write_tokens for usage in usages)


async def test_without_marks_anthropic_caches_nothing(tmp_path) -> None:
    cache = SimulatedPromptCache()
    usages: list[Usage] = []

    def choose(request: SeenRequest):
        usages.append(cache.usage(request))
        return [Say("ok"), Finish(usage=usages[-1])]

    off = TurnPolicy(prompt_cache="off")
    async with (
        open_fault_server(choose=choose, accepts="anthropic") as server,
        provider_named("anthropic", base_url=server.url, api_key="k") as provider,
        open_agent(["anthropic/m"], providers={"anthropic": provider}, turn=off) as agent,
    ):
        for _ in range(3):
            await agent.ask("question " * 1000, session="s")
    assert [usage.cached_tokens for usage in usages] == [0, 0, 0]


async def test_notes_that_change_leave_the_beginning_of_requests_as_it_was(tmp_path) -> None:
    notes = tmp_path / "memory" / "MEMORY.md"
    notes.parent.mkdir()
    notes.write_text("Ana likes tea.")
    model = ScriptedProvider.saying("ok", name="p")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path) as agent:
        await agent.ask("one", session="s")
        await agent.ask("two", session="s")
        notes.write_text("Ana likes tea.\n\nAna lives in Oslo.")
        await agent.ask("three", session="s")
        await agent.ask("four", session="s")
    requests = [request.messages for request in model.requests]
    assert all(after[: len(before)] == before for before, after in zip(requests, requests[1:], strict=False))
    assert ["Oslo" in messages[-1].text for messages in requests] == [False, False, True, False]
    assert ["tea" in messages[-1].text for messages in requests] == [True, False, True, False]
