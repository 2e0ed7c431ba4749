"""Checks whether a provider is reachable, accepts the key, and has the named models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

import attrs
import trio

from clawft_trio.chat import Call, ChatRequest, Message, new_id
from clawft_trio.cli.agent import targets_of
from clawft_trio.cli.options import SERVER, Chosen
from clawft_trio.cli.report import CheckOutcome, CheckResult
from clawft_trio.cli.words import counted
from clawft_trio.config import Config, ProviderConfig
from clawft_trio.errors import (
    AuthFailed,
    ClawftError,
    InvalidResponse,
    ModelNotFound,
    NotConfigured,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TransportFailed,
    WrongAddress,
)
from clawft_trio.llm import KNOWN, OpenAICompatible
from clawft_trio.llm.catalog import url_variable
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.observe import redact_secrets
from clawft_trio.similar import closest
from clawft_trio.target import split_name


def models_of(chosen: Chosen, config: Config) -> tuple[str, ...]:
    """Return every `provider/model` that the options and the configuration name, each once."""
    if chosen.base_url is not None:
        return tuple(map(chosen.target, chosen.models))
    routing = config.routing
    tiered = [model for tier in routing.tiers for model in tier.models]
    last = [routing.fallback_model] if routing.fallback_model else []
    return tuple(dict.fromkeys([*chosen.models, *config.models, *tiered, *routing.failover, *last]))


def providers_of(chosen: Chosen, config: Config) -> tuple[str, ...]:
    """Return the providers to check: those that are named, else those with a key set."""
    if chosen.base_url is not None:
        return (SERVER,)
    named = dict.fromkeys([*(split_name(model)[0] for model in models_of(chosen, config)), *config.providers])
    if named:
        return tuple(named)
    return tuple(name for name, known in KNOWN.items() if not known.local and _set(known.key_variables))


async def check_provider(name: str, chosen: Chosen, config: Config, *, probe: bool = False) -> CheckResult:
    """Request the model list of the provider *name*, which is free; with *probe* request one token from each model.

    Cancellation: the connection is closed.
    """
    await trio.lowlevel.checkpoint()
    wrong = partial(CheckResult, check="provider", subject=name, outcome="problem")
    try:
        key = key_origin(name, chosen, config)
        provider = _made(name, chosen, config)
    except NotConfigured as exc:
        return wrong(message=str(exc), advice=_bad_address(name, chosen, config) or _missing(name))
    origin = "; ".join(filter(None, [key, _url_origin(name, chosen, config)]))
    named = [model for model in models_of(chosen, config) if model.startswith(f"{name}/")]
    async with provider:
        try:
            found = _listed(name, named, await provider.list_models(), origin)
        except ModelNotFound:
            found = CheckResult(check="provider", subject=name, message=f"reached; it has no list of models; {origin}")
        except (WrongAddress, InvalidResponse) as exc:
            found = await _elsewhere(exc, provider, chosen, config)
        except ClawftError as exc:
            finding = wrong(message=_message(exc), advice=_advice(exc, name, key))
            found = attrs.evolve(finding, outcome="warning") if isinstance(exc, RateLimited | ServerError) else finding
        if probe and found.outcome != "problem":
            found = await _probed(found, provider, [split_name(model)[1] for model in named] or ["default"])
    return found


def _made(name: str, chosen: Chosen, config: Config, *, base_url: str | None = None) -> HttpProvider:
    """Return the provider *name*, at *base_url* instead of its own URL if one is given."""
    if base_url is not None:
        own = attrs.evolve(config.providers.get(name, ProviderConfig()), api_base=base_url)
        config = attrs.evolve(config, providers={**config.providers, name: own})
        chosen = chosen if chosen.base_url is None else attrs.evolve(chosen, base_url=base_url)
    # Every model has the same list, so any name is sufficient here.
    _, make = targets_of(attrs.evolve(chosen, models=chosen.models or (f"{name}/any",)), config)
    provider = make(name)
    assert isinstance(provider, HttpProvider)
    return provider


async def _elsewhere(exc: ProviderError, provider: HttpProvider, chosen: Chosen, config: Config) -> CheckResult:
    """Return the finding for a URL without an API: a nearby URL with one, else that there is no model server."""
    name = provider.name
    for url in neighbours(provider.base_url):
        neighbour = _made(name, chosen, config, base_url=url)
        try:
            async with neighbour:
                models = await neighbour.list_models()
        except ClawftError:
            continue
        return CheckResult(
            check="provider",
            subject=name,
            outcome="problem",
            message=f"no model API at {provider.base_url}; there is one at {url} ({counted(len(models), 'model')})",
            advice=f"Correct {_place(name, chosen, config)}: {url}",
        )
    known = KNOWN.get(name)
    if isinstance(exc, WrongAddress) and known is not None and provider.base_url == known.base_url.rstrip("/"):
        return CheckResult(check="provider", subject=name, message="reached; it has no list of models")
    return CheckResult(
        check="provider",
        subject=name,
        # Some servers have models and no list of them; a server that redirects has neither here.
        outcome="problem" if isinstance(exc, InvalidResponse) or 300 <= (exc.status or 0) < 400 else "warning",
        message=f"what answers at {provider.base_url} does not look like a model server: {_message(exc)}",
        advice="Is that the address of an API, up to and including its version? --probe asks it for one token.",
    )


_PATHS = ("/chat/completions", "/completions", "/responses", "/messages", "/models")
"""Paths that are appended to a base URL, and are often given as a part of it."""


def neighbours(url: str) -> tuple[str, ...]:
    """Return base URLs near *url* where its API may be: without the path of a request, with and without `/v1`."""
    base = url.rstrip("/")
    for path in _PATHS:
        base = base.removesuffix(path)
    stem = base.removesuffix("/v1")
    candidates = dict.fromkeys([base, f"{stem}/v1", stem, f"{stem}/api/v1", f"{stem}/openai/v1"])
    return tuple(candidate for candidate in candidates if candidate != url.rstrip("/"))


async def _probed(found: CheckResult, provider: HttpProvider, models: Iterable[str]) -> CheckResult:
    """Return *found*, updated after one token was requested from each of *models*."""
    failed: list[str] = []
    answered: list[str] = []
    for model in models:
        request = ChatRequest((Message.user("Say ok."),), model=model, max_tokens=1)
        try:
            await provider.complete(request, Call(id=new_id()))
        except ClawftError as exc:
            failed.append(f"{model}: {_message(exc)}")
        else:
            answered.append(model)
    if failed:
        advice = "Is the name right, and does the key allow that model?"
        return attrs.evolve(found, outcome="problem", message="; ".join([found.message, *failed]), advice=advice)
    # The model answers, so a missing list is no reason to warn.
    outcome: CheckOutcome = "ok" if "does not look like" in found.message else found.outcome
    return attrs.evolve(found, outcome=outcome, message=f"{found.message}; {', '.join(answered)} answered")


def _message(exc: ClawftError) -> str:
    return f"{type(exc).__name__}: {exc}".rstrip(": ")


def _place(name: str, chosen: Chosen, config: Config) -> str:
    """Return where the URL of *name* is set."""
    if chosen.base_url is not None:
        return "--base-url"
    own, known = config.providers.get(name, ProviderConfig()), KNOWN.get(name)
    variable = None if own.api_base or known is None else url_variable(name, known)
    return variable or f"$.providers[{name!r}].api_base"


def _url_origin(name: str, chosen: Chosen, config: Config) -> str:
    """Return the URL of *name* and the variable that sets it; empty when no variable does."""
    known = KNOWN.get(name)
    if chosen.base_url is not None or known is None or config.providers.get(name, ProviderConfig()).api_base:
        return ""
    variable = url_variable(name, known)
    return "" if variable is None else f"address from {variable}: {redact_secrets(os.environ[variable].strip())}"


# Models of a server of the user's own, which fit into one line.
_FEW = 8


def _listed(name: str, named: Iterable[str], listed: tuple[str, ...], key: str) -> CheckResult:
    about = partial(CheckResult, check="provider", subject=name)
    message = f"{counted(len(listed), 'model')}; {key}"
    absent = list(_absent([split_name(model)[1] for model in named], listed))
    if not absent:
        return about(message=message)
    close = [match for model in absent for match in closest(model, listed)]
    known = f"Its models are: {', '.join(listed)}" if len(listed) <= _FEW else "Look the name up with the provider."
    advice = f"Did you mean {' and '.join(close)}?" if close else known
    return about(outcome="problem", message=f"{message}; not on its list: {', '.join(absent)}", advice=advice)


def _absent(models: Iterable[str], listed: tuple[str, ...]) -> Iterator[str]:
    """Yield models that are not on the list; a dated version counts (`claude-x` and `claude-x-20260101`)."""
    for model in models:
        if not any(one == model or one.startswith((f"{model}-", f"{model}:")) for one in listed):
            yield model


def key_origin(name: str, chosen: Chosen, config: Config) -> str:
    """Return the origin of the key of *name* in words; never the key."""
    if chosen.api_key_env is not None:
        return f"key from {chosen.api_key_env}"
    own = ProviderConfig() if chosen.base_url is not None else config.providers.get(name, ProviderConfig())
    if own.api_key is not None and own.api_key.variables:
        return f"key from {' and '.join(own.api_key.variables)}, as configured"
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
    """Return advice about the URL of *name*; empty when nothing is wrong with it."""
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
