"""Registration of the built-in tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from clawft_trio.tools.builtin.command import CommandPolicy, command_tool
from clawft_trio.tools.builtin.fetch import FetchPolicy, fetch_tool
from clawft_trio.tools.builtin.files import FilePolicy, file_tools
from clawft_trio.tools.builtin.search import search_tool
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.tool import Tool
from clawft_trio.tools.workspace import Workspace


@attrs.frozen(kw_only=True)
class BuiltinPolicy:
    """Selection and limits of the built-in tools."""

    #: whether to offer tools that change something even without an approval function
    unapproved: bool = False
    files: FilePolicy = attrs.field(factory=FilePolicy)
    #: run_command is offered if there is a rule
    commands: CommandPolicy = attrs.field(factory=CommandPolicy)
    #: None: no web_fetch
    fetch: FetchPolicy | None = attrs.field(factory=FetchPolicy)


def register_builtins(
    registry: ToolRegistry,
    workspace: str | Path,
    policy: BuiltinPolicy | None = None,
    *,
    readable: Callable[[], Iterable[str]] = tuple,
) -> tuple[str, ...]:
    """Add the built-in tools to *registry*, and return their names.

    Tools that may change something are added only if *registry* has an approval function, or
    `policy.unapproved` is set.

    Args:
      registry: the registry, which has no tools of these names.
      workspace: the folder of file tools, which they cannot leave, and of commands. It must exist.
      policy: the default offers files and the web, and no commands.
      readable: returns further folders whose files may be read, by their absolute paths.

    Raises:
      ValueError: a tool of that name exists.
      Unsupported: this platform cannot confine file tools.
    """
    policy = BuiltinPolicy() if policy is None else policy
    offered = [
        tool for tool in _tools(Workspace(workspace, readable=readable), policy) if _may_offer(tool, registry, policy)
    ]
    for tool in offered:
        registry.add(tool)
    return tuple(tool.name for tool in offered)


def _tools(workspace: Workspace, policy: BuiltinPolicy) -> tuple[Tool, ...]:
    files = (*file_tools(workspace, policy.files), search_tool(workspace, policy.files))
    web = () if policy.fetch is None else (fetch_tool(policy.fetch),)
    commands = (command_tool(workspace, policy.commands),) if policy.commands.allow else ()
    return (*files, *web, *commands)


def _may_offer(tool: Tool, registry: ToolRegistry, policy: BuiltinPolicy) -> bool:
    return tool.metadata.mode == "read_only" or policy.unapproved or registry.approve is not None
