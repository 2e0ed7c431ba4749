"""Options that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import attrs
import typer

from clawft_trio.errors import InvalidData, Problem

Format: TypeAlias = Literal["table", "csv", "json"]
"""How `costs` prints."""

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
    typer.Option(help="Where conversations and costs are kept, see `costs`: a file, or postgresql://…"),
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


SERVER = "server"
"""What the server given by --base-url is called in targets and errors."""


@attrs.frozen(kw_only=True)
class Chosen:
    """Whom to ask, and with what: the options that every command with an agent has."""

    models: tuple[str, ...] = ()
    base_url: str | None = None
    api_key_env: str | None = None
    workspace: Path | None = None
    config: Path | None = None
    #: files of other clients with MCP servers
    mcp_config: tuple[Path, ...] = ()
    #: a file, or the address of a database
    store: str | None = None
    #: where turns are recorded, for `timeline`
    record: Path | None = None

    def target(self, model: str) -> str:
        """*model* as a target: with --base-url a model's name is enough."""
        return model if self.base_url is None or model.startswith(f"{SERVER}/") else f"{SERVER}/{model}"


def chosen(
    model: list[str] | None,
    base_url: str | None,
    api_key_env: str | None,
    workspace: Path | None,
    config: Path | None,
    store: str | None,
    record: Path | None = None,
    mcp_config: list[Path] | None = None,
) -> Chosen:
    """The options of a command with an agent, together.

    Raises:
      InvalidData: a model is not `provider/model`, and no server of one's own makes up for it.
    """
    for name in () if base_url is not None else model or ():
        if not all(name.partition("/")):
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
    )
