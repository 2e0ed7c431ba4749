"""Whether a provider can be reached, takes the key, and has the models that are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

import attrs
import trio

from clawft_trio.cli.agent import targets_of
from clawft_trio.cli.options import SERVER, Chosen
from clawft_trio.cli.report import CheckResult
from clawft_trio.config import Config, ProviderConfig
from clawft_trio.errors import (
    AuthFailed,
    ClawftError,
    ModelNotFound,
    NotConfigured,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TransportFailed,
)
from clawft_trio.llm import KNOWN, OpenAICompatible
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.similar import closest


def models_of(chosen: Chosen, config: Config) -> tuple[str, ...]:
    """Every `provider/model` that the options and the configuration name, each once."""
    if chosen.base_url is not None:
        return tuple(map(chosen.target, chosen.models))
    routing = config.routing
    tiered = [model for tier in routing.tiers for model in tier.models]
    last = [routing.fallback_model] if routing.fallback_model else []
    return tuple(dict.fromkeys([*chosen.models, *config.models, *tiered, *routing.failover, *last]))


def providers_of(chosen: Chosen, config: Config) -> tuple[str, ...]:
    """The providers to look at: those that are named, else those whose keys are set."""
    if chosen.base_url is not None:
        return (SERVER,)
    named = dict.fromkeys([*(model.partition("/")[0] for model in models_of(chosen, config)), *config.providers])
    if named:
        return tuple(named)
    return tuple(name for name, known in KNOWN.items() if not known.local and _set(known.key_variables))


async def check_provider(name: str, chosen: Chosen, config: Config) -> CheckResult:
    """Ask the provider *name* for its list of models, which costs nothing.

    Cancellation: the connection is closed.
    """
    await trio.lowlevel.checkpoint()
    wrong = partial(CheckResult, check="provider", subject=name, outcome="problem")
    try:
        key = key_origin(name, chosen, config)
        # The list is asked of all alike, so a model that nobody named will do.
        _, make = targets_of(attrs.evolve(chosen, models=chosen.models or (f"{name}/any",)), config)
        provider = make(name)
    except NotConfigured as exc:
        return wrong(message=str(exc), advice=_bad_address(name, chosen, config) or _missing(name))
    assert isinstance(provider, HttpProvider)
    try:
        async with provider:
            listed = await provider.list_models()
    except ModelNotFound:
        return CheckResult(check="provider", subject=name, message=f"reached; it has no list of models; {key}")
    except ClawftError as exc:
        finding = wrong(message=f"{type(exc).__name__}: {exc}".rstrip(": "), advice=_advice(exc, name, key))
        return attrs.evolve(finding, outcome="warning") if isinstance(exc, RateLimited | ServerError) else finding
    return _listed(name, [model for model in models_of(chosen, config) if model.startswith(f"{name}/")], listed, key)


def _listed(name: str, named: Iterable[str], listed: tuple[str, ...], key: str) -> CheckResult:
    about = partial(CheckResult, check="provider", subject=name)
    message = f"{len(listed)} models; {key}"
    absent = list(_absent([model.partition("/")[2] for model in named], listed))
    if not absent:
        return about(message=message)
    close = [match for model in absent for match in closest(model, listed)]
    advice = f"Did you mean {' and '.join(close)}?" if close else "Look the name up with the provider."
    return about(outcome="warning", message=f"{message}; not on its list: {', '.join(absent)}", advice=advice)


def _absent(models: Iterable[str], listed: tuple[str, ...]) -> Iterator[str]:
    """Models that are not on the list; a dated version of one is (`claude-x` and `claude-x-20260101`)."""
    for model in models:
        if not any(one == model or one.startswith((f"{model}-", f"{model}:")) for one in listed):
            yield model


def key_origin(name: str, chosen: Chosen, config: Config) -> str:
    """Where the key of *name* comes from, in words; never the key."""
    if chosen.api_key_env is not None:
        return f"key from {chosen.api_key_env}"
    own = ProviderConfig() if chosen.base_url is not None else config.providers.get(name, ProviderConfig())
    if own.api_key is not None and own.api_key.variables:
        return f"key from {' and '.join(own.api_key.variables)}, as the configuration says"
    if own.api_key:
        return "key from the configuration file"
    known = None if chosen.base_url is not None else KNOWN.get(name)
    variable = _set(known.key_variables) if known is not None else None
    return f"key from {variable}" if variable else "without a key"


def _set(variables: Iterable[str]) -> str | None:
    return next((variable for variable in variables if os.environ.get(variable, "").strip()), None)


def _missing(name: str) -> str:
    known = KNOWN.get(name)
    if known is None or not known.key_variables:
        return "Name the variable that holds its key with --api-key-env, or its address in the configuration."
    return f"Set {' or '.join(known.key_variables)}, or name another variable in the configuration: ${{VARIABLE}}."


def _bad_address(name: str, chosen: Chosen, config: Config) -> str:
    """What to do about the address of *name*; empty when there is nothing wrong with it."""
    own = config.providers.get(name, ProviderConfig()).api_base
    try:
        OpenAICompatible(name, base_url=chosen.base_url or own or "http://localhost")
    except NotConfigured:
        place = f"$.providers[{name!r}].api_base" if chosen.base_url is None else "--base-url"
        return f"Correct {place}: http:// or https://, a host, and no credentials."
    return ""


def _advice(exc: ClawftError, name: str, key: str) -> str:
    known = KNOWN.get(name)
    if isinstance(exc, AuthFailed):
        return f"The {key} is refused: make a new one there, and set it." if key.startswith("key") else _missing(name)
    if isinstance(exc, QuotaExhausted):
        return "Its account has no credit left: add some there."
    if isinstance(exc, RateLimited | ServerError):
        return "It is there, and has trouble just now: try again later."
    if isinstance(exc, TransportFailed) and (known is None or known.local):
        return "Is it running, and the address right? Start it, or take it out of the configuration."
    if isinstance(exc, TransportFailed):
        return "Is the network up, and does it need a proxy (HTTPS_PROXY)?"
    return "Is that the address of an API, up to and including its version?"
