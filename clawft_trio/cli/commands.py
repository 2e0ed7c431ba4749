"""The commands and their options. Each imports what it runs when it runs: `--help` need not wait for all of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clawft_trio.cli.options import (
    BaseUrlOption,
    ConfigOption,
    Format,
    JsonOption,
    KeyOption,
    MaxTokensOption,
    McpConfigOption,
    ModelOption,
    ReadableOption,
    RecordOption,
    SessionOption,
    StoreOption,
    SystemOption,
    TemperatureOption,
    ToolsOption,
    TrustOption,
    WorkspaceOption,
    chosen,
)
from clawft_trio.cli.output import write_line

EXIT_CODES = (
    "Exit codes: 0 done · 1 there is no answer, or something was found to be wrong · 2 something is wrong with the "
    "command, its configuration or its keys · 130 interrupted · 143 terminated."
)
SIGNALS = (
    "NO_COLOR=1 switches colours off; without a terminal there are none. kill -USR1 PID shows what a running command "
    "waits for. CLAWFT_TRACEBACK=1 shows where an error comes from."
)

app: typer.Typer = typer.Typer(
    name="clawft-trio",
    help="LLM agents on trio: failures of providers, tools and servers do not lose an answer.",
    epilog=f"{EXIT_CODES}\n\n{SIGNALS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write_line(f"clawft-trio {version('clawft-trio')}")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """LLM agents on trio: failures of providers, tools and servers do not lose an answer."""


@app.command()
def demo(
    speed: Annotated[
        float, typer.Option(help="Play faster or slower; 1 is a comfortable reading speed.", min=0.1)
    ] = 1.0,
) -> None:
    """See a model break in the middle of its answer, and the answer get through. Needs no network and no key.

    Example: clawft-trio demo --speed 2
    """
    from clawft_trio.cli.demo import demo as show_demo
    from clawft_trio.cli.run import run

    run(show_demo, speed)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; `-` reads it from standard input.")],
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    workspace: ReadableOption = None,
    config: ConfigOption = None,
    mcp_config: McpConfigOption = None,
    store: StoreOption = None,
    record: RecordOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    tools: ToolsOption = None,
    session: SessionOption = "",
    stream: Annotated[
        bool, typer.Option("--stream", help="Print text as it arrives, outside a terminal, too.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text; an error is one, too.")
    ] = False,
) -> None:
    """Ask once and print the answer. What is piped in is added to the question.

    Example: clawft-trio ask "What is in notes.txt?" --base-url http://localhost:8080/v1 --model llama --workspace .
    """
    from clawft_trio.cli.ask import Ask, ask as ask_once
    from clawft_trio.cli.run import run

    agent = chosen(
        model,
        base_url,
        api_key_env,
        workspace,
        config,
        store,
        record,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        tools=tools,
        mcp_config=mcp_config,
    )
    run(ask_once, Ask(question=question, chosen=agent, as_json=json, stream=stream, session=session))


@app.command()
def chat(
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    workspace: ReadableOption = None,
    config: ConfigOption = None,
    mcp_config: McpConfigOption = None,
    store: StoreOption = None,
    record: RecordOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    tools: ToolsOption = None,
    session: SessionOption = "",
) -> None:
    """Talk with an agent: answers as they come, its tools at work, Ctrl-C to stop an answer, /help for more.

    Through a pipe every line is a message; the exit code is 1 when one had no answer.

    Example: clawft-trio chat --model openai/gpt-5-mini --workspace . --store agent.db --session trip
    """
    from clawft_trio.cli.chat import Chat, chat as talk
    from clawft_trio.cli.run import run

    agent = chosen(
        model,
        base_url,
        api_key_env,
        workspace,
        config,
        store,
        record,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        tools=tools,
        mcp_config=mcp_config,
    )
    if not run(talk, Chat(chosen=agent, session=session)):
        raise typer.Exit(1)


@app.command()
def doctor(
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    mcp_config: McpConfigOption = None,
    store: StoreOption = None,
    total: Annotated[float, typer.Option(help="Seconds that each check may take.", min=0.1)] = 10.0,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask each model for one token, too; that may cost something.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Try out everything an agent needs, side by side: config, keys, providers, MCP servers, skills, store.

    Providers are asked for their list of models, which costs nothing. Without a model or a config, those with a key
    are set are tried. Exit code 1 if something is wrong.

    Example: clawft-trio doctor --config config.json --store agent.db
    """
    from clawft_trio.cli.doctor import Doctor, doctor as examine
    from clawft_trio.cli.run import run

    agent = chosen(model, base_url, api_key_env, workspace, config, store, mcp_config=mcp_config)
    if not run(examine, Doctor(chosen=agent, total=total, probe=probe, as_json=json)):
        raise typer.Exit(1)


