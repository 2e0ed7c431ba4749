"""`clawft-trio mcp`: offers tools, files, skills and an agent to other hosts, or calls a server by hand."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from rich.table import Table

from clawft_trio.agent import ask_tool, skill_prompts
from clawft_trio.agent.from_config import skills_of
from clawft_trio.cli.agent import existing_folder, open_chosen, settings_of
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.output import write_json, write_line, write_verbatim
from clawft_trio.cli.progress import progress
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.config import Config
from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.files import FileCache
from clawft_trio.mcp import (
    FileTokenStore,
    HttpServer,
    LoopbackUserAgent,
    McpServer,
    OAuth,
    ServeOptions,
    open_mcp,
    serve_mcp,
    serve_mcp_http,
)
from clawft_trio.mcp.auth.store import default_token_file
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.tools import ToolRegistry
from clawft_trio.tools.builtin import BuiltinPolicy, CommandPolicy, register_builtins


@attrs.frozen(kw_only=True)
class Serve:
    """The options of `mcp serve`."""

    workspace: Path
    config: Path | None = None
    #: also offer tools that write: the host asks its user
    writing: bool = False
    #: `host:port` to listen on, instead of stdin and stdout
    http: str = ""
    #: agent that is offered as the tool `ask`; None: no agent
    agent: Chosen | None = None
    #: also offer the workspace's skills
    trust_workspace: bool = False


async def serve(wanted: Serve) -> None:
    """Offer the workspace's tools, files and skills, and an agent: over stdin and stdout until the host closes them, or
    over HTTP.

    Raises:
      NotConfigured: there is no such folder, or the address may not be used.
      ConfigError: the configuration does not fit.
      OSError: the address is in use.
      ClawftError: the agent cannot be opened.

    Cancellation: running tools are cancelled and awaited.
    """
    settings = await settings_of(wanted.config)
    workspace = await existing_folder(wanted.workspace)
    server = await _offered(wanted, settings, workspace)
    options = ServeOptions(workspace=workspace)
    async with AsyncExitStack() as stack:
        if wanted.agent is not None:
            chosen = attrs.evolve(wanted.agent, workspace=wanted.agent.workspace or workspace)
            server.tools.add(ask_tool(await stack.enter_async_context(open_chosen(chosen))))
        if not wanted.http:
            await serve_mcp(server, options=options)
            return
        nursery = await stack.enter_async_context(open_hidden_nursery())
        address = await nursery.start(partial(serve_mcp_http, server, wanted.http, options=options))
        write_line(f"MCP server at {address}")


async def _offered(wanted: Serve, settings: Config, workspace: Path) -> McpServer:
    """Return a server with the workspace's tools, its files as resources, and skills as prompts."""
    registry = ToolRegistry()
    policy = BuiltinPolicy(
        unapproved=wanted.writing or settings.tools.unapproved,
        commands=CommandPolicy(allow=settings.tools.allow_commands),
    )
    register_builtins(registry, workspace, policy)
    server = McpServer(registry)
    server.add_folder(workspace)
    skills = skills_of(settings, workspace, FileCache(), trust_workspace=wanted.trust_workspace)
    for prompt in skill_prompts(await skills.load()):
        server.add_prompt(prompt)
    return server


async def show_tools(server: Sequence[str], *, as_json: bool = False) -> None:
    """List the tools of a server.

    Raises:
      McpError: it does not respond as a server should.

    Cancellation: the server is stopped within its grace times.
    """
    async with progress("Starting the server"), open_mcp(_server(server)) as client:
        tools = await client.list_tools()
    if as_json:
        write_json([{"name": one.name, "description": one.description} for one in tools])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("tool", no_wrap=True)
    table.add_column("description", overflow="fold")
    for one in tools:
        table.add_row(one.name, (one.description or "").strip().partition("\n")[0])
    SafeConsole().print(table)


async def call_tool(server: Sequence[str], name: str, arguments: str) -> bool:
    """Call one tool and print its result; return whether it succeeded.

    Raises:
      InvalidData: *arguments* are not a JSON object.
      McpError: there is no response.

    Cancellation: the server is notified, and stopped within its grace times.
    """
    given = _arguments(arguments)
    async with progress("Calling the server"), open_mcp(_server(server)) as client:
        result = await client.call_tool(name, given)
    for block in result.content:
        text = getattr(block, "text", None)
        write_verbatim(encode_json(block).decode() if text is None else text)
    return not result.is_error


def _arguments(text: str) -> dict[str, Any]:
    try:
        given: Any = decode_json(text)
    except InvalidData as exc:
        raise InvalidData(exc.problems, source="--arguments") from None
    if not isinstance(given, dict):
        raise InvalidData([Problem("$", "expected a JSON object")], source="--arguments")
    return given


def _login() -> OAuth:
    """Return a login by the user's browser that keeps the tokens in a file that only the user can read."""

    def show(address: str) -> None:
        # Without a browser the user opens the URL by hand.
        write_line(f"Log in at: {address}", error=True)
        webbrowser.open(address)

    return OAuth(user_agent=LoopbackUserAgent(show), store=FileTokenStore(default_token_file()))


def _server(words: Sequence[str]) -> Sequence[str] | HttpServer:
    """Return a command, or the description of a server over HTTP."""
    if not words:
        raise NotConfigured("no server: name its command, or its address")
    if len(words) == 1 and "://" in words[0]:
        # An invalid http: URL is refused as a URL, because the name of a program never contains "://".
        return HttpServer(words[0], auth=_login())
    return words
