"""Read by type checkers only: what a user writes must pass mypy --strict and pyright."""

from __future__ import annotations

from typing import TypedDict, assert_type

import clawft_trio
from clawft_trio import (
    ChatRequest,
    ChatResponse,
    CircuitBreaker,
    Failover,
    Message,
    OpenAICompatible,
    OutboundMessage,
    Provider,
    Reply,
    Resilient,
    Retry,
    TextDelta,
    Timeout,
    complete,
    compose,
    open_agent,
    open_stream,
    tool,
)
from clawft_trio.agent import TurnStream
from clawft_trio.bus import Publish
from clawft_trio.chat import Call, StreamEvent
from clawft_trio.llm import StreamCallback
from clawft_trio.testing import check_channel


class TokenCounter:
    """A stateful callback."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta):
            self.tokens += 1


class Forecast(TypedDict):
    """What is asked for."""

    degrees: int


async def typed() -> None:
    async with open_agent(["p/m"]) as agent:
        assert_type(await agent.ask("And tomorrow?"), Reply)
        assert_type(await agent.ask("And tomorrow?", answer=Forecast), Forecast)
        assert_type(await agent.ask("And tomorrow?", answer=list[str]), list[str])
        async with agent.stream("And tomorrow?", answer=Forecast) as stream:
            async for _ in stream:
                pass
        assert_type(stream, TurnStream[Forecast])
        assert_type(stream.reply, Reply[Forecast])
        assert_type(stream.reply.answer, Forecast)
        async with agent.stream("And tomorrow?") as plain:
            pass
        assert_type(plain.reply, Reply)


class Mail:
    """A channel of a user's own, with more than the protocol asks for."""

    name = "mail"
    shows_partials = False

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def send(self, message: OutboundMessage) -> None:
        self.texts.append(message.content)

    async def receive(self, publish: Publish) -> None:
        raise NotImplementedError


async def checked() -> None:
    async def say(channel: Mail, text: str) -> None:
        channel.texts.append(text)

    await check_channel(Mail, say, shown=lambda channel: channel.texts)


class Mine:
    """A provider of a user's own."""

    @property
    def name(self) -> str:
        return "mine"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await call.emit(TextDelta("hello"))
        return ChatResponse(content="hello")


def provider() -> Provider:
    model = OpenAICompatible("x", base_url="http://localhost/v1")
    policy = compose(Timeout(total=120), Retry(), CircuitBreaker(), Timeout(first_content=60, gap=30))
    return Failover(Resilient(model, policy), Resilient(Mine(), policy), hedge_after=10)


async def fetch(url: str, *, size: int = 1) -> bytes:
    return url.encode() * size


@Retry(on=OSError)
async def fetch_again(url: str, *, size: int = 1) -> bytes:
    return url.encode() * size


@tool(total=10.0)
async def weather(city: str) -> str:
    """The weather in a city, now."""
    return city


async def use() -> None:
    request = ChatRequest([Message.user("hello")])
    counter = TokenCounter()
    tokens = 0

    def count(event: StreamEvent) -> bool:
        nonlocal tokens
        tokens += 1
        return tokens < 10

    async def count_later(event: StreamEvent) -> bool | None:
        return count(event)

    callbacks: list[StreamCallback] = [counter, count, count_later]
    for callback in callbacks:
        assert_type(await complete(provider(), request, callback), ChatResponse)
    assert_type(await Retry()(fetch, "x", size=2), bytes)
    assert_type(await Retry()(fetch)("x", size=2), bytes)
    assert_type(await fetch_again("x", size=2), bytes)
    async with open_stream(provider(), request) as stream:
        async for event in stream:
            assert_type(event, StreamEvent)
    assert_type(stream.response, ChatResponse)
    async with open_agent(["x/y"], tools=[weather]) as agent:
        assert_type(await agent.ask("hello"), Reply)
        async with agent.stream("hello") as answer:
            async for seen in answer:
                print(seen)
        assert_type(answer.reply, Reply)
    print(clawft_trio.NotThere)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
