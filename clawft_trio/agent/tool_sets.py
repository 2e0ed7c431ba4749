"""Named sets of the built-in tools: `open_agent(tools=["files", "memory", "fetch"])`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import attrs

from clawft_trio.context import Memory, Skills, memory_tools, skill_tool
from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.tools import Tool
from clawft_trio.tools.builtin import BuiltinPolicy, FetchPolicy
from clawft_trio.tools.builtin.command import command_tool
from clawft_trio.tools.builtin.fetch import fetch_tool
from clawft_trio.tools.builtin.files import file_tools
from clawft_trio.tools.builtin.search import search_tool
from clawft_trio.tools.workspace import Workspace


@attrs.frozen(kw_only=True)
class ToolSetParts:
    """The objects that the tools of a workspace are made from."""

    workspace: Workspace
    builtins: BuiltinPolicy
    skills: Skills
    memory: Memory


@attrs.frozen(kw_only=True)
class ToolSet:
    """One named set: its description, and a function that makes its tools."""

    description: str
    make: Callable[[ToolSetParts], Iterable[Tool]]
    #: whether no tool of the set changes anything or uses the network
    read_only: bool = False


def _read_only(tools: Iterable[Tool]) -> list[Tool]:
    return [tool for tool in tools if tool.metadata.mode == "read_only"]


def _files(parts: ToolSetParts) -> list[Tool]:
    policy = parts.builtins.files
    return [*file_tools(parts.workspace, policy), search_tool(parts.workspace, policy)]


def _fetch(parts: ToolSetParts | None) -> list[Tool]:
    policy = None if parts is None else parts.builtins.fetch
    return [fetch_tool(policy or FetchPolicy())]


def _commands(parts: ToolSetParts) -> list[Tool]:
    if not parts.builtins.commands.allow:
        raise NotConfigured("the tool set 'commands' needs CommandPolicy(allow=…), or $.tools.allow_commands")
    return [command_tool(parts.workspace, parts.builtins.commands)]


TOOL_SETS: Mapping[str, ToolSet] = MappingProxyType(
    {
        "read_files": ToolSet(
            description="read, list and search files of the workspace",
            make=lambda parts: _read_only(_files(parts)),
            read_only=True,
        ),
        "files": ToolSet(description="as read_files, and write and edit them", make=_files),
        "read_memory": ToolSet(
            description="read and search notes from earlier conversations",
            make=lambda parts: _read_only(memory_tools(parts.memory)),
            read_only=True,
        ),
        "memory": ToolSet(description="as read_memory, and add notes", make=lambda parts: memory_tools(parts.memory)),
        "skills": ToolSet(
            description="load a skill's instructions", make=lambda parts: [skill_tool(parts.skills)], read_only=True
        ),
        "fetch": ToolSet(description="read pages of the public web", make=_fetch),
        "commands": ToolSet(description="run the programs that the policy allows", make=_commands),
    }
)
"""All sets by name. `docs` and the command line print this table."""

DEFAULT_SETS = ("read_files", "read_memory", "skills")
"""The sets of a workspace when none is named: everything in them is read-only."""

_WITHOUT_WORKSPACE = frozenset({"fetch"})
"""Sets that need no workspace."""


def check_sets(names: Sequence[str], *, workspace: bool) -> None:
    """Refuse unknown names, and sets that need a workspace when there is none.

    Raises:
      InvalidData: a name is unknown; the message lists the known ones.
      NotConfigured: a set needs a workspace.
    """
    for name in names:
        if name not in TOOL_SETS:
            known = ", ".join(TOOL_SETS)
            raise InvalidData([Problem("$.tools", f"there is no tool set {name!r}; known sets: {known}")])
        if not workspace and name not in _WITHOUT_WORKSPACE:
            raise NotConfigured(f"the tool set {name!r} needs a workspace: open_agent(workspace=…) or --workspace")


def tools_of(names: Sequence[str], parts: ToolSetParts | None) -> tuple[Tool, ...]:
    """Return the tools of the named sets, each once, in the order of the names.

    Args:
      names: checked by `check_sets`.
      parts: the parts of the workspace; None: *names* has only sets that need none.
    """
    found: dict[str, Tool] = {}
    for name in dict.fromkeys(names):
        made = _fetch(parts) if name in _WITHOUT_WORKSPACE else TOOL_SETS[name].make(_given(parts))
        for tool in made:
            found.setdefault(tool.name, tool)
    return tuple(found.values())


def _given(parts: ToolSetParts | None) -> ToolSetParts:
    assert parts is not None
    return parts
