"""The parts of an agent, made from a configuration."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from clawft_trio.agent.compaction import CompactionPolicy, SummaryCompactor
from clawft_trio.agent.turn_types import TurnPolicy
from clawft_trio.chat import Provider
from clawft_trio.config import Config, McpServerConfig, ProviderConfig, Secret
from clawft_trio.config.policies import command_policy, fetch_policy
from clawft_trio.config.schema import ModelConfig
from clawft_trio.config.structuring import unfilled
from clawft_trio.context import Skills, workspace_skill_folders
from clawft_trio.costs import (
    MIGRATIONS as COST_MIGRATIONS,
    Calendar,
    CostTracker,
    Ledger,
    Limits,
    OwedFile,
    Prices,
    load_price_list,
    tier_prices,
)
from clawft_trio.errors import ConfigError, InvalidData, MissingKey, NotConfigured, Problem
from clawft_trio.files import FileCache
from clawft_trio.llm import KNOWN, KnownProvider, Quirks, Rules, provider_named
from clawft_trio.llm.catalog import find_url, known_provider, vendor_at, vendor_of
from clawft_trio.llm.conform import overlay
from clawft_trio.mcp import FileTokenStore, HttpServer, OAuth, StdioServer, ToolServer
from clawft_trio.mcp.auth.store import default_token_file
from clawft_trio.mcp.connect import Server
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.pipeline import (
    MODEL_WINDOWS,
    Router,
    Selection,
    StaticRouter,
    Target,
    TieredRouter,
    WindowOf,
    by_pattern,
    input_window,
)
from clawft_trio.store import Store, open_store
from clawft_trio.target import split_name
from clawft_trio.tools.builtin import BuiltinPolicy


def provider_maker(config: Config, environ: Mapping[str, str] | None = None) -> Callable[[str], Provider]:
    """Return a function that makes a provider by its name: from its section, which overrides the catalog."""

    def make(name: str) -> Provider:
        own = config.providers.get(name, ProviderConfig())
        options = _options(config, name, own)
        if own.api_key is not None and own.api_key.missing:
            raise MissingKey(f"no key for {name!r}: set {' and '.join(own.api_key.missing)}", provider=name)
        key = secret_value(own.api_key, f"the key of {name!r}")
        known = KNOWN if name in KNOWN or own.api_base is None else {name: KnownProvider(base_url=own.api_base)}
        options |= _quirks(config, name, known[name].quirks if name in known else Quirks(), own)
        options |= _apis(config, name, known.get(name), own)
        return provider_named(
            name,
            api_key=key,
            base_url=own.api_base,
            environ=environ,
            known=known,
            rules=_rules(config, name, own),
            api_version=own.api_version,
            deployments=own.deployments,
            **options,
        )

    return make


def _models_of(config: Config, name: str) -> Iterator[tuple[str, str, ModelConfig]]:
    """Yield the models of a provider that have a section: its place in the file, the model, and the section."""
    for target, own in config.model_options.items():
        provider, model = split_name(target)
        if provider == name:
            yield f"$.models[{target!r}]", model, own


def _rules(config: Config, name: str, own: ProviderConfig) -> dict[str, Mapping[str, Any]]:
    """Return the rules for models, by patterns of their names: the provider's rules, then each model's."""
    given = [(f"$.providers[{name!r}]", "*", own.rules)]
    given += [(place, model.lower(), one.rules) for place, model, one in _models_of(config, name)]
    for place, _, rules in given:
        with _at(f"{place}.rules"):
            overlay(Rules(), rules)
    return {pattern: rules for _, pattern, rules in given if rules}


def _quirks(config: Config, name: str, known: Quirks, own: ProviderConfig) -> dict[str, Any]:
    """Return the options for the quirks in the config; empty when it has none."""
    with _at(f"$.providers[{name!r}].quirks"):
        general = known.over(own.quirks)
    models: dict[str, Quirks] = {}
    for place, model, one in _models_of(config, name):
        if one.quirks:
            with _at(f"{place}.quirks"):
                models[model] = general.over(one.quirks)
    return ({"quirks": general} if own.quirks else {}) | ({"model_quirks": models} if models else {})


def _apis(config: Config, name: str, known: KnownProvider | None, own: ProviderConfig) -> dict[str, Any]:
    """Return the option with the models that use the Responses API; empty when no section has `api`."""
    given = [(place, model.lower(), one.api) for place, model, one in _models_of(config, name) if one.api is not None]
    given += [] if own.api is None else [(f"$.providers[{name!r}]", "*", own.api)]
    if not given or known is None:
        # Nothing can be asked at an unknown provider without an address.
        return {}
    for place, _, api in given:
        if api == "responses" and (known.dialect != "openai" or known.azure):
            raise ConfigError([Problem(f"{place}.api", f"{name!r} is not asked through the Responses API here")])
    if known.dialect != "openai":
        return {}
    patterns = [pattern if api == "responses" else f"!{pattern}" for _, pattern, api in given]
    return {"responses_models": (*patterns, *known.responses_models)}


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Add the place in the file to the problems raised in the block."""
    try:
        yield
    except InvalidData as exc:
        problems = [Problem(place + one.path.removeprefix("$"), one.message) for one in exc.problems]
        raise ConfigError(problems) from None


