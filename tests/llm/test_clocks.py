"""Clocks against a server on loopback: what is silence of the target, and what is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import ProviderTimeout
from clawft_trio.llm import Anthropic, OpenAICompatible, provider_named
from clawft_trio.llm.life_signs import LifeSigns
from clawft_trio.net import Clocks
from clawft_trio.resilience import (
    CircuitBreaker,
    Failover,
    Resilient,
    Retry,
    Timeout,
    compose,
    resilient_chain,
)
from clawft_trio.retry_hints import RateLimit
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")], max_tokens=10)

HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: "
STREAM = HEAD + b"text/event-stream\r\n\r\n"
JSON = HEAD + b"application/json\r\n\r\n"
START = b'event: message_start\ndata: {"type":"message_start","message":{"id":"1","role":"assistant","content":[]}}\n\n'
THINKS = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"thinking","thinking":"","signature":""}}\n\n'
)
PING = b'event: ping\ndata: {"type": "ping"}\n\n: comment\n\n'
SPEAKS = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":1,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,'
    b'"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
EMPTY_THOUGHT = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":""}}]}\n\n'
ANSWER = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'

Play = Sequence[bytes | float]


@attrs.define
class Server:
    url: str = ""
    requests: int = 0


@asynccontextmanager
async def serving(*play: bytes | float) -> AsyncGenerator[Server, None]:
    """Answer every request by *play*: bytes are sent, numbers are seconds of silence."""
    server = Server()

    async def handle(stream: trio.SocketStream) -> None:
        received = b""
        # The body too: closing with unread bytes resets the connection.
        while not received.endswith(b"}"):
            data = await stream.receive_some()
            if not data:
                return
            received += data
        server.requests += 1
        try:
            for step in play:
                if isinstance(step, bytes):
                    await stream.send_all(step)
                else:
                    await trio.sleep(step)
        except trio.BrokenResourceError:
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            lambda task_status: trio.serve_tcp(handle, 0, host="127.0.0.1", task_status=task_status)
        )
        server.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
        yield server
        nursery.cancel_scope.cancel()


async def asked(
    make: type, play: Play, *, stream: bool = True, clocks: Clocks | None = None, first_content: float = 0.3
) -> tuple[ChatResponse, Server, ScriptedProvider]:
    """Ask a chain of a served model and a backup, with clocks that are short."""
    backup = ScriptedProvider.saying("backup", name="backup")
    async with serving(*play) as server:
        async with make("p", base_url=server.url, api_key="k", model="m", clocks=clocks or Clocks()) as model:
            chain = resilient_chain(model, backup, first_content=first_content, hedge_after=0.15, gap=0.3)
            with trio.fail_after(20):
                return await chain.complete(attrs.evolve(REQUEST, stream=stream), Call()), server, backup


@pytest.mark.parametrize(
    ("make", "play"),
    [
        (Anthropic, [STREAM, START, 0.1, THINKS, 0.8, SPEAKS]),
        (OpenAICompatible, [STREAM, ROLE, EMPTY_THOUGHT, 0.8, ANSWER]),
        (OpenAICompatible, [STREAM, EMPTY_THOUGHT[:40], EMPTY_THOUGHT[40:], 0.8, ANSWER]),
    ],
)
async def test_a_model_that_thinks_with_its_reasoning_hidden_is_asked_once(make: type, play: Play) -> None:
    response, server, backup = await asked(make, play)
    assert (response.text, server.requests, backup.calls) == ("Hi", 1, 0)


async def test_thinking_has_a_separate_clock() -> None:
    response, _, backup = await asked(Anthropic, [STREAM, START, THINKS, 30.0], clocks=Clocks(thinking=0.4))
    assert (response.text, backup.calls) == ("backup", 1)


async def test_pings_and_comments_are_no_signs_of_life() -> None:
    async with serving(STREAM, *[PING, 0.1] * 30) as server:
        async with Anthropic("p", base_url=server.url, api_key="k", model="m") as model:
            with pytest.raises(ProviderTimeout) as caught, trio.fail_after(20):
                await Resilient(model, Timeout(first_content=0.3)).complete(REQUEST, Call())
    assert caught.value.clock == "first_content"


async def test_an_answer_that_comes_whole_has_the_total_clock_only() -> None:
    response, server, backup = await asked(OpenAICompatible, [0.8, JSON, WHOLE], stream=False)
    assert (response.text, server.requests, backup.calls) == ("Hi", 1, 0)


async def test_a_local_server_may_load_its_model_before_its_headers() -> None:
    play = [0.8, STREAM, ANSWER]
    response, server, backup = await asked(OpenAICompatible, play, clocks=Clocks(first_byte=60.0))
    assert (response.text, server.requests, backup.calls) == ("Hi", 1, 0)
    # With the usual clock the same silence is a reason to ask the next one.
    assert (await asked(OpenAICompatible, play))[0].text == "backup"


async def test_local_servers_of_the_catalog_have_a_longer_first_byte() -> None:
    assert provider_named("ollama")._clocks.first_byte == 300.0
    assert provider_named("openai", api_key="k")._clocks.first_byte == 30.0


async def test_waiting_for_a_pooled_connection_does_not_count_as_silence_of_the_target() -> None:
    async with serving(0.1, STREAM, ANSWER) as server:
        async with OpenAICompatible("p", base_url=server.url, api_key="k", model="m", connections=2) as model:
            policy = compose(Retry(), CircuitBreaker(), Timeout(first_content=0.4))
            limited = Resilient(model, policy)
            texts: list[str] = []

            async def one() -> None:
                texts.append((await limited.complete(REQUEST, Call())).text)

            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    for _ in range(16):
                        nursery.start_soon(one)
    assert (texts, server.requests) == (["Hi"] * 16, 16)
    breaker = limited.statistics().breaker
    assert breaker is not None
    assert (breaker.opened, breaker.failures) == (0, 0)


async def test_the_limits_that_a_server_states_reach_the_strategies() -> None:
    seen: list[RateLimit] = []
    head = HEAD + b"text/event-stream\r\nx-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
    async with serving(head + b"x-ratelimit-reset-requests: 1s\r\n\r\n", ANSWER) as server:
        async with OpenAICompatible("p", base_url=server.url, api_key="k", model="m") as model:
            await model.complete(REQUEST, Call(limits=seen.extend))
    assert seen == [RateLimit(kind="requests", limit=60, remaining=59, resets_after=1.0)]


@pytest.mark.parametrize("error", [ConnectionError("vault is down"), OSError("vault is down")])
async def test_a_key_that_cannot_be_had_is_cured_by_another_target(error: OSError) -> None:
    def key() -> str:
        raise error

    async with OpenAICompatible("p", base_url="http://127.0.0.1:9/v1", api_key=key, model="m") as model:
        response = await Failover(model, ScriptedProvider.saying("backup", name="b")).complete(REQUEST, Call())
    assert response.text == "backup"


@pytest.mark.parametrize(
    ("pieces", "signs"),
    [
        ([START], ["alive"]),
        ([THINKS], ["thinking"]),
        ([PING], [None]),
        ([b": keep-alive\n\n", b"data:\n\n"], [None, None]),
        ([ROLE, ROLE], ["alive", "alive"]),
        ([EMPTY_THOUGHT], ["thinking"]),
        ([b'data: {"choices":[{"delta":{"reasoning_content":null}}]}\n\n'], ["alive"]),
        ([b'data: {"type":"response.output_item.added","item":{"type":"reasoning"}}\n\n'], ["thinking"]),
        ([b'data: {"type":"response.in_progress"}\n\n'], ["alive"]),
        ([THINKS, PING], ["thinking", None]),
        ([b'data: {"ch', b'oices":[]}\n\n'], [None, "alive"]),
    ],
)
def test_signs_of_life_are_read_from_what_completes_no_event(pieces: list[bytes], signs: list[str | None]) -> None:
    life = LifeSigns()
    assert [life.of(piece) for piece in pieces] == signs
