"""The sixteen scenarios of failoverbench (MIT; methodology v0.1), over real sockets, with `resilient_chain`'s defaults.

One fallback, at most two retries. Quick, all times are scaled down together, those of the server, the chain and the
checks; with `-m long` they are the real ones. Advisory checks count like required ones: sixteen pass.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import ChatRequest, ChatResponse, Message, Provider
from clawft_trio.errors import ClawftError, ContentFiltered
from clawft_trio.llm import Anthropic, OpenAICompatible, OpenAIResponses
from clawft_trio.llm.stream import complete
from clawft_trio.net.http import Clocks
from clawft_trio.resilience import CircuitBreaker, Retry, resilient_chain
from clawft_trio.testing import (
    BadJson,
    CloseConnection,
    EndBody,
    FaultServer,
    Finish,
    ResetConnection,
    Say,
    Screen,
    SendHeaders,
    Status,
    Wait,
    WireScript,
    open_fault_server,
)

WORDS = [f"word{number} " for number in range(60)]
CANONICAL = "".join(WORDS)
USAGE = Usage(input_tokens=20, output_tokens=60)
WHOLE: WireScript = [*map(Say, WORDS), Finish(usage=USAGE)]
PROMPT = ChatRequest([Message.user("Explain in exactly sixty words why a gateway earns trust.")])


MODELS = {"openai": OpenAICompatible, "anthropic": Anthropic, "responses": OpenAIResponses}


def words(start: int, stop: int) -> list[Say]:
    return [Say(word) for word in WORDS[start:stop]]


@attrs.frozen
class Seen:
    """One call, from both ends. Times are seconds, unscaled."""

    response: ChatResponse | None
    error: ClawftError | None
    took: float
    primary: tuple[float, ...]
    fallback: int

    @property
    def complete(self) -> bool:
        return self.response is not None and self.response.text == CANONICAL


@attrs.frozen
class Scenario:
    title: str
    primary: Sequence[WireScript]
    check: Callable[[Seen], None]


def rescued(*checks: Callable[[Seen], bool]) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert seen.complete, seen
        for number, one in enumerate(checks):
            assert one(seen), (number, seen)

    return check


def s13(seen: Seen) -> None:
    assert isinstance(seen.error, ContentFiltered)
    assert (len(seen.primary), seen.fallback) == (1, 0)


SCENARIOS = {
    "S01": Scenario(
        "429 with Retry-After",
        [[Status(429, retry_after=2.0)], WHOLE],
        rescued(
            lambda seen: len(seen.primary) >= 2,
            lambda seen: seen.primary[1] - seen.primary[0] >= 1.8,
            lambda seen: sum(at - seen.primary[0] <= 1.5 for at in seen.primary) <= 2,
            lambda seen: seen.took <= 20,
        ),
    ),
    "S02": Scenario(
        "429 without Retry-After, persistent",
        [[Status(429)]],
        rescued(
            lambda seen: sum(at - seen.primary[0] <= 3 for at in seen.primary) <= 4,
            lambda seen: len(seen.primary) <= 6,
            lambda seen: seen.took <= 40,
        ),
    ),
    "S03": Scenario(
        "500 once, then healthy",
        [[Status(500)], WHOLE],
        rescued(lambda seen: len(seen.primary) >= 2, lambda seen: seen.took <= 20),
    ),
    "S04": Scenario(
        "503 persistent", [[Status(503)]], rescued(lambda seen: len(seen.primary) <= 6, lambda seen: seen.took <= 40)
    ),
    "S05": Scenario("TCP reset before headers", [[ResetConnection()], WHOLE], rescued(lambda seen: seen.took <= 20)),
    "S06": Scenario(
        "No response at all",
        [[Wait(120), CloseConnection()]],
        rescued(lambda seen: seen.took <= 100, lambda seen: len(seen.primary) <= 1),
    ),
    "S07": Scenario("Slow first token", [[SendHeaders(), Wait(20), *WHOLE]], rescued(lambda seen: seen.took <= 15)),
    "S08": Scenario(
        "Stream cut mid-answer", [[*words(0, 40), CloseConnection()]], rescued(lambda seen: seen.took <= 40)
    ),
    "S09": Scenario(
        "Stream stalls", [[*words(0, 20), Wait(30), CloseConnection()]], rescued(lambda seen: seen.took <= 45)
    ),
    "S10": Scenario(
        "Malformed chunk in the stream",
        [[*words(0, 9), BadJson(), *words(10, 60), Finish(usage=USAGE)]],
        rescued(lambda seen: seen.took <= 30),
    ),
    "S11": Scenario(
        "Stream ends without [DONE]",
        [[*WHOLE, EndBody()]],
        rescued(lambda seen: seen.took <= 8, lambda seen: seen.response.usage == USAGE),
    ),
    "S12": Scenario(
        "Context length exceeded",
        [[Status(400, code="context_length_exceeded")]],
        rescued(lambda seen: len(seen.primary) == 1, lambda seen: seen.took <= 20),
    ),
    "S13": Scenario("Content-filter rejection", [[Status(400, code="content_policy_violation")]], s13),
    "S16": Scenario(
        "Fail-over accounting",
        [[Status(503)]],
        rescued(
            lambda seen: seen.response.model == "fb-ok",
            lambda seen: seen.response.usage == USAGE,
            lambda seen: len(seen.primary) <= 6,
        ),
    ),
}


def chain(primary: Provider, fallback: Provider, scale: float) -> Provider:
    """`resilient_chain`'s defaults, every time in them multiplied by *scale*."""
    if scale == 1.0:
        return resilient_chain(primary, fallback)
    breaker = CircuitBreaker()
    return resilient_chain(
        primary,
        fallback,
        retry=Retry(max_retries=2, first_wait=0.5 * scale),
        breaker=attrs.evolve(
            breaker,
            window=breaker.window * scale,
            open_for=breaker.open_for * scale,
            longest_open=breaker.longest_open * scale,
        ),
        first_content=60 * scale,
        gap=25 * scale,
        tool_gap=180 * scale,
        total=600 * scale,
        hedge_after=10 * scale,
    )


