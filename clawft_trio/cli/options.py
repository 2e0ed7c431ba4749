"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import attrs
import typer

from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.target import split_name

Format: TypeAlias = Literal["table", "csv", "json"]
"""Output format of `costs`."""

ModelOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="provider/model, or with --base-url the model's name; repeat it for fallbacks."),
]
BaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="An OpenAI-compatible server, up to and including the version: http://localhost:8080/v1"),
]
KeyOption: TypeAlias = Annotated[str | None, typer.Option(help="The environment variable that holds the key.")]
ReadableOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="A folder with SOUL.md, AGENTS.md and files that the model may read."
    ),
]
StoreOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="The store of conversations and costs (see `costs`): a file, or postgresql://…"),
]
RecordOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Record every turn into this new file; see `timeline`.")
]
WorkspaceOption: TypeAlias = Annotated[Path | None, typer.Option(help="The folder; by default the config's.")]
ConfigOption: TypeAlias = Annotated[Path | None, typer.Option(help="A config.json.")]
McpConfigOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--mcp-config", help="A file with MCP servers: .mcp.json, claude_desktop_config.json, VS Code's mcp.json."
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrustOption: TypeAlias = Annotated[
    bool, typer.Option("--trust-workspace", help="Read the workspace's own skills, too.")
]


SystemOption: TypeAlias = Annotated[
    str | None, typer.Option("--system", help="The system prompt; with a workspace it comes before its files.")
]
MaxTokensOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", help="Tokens of an answer at most.", min=1)
]
TemperatureOption: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="How varied answers are; 0 is the least.", min=0)
]
ToolsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        help="A set of built-in tools: read_files, files, read_memory, memory, skills, fetch, commands; repeat it. "
        "Default with a workspace: the sets that only read.",
    ),
]
SessionOption: TypeAlias = Annotated[
    str, typer.Option(help="Continue this session of the store, or begin it under this name.")
]


SERVER = "server"
"""Provider name of the server given by --base-url, in targets and errors."""


@attrs.frozen(kw_only=True)
class Chosen:
    """Models, tools and files of the agent: the options that every command with an agent has."""

    models: tuple[str, ...] = ()
    base_url: str | None = None
    api_key_env: str | None = None
    workspace: Path | None = None
    config: Path | None = None
    #: files of other clients with MCP servers
    mcp_config: tuple[Path, ...] = ()
    #: a file, or the address of a database
    store: str | None = None
    #: file that turns are recorded to, for `timeline`
    record: Path | None = None
    #: system prompt; None: that of the configuration and the workspace
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    #: names of sets of built-in tools
    tools: tuple[str, ...] = ()

    def target(self, model: str) -> str:
        """Return *model* as a target: with --base-url a model's name is enough."""
        return model if self.base_url is None or model.startswith(f"{SERVER}/") else f"{SERVER}/{model}"


def chosen(
    model: list[str] | None,
    base_url: str | None,
    api_key_env: str | None,
    workspace: Path | None,
    config: Path | None,
    store: str | None,
    record: Path | None = None,
    *,
    system: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    tools: list[str] | None = None,
    mcp_config: list[Path] | None = None,
) -> Chosen:
    """Collect the options of a command with an agent.

    Raises:
      InvalidData: a model is not `provider/model`, and there is no --base-url.
    """
    for name in () if base_url is not None else model or ():
        if not all(split_name(name)):
            advice = "for a server of your own add --base-url"
            raise InvalidData([Problem("--model", f"expected provider/model, got {name!r}; {advice}")])
    return Chosen(
        models=tuple(model or ()),
        base_url=base_url,
        api_key_env=api_key_env,
        workspace=workspace,
        config=config,
        mcp_config=tuple(mcp_config or ()),
        store=store,
        record=record,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        tools=tuple(tools or ()),
    )


def check_session(session: str, chosen: Chosen) -> None:
    """Refuse a named session without a store, given by an option or the configuration.

    Raises:
      NotConfigured: *session* is named, and no store is.
    """
    if chosen.config is None:
        check_session_store(session, chosen.store)


def check_session_store(session: str, store: str | None) -> None:
    """Refuse a named session without a *store*.

    Raises:
      NotConfigured: *session* is named, and no store is.
    """
    if session and store is None:
        raise NotConfigured("--session continues a conversation that --store FILE keeps: name that file, too")
