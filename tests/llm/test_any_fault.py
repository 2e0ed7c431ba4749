"""Any faults of up to four real servers, the bytes cut anywhere: what the reader saw is what was returned."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from clawft_trio.chat import ChatRequest, Message, Provider
from clawft_trio.errors import ClawftError
from clawft_trio.llm import Anthropic, OpenAICompatible, OpenAIResponses
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.net import Clocks
from clawft_trio.resilience import CircuitBreaker, Failover, Resilient, Retry, RetryBudget, Timeout, compose
from clawft_trio.testing import Screen, open_fault_server
from clawft_trio.testing.strategies import fault_scripts

RETRIES = 1
DIALECTS = {"openai": OpenAICompatible, "anthropic": Anthropic, "responses": OpenAIResponses}

# A server that hangs after a sign of thinking may take this long.
CLOCKS = Clocks(thinking=0.3)

servers = st.lists(
    st.tuples(st.sampled_from(sorted(DIALECTS)), st.lists(fault_scripts(hang=True), min_size=1, max_size=2)),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(servers, st.booleans(), st.none() | st.just(0.05))
def test_what_the_reader_saw_is_what_was_returned(plan: list, iterate: bool, hedge_after: float | None) -> None:
    trio.run(play, plan, iterate, hedge_after)


async def play(plan: list, iterate: bool, hedge_after: float | None) -> None:
    policy = compose(
        Retry(max_retries=RETRIES, first_wait=0.001), CircuitBreaker(), Timeout(first_content=0.2, gap=0.2)
    )
    budget = RetryBudget()
    async with AsyncExitStack() as stack:
        links: list[Provider] = []
        running = []
        for number, (dialect, scripts) in enumerate(plan):
            server = await stack.enter_async_context(open_fault_server(*scripts, scale=0.001))
            make = DIALECTS[dialect]
            model = await stack.enter_async_context(
                make(f"p{number}", base_url=server.url, model="m", api_key="k", clocks=CLOCKS)
            )
            links.append(Resilient(model, policy))
            running.append(server)
        chain = Failover(*links, hedge_after=hedge_after, budget=budget)
        await ask(chain, iterate)
        for number, server in enumerate(running):
            # A target that lost to a hedge which then broke is asked again, for a token of its budget.
            asked = 1 + budget.statistics(f"p{number}").spent
            assert len(server.exchanges) <= asked * (RETRIES + 1)
            with trio.fail_after(10):
                await server.wait_for(lambda now: now.running == 0)


async def ask(chain: Failover, iterate: bool) -> None:
    screen = Screen()
    request = ChatRequest([Message.user("hello")], max_tokens=100)
    try:
        if iterate:
            async with open_stream(chain, request) as stream:
                await screen.follow(stream)
            response = stream.response
        else:
            response = await complete(chain, request, screen)
    except ClawftError as exc:
        assert exc.attempts
        assert not screen.faults
    else:
        screen.check(response)
        assert sum(record.outcome == "ok" for record in response.attempts) == 1
