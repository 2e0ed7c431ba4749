"""The agent that a command's options describe."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from clawft_trio.agent import Agent, open_agent
from clawft_trio.agent.configured import provider_maker
from clawft_trio.chat import Provider
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.patience import patience
from clawft_trio.config import Config, load_config
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import OpenAICompatible, provider_named
from clawft_trio.observe import Observer, open_recording


async def settings_of(config: Path | None) -> Config:
    """The configuration in a file; without one, the defaults.

    Raises:
      ConfigError: it cannot be read or does not fit.

    Cancellation: nothing is kept.
    """
    await trio.lowlevel.checkpoint()
    return Config() if config is None else await load_config(config)


@asynccontextmanager
async def open_chosen(chosen: Chosen, *, observers: Sequence[Observer] = ()) -> AsyncGenerator[Agent, None]:
    """Open the agent that *chosen* describes, for the length of the block.

    Raises:
      ClawftError: something is missing or does not fit.

    Cancellation: everything is closed.
    """
    config = await settings_of(chosen.config)
    models, make = targets_of(chosen, config)
    async with AsyncExitStack() as stack:
        if chosen.record is not None:
            observers = [*observers, await stack.enter_async_context(open_recording(chosen.record))]
        opening = open_agent(
            models,
            make_provider=make,
            workspace=chosen.workspace,
            config=config,
            store=chosen.store,
            observers=observers,
        )
        async with patience("Starting") as started, opening as agent:
            started()
            yield agent


def targets_of(chosen: Chosen, config: Config) -> tuple[tuple[str, ...], Callable[[str], Provider]]:
    """The targets, and how their providers are made.

    Raises:
      NotConfigured: no model is named anywhere, or the variable that should hold the key does not.
    """
    key = _key(chosen.api_key_env)
    if chosen.base_url is not None:
        url = chosen.base_url
        models = chosen.models or ("default",)
        return tuple(map(chosen.target, models)), lambda name: OpenAICompatible(name, base_url=url, api_key=key)
    models = chosen.models or config.models
    if config.routing.mode == "static" and len(models) == 0:
        raise NotConfigured("no model: name one with --model provider/model, in --config, or a server with --base-url")
    make = provider_maker(config)
    return models, make if key is None else lambda name: provider_named(name, api_key=key)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise NotConfigured(f"no key: {variable} is not set, or empty")
    return key
