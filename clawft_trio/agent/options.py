"""Less frequent keyword arguments of `open_agent`, and those of `Agent.ask` and `Agent.stream`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, TypeVar

from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_types import TurnPolicy
from clawft_trio.chat import JsonObject, Provider
from clawft_trio.config import Config
from clawft_trio.mcp import McpOptions
from clawft_trio.resilience import Policy
from clawft_trio.tools import Approve
from clawft_trio.tools.builtin import BuiltinPolicy

T = TypeVar("T")


class AgentOptions(TypedDict, total=False):
    """Keyword options of `open_agent` beyond its ten named parameters.

    A wrapper around `open_agent` passes them on with `**options: Unpack[AgentOptions]`.

    Keys:
      mcp_options: options of MCP clients, and what servers may request of this program (`Host`); by default nothing.
      make_provider: makes a provider by its name; by default from the configuration and the catalog.
      policy: the strategies around each target; by default `Config.policy_of` its provider.
      turn: the limits of a turn and the options of requests; by default from the configuration.
      loop: limits on turns for messages of the bus.
      builtins: limits of the built-in tools, and their selection if *tools* names no set.
      approve: called before every tool call that may change something.
    """

    mcp_options: McpOptions | None
    make_provider: Callable[[str], Provider] | None
    policy: Policy | None
    turn: TurnPolicy | None
    loop: LoopPolicy | None
    builtins: BuiltinPolicy | None
    approve: Approve | None


class AskOptions(TypedDict, total=False):
    """Keyword options of `Agent.ask` and `Agent.stream`.

    Keys:
      sender_id: the user to whom permissions, budget and memory belong; by default `local`.
      session: the conversation to continue, or to begin under that key; None: a new one.
      model: `provider/model`, instead of the router's choice.
      reasoning_effort: how much the model reasons (`low`, `medium`, `high`); overrides the policy's.
      thinking_budget: limit on tokens of reasoning, for models that accept one; overrides the policy's.
      extra: copied into the request body as it is; overrides every other field.
      instructions: the system prompt of this turn, instead of the agent's.
    """

    sender_id: str
    session: str | None
    model: str
    reasoning_effort: str | None
    thinking_budget: int | None
    extra: JsonObject | None
    instructions: str


def check_ask_options(function: str, options: Mapping[str, object]) -> None:
    """Refuse keys that `AskOptions` does not have.

    Raises:
      TypeError: a key is unknown; the message lists the known ones.
    """
    unknown = sorted(set(options) - set(AskOptions.__annotations__))
    if unknown:
        known = ", ".join(AskOptions.__annotations__)
        raise TypeError(f"{function}() has no keyword {unknown[0]!r}; its options are {known}")


def check_options(options: Mapping[str, object]) -> None:
    """Refuse keys that `AgentOptions` does not have.

    Raises:
      TypeError: a key is unknown; the message lists the known ones.
    """
    known = sorted(AgentOptions.__annotations__)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"open_agent() has no option {', '.join(map(repr, unknown))}; its options are {', '.join(known)}, "
            "beside its named parameters"
        )


def items(name: str, given: Iterable[T]) -> tuple[T, ...]:
    """Return the items of the argument *name*.

    Raises:
      TypeError: the argument is not a collection, or is text.
    """
    value: object = given
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list, as in {name}=[…], not a {type(value).__name__}")
    return tuple(given)


def check_arguments(
    *, models: object, mcp: object, config: object, providers: object, channels: Iterable[object]
) -> None:
    """Refuse arguments of `open_agent` of a wrong type, which would cause errors later and elsewhere.

    Raises:
      TypeError: an argument is of a wrong type; the message has its name and the right type.
    """
    if isinstance(models, str):
        raise TypeError(f"models are a list: [{models!r}]")
    for name, value in (("mcp", mcp), ("providers", providers)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} is a mapping by name, as in {{'name': …}}, not a {type(value).__name__}")
    if not isinstance(config, Config | str | Path | None) or (isinstance(config, str) and config.lstrip()[:1] == "{"):
        raise TypeError("config is a path or a Config; parse_config(text) makes one of JSON text")
    for name, provider in providers.items() if isinstance(providers, Mapping) else ():
        _check_has(f"providers[{name!r}]", provider, "provider", "complete")
    for channel in channels:
        _check_has("a channel", channel, "channel", "send", "receive")


def _check_has(place: str, value: object, kind: str, *methods: str) -> None:
    if isinstance(value, type):
        raise TypeError(f"{place} is the class {value.__name__}; it takes what the class makes: {value.__name__}(…)")
    missing = [name for name in methods if not callable(getattr(value, name, None))]
    if missing or not hasattr(value, "name"):
        wanted = ", ".join(["name", *methods])
        raise TypeError(f"{place} is a {type(value).__name__}, which is no {kind}: a {kind} has {wanted}")
