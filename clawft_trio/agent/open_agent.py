"""Everything an agent is made of, opened and closed together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn, Unpack

import attrs
import trio

from clawft_trio.agent.agent import Agent, AgentParts
from clawft_trio.agent.background import open_background
from clawft_trio.agent.bus_turn import BusTurn
from clawft_trio.agent.durable_asks import ASK_MIGRATIONS, DurableAsks
from clawft_trio.agent.from_config import (
    builtin_policy,
    mcp_servers,
    open_tracker,
    owed_file,
    provider_maker,
    router,
    skills_of,
    turn_policy,
    window_of,
)
from clawft_trio.agent.journal import MIGRATIONS as JOURNAL_MIGRATIONS, Journal
from clawft_trio.agent.loop import AgentLoop
from clawft_trio.agent.options import AgentOptions, check_arguments, check_options
from clawft_trio.agent.providers import Providers, open_providers
from clawft_trio.agent.session_window import WHOLE_RESULT
from clawft_trio.agent.sessions import MIGRATIONS as SESSION_MIGRATIONS, Sessions
from clawft_trio.agent.stored_windows import WINDOW_MIGRATIONS, open_stored_windows
from clawft_trio.agent.subagent import AgentTool, SubAgent, SubAgents, models_by_agent, models_of
from clawft_trio.agent.tool_sets import DEFAULT_SETS, ToolSetParts, check_sets, tools_of
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_types import Instructions
from clawft_trio.bus import Channel, LeasedUndelivered, MessageBus, StoredUndelivered, open_bus, serve_channel
from clawft_trio.chat import Provider
from clawft_trio.config import Config, load_config, with_mcp_files
from clawft_trio.context import ContextBuilder, Memory
from clawft_trio.costs import MIGRATIONS as COST_MIGRATIONS, CostTracker, Metered
from clawft_trio.errors import MissingKey
from clawft_trio.files import FileCache
from clawft_trio.mcp import ToolServer, open_toolset
from clawft_trio.mcp.connect import Server
from clawft_trio.mcp.tool_pinning import PIN_MIGRATIONS, StoredPins
from clawft_trio.net import AddressPolicy
from clawft_trio.nursery import check_in_trio, cleanup_scope, open_hidden_nursery
from clawft_trio.observe import Event, Noted, Observer, fan_out
from clawft_trio.observe.recorded import recorded
from clawft_trio.pipeline import (
    FitnessScorer,
    NoLearner,
    NoScorer,
    PermissionResolver,
    Pipeline,
    RateLimiter,
    Selection,
    StaticRouter,
    Target,
    Targets,
    TrajectoryLearner,
    TurnAdmission,
    Windows,
    open_targets,
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.resilience import Failover, Policy, Resilient, RetryBudget
from clawft_trio.store import open_store
from clawft_trio.store.ownership import open_ownership
from clawft_trio.tools import FanOutPolicy, Tool, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, register_builtins
from clawft_trio.tools.workspace import Workspace
from clawft_trio.tracebacks import short_opening

MISSING_KEY = "a model has no key, and is left out until it has"
"""The event (`Noted.what`) for a fallback without a key."""

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
    """Open everything an agent needs, for the length of the block.

        async with open_agent(["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"], tools=[weather]) as agent:
            reply = await agent.ask("What do I wear in Oslo?")

    Args:
      models: `provider/model`, in order of preference. The first that answers is used. None given: those of the config.
      tools: what the model may call: tools, sub-agents (`subagent`), other agents (`Agent.as_tool`), and sets of
        built-in tools by name (`TOOL_SETS`): `"files"`, `"memory"`, `"fetch"` and others. Without the name of a set a
        workspace brings the read-only `DEFAULT_SETS`.
      mcp: MCP servers by name, each a command or more; their tools are offered as `name__tool`.
      workspace: a folder. Its SOUL.md, AGENTS.md and the like become the system prompt; its file tools cannot leave
        it. None: the folder of the config, if it names one.
      config: a configuration, or the path of one. Arguments given here take precedence over it.
      store: where sessions, the journal, undelivered replies and costs are kept: a file, or `postgresql://…`. None:
        the place that the config names, else memory.
      instructions: the system prompt, or an async function that returns it for a turn (a `TurnRequest`). With a
        workspace it comes before the files of that.
      providers: providers by the name before the slash, used as they are; others are made by *make_provider*.
      channels: adapters to messengers; they are served with the bus.
      observers: get every event; see `clawft_trio.observe`.
      options: the keys of `AgentOptions`: `approve`, `builtins`, `loop`, `make_provider`, `mcp_options`, `policy`,
        `turn`.

    Raises:
      NotConfigured: a model names an unknown provider, or its key is missing.
      ConfigError: the configuration does not fit.
      StoreError: the store cannot be used.
      InvalidData: *tools* names an unknown set.
      RuntimeError: it is entered outside of trio, such as under asyncio.
      TypeError: an argument is of a wrong type (*models* is one string, a tool is not made by `@tool`, a channel has no
        `send`), or an option is unknown.

    Cancellation: everything is cancelled, waited for and closed, each within its grace.
    """
    check_options(options)
    turn, loop, approve = options.get("turn"), options.get("loop"), options.get("approve")
    make_provider, builtins = options.get("make_provider"), options.get("builtins")
    check_in_trio()
    channels = tuple(channels)
    check_arguments(models=models, mcp=mcp, config=config, providers=providers, channels=channels)
    settings = config if isinstance(config, Config) else await _load(config, providers or {})
    settings = await with_mcp_files(settings)
    plan = _Plan(
        config=settings,
        models=tuple(models) or settings.models,
        workspace=Path(workspace) if workspace is not None else settings.agents.defaults.workspace,
        policy=options.get("policy"),
        observer=fan_out(observers),
    )
    place = settings.store_place if store is None else store
    given = tuple(tools)
    asked = (*plan.models, *models_of(given))
    plain = [tool for tool in given if not isinstance(tool, SubAgent | AgentTool | str)]
    fan_out_policy = FanOutPolicy(concurrency=settings.tools.concurrency, longest_answer=WHOLE_RESULT)
    registry = ToolRegistry(plain, policy=fan_out_policy, approve=approve)
    sets = [tool for tool in given if isinstance(tool, str)] or list(settings.tools.sets)
    context = plan.context(registry, sets, builtins)
    async with (
        open_store(place, migrations=MIGRATIONS) as kept,
        open_providers(
            providers,
            make_provider or provider_maker(settings),
            options={target: own.options for target, own in settings.model_options.items()},
            general=(turn or turn_policy(settings)).options,
        ) as known,
        open_tracker(settings, kept, asked, providers or {}, owed=owed_file(kept)) as tracker,
        open_stored_windows(kept, windows := plan.windows(tracker, frozenset(providers or ()))),
        open_targets(partial(plan.bound, known, tracker)) as targets,
        # Before anything is started: a missing key is an error now, and not in the first turn that needs it.
        plan.reaching(targets, plan.models),
        _reaching_sub_agents(plan, targets, given),
        open_toolset(
            {**mcp_servers(settings), **(mcp or {})},
            registry,
            options=options.get("mcp_options"),
            pins=StoredPins(kept),
            observer=plan.observer,
        ) as toolset,
        open_ownership(kept, durable=place is not None, length=(loop or LoopPolicy()).lease) as ownership,
        open_bus(
            settings.bus,
            undelivered=StoredUndelivered(kept) if ownership is None else LeasedUndelivered(ownership),
            observer=plan.observer,
        ) as bus,
        open_background() as background,
    ):
        sub_agents = SubAgents(
            models=partial(plan.models_of_subagent, targets, tracker, windows),
            registry=registry,
            tracker=tracker,
            workspace=plan.workspace,
        )
        for tool in given:
            if isinstance(tool, SubAgent | AgentTool):
                registry.add(sub_agents.tool(tool))
        journal = None if ownership is None else Journal(kept, ownership=ownership)
        turns = Turns(
            models=plan.pipeline(targets, tracker, windows),
            tools=registry,
            history=Sessions(kept, ownership=ownership),
            background=background,
            context=context,
            policy=turn or turn_policy(settings),
            workspace=plan.workspace,
            instructions=instructions,
        )
        bus_turn = BusTurn(
            turns=attrs.evolve(turns, journal=journal),
            permissions=plan.permissions,
            addresses=_media_addresses(builtins or builtin_policy(settings)),
            costs=tracker,
        )
        agent_loop = AgentLoop(bus, bus_turn, policy=loop, journal=journal, observer=plan.observer)
        parts = AgentParts(
            turns=turns,
            tools=registry,
            toolset=toolset,
            bus=bus,
            loop=agent_loop,
            targets=targets,
            store=kept,
            costs=tracker,
            permissions=plan.permissions,
            asks=None if journal is None or ownership is None else DurableAsks(journal, ownership),
        )
        async with _serving(agent_loop, bus, channels), open_hidden_nursery() as streams:
            yield Agent(parts, plan.observer, streams)
            streams.cancel_scope.cancel(reason="agent closed")


async def serve_agent(
    opening: AbstractAsyncContextManager[Agent],
    *,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Open an agent in a nursery of the caller's own, and serve it until that is cancelled.

        agent = await nursery.start(serve_agent, open_agent(["openai/gpt-5"]))

    Raises:
      ClawftError: as `open_agent`.

    Cancellation: what runs is stopped, every message that was accepted gets its reply, and all is closed. For an end
    that lets turns finish, `await agent.parts.loop.shutdown()` first.
    """
    async with opening as agent:
        task_status.started(agent)
        await trio.sleep_forever()
    raise AssertionError("sleep_forever returned")


