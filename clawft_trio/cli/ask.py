"""`clawft-trio ask`: one question, one answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
from rich.console import Console

from clawft_trio.agent import open_agent
from clawft_trio.agent.configured import provider_maker
from clawft_trio.agent.question import Reply
from clawft_trio.chat import Provider
from clawft_trio.cli.show import Transcript, summary
from clawft_trio.codec import encode_json
from clawft_trio.config import Config, load_config
from clawft_trio.errors import NotConfigured
from clawft_trio.llm import OpenAICompatible, provider_named
from clawft_trio.observe import open_recording

SERVER = "server"
"""What the server given by --base-url is called in targets and errors."""


@attrs.frozen(kw_only=True)
class Ask:
    """What was asked for on the command line."""

    question: str
    models: tuple[str, ...] = ()
    base_url: str | None = None
    api_key_env: str | None = None
    workspace: Path | None = None
    config: Path | None = None
    store: Path | None = None
    #: where the turn is recorded, for `timeline`
    record: Path | None = None
    as_json: bool = False


async def ask(wanted: Ask) -> None:
    """Ask once; print the answer as it comes, or one JSON object.

    Raises:
      ClawftError: there is no answer, or something is missing.

    Cancellation: everything is closed.
    """
    config = Config() if wanted.config is None else await load_config(wanted.config)
    models, make = _targets(wanted, config)
    async with AsyncExitStack() as stack:
        observers = [] if wanted.record is None else [await stack.enter_async_context(open_recording(wanted.record))]
        agent = await stack.enter_async_context(
            open_agent(
                models,
                make_provider=make,
                workspace=wanted.workspace,
                config=config,
                store=wanted.store,
                observers=observers,
            )
        )
        if wanted.as_json:
            reply = await agent.ask(wanted.question)
            sys.stdout.write(encode_json(as_json(reply)).decode() + "\n")
            return
        with Transcript(Console()) as transcript:
            reply = await agent.ask(wanted.question, on_event=transcript)
    Console(stderr=True).print(summary(reply), style="dim")


def _targets(wanted: Ask, config: Config) -> tuple[tuple[str, ...], Callable[[str], Provider]]:
    """The targets, and how their providers are made."""
    key = _key(wanted.api_key_env)
    if wanted.base_url is not None:
        url = wanted.base_url
        models = wanted.models or ("default",)
        return tuple(f"{SERVER}/{model}" for model in models), lambda name: OpenAICompatible(
            name, base_url=url, api_key=key
        )
    models = wanted.models or config.models
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


def as_json(reply: Reply) -> dict[str, object]:
    """What `--json` prints of a reply."""
    usage = reply.usage
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "provider": reply.provider,
        "model": reply.model,
        "usage": None if usage is None else attrs.asdict(usage),
        "cost_usd": None if reply.cost is None else str(reply.cost),
        "seconds": round(reply.latency.total, 4),
        "rounds": len(reply.rounds),
        "attempts": [
            {
                "target": record.target,
                "outcome": record.outcome,
                "seconds": round(record.latency.total, 4),
                "error": None if record.error is None else type(record.error).__name__,
            }
            for record in reply.attempts
        ],
        "tools": [{"name": answer.name, "outcome": answer.outcome} for answer in reply.tools],
    }
