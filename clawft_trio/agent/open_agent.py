"""Open and close the parts of an agent together."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, Unpack

import attrs
import trio

from clawft_trio.agent.agent import Agent, AgentParts
from clawft_trio.agent.background import Background, open_background
from clawft_trio.agent.bus_turn import BusTurn
from clawft_trio.agent.durable_asks import ASK_MIGRATIONS, DurableAsks
from clawft_trio.agent.from_config import (
    builtin_policy,
    mcp_servers,
    open_tracker,
    owed_file,
    provider_maker,
    turn_policy,
)
from clawft_trio.agent.journal import MIGRATIONS as JOURNAL_MIGRATIONS, Journal
from clawft_trio.agent.loop import AgentLoop
from clawft_trio.agent.options import AgentOptions, check_arguments, check_options, items
from clawft_trio.agent.plan import AgentPlan
from clawft_trio.agent.providers import open_providers
from clawft_trio.agent.sessions import MIGRATIONS as SESSION_MIGRATIONS, Sessions
from clawft_trio.agent.stored_windows import WINDOW_MIGRATIONS, open_stored_windows
from clawft_trio.agent.subagent import AgentTool, SubAgent, SubAgents, models_by_agent, models_of
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_types import Instructions
from clawft_trio.bus import Channel, LeasedUndelivered, MessageBus, StoredUndelivered, open_bus, serve_channel
from clawft_trio.chat import Provider
from clawft_trio.config import Config, load_config, with_mcp_files
from clawft_trio.context import ContextBuilder
from clawft_trio.costs import MIGRATIONS as COST_MIGRATIONS, CostTracker
from clawft_trio.errors import NotConfigured
from clawft_trio.mcp import ToolServer, Toolset, open_toolset
from clawft_trio.mcp.connect import Server
from clawft_trio.mcp.tool_pinning import PIN_MIGRATIONS, StoredPins
from clawft_trio.net import AddressPolicy
from clawft_trio.nursery import check_in_trio, cleanup_scope, open_hidden_nursery
from clawft_trio.observe import Observer, fan_out
from clawft_trio.pipeline import (
    Targets,
    Windows,
    open_targets,
)
from clawft_trio.store import Store, open_store
from clawft_trio.store.ownership import Ownership, open_ownership
from clawft_trio.tools import Tool, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy
from clawft_trio.tracebacks import short_opening

_log = logging.getLogger("clawft_trio.agent")

_SLOW_DISK = 5.0
"""Seconds to look for the workspace; on a disk that hangs, the tools fail later, each within its own time."""

MIGRATIONS = (
    *SESSION_MIGRATIONS,
    *JOURNAL_MIGRATIONS,
    *ASK_MIGRATIONS,
    *COST_MIGRATIONS,
    *PIN_MIGRATIONS,
    *WINDOW_MIGRATIONS,
)
"""The schema of an agent's store."""


