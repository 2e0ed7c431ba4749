"""Tracebacks that a program prints: its own frames, and none of this package's."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio

from clawft_trio import (
    ChatRequest,
    Failover,
    HttpServer,
    Message,
    OpenAICompatible,
    Retry,
    complete,
    open_agent,
    open_mcp,
    open_store,
    open_stream,
    resilient_chain,
    tool,
)
from clawft_trio.chat import Call
from clawft_trio.errors import ClawftError
from clawft_trio.mcp import McpOptions
from clawft_trio.resilience import Timeout
from clawft_trio.testing import CallTool, Say, ScriptedProvider
from clawft_trio.testing.mcp_server import scripted_server
from clawft_trio.tracebacks import FULL, shorten_traceback

DEAD = "http://127.0.0.1:9"
QUESTION = ChatRequest([Message.user("q")])


def dead(name: str = "x") -> OpenAICompatible:
    return OpenAICompatible(name, base_url=f"{DEAD}/v1", model="m", trust_env=False)


async def ask_one() -> None:
    async with open_agent(["x/m"], providers={"x": dead()}) as agent:
        await agent.ask("q")


async def ask_three() -> None:
    providers = {name: dead(name) for name in "abc"}
    async with open_agent(["a/m", "b/m", "c/m"], providers=providers) as agent:
        await agent.ask("q")


async def ask_typed() -> None:
    async with open_agent(["x/m"], providers={"x": dead()}) as agent:
        await agent.ask("q", answer=int)


async def ask_with_callback() -> None:
    async with open_agent(["x/m"], providers={"x": dead()}) as agent:
        await agent.ask("q", on_event=lambda _: None)


async def stream_turn() -> None:
    async with open_agent(["x/m"], providers={"x": dead()}) as agent, agent.stream("q") as stream:
        async for _ in stream:
            pass


async def ask_provider() -> None:
    async with dead() as model:
        await complete(model, QUESTION)


async def ask_provider_itself() -> None:
    async with dead() as model:
        await model.complete(QUESTION, Call(id="1"))


async def stream_answer() -> None:
    async with dead() as model, open_stream(model, QUESTION) as stream:
        async for _ in stream:
            pass


async def ask_chain() -> None:
    async with dead("a") as first, dead("b") as second:
        await resilient_chain(first, second, retry=Retry(max_retries=1, first_wait=0.01)).complete(
            QUESTION, Call(id="1")
        )


async def open_without_key() -> None:
    async with open_agent(["openai/m"]):
        pass


async def open_dead_mcp() -> None:
    async with open_mcp(HttpServer(f"{DEAD}/mcp"), options=McpOptions(supervision=None)):
        pass


async def open_ending_mcp() -> None:
    async with open_mcp([sys.executable, "-c", ""], options=McpOptions(supervision=None)):
        pass


async def call_missing_tool() -> None:
    async with open_mcp(scripted_server()) as client:
        await client.call_tool("missing", {})


async def open_dead_store() -> None:
    pytest.importorskip("psycopg")
    async with open_store("postgresql://127.0.0.1:9/x"):
        pass


@Retry(max_retries=1, first_wait=0.01)
async def fetch() -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(DEAD)


async def call_policy() -> None:
    async def get() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(DEAD)

    await Timeout(total=5)(get)()


async def call_failover() -> None:
    async def get() -> None:
        raise OSError("not there")

    await Failover(get, get)()


PROGRAMS: list[Callable[[], Awaitable[None]]] = [
    ask_one, ask_three, ask_typed, ask_with_callback, stream_turn, ask_provider, ask_provider_itself, stream_answer,
    ask_chain, open_without_key, open_dead_mcp, open_ending_mcp, call_missing_tool, open_dead_store, fetch,
    call_policy, call_failover,
]  # fmt: skip


def printed(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc))


@pytest.fixture(autouse=True)
def nothing_is_shown_in_full(monkeypatch):
    monkeypatch.delenv(FULL, raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_an_error_that_is_not_caught_is_at_most_forty_lines_with_the_callers_frame(program):
    with pytest.raises((ClawftError, httpx.ConnectError)) as caught:
        await program()
    text = printed(caught.value)
    assert len(text.splitlines()) <= 40, text
    assert f"in {program.__name__}" in text


async def test_the_environment_shows_all_frames(monkeypatch):
    monkeypatch.setenv(FULL, "1")
    with pytest.raises(ClawftError) as caught:
        await ask_one()
    text = printed(caught.value)
    assert "clawft_trio/net/network.py" in text
    assert "clawft_trio/agent/turn.py" in text
    assert shorten_traceback(caught.value) is caught.value


async def test_frames_of_a_callback_stay():
    def on_event(event: object) -> None:
        raise LookupError("of the program")

    with pytest.raises(LookupError) as caught:
        await complete(ScriptedProvider.saying("hi"), QUESTION, on_event)
    assert "in on_event" in printed(caught.value)


async def test_the_frames_of_a_tool_stay_in_the_error_of_its_result(caplog):
    @tool(mode="read_only")
    async def weather() -> str:
        """Weather."""
        raise LookupError("no weather")

    caplog.set_level("CRITICAL", "clawft_trio.tools")
    model = ScriptedProvider.using_tools(CallTool("weather"), then="done")
    async with open_agent(["s/m"], providers={"s": model}, tools=[weather]) as agent:
        reply = await agent.ask("q")
    error = reply.tools[0].error
    assert error is not None
    assert "in weather" in printed(error)


def test_a_fault_of_this_package_is_shown_with_its_place():
    with pytest.raises(ValueError, match="at least 1") as caught:
        open_stream(ScriptedProvider([Say("x")]), QUESTION, buffer=0)
    before = printed(caught.value)
    assert printed(shorten_traceback(caught.value)) == before


async def test_what_the_body_of_a_block_raises_keeps_its_frames():
    with pytest.raises(httpx.ConnectError) as caught:
        async with open_agent(["s/m"], providers={"s": ScriptedProvider.saying("x")}):
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(DEAD)
    assert "httpx" in printed(caught.value)


def test_chains_that_lead_back_to_themselves_end():
    first, second = OSError("a"), OSError("b")
    first.__context__, second.__context__ = second, first
    assert shorten_traceback(first) is first


async def test_cancellation_is_left_alone():
    with trio.move_on_after(0.01) as scope:
        await Retry()(trio.sleep_forever)()
    assert scope.cancelled_caught
