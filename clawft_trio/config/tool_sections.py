"""The `tools` section of a config.json: MCP servers, commands, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs.validators import ge, gt, optional

from clawft_trio.config.redaction import show_address, show_arguments
from clawft_trio.config.resilience_sections import RetryConfig, milliseconds_field
from clawft_trio.config.structuring import Secret


@attrs.frozen(kw_only=True)
class McpServerConfig:
    """One MCP server: a command, or the URL of a server with streamable HTTP."""

    #: the program, for a server over stdio
    command: str | None = None
    #: arguments of the program
    args: tuple[str, ...] = attrs.field(default=(), repr=show_arguments)
    #: environment variables for the program, in addition to the few that every child process gets
    env: Mapping[str, Secret] = attrs.field(factory=dict)
    #: folder that the program starts in; null is that of this process
    cwd: str | None = None
    #: the URL, for a server over HTTP
    url: str | None = attrs.field(default=None, repr=show_address)
    #: headers of every request
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    #: transport; when it is left out, it follows from `command` or `url`
    transport: Literal["stdio", "http"] | None = None
    #: whether the server is not started
    disabled: bool = False
    #: whether the server is started but its tools are not offered
    internal_only: bool = False
    #: patterns of the tools that are offered; `deny` overrides them
    allow: tuple[str, ...] = ("*",)
    #: patterns of tools that are not offered
    deny: tuple[str, ...] = ()
    #: whether to trust the server's hints that a tool is read-only
    trust_hints: bool = False
    #: longest duration of one call; null is the client's default
    total_ms: float | None = milliseconds_field(None)
    #: retries of a call; null for none, because only the server's operator knows whether repeating a call is safe
    retry: RetryConfig | None = None


@attrs.frozen(kw_only=True)
class ExecConfig:
    """clawft's `tools.exec`: limits of `run_command`."""

    #: longest duration of a command in seconds
    timeout: float | None = attrs.field(default=None, validator=optional(gt(0)))


@attrs.frozen(kw_only=True)
class CommandPolicyConfig:
    """clawft's `tools.commandPolicy`: the programs that `run_command` may start.

    `allowlist` adds to `tools.allow_commands`. Programs that start other programs (`git`, `python`, `sh`, …) are
    allowed only by `tools.allow_commands`, with their arguments. All others are refused, with or without a `denylist`.
    """

    #: the list that is effective in clawft
    mode: Literal["allowlist", "denylist"] = "allowlist"
    #: names of programs
    allowlist: tuple[str, ...] = ()
    #: names or patterns of programs; they override `allowlist`
    denylist: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class UrlPolicyConfig:
    """clawft's `tools.urlPolicy`: the addresses that `web_fetch` and attachments may use."""

    #: false disables the protection in clawft; here private addresses stay refused unless `allow_private` is set
    enabled: bool = True
    #: whether private, loopback and link-local addresses are allowed
    allow_private: bool = False
    #: domains that are allowed even at private addresses; other domains stay allowed at public addresses
    allowed_domains: tuple[str, ...] = ()
    #: domains that are refused, each with its subdomains
    blocked_domains: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ToolsConfig:
    """The `tools` section."""

    #: largest number of concurrent tool calls
    concurrency: int = attrs.field(default=16, validator=ge(1))
    #: MCP servers by name
    mcp_servers: Mapping[str, McpServerConfig] = attrs.field(factory=dict)
    #: whether file tools are confined to the workspace
    restrict_to_workspace: bool = True
    #: sets of built-in tools by name (`files`, `memory`, `fetch`, …); empty: the tools that only read
    sets: tuple[str, ...] = ()
    #: whether built-in tools that write are offered without an approval
    unapproved: bool = False
    #: rules for programs that `run_command` may start
    allow_commands: tuple[str, ...] = ()
    #: of clawft; not used: there is no web search
    web: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    #: of clawft: limits of `run_command`
    exec: ExecConfig = ExecConfig()
    #: of clawft: programs that `run_command` may start
    command_policy: CommandPolicyConfig = CommandPolicyConfig()
    #: of clawft: addresses that `web_fetch` may reach
    url_policy: UrlPolicyConfig = UrlPolicyConfig()