@asynccontextmanager
async def _serving(loop: AgentLoop, bus: MessageBus, channels: Iterable[Channel]) -> AsyncGenerator[None, None]:
    """Serve bus and channels beside the block; at its end what runs gets its grace, and everything its reply."""
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
                # Carriers end when they have carried everything; the rest is stored.
                carriers.cancel_scope.deadline = trio.current_time() + loop.policy.final_reply_grace
        nursery.cancel_scope.cancel(reason="agent closed")


async def _load(config: str | Path | None, providers: Mapping[str, Provider]) -> Config:
    return Config() if config is None else await load_config(config, providers=providers)


def _media_addresses(policy: BuiltinPolicy) -> AddressPolicy:
    """The web addresses that attachments may have: those that the agent itself may fetch."""
    return AddressPolicy() if policy.fetch is None else policy.fetch.addresses


@attrs.frozen(kw_only=True)
class _Plan:
    """What is decided before anything is opened."""

    config: Config
    models: tuple[str, ...]
    workspace: Path | None
    policy: Policy | None
    observer: Callable[[Event], None]
    #: one for the process: shared by all retries, hedges and failovers
    budget: RetryBudget = attrs.field(factory=RetryBudget)

    @asynccontextmanager
    async def reaching(self, targets: Targets, models: Sequence[str]) -> AsyncGenerator[None, None]:
        """Check that each of *models* can be asked, as far as that is known without a request.

        A missing key of one is noted as long as there are others: it fails when that target is needed.

        Raises:
          MissingKey: every model lacks its key; the error of the first.
          NotConfigured: a provider is unknown, or its address is missing.
        """
        missing: dict[str, MissingKey] = {}
        for model in dict.fromkeys(models):
            try:
                targets.reach(Target.parse(model))
            except MissingKey as exc:
                missing[model] = exc
        if missing and len(missing) == len(set(models)):
            raise next(iter(missing.values()))
        for model, error in missing.items():
            self.observer(Noted(room="agent", what=MISSING_KEY, details={"target": model, "error": str(error)}))
        yield

    @property
    def permissions(self) -> PermissionResolver:
        """Who may do what."""
        tiers = tuple(tier.name for tier in self.config.routing.tiers)
        return PermissionResolver(self.config.routing.permissions, tiers=tiers)

    def bound(self, known: Providers, tracker: CostTracker, target: Target) -> Provider:
        """What answers for *target*: the meter is inside of the policy, so that every attempt pays."""
        provider = recorded(known.at(target), refuse_empty=True)
        metered = Metered(provider, tracker, target, tokens=request_tokens, prepare=known.options_of(target))
        return Resilient(
            metered, self.policy or self.config.policy_of(target.provider, self.budget, model=target.model)
        )

    def windows(self, tracker: CostTracker, given: frozenset[str]) -> Windows:
        """The windows of models. *given* are the names of providers of the caller's own."""
        return Windows(window_of(self.config, given, tracker.prices))

    def pipeline(self, targets: Targets, tracker: CostTracker, windows: Windows) -> Pipeline:
        """Route and answer."""
        stages = self.config.pipeline
        return Pipeline(
            router=router(self.config, self.models, Selection(estimate=tracker.estimate)),
            transport=targets,
            chain=partial(Failover, hedge_after=self.config.hedge_after_of, budget=self.budget),
            scorer=FitnessScorer() if stages.scorer == "fitness" else NoScorer(),
            learner=TrajectoryLearner() if stages.learner == "trajectory" else NoLearner(),
            admission=TurnAdmission(limiter=RateLimiter(self.config.routing.rate_limiting), budget=tracker),
            windows=windows,
        )

    def models_of_subagent(
        self, targets: Targets, tracker: CostTracker, windows: Windows, models: Sequence[str]
    ) -> Pipeline:
        """What answers the turns of a sub-agent: its own models, in their order of preference."""
        selection = Selection(estimate=tracker.estimate)
        routed = attrs.evolve(
            self.pipeline(targets, tracker, windows), router=StaticRouter(models, selection=selection)
        )
        return attrs.evolve(routed, admission=TurnAdmission())

    def context(
        self, registry: ToolRegistry, sets: Sequence[str], given: BuiltinPolicy | None
    ) -> ContextBuilder | None:
        """The system prompt of the workspace; adds the tools of *sets* to *registry*.

        Without a set, *given* limits or a configuration that says which built-in tools there are choose them; else
        they are the read-only default.
        """
        check_sets(sets, workspace=self.workspace is not None)
        if self.workspace is None:
            _add(registry, tools_of(sets, None))
            return None
        cache = FileCache()
        skills = skills_of(self.config, self.workspace, cache)
        memory = Memory(self.workspace, cache, locks=registry.locks, per_sender=self.config.memory.per_sender)
        policy = given or builtin_policy(self.config)

        def readable() -> list[str]:
            return [skill.folder for skill in skills.report.skills]

        if not sets and (given is not None or self.config.tools.unapproved or self.config.tools.allow_commands):
            register_builtins(registry, self.workspace, policy, readable=readable)
            sets = ("skills", "memory")
        workspace = Workspace(self.workspace, readable=readable)
        parts = ToolSetParts(workspace=workspace, builtins=policy, skills=skills, memory=memory)
        _add(registry, tools_of(sets or DEFAULT_SETS, parts))
        return ContextBuilder(self.workspace, cache=cache, skills=skills, memory=memory)


@asynccontextmanager
async def _reaching_sub_agents(plan: _Plan, targets: Targets, given: Iterable[object]) -> AsyncGenerator[None, None]:
    """As `_Plan.reaching`, for the models of each sub-agent."""
    async with AsyncExitStack() as stack:
        for models in models_by_agent(given):
            await stack.enter_async_context(plan.reaching(targets, models))
        yield


def _add(registry: ToolRegistry, tools: Iterable[Tool]) -> None:
    for tool in tools:
        registry.add(tool)