def _options(config: Config, name: str, own: ProviderConfig) -> dict[str, Any]:
    options: dict[str, Any] = {
        "retryable_statuses": config.retry_of(name).statuses,
        "clocks": config.timeouts_of(name).clocks,
        "headers": {
            header: secret_value(value, f"header {header!r} of {name!r}") or ""
            for header, value in (own.extra_headers or {}).items()
        },
    }
    clocks = {
        model: config.timeouts_of(name, model=model).clocks
        for _, model, one in _models_of(config, name)
        if one.clocks is not None
    }
    if clocks:
        options["model_clocks"] = clocks
    if own.concurrency is not None:
        options["connections"] = own.concurrency
    return options


def secret_value(secret: Secret | None, what: str) -> str | None:
    """Return the value of *secret*; None when it is empty.

    Raises:
      NotConfigured: its environment variable is not set.
    """
    if secret is None:
        return None
    if secret.missing:
        raise NotConfigured(f"{what} is not there: set {' and '.join(secret.missing)}")
    value = secret.get_secret_value() or None
    _refuse_unfilled(value, what)
    return value


def _refuse_unfilled(text: str | None, what: str) -> None:
    """Refuse *text* with variables that are not set, or with a placeholder that another program would fill in."""
    missing = unfilled(text) if text else getattr(text, "missing", ())
    if missing:
        raise NotConfigured(f"{what} is incomplete: set {' and '.join(missing)}")


def mcp_servers(config: Config) -> dict[str, ToolServer]:
    """Return the MCP servers by name.

    Raises:
      ConfigError: a server has neither a command nor an address, or both.
      NotConfigured: a variable that a server needs is not set.
    """
    return {name: _tool_server(name, own) for name, own in config.tools.mcp_servers.items() if not own.disabled}


def _tool_server(name: str, own: McpServerConfig) -> ToolServer:
    return ToolServer(
        _server(name, own),
        allow=own.allow,
        deny=own.deny,
        internal_only=own.internal_only,
        trust_hints=own.trust_hints,
        total=None if own.total_ms is None else own.total_ms / 1000,
        strategy=None if own.retry is None else own.retry.policy(),
    )


def _server(name: str, own: McpServerConfig) -> Server:
    if (own.command is None) == (own.url is None):
        raise ConfigError([Problem(f"$.tools.mcp_servers[{name!r}]", "expected either command or url")])
    wrong = {"stdio": own.url, "http": own.command}.get(own.transport or "")
    if wrong is not None:
        what = "a command" if own.transport == "stdio" else "a url"
        raise ConfigError([Problem(f"$.tools.mcp_servers[{name!r}].transport", f"{own.transport} needs {what}")])
    for text in (own.command, own.cwd, own.url, *own.args):
        _refuse_unfilled(text, f"the command or address of MCP server {name!r}")
    if own.command is not None:
        env = {key: secret_value(value, f"{key} of MCP server {name!r}") or "" for key, value in own.env.items()}
        return StdioServer(
            (own.command, *own.args), env=env, cwd=None if own.cwd is None else str(Path(own.cwd).expanduser())
        )
    headers = {
        key: secret_value(value, f"header {key!r} of MCP server {name!r}") or "" for key, value in own.headers.items()
    }
    assert own.url is not None
    if any(key.lower() == "authorization" for key in headers):
        return HttpServer(own.url, headers=headers)
    # No user can log in here; `clawft-trio mcp list URL` stores the tokens.
    return HttpServer(own.url, headers=headers, auth=OAuth(store=FileTokenStore(default_token_file())))


@asynccontextmanager
async def open_tracker(
    config: Config,
    store: Store,
    models: Iterable[str],
    given: Mapping[str, Provider],
    *,
    owed: OwedFile | None = None,
) -> AsyncGenerator[CostTracker, None]:
    """Open the cost tracker, with its ledger in *store*.

    Args:
      models: `provider/model` of every model that may be called.
      given: providers by the name before the slash; those at the address of a vendor in the catalog have its prices.
      owed: keeps settlements that cannot be written after this process ends.

    Cancellation: settlements that cannot be written in time are in *owed*.
    """
    budgets = config.routing.cost_budgets
    prices = await _prices(config, models, given)
    limits = Limits(
        daily=budgets.global_daily_limit_usd,
        monthly=budgets.global_monthly_limit_usd,
        daily_tokens=budgets.global_daily_limit_tokens,
        monthly_tokens=budgets.global_monthly_limit_tokens,
    )
    async with AsyncExitStack() as stack:
        if not budgets.tracking_persistence:
            store, owed = await stack.enter_async_context(open_store(None, migrations=COST_MIGRATIONS)), None
        ledger = Ledger(store, calendar=Calendar(budgets.reset_hour_utc))
        tracker = CostTracker(ledger, prices, everybody=limits, owed=owed)
        nursery = await stack.enter_async_context(open_hidden_nursery())
        await nursery.start(tracker.serve)
        try:
            yield tracker
        finally:
            # Pending settlements are written now, shielded and bounded.
            nursery.cancel_scope.cancel(reason="cost tracker closed")


