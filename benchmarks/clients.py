"""One client per contender, each asking a model server as its users would.

A `Client` streams an answer or fetches it whole. Opening one, with its imports, is not in any figure but memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs
import httpx

from benchmarks.bench import Loop, Role
from clawft_trio.chat import ChatRequest, Message, Provider, StreamEvent, TextDelta
from clawft_trio.llm import Anthropic, OpenAICompatible
from clawft_trio.llm.stream import complete, open_stream
from clawft_trio.resilience import resilient_chain

First: TypeAlias = Callable[[], object]
"""Called with every piece of text; who calls it looks at the first."""

KEY = "none"
MODEL = "bench"
MESSAGES = [{"role": "user", "content": "go"}]
REQUEST = ChatRequest([Message.user("go")], model=MODEL)
UNARY = attrs.evolve(REQUEST, stream=False)


@attrs.frozen
class Client:
    """Two ways of asking; `stream` gives the number of pieces of text, `ask` the text."""

    stream: Callable[[First], Awaitable[int]]
    ask: Callable[[], Awaitable[str]] | None = None


OpenClient: TypeAlias = Callable[[str], AbstractAsyncContextManager[Client]]


@attrs.frozen(kw_only=True)
class Contender:
    """A client, and what it needs."""

    name: str
    open: OpenClient
    role: Role = "peer"
    loop: Loop = "trio"
    needs: str = ""
    covers: str = ""


@asynccontextmanager
async def bare_httpx(url: str) -> AsyncGenerator[Client, None]:
    """What one would write without any library: httpx, split, json.loads, a callback."""
    body = {"model": MODEL, "stream": True, "messages": MESSAGES}
    async with httpx.AsyncClient() as client:

        async def stream(on_text: First) -> int:
            words = 0
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                rest = b""
                async for data in response.aiter_bytes():
                    *events, rest = (rest + data).split(b"\n\n")
                    for event in events:
                        if event == b"data: [DONE]":
                            continue
                        chunk = json.loads(event[6:])
                        if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                            on_text()
                            words += 1
            return words

        async def ask() -> str:
            response = await client.post(f"{url}/chat/completions", json={**body, "stream": False})
            text: str = response.json()["choices"][0]["message"]["content"]
            return text

        yield Client(stream, ask)


# What every chunk with a word has, once.
_WORD = b'"content":" '


@asynccontextmanager
async def bytes_alone(url: str) -> AsyncGenerator[Client, None]:
    """The bytes read and nothing done with them."""
    body = {"model": MODEL, "stream": True, "messages": MESSAGES}
    async with httpx.AsyncClient() as client:

        async def stream(on_text: First) -> int:
            words, rest = 0, b""
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                async for data in response.aiter_raw():
                    on_text()
                    words += (rest + data).count(_WORD)
                    rest = data[-len(_WORD) + 1 :]
            return words

        yield Client(stream)


def with_callback(provider: Provider) -> Client:
    async def stream(on_text: First) -> int:
        words = 0

        def on_event(event: StreamEvent) -> None:
            nonlocal words
            if type(event) is TextDelta:
                on_text()
                words += 1

        await complete(provider, REQUEST, on_event)
        return words

    async def ask() -> str:
        return (await complete(provider, UNARY)).text

    return Client(stream, ask)


def iterated(provider: Provider) -> Client:
    async def stream(on_text: First) -> int:
        words = 0
        async with open_stream(provider, REQUEST) as events:
            async for event in events:
                if type(event) is TextDelta:
                    on_text()
                    words += 1
        return words

    return Client(stream)


@asynccontextmanager
async def provider_alone(url: str) -> AsyncGenerator[Client, None]:
    async with OpenAICompatible("a", base_url=url) as provider:
        yield with_callback(provider)


@asynccontextmanager
async def _stack(url: str) -> AsyncGenerator[Provider, None]:
    async with OpenAICompatible("a", base_url=url) as first, OpenAICompatible("b", base_url=url) as second:
        yield resilient_chain(first, second)


@asynccontextmanager
async def full_stack(url: str) -> AsyncGenerator[Client, None]:
    """Failover, retry, breaker and every clock around the provider."""
    async with _stack(url) as stack:
        yield with_callback(stack)


@asynccontextmanager
async def full_stack_iterated(url: str) -> AsyncGenerator[Client, None]:
    async with _stack(url) as stack:
        yield iterated(stack)


@asynccontextmanager
async def anthropic_stack(url: str) -> AsyncGenerator[Client, None]:
    async with Anthropic("a", base_url=url, api_key=KEY) as first, Anthropic("b", base_url=url, api_key=KEY) as second:
        yield with_callback(resilient_chain(first, second))


@asynccontextmanager
async def openai_sdk(url: str) -> AsyncGenerator[Client, None]:
    import openai

    client: Any = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)

    async def stream(on_text: First) -> int:
        words = 0
        chunks = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                on_text()
                words += 1
        return words

    async def ask() -> str:
        answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
        return str(answer.choices[0].message.content)

    async with client:
        yield Client(stream, ask)


@asynccontextmanager
async def anthropic_sdk(url: str) -> AsyncGenerator[Client, None]:
    import anthropic

    client: Any = anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key=KEY, max_retries=0)

    async def stream(on_text: First) -> int:
        words = 0
        async with client.messages.stream(model=MODEL, max_tokens=1000, messages=MESSAGES) as events:
            async for _ in events.text_stream:
                on_text()
                words += 1
        return words

    async def ask() -> str:
        answer = await client.messages.create(model=MODEL, max_tokens=1000, messages=MESSAGES)
        return str(answer.content[0].text)

    async with client:
        yield Client(stream, ask)


def _litellm() -> Any:
    # Else it fetches its table of prices from the network when it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.telemetry = False
    return litellm


def _by_litellm(acompletion: Callable[..., Awaitable[Any]], **where: Any) -> Client:
    async def stream(on_text: First) -> int:
        words = 0
        async for chunk in await acompletion(messages=MESSAGES, stream=True, **where):
            if chunk.choices and chunk.choices[0].delta.content:
                on_text()
                words += 1
        return words

    async def ask() -> str:
        answer = await acompletion(messages=MESSAGES, **where)
        return str(answer.choices[0].message.content)

    return Client(stream, ask)


@asynccontextmanager
async def litellm_alone(url: str) -> AsyncGenerator[Client, None]:
    litellm = _litellm()
    yield _by_litellm(litellm.acompletion, model=f"openai/{MODEL}", api_base=url, api_key=KEY, max_retries=0)


def litellm_targets(*urls: str, **options: Any) -> Any:
    """A Router that falls back from each URL to the next."""
    litellm = _litellm()
    models = [
        {"model_name": f"m{n}", "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY}}
        for n, url in enumerate(urls)
    ]
    fallbacks = [{f"m{n}": [f"m{n + 1}"]} for n in range(len(urls) - 1)]
    return litellm.Router(model_list=models, fallbacks=fallbacks, num_retries=options.pop("num_retries", 0), **options)


@asynccontextmanager
async def litellm_router(url: str) -> AsyncGenerator[Client, None]:
    yield _by_litellm(litellm_targets(url, url).acompletion, model="m0")


def pydantic_ai_model(url: str) -> Any:
    import openai
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client: Any = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))


def _by_pydantic_ai(model: Any) -> Client:
    from pydantic_ai.direct import model_request, model_request_stream
    from pydantic_ai.messages import ModelRequest, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    request = [ModelRequest.user_text_prompt("go")]

    async def stream(on_text: First) -> int:
        words = 0
        async with model_request_stream(model, request) as events:
            async for event in events:
                said = event.part if isinstance(event, PartStartEvent) else getattr(event, "delta", None)
                is_text = isinstance(event, (PartStartEvent, PartDeltaEvent)) and isinstance(
                    said, (TextPart, TextPartDelta)
                )
                if is_text:
                    on_text()
                    words += 1
        return words

    async def ask() -> str:
        answer = await model_request(model, request)
        return str(answer.parts[0].content)

    return Client(stream, ask)


@asynccontextmanager
async def pydantic_ai_alone(url: str) -> AsyncGenerator[Client, None]:
    yield _by_pydantic_ai(pydantic_ai_model(url))


@asynccontextmanager
async def pydantic_ai_fallback(url: str) -> AsyncGenerator[Client, None]:
    from pydantic_ai.models.fallback import FallbackModel

    yield _by_pydantic_ai(FallbackModel(pydantic_ai_model(url), pydantic_ai_model(url)))


@asynccontextmanager
async def openai_agents(url: str) -> AsyncGenerator[Client, None]:
    import agents
    import openai
    from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner

    agents.set_tracing_disabled(True)
    sdk = openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
    agent = Agent(name="bench", model=OpenAIChatCompletionsModel(MODEL, sdk))
    config = RunConfig(tracing_disabled=True)

    async def stream(on_text: First) -> int:
        words = 0
        run = Runner.run_streamed(agent, "go", run_config=config)
        async for event in run.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                on_text()
                words += 1
        return words

    async def ask() -> str:
        return str((await Runner.run(agent, "go", run_config=config)).final_output)

    yield Client(stream, ask)


BARE = "httpx + split + json.loads"
CALLBACK = "full stack, callback"
ITERATED = "full stack, async for"
OPENAI = "openai"

CONTENDERS = (
    Contender(name="httpx, bytes alone", open=bytes_alone, role="limit", covers="read and counted, nothing decoded"),
    Contender(name=BARE, open=bare_httpx, role="limit", covers="what one writes by hand, without any check"),
    Contender(name="provider alone, callback", open=provider_alone, role="ours"),
    Contender(name=CALLBACK, open=full_stack, role="ours", covers="failover, retry, breaker and every clock"),
    Contender(name=ITERATED, open=full_stack_iterated, role="ours"),
    Contender(name="full stack, Anthropic's dialect", open=anthropic_stack, role="ours"),
    Contender(name=OPENAI, open=openai_sdk, needs="openai"),
    Contender(name="anthropic", open=anthropic_sdk, needs="anthropic"),
    Contender(
        name="pydantic-ai",
        open=pydantic_ai_alone,
        loop="asyncio",
        needs="pydantic-ai-slim",
        covers="its direct model request, without an agent",
    ),
    Contender(name="pydantic-ai FallbackModel", open=pydantic_ai_fallback, loop="asyncio", needs="pydantic-ai-slim"),
    Contender(name="openai-agents", open=openai_agents, loop="asyncio", needs="openai-agents", covers="tracing off"),
    Contender(name="litellm", open=litellm_alone, loop="asyncio", needs="litellm"),
    Contender(name="litellm Router", open=litellm_router, loop="asyncio", needs="litellm"),
)
"""Everybody who can ask a model, the bound first."""