@short_opening
@asynccontextmanager
async def open_agent(
    models: Sequence[str] = (),
    *,
    tools: Iterable[Tool | SubAgent | str] = (),
    mcp: Mapping[str, Server | ToolServer] | None = None,
    workspace: str | Path | None = None,
    config: Config | str | Path | None = None,
    store: str | Path | None = None,
    instructions: Instructions = "",
    providers: Mapping[str, Provider] | None = None,
    channels: Iterable[Channel] = (),
    observers: Iterable[Observer] = (),
    **options: Unpack[AgentOptions],
) -> AsyncGenerator[Agent, None]:
    """Open everything an agent needs, for the duration of the block.

        async with open_agent(["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"], tools=[weather]) as agent:
            reply = await agent.ask("What do I wear in Oslo?")

    Args:
      models: `provider/model`, in order of preference. The first that answers is used. Empty: those of the config.
      tools: tools for the model: tools, sub-agents (`subagent`), other agents (`Agent.as_tool`), and sets of
        built-in tools by name (`TOOL_SETS`): `"files"`, `"memory"`, `"fetch"` and others. A workspace without a named
        set adds the read-only `DEFAULT_SETS`.
      mcp: MCP servers by name, each a command or more; their tools are offered as `name__tool`.
      workspace: a folder. Its SOUL.md, AGENTS.md and so on become the system prompt; its file tools cannot leave
        it. None: the folder of the config, if it has one; a warning is logged if that does not exist.
      config: a configuration, or the path of one. Arguments given here take precedence over it.
      store: where sessions, the journal, undelivered replies and costs are kept: a file, or `postgresql://…`. None:
        the place in the config, else memory.
      instructions: the system prompt, or an async function that returns it for a turn (a `TurnRequest`). With a
        workspace it comes before the workspace's files.
      providers: providers by the name before the slash, used unchanged; others are made by *make_provider*.
      channels: adapters to messengers; they are served with the bus.
      observers: receive every event; see `clawft_trio.observe`.
      options: the keys of `AgentOptions`: `approve`, `builtins`, `loop`, `make_provider`, `mcp_options`, `policy`,
        `turn`.

    Raises:
      NotConfigured: a model names an unknown provider, or its key is missing; *workspace* is not a folder.
      ConfigError: the configuration does not fit.
      StoreError: the store cannot be used.
      InvalidData: *tools* names an unknown set.
      RuntimeError: the block is entered outside of trio, for example under asyncio.
      TypeError: an argument is of a wrong type (*models* is one string, a tool is not made by `@tool`, a channel has no
        `send`), or an option is unknown.

    Cancellation: everything is cancelled, awaited and closed, each part within its grace.
    """
    check_options(options)
    check_in_trio()
    channels, tools = items("channels", channels), items("tools", tools)
    check_arguments(models=models, mcp=mcp, config=config, providers=providers, channels=channels)
    settings = config if isinstance(config, Config) else await _load(config, providers or {})
    settings = await with_mcp_files(settings)
    plan = AgentPlan(
        config=settings,
        models=tuple(models) or settings.models,
        workspace=Path(workspace) if workspace is not None else settings.agents.defaults.workspace,
        policy=options.get("policy"),
        turn=options.get("turn") or turn_policy(settings),
        loop=options.get("loop") or LoopPolicy(),
        builtins=options.get("builtins"),
        tools=tools,
        providers=providers or {},
        make_provider=options.get("make_provider") or provider_maker(settings),
        observer=fan_out(observers),
    )
    await _check_workspace(plan.workspace, configured=workspace is None)
    registry = plan.registry(options.get("approve"))
    context = plan.context(registry)
    servers = {**mcp_servers(settings), **(mcp or {})}
    place = settings.store_place if store is None else store
    async with (
        _open_resources(plan, place) as resources,
        open_toolset(
            servers,
            registry,
            options=options.get("mcp_options"),
            pins=StoredPins(resources.store),
            observer=plan.observer,
        ) as toolset,
        _open_delivery(plan, resources.store, durable=place is not None) as delivery,
    ):
        parts = _assembled(plan, resources, delivery, toolset, registry, context=context, instructions=instructions)
        async with _serving(parts.loop, parts.bus, channels), open_hidden_nursery() as streams:
            yield Agent(parts, plan.observer, streams)
            streams.cancel_scope.cancel(reason="agent closed")


@attrs.frozen(kw_only=True)
class _Resources:
    """The open store, ledger and providers."""

    store: Store
    tracker: CostTracker
    windows: Windows
    targets: Targets


@asynccontextmanager
async def _open_resources(plan: AgentPlan, place: str | Path | None) -> AsyncGenerator[_Resources, None]:
    settings, given = plan.config, plan.providers
    async with (
        open_store(place, migrations=MIGRATIONS) as store,
        open_providers(
            given,
            plan.make_provider,
            options={target: own.options for target, own in settings.model_options.items()},
            general=plan.turn.options,
        ) as known,
        open_tracker(settings, store, (*plan.models, *models_of(plan.tools)), given, owed=owed_file(store)) as tracker,
        open_stored_windows(store, windows := plan.windows(tracker, frozenset(given))),
        open_targets(partial(plan.bound, known, tracker)) as targets,
        # Before anything is started, so that a missing key is an error now and not in the first turn that needs it.
        plan.reaching(targets, plan.models),
        _reaching_sub_agents(plan, targets),
    ):
        yield _Resources(store=store, tracker=tracker, windows=windows, targets=targets)


@attrs.frozen(kw_only=True)
class _Delivery:
    """The open bus, the ownership of sessions, and the tasks between turns."""

    bus: MessageBus
    ownership: Ownership | None
    background: Background


@asynccontextmanager
async def _open_delivery(plan: AgentPlan, store: Store, *, durable: bool) -> AsyncGenerator[_Delivery, None]:
    async with (
        open_ownership(store, durable=durable, length=plan.loop.lease) as ownership,
        open_bus(
            plan.config.bus,
            undelivered=StoredUndelivered(store) if ownership is None else LeasedUndelivered(ownership),
            observer=plan.observer,
        ) as bus,
        open_background() as background,
    ):
        yield _Delivery(bus=bus, ownership=ownership, background=background)