@app.command()
def context(
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    sender: Annotated[str, typer.Option(help="The sender with the memory: channel:sender.")] = "",
    trust_workspace: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Print the exact system prompt, each part with its source and its estimated tokens.

    Example: clawft-trio context --workspace .
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.workspace import Look, show_context

    look = Look(workspace=workspace, config=config, sender=sender, trust_workspace=trust_workspace, as_json=json)
    run(show_context, look)


@app.command()
def skills(
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    trust_workspace: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """List the skills, and what is wrong with any; exit code 1 if something is.

    Example: clawft-trio skills --workspace . --trust-workspace
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.workspace import Look, show_skills

    look = Look(workspace=workspace, config=config, trust_workspace=trust_workspace, as_json=json)
    if run(show_skills, look):
        raise typer.Exit(1)


@app.command()
def costs(
    store: Annotated[str, typer.Argument(help="The agent's store, as given to open_agent(store=...).")],
    by: Annotated[
        list[str] | None, typer.Option(help="sender, agent, target, day, month, turn, parent_turn; may be repeated.")
    ] = None,
    sender: Annotated[str | None, typer.Option(help="Only this one's: channel:sender.")] = None,
    days: Annotated[int | None, typer.Option(help="Only the last so many days.", min=1)] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Print who spent what, dearest first; on stderr, why something has no price.

    Example: clawft-trio costs agent.db --by sender --days 7 --format csv
    """
    from clawft_trio.cli.costs import Costs, show_costs
    from clawft_trio.cli.run import run

    asked = Costs(store=store, by=tuple(by or ("sender", "target")), sender=sender, days=days, form=form, config=config)
    run(show_costs, asked)


@app.command()
def worker(
    store: Annotated[
        str | None,
        typer.Option(help="The store with the messages to answer: a file, or postgresql://…; or name it in --config"),
    ] = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    workspace: ReadableOption = None,
    config: ConfigOption = None,
    mcp_config: McpConfigOption = None,
    turns: Annotated[int, typer.Option(help="Turns that run at once.", min=1)] = 64,
) -> None:
    """Answer the messages of a store, beside any number of other workers, until Ctrl-C or SIGTERM.

    What is not finished then is left to the others.

    Example: clawft-trio worker --store postgresql://db.example/agents --config config.json
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import Worker, worker as serve_store

    agent = chosen(model, base_url, api_key_env, workspace, config, store, mcp_config=mcp_config)
    run(serve_store, Worker(chosen=agent, turns=turns))


@app.command()
def workers(
    store: Annotated[str, typer.Argument(help="The agent's store: a file, or postgresql://…")],
    json: JsonOption = False,
) -> None:
    """Print who serves a store, what waits in it, and which messages were given up.

    Example: clawft-trio workers agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import show_workers

    run(partial(show_workers, store, as_json=json))


@app.command()
def requeue(
    store: Annotated[str, typer.Argument(help="The agent's store: a file, or postgresql://…")],
    turn: Annotated[str, typer.Argument(help="The turn, as `workers` prints it.")],
) -> None:
    """Have a message that was given up answered after all; exit code 1 when there is none of that turn.

    Example: clawft-trio requeue agent.db telegram:42:17
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import requeue_turn

    if not run(requeue_turn, store, turn):
        raise typer.Exit(1)


store_app: typer.Typer = typer.Typer(no_args_is_help=True, help="Upgrade, check or copy the store of an agent.")
app.add_typer(store_app, name="store")


@store_app.command("upgrade")
def store_upgrade(
    store: Annotated[str, typer.Argument(help="A file, or postgresql://…")],
) -> None:
    """Bring the tables of a store up to date.

    Example: clawft-trio store upgrade agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import upgrade

    run(upgrade, store)


@store_app.command("check")
def store_check(
    store: Annotated[str, typer.Argument(help="A file, or postgresql://…")],
) -> None:
    """Read everything in a store; exit code 1 when something cannot be read.

    Example: clawft-trio store check agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import check

    if not run(check, store):
        raise typer.Exit(1)


@store_app.command("copy")
def store_copy(
    source: Annotated[str, typer.Argument(help="A file, or postgresql://…")],
    target: Annotated[str, typer.Argument(help="Another one, which is empty.")],
) -> None:
    """Copy a store into another one, also from one engine to the other. Nothing may use them meanwhile.

    Example: clawft-trio store copy agent.db postgresql://db.example/agents
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.store import copy

    run(copy, source, target)


@app.command()
def timeline(
    file: Annotated[Path, typer.Argument(help="A recording: JSON lines.")],
    html: Annotated[Path | None, typer.Option(help="Where the page goes; by default beside the recording.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Where the picture goes.")] = None,
    chrome: Annotated[Path | None, typer.Option(help="Where the trace for ui.perfetto.dev goes.")] = None,
    turn: Annotated[str, typer.Option(help="Only turns with an id that begins like this, or of this session.")] = "",
) -> None:
    """Draw what happened in recorded turns.

    Example: clawft-trio timeline turns.jsonl --html turns.html
    """
    from clawft_trio.cli.timeline import Wanted, timeline as draw_timeline

    draw_timeline(Wanted(file=file, html=html, svg=svg, chrome=chrome, turn=turn))


config: typer.Typer = typer.Typer(no_args_is_help=True, help="Begin a config.json, see what it comes down to.")
app.add_typer(config, name="config")


@config.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(help="Where it goes.")] = Path("config.json"),
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="provider/model; repeat it for fallbacks.")
    ] = None,
    workspace: WorkspaceOption = None,
    force: Annotated[bool, typer.Option(help="Write over what is there.")] = False,
) -> None:
    """Write a minimal config.json. Without a model: of the providers with a key set, else Ollama's.

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
    """Print every setting, its value, and whether that is from the file, the environment or the defaults.

    Secrets are not shown.

    Example: clawft-trio config show config.json
    """
    from clawft_trio.cli.config import show as show_config
    from clawft_trio.cli.run import run

    run(partial(show_config, path, as_json=json))


@config.command("schema")
def config_schema() -> None:
    """Print a JSON Schema of config.json, for editors: name its file as "$schema" at the top of yours.

    Example: clawft-trio config schema > config.schema.json
    """
    from clawft_trio.cli.config import print_schema

    print_schema()


mcp: typer.Typer = typer.Typer(no_args_is_help=True, help="Offer tools to MCP hosts, or try a server by hand.")
app.add_typer(mcp, name="mcp")


@mcp.command("serve")
def mcp_serve(
    workspace: Annotated[Path, typer.Argument(help="The folder that the tools work in, and cannot leave.")],
    config: ConfigOption = None,
    writing: Annotated[bool, typer.Option(help="Offer tools that write, too: the host has to ask its user.")] = False,
    http: Annotated[str, typer.Option(metavar="HOST:PORT", help="Listen there instead: streamable HTTP.")] = "",
    agent: Annotated[
        bool, typer.Option("--agent", help="Offer an agent, too: the tool `ask`. It works in the folder.")
    ] = False,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    mcp_config: McpConfigOption = None,
    store: StoreOption = None,
    system: SystemOption = None,
    tools: ToolsOption = None,
    trust_workspace: TrustOption = False,
) -> None:
    """Offer the built-in tools, the folder's files (resources) and the skills (prompts) to an MCP host over stdin and
    stdout, or over HTTP. With --agent or a --model the agent itself is a tool.

    Example: clawft-trio mcp serve . --http 127.0.0.1:8000 --model openai/gpt-5-mini
    """
    from clawft_trio.cli.mcp import Serve, serve
    from clawft_trio.cli.run import run

    offered = None
    if agent or model or base_url:
        offered = chosen(
            model, base_url, api_key_env, None, config, store, system=system, tools=tools, mcp_config=mcp_config
        )
    run(
        serve,
        Serve(
            workspace=workspace,
            config=config,
            writing=writing,
            http=http,
            agent=offered,
            trust_workspace=trust_workspace,
        ),
    )


@mcp.command("list")
def mcp_list(
    server: Annotated[list[str], typer.Argument(help="The server's command after --, or its address.")],
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
    server: Annotated[list[str], typer.Argument(help="The server's command after --, or its address.")],
    arguments: Annotated[str, typer.Option("--arguments", "-a", help="A JSON object.")] = "{}",
) -> None:
    """Call one tool of a server; exit code 1 when it reports a failure.

    Example: clawft-trio mcp call echo -a '{"message": "hi"}' -- npx -y @modelcontextprotocol/server-everything
    """
    from clawft_trio.cli.mcp import call_tool
    from clawft_trio.cli.run import run

    if not run(call_tool, server, tool, arguments):
        raise typer.Exit(1)