@asynccontextmanager
async def under_test(
    primary: Sequence[WireScript],
    scale: float,
    fallback: Sequence[WireScript] = (WHOLE,),
    pair: tuple[str, str] = ("openai", "openai"),
) -> AsyncGenerator[tuple[FaultServer, Provider], None]:
    clocks = Clocks(first_byte=30 * scale)
    async with (
        open_fault_server(models={"primary": primary, "fb-ok": fallback, "healthy": [WHOLE]}, scale=scale) as server,
        MODELS[pair[0]]("p", base_url=server.url, model="primary", clocks=clocks) as first,
        MODELS[pair[1]]("f", base_url=server.url, model="fb-ok", clocks=clocks) as second,
    ):
        yield server, chain(first, second, scale)


async def ask(server: FaultServer, provider: Provider, scale: float) -> Seen:
    before = len(server.exchanges)
    started = trio.current_time()
    screen = Screen()
    response = error = None
    try:
        response = await complete(provider, PROMPT, screen)
        screen.check(response)
    except ClawftError as exc:
        error = exc
    took = (trio.current_time() - started) / scale
    new = [exchange.request for exchange in server.exchanges[before:]]
    at = tuple(request.elapsed for request in new if request.model == "primary")
    return Seen(response, error, took, at, sum(request.model == "fb-ok" for request in new))


async def run_scenario(scenario: Scenario, scale: float, pair: tuple[str, str] = ("openai", "openai")) -> None:
    async with under_test(scenario.primary, scale, pair=pair) as (server, provider):
        scenario.check(await ask(server, provider, scale))
        # alive_after: the same process answers a healthy call at once.
        async with OpenAICompatible("h", base_url=server.url, model="healthy") as healthy:
            assert (await complete(healthy, PROMPT)).text == CANONICAL


def last_role(body: dict[str, Any]) -> str:
    """The role of the last message of a request in any dialect."""
    return str((body.get("messages") or body["input"])[-1]["role"])


