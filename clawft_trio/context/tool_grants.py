"""`allowed-tools` of a skill: the tool calls that need no approval while the skill is in use.

The Agent Skills specification calls these tools "pre-approved". They are no limit: a call that no entry covers needs
approval as without the skill; and an approved command still has to pass the command policy.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import attrs

from clawft_trio.auth import matches_any

_TOOL_NAMES: Mapping[str, str] = {
    "Bash": "run_command",
    "Edit": "edit_file",
    "Glob": "search_files",
    "Grep": "search_files",
    "LS": "list_directory",
    "MultiEdit": "edit_file",
    "Read": "read_file",
    "Shell": "run_command",
    "WebFetch": "web_fetch",
    "WebSearch": "web_search",
    "Write": "write_file",
}
"""Names of other programs for the same tools, which published skills use."""

_FILE_TOOLS = frozenset({"edit_file", "list_directory", "read_file", "search_files", "write_file"})

# Bounded, so that matching takes linear time in a text full of opening brackets.
_ENTRY = re.compile(r"([^\s,()]{1,200})(?:\(([^()]{0,200})\))?")

# With one of these, a shell may start something else than the first word.
_SHELL_SYNTAX = re.compile(r"[;&|<>`$\n\r(){}]")


@attrs.frozen
class ToolGrant:
    """One entry of `allowed-tools`."""

    #: pattern of tool names
    tool: str
    #: pattern of the arguments; None: any arguments
    argument: str | None = None

    def __str__(self) -> str:
        return self.tool if self.argument is None else f"{self.tool}({self.argument})"

    @property
    def understood(self) -> bool:
        """Whether `argument` has a known meaning for the tool."""
        if self.argument is None or self.tool == "run_command" or self.tool in _FILE_TOOLS:
            return True
        return self.tool == "web_fetch" and self.argument.startswith("domain:")

    def covers(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether this entry pre-approves a call of *tool* with *arguments*."""
        if not matches_any(tool, (self.tool,)):
            return False
        if self.argument is None:
            return True
        if tool == "run_command":
            return _covers_command(self.argument, arguments)
        if tool in _FILE_TOOLS:
            return _covers_path(self.argument, arguments.get("path"))
        if tool == "web_fetch" and self.argument.startswith("domain:"):
            return _covers_host(self.argument.removeprefix("domain:").strip(), arguments.get("url"))
        return False


def parse_grants(entries: str | Sequence[str]) -> tuple[ToolGrant, ...]:
    """Parse `allowed-tools`: one text with spaces or commas between the entries, or a list of entries."""
    texts = [entries] if isinstance(entries, str) else entries
    found = (_ENTRY.finditer(text) for text in texts)
    return tuple(dict.fromkeys(_grant(match[1], match[2]) for matches in found for match in matches))


def _grant(name: str, argument: str | None) -> ToolGrant:
    tool = _TOOL_NAMES.get(name, name)
    if tool.startswith("mcp__"):
        # Other clients add this prefix to the name of an MCP server.
        tool = tool.removeprefix("mcp__")
        tool = tool if "__" in tool else f"{tool}__*"
    everything = argument is not None and argument.strip() in {"", "*", "**", ":*"}
    return ToolGrant(tool, None if argument is None or everything else argument.strip())


def _covers_command(pattern: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a command matches: `git:*` and `git *` match what begins with `git`, `git status` only itself."""
    words = _command_words(arguments)
    wanted = pattern
    more = False
    for end in (":*", " *", " **"):
        if wanted.endswith(end):
            wanted, more = wanted.removesuffix(end), True
    try:
        patterns = shlex.split(wanted)
    except ValueError:
        return False
    if words is None or not patterns or len(words) < len(patterns) or (len(words) > len(patterns) and not more):
        return False
    return all(map(fnmatchcase, words, patterns))


def _command_words(arguments: Mapping[str, Any]) -> list[str] | None:
    """Return the program and its arguments; None when a shell might do more than start that program."""
    argv = arguments.get("argv")
    if isinstance(argv, Sequence) and not isinstance(argv, str) and all(isinstance(word, str) for word in argv):
        return list(argv)
    command = arguments.get("command")
    if not isinstance(command, str) or _SHELL_SYNTAX.search(command):
        return None
    try:
        return shlex.split(command)
    except ValueError:
        return None


def _covers_path(pattern: str, path: object) -> bool:
    if not isinstance(path, str) or ".." in path.split("/"):
        return False
    return fnmatchcase(path.removeprefix("./"), pattern.removeprefix("./").replace("**", "*"))


def _covers_host(domain: str, url: object) -> bool:
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return False
    return host is not None and (host == domain.lower() or host.endswith(f".{domain.lower()}"))
