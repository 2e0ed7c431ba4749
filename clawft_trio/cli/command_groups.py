"""The groups of commands: `store`, `config` and `mcp`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from clawft_trio.cli.options import Chosen, JsonOption, TrustOption, WorkspaceOption, with_agent

StoreArgument: TypeAlias = Annotated[str, typer.Argument(help="The store: a file, or postgresql://…")]

store: typer.Typer = typer.Typer(no_args_is_help=True, help="Upgrade, check or copy the store of an agent.")


@store.command("upgrade")
def store_upgrade(
    store: StoreArgument,
) -> None:
    """Upgrade the tables of a store to the current version.

    Example: clawft-trio store upgrade agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import upgrade

    run(upgrade, store)


@store.command("check")
def store_check(
    store: StoreArgument,
) -> None:
    """Read all rows of a store; exit code 1 when some cannot be read.

    Example: clawft-trio store check agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import check

    if not run(check, store):
        raise typer.Exit(1)


@store.command("copy")
def store_copy(
    source: StoreArgument,
    target: Annotated[str, typer.Argument(help="An empty store: a file, or postgresql://…")],
) -> None:
    """Copy a store into an empty one, also between SQLite and PostgreSQL. No program may use them meanwhile.

    Example: clawft-trio store copy agent.db postgresql://db.example/agents
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import copy

    run(copy, source, target)


config: typer.Typer = typer.Typer(no_args_is_help=True, help="Create a config.json; print its settings or its schema.")


@config.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("config.json"),
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="provider/model; repeat it for fallbacks.")
    ] = None,
    workspace: WorkspaceOption = None,
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a minimal config.json. Without --model, it names the providers whose key is set, or else Ollama.

    Example: clawft-trio config init --model openai/gpt-5-mini --model ollama/llama3.2
    """
    from clawft_trio.cli.config import Init, init as begin_config
    from clawft_trio.cli.run import run

    run(begin_config, Init(path=path, models=tuple(model or ()), workspace=workspace, force=force))


@config.command("show")
def config_show(
    path: Annotated[Path | None, typer.Argument(help="A config.json; without one, the defaults.")] = None,
    json: JsonOption = False,
) -> None:
    """Print every setting, its value, and its source: the file, the environment or the defaults.

    Secrets are not shown.

    Example: clawft-trio config show config.json
    """
    from clawft_trio.cli.config import show as show_config
    from clawft_trio.cli.run import run

    run(partial(show_config, path, as_json=json))


@config.command("schema")
def config_schema() -> None:
    """Print a JSON Schema of config.json. Editors use it when the config names its file as "$schema".

    Example: clawft-trio config schema > config.schema.json
    """
    from clawft_trio.cli.config import print_schema

    print_schema()


mcp: typer.Typer = typer.Typer(no_args_is_help=True, help="Offer tools to MCP hosts, or call the tools of a server.")


@mcp.command("serve")
@with_agent("model", "base_url", "api_key_env", "config", "mcp_config", "store", "system", "tools")
def mcp_serve(
    workspace: Annotated[Path, typer.Argument(help="The only folder that the tools can read and change.")],
    agent: Chosen,
    writing: Annotated[
        bool, typer.Option(help="Also offer tools that write; the host has to ask its user for approval.")
    ] = False,
    http: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Serve streamable HTTP at this address, instead of stdin and stdout."),
    ] = "",
    offered: Annotated[
        bool, typer.Option("--agent", help="Also offer an agent, as the tool `ask`; it works in the folder.")
    ] = False,
    trust_workspace: TrustOption = False,
) -> None:
    """Offer the built-in tools, the folder's files (resources) and the skills (prompts) to an MCP host over stdin and
    stdout, or over HTTP. With --agent or a --model the agent itself is a tool.

    Example: clawft-trio mcp serve . --http 127.0.0.1:8000 --model openai/gpt-5-mini
    """
    from clawft_trio.cli.mcp import Serve, serve
    from clawft_trio.cli.run import run

    served = Serve(
        workspace=workspace,
        config=agent.config,
        writing=writing,
        http=http,
        agent=agent if offered or agent.models or agent.base_url else None,
        trust_workspace=trust_workspace,
    )
    run(serve, served)


@mcp.command("list")
def mcp_list(
    server: Annotated[list[str], typer.Argument(help="The command of the server, after --, or its URL.")],
    json: JsonOption = False,
) -> None:
    """List the tools of a server.

    Example: clawft-trio mcp list -- npx -y @modelcontextprotocol/server-everything
    """
    from clawft_trio.cli.mcp import show_tools
    from clawft_trio.cli.run import run

    run(partial(show_tools, server, as_json=json))


@mcp.command("call")
def mcp_call(
    tool: Annotated[str, typer.Argument(help="The tool's name.")],
    server: Annotated[list[str], typer.Argument(help="The command of the server, after --, or its URL.")],
    arguments: Annotated[str, typer.Option("--arguments", "-a", help="The arguments, as a JSON object.")] = "{}",
) -> None:
    """Call one tool of a server; exit code 1 when the tool fails.

    Example: clawft-trio mcp call echo -a '{"message": "hi"}' -- npx -y @modelcontextprotocol/server-everything
    """
    from clawft_trio.cli.mcp import call_tool
    from clawft_trio.cli.run import run

    if not run(call_tool, server, tool, arguments):
        raise typer.Exit(1)