async def run_s14(scale: float, pair: tuple[str, str] = ("openai", "openai")) -> None:
    """The fallback rejects any request that ends with an assistant message; the caller gets the whole answer."""

    def fallback(request: object) -> WireScript:
        prefilled = last_role(request.body) == "assistant"
        return [Status(400, code="prefill_not_supported")] if prefilled else WHOLE

    def choose(request: object) -> WireScript:
        return [*words(0, 40), CloseConnection()] if request.model == "primary" else fallback(request)

    async with (
        open_fault_server(choose=choose, scale=scale) as server,
        MODELS[pair[0]]("p", base_url=server.url, model="primary") as first,
        MODELS[pair[1]]("f", base_url=server.url, model="fb-ok") as second,
    ):
        seen = await ask(server, chain(first, second, scale), scale)
        assert seen.complete
        assert not any(last_role(exchange.request.body) == "assistant" for exchange in server.exchanges)


async def run_s15(scale: float, pair: tuple[str, str] = ("openai", "openai")) -> None:
    """503 for 60 s, then healthy; twenty requests, 4 s apart."""
    started = trio.current_time()

    def choose(request: object) -> WireScript:
        down = request.model == "primary" and trio.current_time() - started < 60 * scale
        return [Status(503)] if down else WHOLE

    async with (
        open_fault_server(choose=choose, scale=scale) as server,
        MODELS[pair[0]]("p", base_url=server.url, model="primary") as first,
        MODELS[pair[1]]("f", base_url=server.url, model="fb-ok") as second,
    ):
        provider = chain(first, second, scale)
        served: list[tuple[float, Seen]] = []
        for number in range(20):
            await trio.sleep_until(started + number * 4 * scale)
            at = (trio.current_time() - started) / scale
            served.append((at, await ask(server, provider, scale)))
    assert all(seen.complete and seen.took <= 30 for _, seen in served)
    back = [at for at, seen in served if seen.response.model == "primary"]
    assert back, "the primary was never used again"
    assert min(back) <= 90
    # Three attempts of the first request, one that trips, and then only probes.
    probes = sum(len(seen.primary) for at, seen in served if at < 60)
    assert probes <= 8


QUICK = 0.04
# The other two dialects, and pairs of different ones. The first pair of all, openai and openai, is the tests above.
PAIRS = [
    ("anthropic", "anthropic"),
    ("responses", "responses"),
    ("openai", "responses"),
    ("responses", "anthropic"),
    ("anthropic", "openai"),
]


async def quickly(run: Callable[[float], Awaitable[None]]) -> None:
    """Run scaled down, and once more at a slower pace if that fails: on a busy machine 40 ms are easily lost."""
    try:
        await run(QUICK)
    except* AssertionError:
        await run(5 * QUICK)


@pytest.mark.parametrize("key", SCENARIOS)
async def test_scenario(key: str) -> None:
    await quickly(partial(run_scenario, SCENARIOS[key]))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("key", SCENARIOS)
async def test_scenario_in_other_dialects(key: str, pair: tuple[str, str]) -> None:
    await quickly(partial(run_scenario, SCENARIOS[key], pair=pair))


@pytest.mark.parametrize("pair", [("openai", "openai"), *PAIRS], ids="-".join)
async def test_s14_a_fallback_that_rejects_prefill_answers(pair: tuple[str, str]) -> None:
    await quickly(partial(run_s14, pair=pair))


@pytest.mark.parametrize("pair", [("openai", "openai"), *PAIRS], ids="-".join)
async def test_s15_a_flapping_primary(pair: tuple[str, str]) -> None:
    await quickly(partial(run_s15, pair=pair))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", [("openai", "openai"), *PAIRS], ids="-".join)
async def test_all_sixteen_in_real_time(pair: tuple[str, str]) -> None:
    """Side by side, each with servers of its own: they wait for most of the time."""
    failed: dict[str, Exception] = {}

    async def run(key: str, scenario: Callable[[], Awaitable[None]]) -> None:
        try:
            await scenario()
        except* Exception as group:
            failed[key] = group

    async with trio.open_nursery() as nursery:
        for key, scenario in SCENARIOS.items():
            nursery.start_soon(run, key, partial(run_scenario, scenario, 1.0, pair=pair))
        nursery.start_soon(run, "S14", partial(run_s14, 1.0, pair=pair))
        nursery.start_soon(run, "S15", partial(run_s15, 1.0, pair=pair))
    assert not failed


def test_all_sixteen_are_here() -> None:
    assert sorted([*SCENARIOS, "S14", "S15"]) == [f"S{number:02}" for number in range(1, 17)]
