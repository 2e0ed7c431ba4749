"""A config.json: its providers, models, agent, routing and all other sections together.

clawft's file is accepted unchanged; a setting without a counterpart (`gateway`, `channels`, `voice`, …) causes a
warning. Durations in the file are milliseconds, as their names say; in the policies they are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import and_, deep_mapping, ge, instance_of, le, optional

from clawft_trio.bus import BusConfig
from clawft_trio.config.redaction import show_address
from clawft_trio.config.resilience_sections import (
    AdaptiveLimitConfig,
    ClocksConfig,
    ProviderTimeoutsConfig,
    RetryConfig,
    TimeoutsConfig,
)
from clawft_trio.config.structuring import Secret, alias
from clawft_trio.config.tool_sections import ToolsConfig
from clawft_trio.costs import ModelPrice
from clawft_trio.errors import Problem
from clawft_trio.llm.catalog import KNOWN, LOCAL_FIRST_BYTE
from clawft_trio.llm.model_options import ModelOptions
from clawft_trio.pipeline import PermissionsPolicy, RateLimitPolicy, RoutingPolicy
from clawft_trio.resilience import CircuitBreaker, Policy, RetryBudget, compose
from clawft_trio.store.address import is_address
from clawft_trio.target import split_name

_WINDOWS: Any = deep_mapping(value_validator=ge(1), key_validator=instance_of(str))


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """Connection, models and policies of one provider."""

    #: the key, or `${VARIABLE}`; when empty, the provider's usual variables are read
    api_key: Secret | None = None
    #: the base URL, up to and including the version
    api_base: str | None = attrs.field(default=None, metadata=alias("base_url"), repr=show_address)
    #: headers of every request
    extra_headers: Mapping[str, Secret] | None = None
    #: overrides the general `retry` section
    retry: RetryConfig = RetryConfig()
    #: the API of OpenAI that all models are called through: chat completions or Responses; null decides by the model
    api: Literal["chat", "responses"] | None = None
    #: how the servers differ from others of their dialect: fields of `llm.Quirks`, in snake or camel case. For example
    #: `{"think_tags": true}`: text between `<think>` and `</think>` is reasoning
    quirks: Mapping[str, Any] = attrs.field(factory=dict)
    #: what the models accept, overriding the catalog: fields of `llm.Rules`
    rules: Mapping[str, Any] = attrs.field(factory=dict)
    #: for Azure: puts the deployment into the path, with this API version
    api_version: str | None = None
    #: for Azure: deployment names by model, where they differ
    deployments: Mapping[str, str] = attrs.field(factory=dict)
    #: overrides the general `timeouts` section
    timeouts: ProviderTimeoutsConfig = ProviderTimeoutsConfig()
    #: largest number of concurrent requests; null is the transport's own limit
    concurrency: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: of clawft, for browsers; not used
    browser_direct: bool = False
    #: of clawft, for browsers; not used
    cors_proxy: str | None = attrs.field(default=None, repr=show_address)


@attrs.frozen(kw_only=True)
class ModelConfig:
    """One model: `models["openai/gpt-5-mini"]`. Settings that are left out are the general ones."""

    reasoning_effort: str | None = None
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    verbosity: str | None = None
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    seed: int | None = None
    #: fields for the request body, sent unchanged; they override all other fields
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: the API of OpenAI that the model is called through; overrides the provider's
    api: Literal["chat", "responses"] | None = None
    #: how the server differs for this model, overriding the provider's: fields of `llm.Quirks`, such as `think_tags`
    quirks: Mapping[str, Any] = attrs.field(factory=dict)
    #: what the model accepts, overriding the catalog: fields of `llm.Rules`
    rules: Mapping[str, Any] = attrs.field(factory=dict)
    #: clocks in milliseconds, overriding the provider's `timeouts`, without the total one; null switches a clock off
    clocks: ClocksConfig | None = None

    @property
    def options(self) -> ModelOptions:
        """The options of requests to the model."""
        return ModelOptions(
            reasoning_effort=self.reasoning_effort,
            thinking_budget=self.thinking_budget,
            verbosity=self.verbosity,
            temperature=self.temperature,
            seed=self.seed,
            extra=self.extra,
        )


@attrs.frozen(kw_only=True)
class AgentDefaults:
    """The `agents.defaults` section."""

    #: folder with the files that become the system prompt
    workspace: Path | None = None
    #: system prompt, before the files of the workspace
    instructions: str = ""
    #: the default model as `provider/model`
    model: str | None = None
    #: limit on the output tokens of each answer
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: temperature; null is the model's own
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`
    reasoning_effort: str | None = None
    #: reasoning tokens, for models that accept a limit
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `low`, `medium` or `high`
    verbosity: str | None = None
    #: seed, for models that accept one
    seed: int | None = None
    #: fields for each request body, sent unchanged; they override all other fields
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: largest number of rounds of tool calls in one turn
    max_tool_iterations: int = attrs.field(default=20, validator=ge(1))
    #: largest number of messages of the session in a request
    memory_window: int = attrs.field(default=500, validator=ge(0))
    #: whether sessions that fill a model's window are summarized; otherwise their oldest turns are cut
    compaction: bool = True
    #: `provider/model` that writes the summaries; null is the session's own
    compaction_model: str | None = None
    #: how long providers are asked to keep the beginning of requests in their caches
    prompt_cache: Literal["off", "5m", "1h"] = "5m"
    #: tool calls that start while the model's answer is still streamed
    eager: Literal["off", "read_only", "idempotent"] = "read_only"


@attrs.frozen(kw_only=True)
class AgentsConfig:
    """The `agents` section."""

    defaults: AgentDefaults = AgentDefaults()


_USER_SKILLS = "~/.clawft/skills"


@attrs.frozen(kw_only=True)
class SkillsConfig:
    """The `skills` section: the folders with skills."""

    #: the user's folder of skills; when it is left out, also `~/.agents/skills` and `~/.claude/skills`
    user: Path | None = attrs.field(factory=lambda: Path(_USER_SKILLS).expanduser())
    #: whether the workspace's skills are read, too: anyone who can write there can instruct the model
    trust_workspace: bool = False

    @property
    def user_folders(self) -> tuple[Path, ...]:
        """The user's folders of skills, most important first."""
        if self.user is None:
            return ()
        if self.user != Path(_USER_SKILLS).expanduser():
            return (self.user,)
        shared = ("~/.agents/skills", "~/.claude/skills")
        return (self.user, *(Path(folder).expanduser() for folder in shared))


