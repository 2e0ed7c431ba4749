"""The less common keyword arguments of `open_agent`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_types import TurnPolicy
from clawft_trio.chat import Provider
from clawft_trio.mcp import McpOptions
from clawft_trio.resilience import Policy
from clawft_trio.tools import Approve
from clawft_trio.tools.builtin import BuiltinPolicy


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
