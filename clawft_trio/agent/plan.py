"""The plan of an agent: the decisions before any of its parts is opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs

from clawft_trio.agent.from_config import (
    builtin_policy,
    router,
    skills_of,
    window_of,
)
from clawft_trio.agent.providers import Providers
from clawft_trio.agent.session_window import WHOLE_RESULT
from clawft_trio.agent.subagent import AgentTool, SubAgent
from clawft_trio.agent.tool_sets import DEFAULT_SETS, ToolSetParts, check_sets, tools_of
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_types import TurnPolicy
from clawft_trio.chat import Provider
from clawft_trio.config import Config
from clawft_trio.context import ContextBuilder, Memory
from clawft_trio.costs import CostTracker, Metered
from clawft_trio.errors import MissingKey
from clawft_trio.files import FileCache
from clawft_trio.observe import Event, Noted
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
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.resilience import Failover, Policy, Resilient, RetryBudget
from clawft_trio.tools import Approve, FanOutPolicy, Tool, ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, register_builtins
from clawft_trio.tools.workspace import Workspace

MISSING_KEY = "a model has no key, and is left out until it has"
"""Text of the event (`Noted.what`) for a fallback without a key."""


@attrs.frozen(kw_only=True)
class AgentPlan:
    """Arguments and settings of an agent, and functions that make its parts."""

    config: Config
    models: tuple[str, ...]
    workspace: Path | None
    policy: Policy | None
    turn: TurnPolicy
    loop: LoopPolicy
    builtins: BuiltinPolicy | None
    #: the given tools, sub-agents and names of sets
    tools: tuple[Tool | SubAgent | AgentTool | str, ...]
    #: the caller's providers, by name
    providers: Mapping[str, Provider]
    make_provider: Callable[[str], Provider]
    observer: Callable[[Event], None]
    #: shared by all retries, hedges and failovers of the agent
    budget: RetryBudget = attrs.field(factory=RetryBudget)

    @asynccontextmanager
    async def reaching(self, targets: Targets, models: Sequence[str]) -> AsyncGenerator[None, None]:
        """Check that each of *models* is reachable, as far as that is known without a request.

        A missing key is only reported as an event if other models have theirs; calls of that target fail later.

        Raises:
          MissingKey: every model lacks its key; the error of the first.
          NotConfigured: a provider is unknown, or its address is missing.

        Cancellation: nothing is kept.
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
            self.observer(Noted(component="agent", what=MISSING_KEY, details={"target": model, "error": str(error)}))
        yield

    @property
    def permissions(self) -> PermissionResolver:
        """The permissions of senders."""
        tiers = tuple(tier.name for tier in self.config.routing.tiers)
        return PermissionResolver(self.config.routing.permissions, tiers=tiers)

    def bound(self, known: Providers, tracker: CostTracker, target: Target) -> Provider:
        """Make the provider of *target*: the meter is inside the policy, so that every attempt is charged."""
        provider = recorded(known.at(target), refuse_empty=True)
        metered = Metered(provider, tracker, target, tokens=request_tokens, prepare=known.options_of(target))
        return Resilient(
            metered, self.policy or self.config.policy_of(target.provider, self.budget, model=target.model)
        )

    def windows(self, tracker: CostTracker, given: frozenset[str]) -> Windows:
        """Make the windows of models. *given* are the names of the caller's providers."""
        return Windows(window_of(self.config, given, tracker.prices))

    def pipeline(self, targets: Targets, tracker: CostTracker, windows: Windows) -> Pipeline:
        """Make the pipeline that routes turns and answers rounds."""
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
        """Make the pipeline of a sub-agent: its own models, in order of preference, without admission."""
        selection = Selection(estimate=tracker.estimate)
        routed = attrs.evolve(
            self.pipeline(targets, tracker, windows), router=StaticRouter(models, selection=selection)
        )
        return attrs.evolve(routed, admission=TurnAdmission())

    def registry(self, approve: Approve | None) -> ToolRegistry:
        """Make a registry of the given plain tools."""
        plain = [tool for tool in self.tools if not isinstance(tool, SubAgent | AgentTool | str)]
        policy = FanOutPolicy(concurrency=self.config.tools.concurrency, longest_answer=WHOLE_RESULT)
        return ToolRegistry(plain, policy=policy, approve=approve)

    def context(self, registry: ToolRegistry) -> ContextBuilder | None:
        """Make the builder of the workspace's system prompt; add the sets of tools to *registry*.

        Without the name of a set, the built-in tools are those of the given limits or of a configuration that selects
        them; else the read-only default sets.
        """
        named = [tool for tool in self.tools if isinstance(tool, str)]
        sets: Sequence[str] = named or self.config.tools.sets
        given = self.builtins
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


def _add(registry: ToolRegistry, tools: Iterable[Tool]) -> None:
    for tool in tools:
        registry.add(tool)