@attrs.frozen(kw_only=True)
class MemoryConfig:
    """The `memory` section."""

    #: true: each sender has separate notes; false: all senders share one file. By default the senders of channels have
    #: separate notes, and the local process uses the shared file
    per_sender: bool | None = None


@attrs.frozen(kw_only=True)
class CostBudgets:
    """`routing.cost_budgets`: limits for all senders together, in US dollars and tokens; 0 is unlimited."""

    #: US dollars per day
    global_daily_limit_usd: float = attrs.field(default=0.0, validator=ge(0))
    #: US dollars per month
    global_monthly_limit_usd: float = attrs.field(default=0.0, validator=ge(0))
    #: input and output tokens per day
    global_daily_limit_tokens: int = attrs.field(default=0, validator=ge(0))
    #: input and output tokens per month
    global_monthly_limit_tokens: int = attrs.field(default=0, validator=ge(0))
    #: of clawft; not used: the ledger is in the store
    tracking_persistence: bool = True
    #: hour at which a day begins
    reset_hour_utc: int = attrs.field(default=0, validator=and_(ge(0), le(23)))


@attrs.frozen(kw_only=True)
class RoutingConfig(RoutingPolicy):
    """The `routing` section: which models are used, by whom, how often and at what cost."""

    permissions: PermissionsPolicy = attrs.field(factory=PermissionsPolicy)
    cost_budgets: CostBudgets = CostBudgets()
    rate_limiting: RateLimitPolicy = RateLimitPolicy()


@attrs.frozen(kw_only=True)
class PipelineConfig:
    """The `pipeline` section."""

    scorer: Literal["noop", "fitness"] = "noop"
    learner: Literal["noop", "trajectory"] = "noop"


