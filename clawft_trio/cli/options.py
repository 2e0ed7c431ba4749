"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import attrs
import typer

from clawft_trio.errors import InvalidData, NotConfigured, Problem
from clawft_trio.target import split_name

Format: TypeAlias = Literal["table", "csv", "json"]
"""Output format of `costs`."""

ModelOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", help="provider/model; with --base-url, the name of the model. Repeat it for fallbacks."
    ),
]
BaseUrlOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="URL of an OpenAI-compatible server, with the version: http://localhost:8080/v1"),
]
KeyOption: TypeAlias = Annotated[str | None, typer.Option(help="Name of the environment variable with the API key.")]
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
    Path | None, typer.Option(help="Record every turn into this new file, for `timeline`.")
]
WorkspaceOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="The folder of the agent; default: that of the config.")
]
ConfigOption: TypeAlias = Annotated[Path | None, typer.Option(help="A config.json.")]
McpConfigOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--mcp-config", help="A file with MCP servers: .mcp.json, claude_desktop_config.json, VS Code's mcp.json."
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrustOption: TypeAlias = Annotated[
    bool, typer.Option("--trust-workspace", help="Also read the skills in the workspace.")
]


SystemOption: TypeAlias = Annotated[
    str | None, typer.Option("--system", help="The system prompt; the files of a workspace follow it.")
]
MaxTokensOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", help="Largest number of tokens of an answer.", min=1)
]
TemperatureOption: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", help="Sampling temperature; 0 varies least.", min=0)
]
ToolsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tools",
        help="A set of built-in tools: read_files, files, read_memory, memory, skills, fetch or commands; repeat it for"
        " several. Default with a workspace: the sets that only read.",
    ),
]
SessionOption: TypeAlias = Annotated[
    str, typer.Option(help="Name of the session in the store: it is continued, or begun.")
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


AGENT_OPTIONS: Mapping[str, Any] = {
    "model": ModelOption,
    "base_url": BaseUrlOption,
    "api_key_env": KeyOption,
    "workspace": ReadableOption,
    "config": ConfigOption,
    "mcp_config": McpConfigOption,
    "store": StoreOption,
    "record": RecordOption,
    "system": SystemOption,
    "max_tokens": MaxTokensOption,
    "temperature": TemperatureOption,
    "tools": ToolsOption,
}
"""The options of an agent by name, in the order in which `--help` shows them."""
EVERY_OPTION: tuple[str, ...] = tuple(AGENT_OPTIONS)
CONNECTIONS: tuple[str, ...] = ("model", "base_url", "api_key_env", "config", "mcp_config")
"""Names of the options for the providers and MCP servers of an agent."""


def with_agent(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter `agent` of a command by the options with these *names*.

    The command is called with a `Chosen` made of their values.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**values: Any) -> None:
            command(agent=chosen({name: values.pop(name) for name in names}), **values)

        # typer reads the options of a command from its signature.
        signature = inspect.signature(command, eval_str=True)
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=AGENT_OPTIONS[name]) for name in names
        ]
        parameters: list[Parameter] = []
        for given in signature.parameters.values():
            parameters += options if given.name == "agent" else [given.replace(kind=Parameter.KEYWORD_ONLY)]
        with_options.__dict__["__signature__"] = signature.replace(parameters=parameters)
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def chosen(options: Mapping[str, Any]) -> Chosen:
    """Return the agent that *options*, a subset of `AGENT_OPTIONS`, describe.

    Raises:
      InvalidData: a model is not `provider/model`, and there is no --base-url.
    """
    models = options.get("model") or ()
    for name in () if options.get("base_url") is not None else models:
        if not all(split_name(name)):
            advice = "for a server of your own add --base-url"
            raise InvalidData([Problem("--model", f"expected provider/model, got {name!r}; {advice}")])
    # An option that may be repeated is None when it is not given.
    repeated = {name: tuple(options.get(name) or ()) for name in ("mcp_config", "tools")}
    single = {name: value for name, value in options.items() if name != "model"}
    return Chosen(models=tuple(models), **(single | repeated))


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
