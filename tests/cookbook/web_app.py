"""An ASGI application that streams an agent's answers, served on trio by hypercorn.

Run it: python tests/cookbook/web_app.py

Needs the extra `server`. The application is plain ASGI; Starlette on trio has the same shape. For FastAPI and other
programs on asyncio, trio runs as a guest of asyncio's loop.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import httpx
import hypercorn.trio
import trio
from hypercorn.config import Config

from clawft_trio import Agent, ClawftError, TextDelta, open_agent
from clawft_trio.chat import Reset
from clawft_trio.errors import ServerError
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider


class App:
    """`POST /ask {"question": …, "session": …}`: server-sent events of the answer, then the reply.

    The user is the one that the application has authenticated; here a header stands for that. The name of the session
    comes from the request, below the user's own: what it names is never a conversation of another user.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable[..., Awaitable[None]]) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        asked = json.loads(await body_of(receive))
        user = dict(scope["headers"]).get(b"x-user", b"guest").decode()
        session = f"{user}/{asked['session']}" if asked.get("session") else None  # without one: a new conversation
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
            }
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_gone, receive, nursery.cancel_scope)
            async with aclosing(self._events(asked["question"], user, session)) as events:
                async for event in events:
                    data = f"data: {json.dumps(event)}\n\n".encode()
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _events(self, question: str, user: str, session: str | None):
        """The events of one answer, as what the browser needs of them."""
        try:
            async with self._agent.stream(question, sender_id=user, session=session) as answer:
                async for event in answer:
                    if isinstance(event, TextDelta):
                        yield {"text": event.text}
                    elif isinstance(event, Reset):  # an attempt failed: the browser removes its text
                        yield {"reset": True}
                yield {"done": answer.reply.text}
        except ClawftError as error:
            yield {"error": type(error).__name__}


async def body_of(receive: Callable[[], Awaitable[dict[str, Any]]], limit: int = 1 << 20) -> bytes:
    """The body of a request, *limit* bytes at most."""
    body = b""
    more = True
    while more and len(body) <= limit:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body[:limit]


async def cancel_when_gone(receive: Callable[[], Awaitable[dict[str, Any]]], scope: trio.CancelScope) -> None:
    """A browser that leaves cancels its turn, with its models and tools."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def main() -> None:
    first = [Say("Take a "), Fail(ServerError("down"))]
    model = ScriptedProvider(first, [Say("Take a coat."), Finish()])
    config = Config()
    config.bind, config.accesslog, config.errorlog = ["127.0.0.1:0"], None, None
    async with (
        open_agent(["scripted/model"], providers={"scripted": model}) as agent,
        trio.open_nursery() as nursery,
    ):
        (address, *_) = await nursery.start(partial(hypercorn.trio.serve, App(agent), config, mode="asgi"))
        async with httpx.AsyncClient(trust_env=False) as http:
            asked = {"question": "What do I wear?", "session": "trip"}
            response = await http.post(f"{address}/ask", json=asked, headers={"x-user": "ana"})
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
        print(events)
        assert events == [{"text": "Take a "}, {"reset": True}, {"text": "Take a coat."}, {"done": "Take a coat."}]
        assert [message.text for message in await agent.history("ana/trip")] == ["What do I wear?", "Take a coat."]
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
