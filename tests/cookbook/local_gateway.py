"""A gateway to local models: two servers, failover, and clocks for a slow first byte.

Run it: python tests/cookbook/local_gateway.py

A local server loads a model before it sends its headers, so its `first_byte` clock is long (300 s for `ollama`,
`llamacpp`, `vllm`, `lmstudio`), while the gap between two pieces of text may be short. The servers here are
scripted, on loopback; for real ones give their base URLs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from clawft_trio import ChatRequest, Message, Provider, complete, provider_named, resilient_chain
from clawft_trio.net import Clocks
from clawft_trio.testing import Finish, ResetConnection, Say, Screen, Wait, open_fault_server


@asynccontextmanager
async def open_gateway(*servers: tuple[str, str, str]) -> AsyncGenerator[Provider, None]:
    """A chain over local servers, each given as (name of the kind, base URL, model), in order of preference."""
    async with trio.open_nursery() as nursery:
        providers = [
            await nursery.start(
                keep_open, provider_named(kind, base_url=url, model=model, clocks=Clocks(first_byte=300))
            )
            for kind, url, model in servers
        ]
        # A model that loads is silent: no hedge before two minutes, no first content before five.
        yield resilient_chain(*providers, first_content=300.0, gap=20.0, hedge_after=120.0, total=900.0)
        nursery.cancel_scope.cancel()


async def keep_open(provider, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
    async with provider:
        task_status.started(provider)
        await trio.sleep_forever()


async def main() -> None:
    async with (
        open_fault_server([Wait(0.3), Say("Loaded, "), ResetConnection()]) as first,
        open_fault_server([Wait(0.2), Say("Hello from the second."), Finish()]) as second,
        open_gateway(("llamacpp", first.url, "qwen3"), ("ollama", second.url, "llama3.2")) as gateway,
    ):
        screen = Screen()  # what a reader sees
        response = await complete(gateway, ChatRequest([Message.user("Hello?")]), screen)
        assert response.text == screen.text == "Hello from the second."
        assert response.provider == "ollama"
        assert {exchange.request.model for exchange in first.exchanges} == {"qwen3"}
    for record in response.attempts:
        print(record.target, record.outcome)
    print(response.text)


if __name__ == "__main__":
    trio.run(main)
