"""The keyword arguments of `open_agent` that are less common, and those of `Agent.ask` and `Agent.stream`."""

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
    """Options of `open_agent` beyond its ten named parameters, each given by keyword.

    A wrapper around `open_agent` passes them on with `**options: Unpack[AgentOptions]`.

    Keys:
      mcp_options: how MCP clients behave, and what servers may ask of this side (`Host`); by default nothing.
      make_provider: makes a provider by its name; by default from the configuration and the catalog.
      policy: the strategies around each target; by default `Config.policy_of` its provider.
      turn: the limits of a turn and how models are asked; by default from the configuration.
      loop: how many turns run at once for messages of the bus.
      builtins: limits of the built-in tools, and which of them there are when *tools* names no set.
      approve: asked before every call that may change something.
    """

    mcp_options: McpOptions | None
    make_provider: Callable[[str], Provider] | None
    policy: Policy | None
    turn: TurnPolicy | None
    loop: LoopPolicy | None
    builtins: BuiltinPolicy | None
    approve: Approve | None


class AskOptions(TypedDict, total=False):
    """How `Agent.ask` and `Agent.stream` ask, each given by keyword.

    Keys:
      sender_id: the user whose permissions, budget and memory count; by default `local`.
      session: the conversation to continue, or to begin under that name; None: a new one.
      model: `provider/model`, instead of what the router would choose.
      reasoning_effort: how much the model is to reason (`low`, `medium`, `high`), over the policy's.
      thinking_budget: tokens of reasoning, for models that take a limit, over the policy's.
      extra: put into the request body as it is, over everything else.
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
      TypeError: an unknown key, with the known ones.
    """
    unknown = sorted(set(options) - set(AskOptions.__annotations__))
    if unknown:
        known = ", ".join(AskOptions.__annotations__)
        raise TypeError(f"{function}() has no keyword {unknown[0]!r}; its options are {known}")


def check_options(options: Mapping[str, object]) -> None:
    """Refuse keys that `AgentOptions` does not have.

    Raises:
      TypeError: an unknown key, with the known ones.
    """
    known = sorted(AgentOptions.__annotations__)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"open_agent() has no option {', '.join(map(repr, unknown))}; its options are {', '.join(known)}, "
            "beside its named parameters"
        )


def items(name: str, given: Iterable[T]) -> tuple[T, ...]:
    """What the argument *name* holds.

    Raises:
      TypeError: it is one thing, or text.
    """
    value: object = given
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list, as in {name}=[…], not a {type(value).__name__}")
    return tuple(given)


def check_arguments(
    *, models: object, mcp: object, config: object, providers: object, channels: Iterable[object]
) -> None:
    """Refuse arguments of `open_agent` of a wrong type, where they would fail later and elsewhere.

    Raises:
      TypeError: one is of a wrong type; with the argument and what it takes.
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
