"""The classes of a config.json, composed of the subpackages' own policies.

clawft's file is accepted as it is; a setting without a counterpart (`gateway`, `channels`, `voice`, …) gives a
warning. Durations in the file are milliseconds, as their names say; in the policies they are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs.validators import and_, deep_mapping, ge, gt, instance_of, le, optional

from clawft_trio.bus import BusConfig
from clawft_trio.config.redaction import show_address, show_arguments
from clawft_trio.config.structuring import Secret, alias
from clawft_trio.costs import ModelPrice
from clawft_trio.errors import Problem
from clawft_trio.llm.catalog import KNOWN, LOCAL_FIRST_BYTE
from clawft_trio.llm.model_options import ModelOptions
from clawft_trio.net import Clocks
from clawft_trio.pipeline import PermissionsPolicy, RateLimitPolicy, RoutingPolicy
from clawft_trio.resilience import AdaptiveLimit, CircuitBreaker, Policy, Retry, RetryBudget, Timeout, compose
from clawft_trio.retry_hints import RETRYABLE_STATUSES
from clawft_trio.store.address import is_address
from clawft_trio.target import split_name

_WINDOWS: Any = deep_mapping(value_validator=ge(1), key_validator=instance_of(str))


def _ms(default: float | None, *names: str) -> Any:
    return attrs.field(default=default, validator=optional(gt(0)), metadata=alias(*names))


@attrs.frozen(kw_only=True)
class RetryConfig:
    """The `retry` section: for all providers, or for one of them. What it leaves out is the general one's."""

    #: retries after the first attempt
    max_retries: int | None = attrs.field(default=None, validator=optional(ge(0)), metadata=alias("count"))
    #: the cap of the first wait
    base_delay_ms: float | None = _ms(None, "initial_backoff_ms")
    #: no wait is longer
    max_delay_ms: float | None = _ms(None, "max_backoff_ms")
    #: by which the cap grows with each further wait
    backoff_multiplier: float | None = attrs.field(default=None, validator=optional(and_(ge(1), le(100))))
    #: the share of a wait that is random: 1 is full jitter, 0.5 equal jitter, 0 none
    jitter_fraction: float | None = attrs.field(
        default=None, validator=optional(and_(ge(0), le(1))), metadata=alias("jitter")
    )
    #: an empty list is 500 to 599
    retryable_status_codes: tuple[int, ...] | None = None
    #: a server that asks for more is not waited for
    max_retry_after_ms: float | None = _ms(None)
    #: no retry starts later than this after the first attempt
    total_ms: float | None = _ms(None)

    def over(self, general: RetryConfig) -> RetryConfig:
        """*general* with everything that this one sets."""
        own = {name: value for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        return attrs.evolve(general, **own)

    def policy(self, budget: RetryBudget | None = None) -> Retry:
        """The strategy that this describes."""
        given: dict[str, Any] = {
            "max_retries": self.max_retries,
            "first_wait": _seconds(self.base_delay_ms),
            "longest_wait": _seconds(self.max_delay_ms),
            "multiplier": self.backoff_multiplier,
            "jitter": self.jitter_fraction,
            "longest_retry_after": _seconds(self.max_retry_after_ms),
            "total": _seconds(self.total_ms),
        }
        return Retry(budget=budget, **{name: value for name, value in given.items() if value is not None})

    @property
    def statuses(self) -> frozenset[int]:
        """The HTTP statuses after which the same request may be sent again."""
        if self.retryable_status_codes is None:
            return frozenset(RETRYABLE_STATUSES)
        return frozenset(self.retryable_status_codes or range(500, 600))


@attrs.frozen(kw_only=True)
class TimeoutsConfig:
    """The clocks, in milliseconds; null switches one off."""

    #: until the connection is ready
    connect_ms: float | None = _ms(5_000.0)
    #: until the headers of a response; local servers have 300 000 unless it is set
    first_byte_ms: float | None = _ms(30_000.0)
    #: until the first content of an answer
    first_content_ms: float | None = _ms(60_000.0)
    #: between two pieces of content; pings do not count
    gap_ms: float | None = _ms(25_000.0)
    #: the same after a fragment of a tool call
    tool_gap_ms: float | None = _ms(180_000.0)
    #: for a whole turn
    total_ms: float | None = _ms(600_000.0)
    #: silence after which the next target is asked beside
    hedge_after_ms: float | None = _ms(10_000.0)
    #: until the headers of an answer that is not streamed
    unstreamed_ms: float | None = _ms(600_000.0)
    #: how long a model may be quiet after it has shown that it thinks
    thinking_ms: float | None = _ms(120_000.0)
    #: how long the end of a body may take after the end of the answer in it
    linger_ms: float = attrs.field(default=2_000.0, validator=ge(0))

    @property
    def clocks(self) -> Clocks:
        """Those of the transport."""
        return Clocks(
            connect=_seconds(self.connect_ms),
            first_byte=_seconds(self.first_byte_ms),
            unstreamed=_seconds(self.unstreamed_ms),
            thinking=_seconds(self.thinking_ms),
            linger=self.linger_ms / 1000,
        )

    @property
    def attempt(self) -> Timeout:
        """Those of one attempt."""
        return Timeout(
            first_content=_seconds(self.first_content_ms),
            gap=_seconds(self.gap_ms),
            tool_gap=_seconds(self.tool_gap_ms),
        )

    @property
    def total(self) -> float | None:
        """Seconds for a whole turn."""
        return _seconds(self.total_ms)

    @property
    def hedge_after(self) -> float | None:
        """Seconds of silence after which the next target is asked beside."""
        return _seconds(self.hedge_after_ms)


@attrs.frozen(kw_only=True)
class AdaptiveLimitConfig:
    """The `adaptive_limit` section: keep to each target's limits, by its headers or by trying."""

    #: whether it is kept to
    enabled: bool = False
    #: attempts at once and a second at the start, where the target states no limits
    initial: int = attrs.field(default=10, validator=ge(1))
    #: attempts at once below which it never goes
    min_concurrent: int = attrs.field(default=1, validator=ge(1))
    #: attempts at once above which it never goes
    max_concurrent: int = attrs.field(default=1000, validator=ge(1))
    #: calls that may wait for one target
    queue: int = attrs.field(default=1000, validator=ge(0))
    #: how long a call may wait; null waits as long as its turn may take. With another target at hand, `hedge_after_ms`
    queue_for_ms: float | None = _ms(60_000.0)

    def policies(self) -> tuple[AdaptiveLimit, ...]:
        """The strategy, if it is wanted."""
        if not self.enabled:
            return ()
        return (
            AdaptiveLimit(
                initial=self.initial,
                min_concurrent=self.min_concurrent,
                max_concurrent=self.max_concurrent,
                queue=self.queue,
                queue_for=_seconds(self.queue_for_ms),
            ),
        )


_UNSET = -1.0
"""Milliseconds of a clock that a model leaves to the general one: null switches it off."""


@attrs.frozen(kw_only=True)
class ClocksConfig:
    """The clocks of one model, in milliseconds, over those of its provider; null switches one off."""

    connect_ms: float | None = _UNSET
    first_byte_ms: float | None = _UNSET
    unstreamed_ms: float | None = _UNSET
    thinking_ms: float | None = _UNSET
    linger_ms: float = _UNSET
    first_content_ms: float | None = _UNSET
    gap_ms: float | None = _UNSET
    tool_gap_ms: float | None = _UNSET
    hedge_after_ms: float | None = _UNSET

    def __attrs_post_init__(self) -> None:
        """Check what the general section checks, now and not when the model is first asked."""
        self.over(TimeoutsConfig())

    def over(self, general: TimeoutsConfig) -> TimeoutsConfig:
        """*general* with the clocks that are set here."""
        own = {name: value for name, value in attrs.asdict(self).items() if value != _UNSET}
        return attrs.evolve(general, **own)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


@attrs.frozen(kw_only=True)
class ProviderTimeoutsConfig:
    """The clocks of one provider, in milliseconds. What it leaves out is the general section's."""

    connect_ms: float | None = _ms(None)
    first_byte_ms: float | None = _ms(None)
    first_content_ms: float | None = _ms(None)
    gap_ms: float | None = _ms(None)
    tool_gap_ms: float | None = _ms(None)
    hedge_after_ms: float | None = _ms(None)
    unstreamed_ms: float | None = _ms(None)
    thinking_ms: float | None = _ms(None)
    linger_ms: float | None = attrs.field(default=None, validator=optional(ge(0)))

    def over(self, general: TimeoutsConfig) -> TimeoutsConfig:
        """*general* with every clock that is set here."""
        own = {name: value for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        return attrs.evolve(general, **own)


@attrs.frozen(kw_only=True)
class ProviderConfig:
    """How one provider is reached."""

    #: the key, or `${VARIABLE}`; empty looks at the provider's usual variables
    api_key: Secret | None = None
    #: the base URL, up to and including the version
    api_base: str | None = attrs.field(default=None, metadata=alias("base_url"), repr=show_address)
    #: sent with every request
    extra_headers: Mapping[str, Secret] | None = None
    #: over the general `retry` section
    retry: RetryConfig = RetryConfig()
    #: OpenAI's API that its models are asked through: chat completions or the Responses API; null goes by the model
    api: Literal["chat", "responses"] | None = None
    #: where its servers differ from others of their dialect: fields of `llm.Quirks`, in snake or camel case. For
    #: example `{"think_tags": true}`: text between `<think>` and `</think>` is reasoning
    quirks: Mapping[str, Any] = attrs.field(factory=dict)
    #: what its models accept, over what the catalog knows: fields of `llm.Rules`
    rules: Mapping[str, Any] = attrs.field(factory=dict)
    #: for Azure: addresses deployments by path
    api_version: str | None = None
    #: for Azure: names of deployments by model, where they differ
    deployments: Mapping[str, str] = attrs.field(factory=dict)
    #: over the general `timeouts` section
    timeouts: ProviderTimeoutsConfig = ProviderTimeoutsConfig()
    #: requests at once; None is the transport's own limit
    concurrency: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: of clawft; for browsers
    browser_direct: bool = False
    #: of clawft; for browsers
    cors_proxy: str | None = attrs.field(default=None, repr=show_address)


@attrs.frozen(kw_only=True)
class ModelConfig:
    """One model: `models["openai/gpt-5-mini"]`. What it leaves out is the general one's."""

    reasoning_effort: str | None = None
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    verbosity: str | None = None
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    seed: int | None = None
    #: put into the request body as it is, over everything else
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: OpenAI's API that the model is asked through, over the provider's
    api: Literal["chat", "responses"] | None = None
    #: where the server differs for this model, over the provider's: fields of `llm.Quirks`, such as `think_tags`
    quirks: Mapping[str, Any] = attrs.field(factory=dict)
    #: what the model accepts, over what the catalog knows: fields of `llm.Rules`
    rules: Mapping[str, Any] = attrs.field(factory=dict)
    #: milliseconds, over the provider's `timeouts`: every clock but the total one; null switches one off
    clocks: ClocksConfig | None = None

    @property
    def options(self) -> ModelOptions:
        """How the model is asked."""
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
    """`agents.defaults`."""

    #: the folder whose files become the system prompt
    workspace: Path | None = None
    #: the system prompt, before the files of the workspace
    instructions: str = ""
    #: `provider/model`
    model: str | None = None
    #: limit on the output tokens of each answer
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: null: the model's own
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`
    reasoning_effort: str | None = None
    #: tokens of reasoning, for models that take a limit
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `low`, `medium`, `high`
    verbosity: str | None = None
    #: for models that take one
    seed: int | None = None
    #: put into each request body as it is, over everything else
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: rounds of tool calls in one turn
    max_tool_iterations: int = attrs.field(default=20, validator=ge(1))
    #: messages of the session that the model is shown at most
    memory_window: int = attrs.field(default=500, validator=ge(0))
    #: whether sessions that fill a model's window are summarized; else their oldest turns are cut
    compaction: bool = True
    #: `provider/model` that writes the summaries; null is the session's own
    compaction_model: str | None = None
    #: how long providers are asked to keep the beginning of requests in their caches
    prompt_cache: Literal["off", "5m", "1h"] = "5m"
    #: which tool calls start while the model's answer is still streamed
    eager: Literal["off", "read_only", "idempotent"] = "read_only"


@attrs.frozen(kw_only=True)
class AgentsConfig:
    """The `agents` section."""

    defaults: AgentDefaults = AgentDefaults()


@attrs.frozen(kw_only=True)
class McpServerConfig:
    """One MCP server: a command, or the address of one that speaks streamable HTTP."""

    #: the program, for a server over stdio
    command: str | None = None
    #: its arguments
    args: tuple[str, ...] = attrs.field(default=(), repr=show_arguments)
    #: variables for it, beside the few that every child gets
    env: Mapping[str, Secret] = attrs.field(factory=dict)
    #: the folder that the command starts in; null is this process's
    cwd: str | None = None
    #: the address, for a server over HTTP
    url: str | None = attrs.field(default=None, repr=show_address)
    #: sent with every request
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    #: left out, it follows from `command` or `url`
    transport: Literal["stdio", "http"] | None = None
    #: not started
    disabled: bool = False
    #: started and kept, but its tools are not offered
    internal_only: bool = False
    #: patterns of the tools that are offered; the deny list wins
    allow: tuple[str, ...] = ("*",)
    #: patterns of tools that are not offered
    deny: tuple[str, ...] = ()
    #: take the server's word for which tools only look
    trust_hints: bool = False
    #: how long one call may take; null is the client's default
    total_ms: float | None = _ms(None)
    #: how a call is tried again. Without it once: only who knows the server can say that repeating is safe
    retry: RetryConfig | None = None


@attrs.frozen(kw_only=True)
class ExecConfig:
    """clawft's `tools.exec`: bounds of `run_command`."""

    #: seconds
    timeout: float | None = attrs.field(default=None, validator=optional(gt(0)))


@attrs.frozen(kw_only=True)
class CommandPolicyConfig:
    """clawft's `tools.commandPolicy`: the programs that `run_command` may start.

    `allowlist` adds to `tools.allow_commands`. A program that starts others (`git`, `python`, `sh`, …) is allowed by
    `tools.allow_commands` alone, with its arguments. Everything else is refused, with or without a `denylist`.
    """

    #: which of the two lists counts in clawft
    mode: Literal["allowlist", "denylist"] = "allowlist"
    #: names of programs
    allowlist: tuple[str, ...] = ()
    #: names or patterns of programs; refused also where `allowlist` has them
    denylist: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class UrlPolicyConfig:
    """clawft's `tools.urlPolicy`: the addresses that `web_fetch` may reach, and attachments may have."""

    #: false gives no protection in clawft; here private addresses stay refused unless `allow_private` is set
    enabled: bool = True
    #: reach private, loopback and link-local addresses, too
    allow_private: bool = False
    #: domains that are reached also at private addresses; they do not keep others from being reached
    allowed_domains: tuple[str, ...] = ()
    #: never reached; each with everything below it
    blocked_domains: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ToolsConfig:
    """The `tools` section."""

    #: calls that run at once
    concurrency: int = attrs.field(default=16, validator=ge(1))
    #: servers by name
    mcp_servers: Mapping[str, McpServerConfig] = attrs.field(factory=dict)
    #: file tools cannot leave the workspace
    restrict_to_workspace: bool = True
    #: sets of built-in tools by name (`files`, `memory`, `fetch`, …); none: those that only read
    sets: tuple[str, ...] = ()
    #: offer built-in tools that write, although there is no approval
    unapproved: bool = False
    #: rules of programs that `run_command` may start
    allow_commands: tuple[str, ...] = ()
    #: of clawft: there is no web search
    web: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: of clawft: bounds of `run_command`
    exec: ExecConfig = ExecConfig()
    #: of clawft: programs that `run_command` may start
    command_policy: CommandPolicyConfig = CommandPolicyConfig()
    #: of clawft: addresses that `web_fetch` may reach
    url_policy: UrlPolicyConfig = UrlPolicyConfig()


_USER_SKILLS = "~/.clawft/skills"


@attrs.frozen(kw_only=True)
class SkillsConfig:
    """The `skills` section: where skills are read from."""

    #: the user's own folder of skills; left out, also `~/.agents/skills` and `~/.claude/skills`
    user: Path | None = attrs.field(factory=lambda: Path(_USER_SKILLS).expanduser())
    #: read the workspace's skills, too: anyone who can write there can instruct the model
    trust_workspace: bool = False

    @property
    def user_folders(self) -> tuple[Path, ...]:
        """The user's folders of skills, best first."""
        if self.user is None:
            return ()
        if self.user != Path(_USER_SKILLS).expanduser():
            return (self.user,)
        shared = ("~/.agents/skills", "~/.claude/skills")
        return (self.user, *(Path(folder).expanduser() for folder in shared))


@attrs.frozen(kw_only=True)
class MemoryConfig:
    """The `memory` section."""

    #: true: each sender has notes of its own; false: all share one file. By default the senders of channels have
    #: notes of their own, and the local process has the shared file
    per_sender: bool | None = None


@attrs.frozen(kw_only=True)
class CostBudgets:
    """`routing.cost_budgets`: limits for all senders together, in US dollars and tokens; 0 is unlimited."""

    #: US dollars a day
    global_daily_limit_usd: float = attrs.field(default=0.0, validator=ge(0))
    #: US dollars a month
    global_monthly_limit_usd: float = attrs.field(default=0.0, validator=ge(0))
    #: input and output together
    global_daily_limit_tokens: int = attrs.field(default=0, validator=ge(0))
    #: input and output together
    global_monthly_limit_tokens: int = attrs.field(default=0, validator=ge(0))
    #: of clawft; the ledger is in the store
    tracking_persistence: bool = True
    #: at which a day begins
    reset_hour_utc: int = attrs.field(default=0, validator=and_(ge(0), le(23)))


@attrs.frozen(kw_only=True)
class RoutingConfig(RoutingPolicy):
    """The `routing` section: which models, who may use them, how often and for how much."""

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
    """A whole config.json."""

    #: defaults of the agent
    agents: AgentsConfig = AgentsConfig()
    #: by the name before the slash
    providers: Mapping[str, ProviderConfig] = attrs.field(factory=dict)
    #: by `provider/model`: how one model is asked, and what it accepts
    model_options: Mapping[str, ModelConfig] = attrs.field(factory=dict, metadata=alias("models"))
    #: where sessions, turns and costs are kept: a file, or `postgresql://…`; without it, in memory
    store: Secret | None = None
    #: how failed requests are retried
    retry: RetryConfig = RetryConfig()
    #: clocks
    timeouts: TimeoutsConfig = TimeoutsConfig()
    #: how much at once each target gets
    adaptive_limit: AdaptiveLimitConfig = AdaptiveLimitConfig()
    #: `provider/model`, in the order in which they are tried
    failover: tuple[str, ...] = ()
    #: queue sizes and overflow policies
    bus: BusConfig = BusConfig()
    #: concurrency, MCP servers, commands
    tools: ToolsConfig = ToolsConfig()
    #: files of other clients; their MCP servers are used, too: `.mcp.json`, claude_desktop_config.json, mcp.json
    mcp_config: tuple[Path, ...] = ()
    #: tiers, permissions, rate limits, budgets
    routing: RoutingConfig = attrs.field(factory=RoutingConfig)
    #: scorer and learner
    pipeline: PipelineConfig = PipelineConfig()
    #: US dollars for a million tokens, by `provider/model`; they go before tiers and before the list of genai-prices
    prices: Mapping[str, ModelPrice] = attrs.field(factory=dict)
    #: the `provider/model` with the price of a target: Azure deployments, names with a region; `*` may end both
    price_aliases: Mapping[str, str] = attrs.field(factory=dict)
    #: tokens that models take, input and output together, by pattern of `provider/model`; the first that matches counts
    context_windows: Mapping[str, int] = attrs.field(factory=dict, validator=_WINDOWS)
    #: where skills are read from
    skills: SkillsConfig = attrs.field(factory=SkillsConfig)
    #: notes between conversations
    memory: MemoryConfig = MemoryConfig()
    #: sections of clawft without a counterpart; a warning names each that is set
    gateway: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    channels: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    delegation: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    voice: Any = attrs.field(default=None, repr=False)
    #: of clawft; not used, with a warning
    kernel: Any = attrs.field(default=None, repr=False)
    #: settings that were given and are not used, each with its place
    warnings: tuple[Problem, ...] = attrs.field(init=False, default=(), eq=False)

    @property
    def store_place(self) -> str | None:
        """`store` as `open_store` takes it; None when none is named."""
        place = "" if self.store is None else self.store.get_secret_value()
        return (place if is_address(place) else str(Path(place).expanduser())) if place else None

    @property
    def models(self) -> tuple[str, ...]:
        """The targets in their order: the default model, then `failover`, each once."""
        first = self.agents.defaults.model
        return tuple(dict.fromkeys(([first] if first else []) + list(self.failover)))

    def retry_of(self, provider: str) -> RetryConfig:
        """The retries of one provider: its own section over the general one."""
        own = self.providers.get(provider)
        return self.retry if own is None else own.retry.over(self.retry)

    def policy_of(self, provider: str, budget: RetryBudget | None = None, *, model: str = "") -> Policy:
        """The strategies around each target of *provider*, with the clocks of *model* where it has its own."""
        timeouts = self.timeouts_of(provider, model=model)
        limit = self.adaptive_limit.policies()
        return compose(self.retry_of(provider).policy(budget), CircuitBreaker(), *limit, timeouts.attempt)

    def timeouts_of(self, provider: str, *, model: str = "") -> TimeoutsConfig:
        """The clocks of one provider: its own section over the general one, and longer ones for a local server.

        With *model*, that model's own clocks over them.
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
        """Seconds of silence of *target*, a `provider/model`, after which the next is asked beside."""
        provider, model = split_name(target)
        return self.timeouts_of(provider, model=model).hedge_after