@attrs.frozen(kw_only=True)
class Config:
    """A complete config.json."""

    #: defaults of the agent
    agents: AgentsConfig = AgentsConfig()
    #: providers by the name before the slash
    providers: Mapping[str, ProviderConfig] = attrs.field(factory=dict)
    #: options of single models by `provider/model`, and what they accept
    model_options: Mapping[str, ModelConfig] = attrs.field(factory=dict, metadata=alias("models"))
    #: where sessions, turns and costs are stored: a file, or `postgresql://…`; null: in memory
    store: Secret | None = None
    #: retries of failed requests
    retry: RetryConfig = RetryConfig()
    #: clocks
    timeouts: TimeoutsConfig = TimeoutsConfig()
    #: adaptive limit of the load on each target
    adaptive_limit: AdaptiveLimitConfig = AdaptiveLimitConfig()
    #: fallback models as `provider/model`, in order of preference
    failover: tuple[str, ...] = ()
    #: queue sizes and overflow policies
    bus: BusConfig = BusConfig()
    #: concurrency, MCP servers, commands
    tools: ToolsConfig = ToolsConfig()
    #: files of other clients whose MCP servers are used: `.mcp.json`, claude_desktop_config.json, mcp.json
    mcp_config: tuple[Path, ...] = ()
    #: tiers, permissions, rate limits, budgets
    routing: RoutingConfig = attrs.field(factory=RoutingConfig)
    #: scorer and learner
    pipeline: PipelineConfig = PipelineConfig()
    #: US dollars per million tokens, by `provider/model`; they override prices of tiers and of genai-prices
    prices: Mapping[str, ModelPrice] = attrs.field(factory=dict)
    #: `provider/model` whose price a target has: Azure deployments, names with a region; `*` may end both
    price_aliases: Mapping[str, str] = attrs.field(factory=dict)
    #: context windows in tokens, input and output together, by pattern of `provider/model`; the first match counts
    context_windows: Mapping[str, int] = attrs.field(factory=dict, validator=_WINDOWS)
    #: folders with skills
    skills: SkillsConfig = attrs.field(factory=SkillsConfig)
    #: notes between conversations
    memory: MemoryConfig = MemoryConfig()
    #: of clawft; not used, with a warning
    gateway: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    channels: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    delegation: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    voice: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    kernel: Any = attrs.field(default=None, repr=False)
    #: settings that were given and have no effect, each with its place
    warnings: tuple[Problem, ...] = attrs.field(init=False, default=(), eq=False)

    @property
    def store_place(self) -> str | None:
        """The argument of `open_store` for `store`; None when it is not set."""
        place = "" if self.store is None else self.store.get_secret_value()
        return (place if is_address(place) else str(Path(place).expanduser())) if place else None

    @property
    def models(self) -> tuple[str, ...]:
        """The targets in order of preference: the default model, then `failover`, each once."""
        first = self.agents.defaults.model
        return tuple(dict.fromkeys(([first] if first else []) + list(self.failover)))

    def retry_of(self, provider: str) -> RetryConfig:
        """Return the retries of one provider: its own section over the general one."""
        own = self.providers.get(provider)
        return self.retry if own is None else own.retry.over(self.retry)

    def policy_of(self, provider: str, budget: RetryBudget | None = None, *, model: str = "") -> Policy:
        """Return the strategies around each target of *provider*, with the clocks of *model* where it has its own."""
        timeouts = self.timeouts_of(provider, model=model)
        limit = self.adaptive_limit.policies()
        return compose(self.retry_of(provider).policy(budget), CircuitBreaker(), *limit, timeouts.attempt)

    def timeouts_of(self, provider: str, *, model: str = "") -> TimeoutsConfig:
        """Return the clocks of one provider: its own section over the general one, with longer ones for a local server.

        With *model*, that model's clocks override them.
        """
        general = self._timeouts_of_provider(provider)
        own = self.model_options.get(f"{provider}/{model}")
        return general if own is None or own.clocks is None else own.clocks.over(general)

    def _timeouts_of_provider(self, provider: str) -> TimeoutsConfig:
        general = self.timeouts
        # A local server loads the model before it sends its headers.
        if provider in KNOWN and KNOWN[provider].local and general.first_byte_ms == TimeoutsConfig().first_byte_ms:
            general = attrs.evolve(general, first_byte_ms=LOCAL_FIRST_BYTE * 1000)
        own = self.providers.get(provider)
        return general if own is None else own.timeouts.over(general)

    def hedge_after_of(self, target: str) -> float | None:
        """Return the seconds of silence of *target*, a `provider/model`, after which the next target is called, too."""
        provider, model = split_name(target)
        return self.timeouts_of(provider, model=model).hedge_after
