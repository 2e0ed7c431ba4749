"""Opens the agent that a command's options describe."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio

from clawft_trio.agent import Agent, LoopPolicy, open_agent
from clawft_trio.agent.from_config import provider_maker, turn_policy
from clawft_trio.agent.plan import MISSING_KEY
from clawft_trio.agent.turn_types import TurnPolicy
from clawft_trio.chat import Provider
from clawft_trio.cli.errors import say
from clawft_trio.cli.options import Chosen, check_session_store
from clawft_trio.cli.output import sanitize
from clawft_trio.cli.progress import progress
from clawft_trio.config import Config, load_config, with_mcp_files
from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.llm import OpenAICompatible, provider_named
from clawft_trio.observe import Event, Noted, Observer, open_recording, redact_secrets

# This many letters without a `_` are a key without an issuer's prefix, and not the name of a variable.
_VARIABLE = re.compile(r"(?!\w*[A-Za-z0-9]{24})[A-Za-z_][A-Za-z0-9_]*")


_OWN_WORK = LoopPolicy(resume=False)
"""A command that asks does not answer messages that other processes left in the store."""


async def settings_of(config: Path | None) -> Config:
    """Return the configuration in a file; without a file, the defaults.

    Raises:
      ConfigError: it cannot be read or does not fit.

    Cancellation: nothing is kept.
    """
    await trio.lowlevel.checkpoint()
    return Config() if config is None else await load_config(config)


@asynccontextmanager
async def open_chosen(
    chosen: Chosen, *, observers: Sequence[Observer] = (), loop: LoopPolicy = _OWN_WORK, session: str = ""
) -> AsyncGenerator[Agent, None]:
    """Open the agent that *chosen* describes for the duration of the block; print the MCP servers that do not start.

    With a *session*, a store is required.

    Raises:
      ClawftError: something is missing or does not fit.

    Cancellation: everything is closed.
    """
    if chosen.record is not None:
        await _refuse_existing(chosen.record)
    config = await with_mcp_files(await settings_of(chosen.config), chosen.mcp_config)
    check_session_store(session, chosen.store or config.store_place)
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
            observers=[*observers, _note_missing_key],
            loop=loop,
            tools=chosen.tools,
            instructions=chosen.system or "",
            turn=_turn_policy(chosen, config),
        )
        async with progress("Starting") as started, opening as agent:
            started()
            for line in absent_servers(agent):
                say(line)
            yield agent


def _note_missing_key(event: Event) -> None:
    """Print that a target cannot be called because its key is not set, while others can."""
    if isinstance(event, Noted) and event.what == MISSING_KEY:
        details = event.details
        say(sanitize(redact_secrets(f"{details['target']} cannot be asked: {details['error']}; the other models are.")))


def _turn_policy(chosen: Chosen, config: Config) -> TurnPolicy:
    """Return the configuration's limits of a turn, overridden by those of the command line."""
    policy = turn_policy(config)
    if chosen.max_tokens is not None:
        policy = attrs.evolve(policy, max_tokens=chosen.max_tokens)
    if chosen.temperature is not None:
        policy = attrs.evolve(policy, temperature=chosen.temperature)
    return policy


def absent_servers(agent: Agent) -> Iterator[str]:
    """Yield a line for each MCP server that has not started, with the reason."""
    for name, exc in agent.parts.toolset.failures.items():
        # The server's own output may contain control characters or a secret.
        yield sanitize(redact_secrets(f"MCP server {name} did not start: {exc}"))


async def existing_folder(path: Path) -> Path:
    """Return *path* if it is a folder.

    Raises:
      NotConfigured: it is not a folder.

    Cancellation: nothing is kept.
    """
    if not await trio.Path(path).is_dir():
        raise NotConfigured(f"no workspace: {path} is not a folder")
    return path


async def _refuse_existing(record: Path) -> None:
    """Refuse a file with content, because a recording would replace it."""
    path = trio.Path(record)
    if await path.is_file() and (await path.stat()).st_size:
        advice = f"name a new file (clawft-trio timeline {record} draws it, if it is a recording)"
        raise InvalidData([Problem("--record", f"{record} exists already and is not empty: {advice}")])


def targets_of(chosen: Chosen, config: Config) -> tuple[tuple[str, ...], Callable[[str], Provider]]:
    """Return the targets, and the function that creates their providers.

    Raises:
      NotConfigured: no model is named anywhere, or the variable for the key is not set.
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
    if key:
        return key
    if _VARIABLE.fullmatch(variable) and redact_secrets(variable) == variable:
        raise NotConfigured(f"no key: {variable} is not set, or empty")
    # A key given in place of its variable must not get into a log.
    raise NotConfigured("no key: --api-key-env takes the name of an environment variable; this is not one")