def _assembled(
    plan: AgentPlan,
    resources: _Resources,
    delivery: _Delivery,
    toolset: Toolset,
    registry: ToolRegistry,
    *,
    context: ContextBuilder | None,
    instructions: Instructions,
) -> AgentParts:
    """Put the parts together; add the sub-agents to *registry*."""
    targets, tracker, windows, ownership = resources.targets, resources.tracker, resources.windows, delivery.ownership
    sub_agents = SubAgents(
        models=partial(plan.models_of_subagent, targets, tracker, windows),
        registry=registry,
        tracker=tracker,
        workspace=plan.workspace,
    )
    for tool in plan.tools:
        if isinstance(tool, SubAgent | AgentTool):
            registry.add(sub_agents.tool(tool))
    journal = None if ownership is None else Journal(resources.store, ownership=ownership)
    if ownership is not None:
        tracker.join_turns(ownership)
    turns = Turns(
        models=plan.pipeline(targets, tracker, windows),
        tools=registry,
        history=Sessions(resources.store, ownership=ownership),
        background=delivery.background,
        context=context,
        policy=plan.turn,
        workspace=plan.workspace,
        instructions=instructions,
    )
    bus_turn = BusTurn(
        turns=attrs.evolve(turns, journal=journal),
        permissions=plan.permissions,
        addresses=_media_addresses(plan.builtins or builtin_policy(plan.config)),
        costs=tracker,
    )
    return AgentParts(
        turns=turns,
        tools=registry,
        toolset=toolset,
        bus=delivery.bus,
        loop=AgentLoop(delivery.bus, bus_turn, policy=plan.loop, journal=journal, observer=plan.observer),
        targets=targets,
        store=resources.store,
        costs=tracker,
        permissions=plan.permissions,
        asks=None if journal is None or ownership is None else DurableAsks(journal, ownership, tracker),
    )


async def serve_agent(
    opening: AbstractAsyncContextManager[Agent],
    *,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Open an agent in the caller's nursery, and serve it until cancelled.

        agent = await nursery.start(serve_agent, open_agent(["openai/gpt-5"]))

    Raises:
      ClawftError: as for `open_agent`.

    Cancellation: running turns are stopped, every accepted message gets its reply, and all parts are closed. To let
    turns finish, `await agent.parts.loop.shutdown()` first.
    """
    async with opening as agent:
        task_status.started(agent)
        await trio.sleep_forever()
    raise AssertionError("sleep_forever returned")


@asynccontextmanager
async def _serving(loop: AgentLoop, bus: MessageBus, channels: Iterable[Channel]) -> AsyncGenerator[None, None]:
    """Serve bus and channels during the block; at its end turns may finish within their grace."""
    async with open_hidden_nursery() as nursery:
        await nursery.start(loop.serve)
        async with open_hidden_nursery() as carriers:
            for channel in channels:
                await carriers.start(partial(serve_channel, bus, channel))
            try:
                yield
            finally:
                with cleanup_scope(loop.policy.grace + loop.policy.final_reply_grace):
                    await loop.shutdown()  # noqa: ASYNC102 - `cleanup_scope` is shielded and bounded
                bus.close()
                # Carriers end when they have delivered everything; the rest is stored.
                carriers.cancel_scope.deadline = trio.current_time() + loop.policy.final_reply_grace
        nursery.cancel_scope.cancel(reason="agent closed")


async def _load(config: str | Path | None, providers: Mapping[str, Provider]) -> Config:
    return Config() if config is None else await load_config(config, providers=providers)


async def _check_workspace(workspace: Path | None, *, configured: bool) -> None:
    if workspace is None:
        return
    with trio.move_on_after(_SLOW_DISK):
        if await trio.to_thread.run_sync(os.path.isdir, workspace, abandon_on_cancel=True):
            return
        # Configurations of other programs name a folder that those programs make.
        if not configured:
            raise NotConfigured(f"no workspace: {workspace} is not a folder")
        _log.warning("the workspace of the configuration, %s, is not a folder", workspace)


def _media_addresses(policy: BuiltinPolicy) -> AddressPolicy:
    """Return the policy for web addresses of attachments: that of the agent's own fetch tool."""
    return AddressPolicy() if policy.fetch is None else policy.fetch.addresses


@asynccontextmanager
async def _reaching_sub_agents(plan: AgentPlan, targets: Targets) -> AsyncGenerator[None, None]:
    """Check the models of each sub-agent like `AgentPlan.reaching`."""
    async with AsyncExitStack() as stack:
        for models in models_by_agent(plan.tools):
            await stack.enter_async_context(plan.reaching(targets, models))
        yield