def owed_file(store: Store) -> OwedFile | None:
    """Return the file beside *store* for pending settlements; None in memory and for a server."""
    path = store.statistics().path
    return None if path is None else OwedFile(path.with_name(f"{path.name}.owed"))


async def _prices(config: Config, models: Iterable[str], given: Mapping[str, Provider]) -> Prices:
    tiered = [target for tier in config.routing.tiers for target in tier.targets()]
    asked = {split_name(model)[0] for model in (*models, *(target.name for target in tiered))}
    reached = {name: vendor_of(given[name]) if name in given else _vendor(config, name) for name in asked | set(given)}
    unlisted = frozenset(name for name, vendor in reached.items() if not vendor)
    return Prices(
        explicit={**tier_prices(tiered), **config.prices},
        # Importing the list takes a quarter of a second, so only if it can have a price.
        listed=await load_price_list() if asked - unlisted or config.price_aliases else None,
        unlisted=unlisted,
        vendors={name: vendor for name, vendor in reached.items() if vendor},
        aliases=config.price_aliases,
    )


async def unpriced_models(config: Config, models: Sequence[str]) -> dict[str, str]:
    """Return those of *models* (`provider/model`) without a price, each with the reason.

    Cancellation: nothing is kept.
    """
    prices = await _prices(config, models, {})
    found = {model: prices.find(Target.parse(model), 0, datetime.now(UTC)) for model in models}
    return {model: price.why for model, price in found.items() if price.price is None}


def _vendor(config: Config, name: str) -> str:
    """Return the vendor at the address of the provider called *name*; empty when it is not a known vendor."""
    own = config.providers.get(name)
    if own is not None and own.api_base:
        return vendor_at(own.api_base)
    try:
        return vendor_at(find_url(name, known_provider(name)))
    except NotConfigured:
        # The problem is reported where the provider is made.
        return ""


def router(config: Config, models: Sequence[str], selection: Selection) -> Router:
    """Make the router.

    Raises:
      NotConfigured: no model is configured or given.
    """
    if config.routing.mode == "tiered":
        policy = config.routing
        return TieredRouter(attrs.evolve(policy, failover=policy.failover or config.failover), selection=selection)
    if not models:
        raise NotConfigured("no model: name one, as provider/model")
    return StaticRouter(models, strategy=config.routing.selection_strategy, selection=selection)


def turn_policy(config: Config) -> TurnPolicy:
    """Make the policy of turns."""
    defaults = config.agents.defaults
    return TurnPolicy(
        max_tool_iterations=defaults.max_tool_iterations,
        memory_window=defaults.memory_window,
        total=config.timeouts.total,
        instructions=defaults.instructions,
        max_tokens=defaults.max_tokens,
        temperature=defaults.temperature,
        reasoning_effort=defaults.reasoning_effort,
        thinking_budget=defaults.thinking_budget,
        verbosity=defaults.verbosity,
        seed=defaults.seed,
        extra=defaults.extra,
        eager=defaults.eager,
        compaction=CompactionPolicy(
            compactor=SummaryCompactor(model=defaults.compaction_model or "") if defaults.compaction else None
        ),
        prompt_cache=defaults.prompt_cache,
    )


def window_of(config: Config, given: Collection[str], prices: Prices | None = None) -> WindowOf:
    """Return the lookup of windows: in the configuration, then in the price list, then in the table of models.

    List and table do not apply at the user's own addresses, where a name may mean any model.
    """
    configured, tabled = by_pattern(config.context_windows), by_pattern(MODEL_WINDOWS)
    elsewhere = frozenset({*given, *(name for name, own in config.providers.items() if own.api_base)})

    def look_up(target: Target) -> int | None:
        own = configured(target)
        if own is not None:
            return own
        known = None if prices is None else prices.context_window(target)
        if known is None and target.provider not in elsewhere:
            known = tabled(target)
        return None if known is None else input_window(target, known)

    return look_up


def skills_of(config: Config, workspace: Path, cache: FileCache, *, trust_workspace: bool = False) -> Skills:
    """Make the skills of *workspace* and of its user, by the configuration.

    Args:
      trust_workspace: read the workspace's skills even if the configuration does not trust them.
    """
    return Skills(
        cache,
        workspace=workspace_skill_folders(workspace),
        user=config.skills.user_folders,
        trust_workspace=trust_workspace or config.skills.trust_workspace,
    )


def builtin_policy(config: Config) -> BuiltinPolicy:
    """Make the policy of the built-in tools."""
    tools = config.tools
    return BuiltinPolicy(unapproved=tools.unapproved, commands=command_policy(tools), fetch=fetch_policy(tools))
