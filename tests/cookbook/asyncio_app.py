"""An agent in an asyncio application, as in FastAPI: trio runs as a guest of asyncio's loop.

Run it: python tests/cookbook/asyncio_app.py

`lifespan` and `ask` have the shape of FastAPI's: `app = FastAPI(lifespan=lifespan)`, `@app.post("/ask")`. Here a few
lines of asyncio stand for the framework.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from clawft_trio import TextDelta, open_agent
from clawft_trio.asyncio_guest import Guest
from clawft_trio.testing import Finish, Hang, Say, ScriptedProvider

MODEL = ScriptedProvider([Say("Wear "), Say("a coat."), Finish()], [Say("Let me think"), Hang()])


@asynccontextmanager
async def lifespan(app: Any) -> AsyncGenerator[None, None]:
    """Opens the agent for as long as the application runs."""
    async with Guest(open_agent(["scripted/model"], providers={"scripted": MODEL})) as app.agent:
        yield


async def ask(app: Any, question: str, user: str, session: str | None) -> AsyncGenerator[str, None]:
    """The text of an answer, piece by piece; a client that leaves cancels the turn inside trio.

    *session* is from the request, below the authenticated user's own name; without one it is a new conversation.
    """
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def show(event: object) -> None:
        if isinstance(event, TextDelta):
            pieces.put_nowait(event.text)

    named = f"{user}/{session}" if session else None
    asking = app.agent.call(app.agent.value.ask, question, sender_id=user, session=named, on_event=show)
    turn = asyncio.create_task(asking)
    turn.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
        await turn  # raises what the turn raised
    finally:
        # The turn ends also when this wait is cut short: Starlette cancels each `await` after a client has left.
        turn.cancel()
        await asyncio.wait([turn])


async def main() -> None:
    app = SimpleNamespace()
    async with lifespan(app):
        text = "".join([piece async for piece in ask(app, "What do I wear?", "ana", "trip")])
        print(text)
        assert text == "Wear a coat."

        leaving = ask(app, "And tomorrow?", "ana", "trip")
        print(await anext(leaving), "… the client leaves")
        await leaving.aclose()
        assert MODEL.running == 0


if __name__ == "__main__":
    asyncio.run(main())
