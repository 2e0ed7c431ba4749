"""Every fault, in each dialect, under each strategy, seen in each way: over real sockets, the outcome in a table."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import attrs
import pytest
import trio

from clawft_trio.chat import ChatRequest, ChatResponse, Message, Provider
from clawft_trio.errors import ClawftError, TransportFailed
from clawft_trio.llm import Anthropic, OpenAICompatible, OpenAIResponses
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import Failover, Resilient, Retry, Timeout, compose
from clawft_trio.testing import (
    BadJson,
    BadUtf8,
    CallTool,
    EndBody,
    ErrorEvent,
    Finish,
    Hang,
    Pings,
    Preamble,
    ResetConnection,
    Say,
    Screen,
    SendHeaders,
    Status,
    Wait,
    WireScript,
    open_fault_server,
    refused_url,
)

HEALTHY: WireScript = [Say("whole "), Say("answer"), Finish()]
BAD: WireScript = [Say("bad "), Say("start")]
LIMIT, HEDGE = 0.5, 0.2


@attrs.frozen
class Fault:
    script: WireScript | None
    #: resets that a reader sees, where the failed attempt had shown something
    resets: int = 0
    #: the text when the answer is good as it is
    text: str = ""
    #: with no other target at hand, this is the end
    fatal: type[ClawftError] | None = None


FAULTS = {
    "503 before headers": Fault([Status(503)]),
    "429 with Retry-After": Fault([Status(429, retry_after=1.0)]),
    "429 without Retry-After": Fault([Status(429)]),
    "529": Fault([Status(529)]),
    "connection refused": Fault(None, fatal=TransportFailed),
    "reset before headers": Fault([ResetConnection()]),
    "200 then error first": Fault([SendHeaders(), ErrorEvent()]),
    "200 then reset": Fault([SendHeaders(), Wait(0.02), ResetConnection()]),
    "preamble then reset": Fault([Preamble(), Wait(0.02), ResetConnection()]),
    "deltas then clean end": Fault([*BAD, EndBody()], resets=1),
    "deltas then reset": Fault([*BAD, Wait(0.05), ResetConnection()], resets=1),
    "deltas then error event": Fault([*BAD, ErrorEvent()], resets=1),
    "deltas then stall": Fault([*BAD, Hang()], resets=1),
    "pings for ever": Fault([Pings(every=0.05)]),
    "malformed JSON line": Fault([*BAD, BadJson(), Say("more"), Finish()], resets=1),
    "bad UTF-8": Fault([Say("good "), BadUtf8(b"caf\xe9"), Finish()], text="good caf\ufffd"),
    "cut inside tool arguments": Fault([Say("so "), CallTool("rm", '{"path": "/tmp'), EndBody()], resets=1),
    "finish but no [DONE]": Fault([Say("good"), Finish(), EndBody()], text="good"),
}
# The terminal marks of these are `message_stop` and `response.completed`, which is what is left out there.
UNFINISHED = Fault([Say("good"), Finish(), EndBody()], resets=1)
BY_DIALECT = {("finish but no [DONE]", dialect): UNFINISHED for dialect in ("anthropic", "responses")}

DIALECTS = {"openai": OpenAICompatible, "anthropic": Anthropic, "responses": OpenAIResponses}
Strategy = Literal["retry", "failover", "hedge"]
View = Literal["callback", "iterate", "unary"]


def under(strategy: Strategy, primary: Provider, backup: Provider) -> Provider:
    # An answer that comes whole has the total clock only.
    clocks = Timeout(first_content=LIMIT, gap=LIMIT, total=4 * LIMIT)
    if strategy == "retry":
        return Resilient(primary, compose(Retry(max_retries=1, first_wait=0.01), clocks))
    return Failover(Resilient(primary, clocks), backup, hedge_after=HEDGE if strategy == "hedge" else None)


@asynccontextmanager
async def providers(dialect: str, fault: Fault, strategy: Strategy) -> AsyncGenerator[Provider, None]:
    scripts = [fault.script or HEALTHY, HEALTHY]
    served = {"primary": scripts, "backup": [HEALTHY]}
    with refused_url() as refused:
        async with open_fault_server(models=served, scale=0.2) as server:
            url = refused if fault.script is None else server.url
            make = DIALECTS[dialect]
            async with (
                make("p", base_url=url, model="primary", api_key="k") as primary,
                make("b", base_url=server.url, model="backup", api_key="k") as backup,
            ):
                yield under(strategy, primary, backup)
            await server.wait_for(lambda now: now.connections_open == 0)


async def look(view: View, provider: Provider) -> tuple[ChatResponse, Screen]:
    request = ChatRequest([Message.user("hello")], stream=view != "unary", max_tokens=100)
    screen = Screen()
    if view == "iterate":
        async with open_stream(provider, request) as stream:
            await screen.follow(stream)
        response = stream.response
    else:
        response = await complete(provider, request, screen)
    screen.check(response)
    return response, screen


@pytest.mark.parametrize("view", ["callback", "iterate", "unary"])
@pytest.mark.parametrize("strategy", ["retry", "failover", "hedge"])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("name", FAULTS)
async def test_fault(name: str, dialect: str, strategy: Strategy, view: View) -> None:
    fault = BY_DIALECT.get((name, dialect), FAULTS[name])
    with trio.fail_after(20):
        async with providers(dialect, fault, strategy) as provider:
            if fault.fatal is not None and strategy == "retry":
                with pytest.raises(fault.fatal) as caught:
                    await look(view, provider)
                assert len(caught.value.attempts) == 2
                return
            response, screen = await look(view, provider)
    # What is not streamed is whole or broken; nothing of it is shown before that is known.
    streamed = view != "unary"
    if fault.text and streamed:
        assert response.text == fault.text
    else:
        assert response.text in {"whole answer", FAULTS[name].text or "whole answer"}
    assert len(screen.resets) == (fault.resets if streamed else 0)
    assert len(response.attempts) >= (1 if FAULTS[name].text else 2)
