"""The commands and their options. Each command imports its code when it runs, so that `--help` is fast."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import attrs
import typer

from clawft_trio.cli.command_groups import config, mcp, store
from clawft_trio.cli.options import (
    CONNECTIONS,
    EVERY_OPTION,
    Chosen,
    ConfigOption,
    Format,
    JsonOption,
    SessionOption,
    TrustOption,
    WorkspaceOption,
    with_agent,
)
from clawft_trio.cli.output import write_line

EXIT_CODES = (
    "Exit codes: 0 success · 1 no answer, or a problem was found · 2 the command line, the configuration or a key is "
    "wrong · 130 interrupted · 143 terminated."
)
SIGNALS = (
    "NO_COLOR=1 switches colours off; there are none when the output is not a terminal. kill -USR1 PID prints the tasks"
    " of a running command and what each waits for. CLAWFT_TRACEBACK=1 prints the traceback of an error."
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
    speed: Annotated[float, typer.Option(help="Speed of the demo: 2 is twice as fast.", min=0.1)] = 1.0,
) -> None:
    """Show a model that breaks in the middle of its answer, and the answer that still arrives. No network, no key.

    Example: clawft-trio demo --speed 2
    """
    from clawft_trio.cli.demo import demo as show_demo
    from clawft_trio.cli.run import run

    run(show_demo, speed)


@app.command()
@with_agent(*EVERY_OPTION)
def ask(
    question: Annotated[str, typer.Argument(help="The question; `-` reads it from standard input.")],
    agent: Chosen,
    session: SessionOption = "",
    stream: Annotated[
        bool, typer.Option("--stream", help="Print the text as it arrives, also into a file or a pipe.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of text, also for an error.")
    ] = False,
) -> None:
    """Ask one question and print the answer. Text from a pipe is added to the question.

    Example: clawft-trio ask "What is in notes.txt?" --base-url http://localhost:8080/v1 --model llama --workspace .
    """
    from clawft_trio.cli.ask import Ask, ask as ask_once
    from clawft_trio.cli.run import run

    run(ask_once, Ask(question=question, chosen=agent, as_json=json, stream=stream, session=session))


@app.command()
@with_agent(*EVERY_OPTION)
def chat(
    agent: Chosen,
    session: SessionOption = "",
) -> None:
    """Chat with an agent. Ctrl-C stops an answer; /help lists the commands of the chat.

    From a pipe, every line is a message; the exit code is 1 when one of them got no answer.

    Example: clawft-trio chat --model openai/gpt-5-mini --workspace . --store agent.db --session trip
    """
    from clawft_trio.cli.chat import Chat, chat as talk
    from clawft_trio.cli.run import run

    if not run(talk, Chat(chosen=agent, session=session)):
        raise typer.Exit(1)


@app.command()
@with_agent(*CONNECTIONS, "store")
def doctor(
    agent: Chosen,
    workspace: WorkspaceOption = None,
    total: Annotated[float, typer.Option(help="Largest number of seconds for each check.", min=0.1)] = 10.0,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also ask each model for one token, which may cost money.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check everything that an agent needs: config, keys, providers, MCP servers, skills and store.

    Each provider is asked for its list of models, which costs nothing. Without --model and --config, the providers
    whose key is set are checked. Exit code 1 if there is a problem.

    Example: clawft-trio doctor --config config.json --store agent.db
    """
    from clawft_trio.cli.doctor import Doctor, doctor as examine
    from clawft_trio.cli.run import run

    if not run(
        examine, Doctor(chosen=attrs.evolve(agent, workspace=workspace), total=total, probe=probe, as_json=json)
    ):
        raise typer.Exit(1)


@app.command()
def context(
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    sender: Annotated[str, typer.Option(help="The sender whose memory is read, as channel:sender.")] = "",
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
    """List the skills and their problems; exit code 1 if there is a problem.

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
        list[str] | None,
        typer.Option(help="Group by sender, agent, target, day, month, turn or parent_turn; repeat it for several."),
    ] = None,
    sender: Annotated[str | None, typer.Option(help="Only the costs of this sender, as channel:sender.")] = None,
    days: Annotated[int | None, typer.Option(help="Only the costs of the last DAYS days.", min=1)] = None,
    form: Annotated[Format, typer.Option("--format", help="Output format.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Print the costs by sender and model, highest first; stderr says which models have no price, and why.

    Example: clawft-trio costs agent.db --by sender --days 7 --format csv
    """
    from clawft_trio.cli.costs import Costs, show_costs
    from clawft_trio.cli.run import run

    asked = Costs(store=store, by=tuple(by or ("sender", "target")), sender=sender, days=days, form=form, config=config)
    run(show_costs, asked)


@app.command()
@with_agent(*CONNECTIONS, "workspace")
def worker(
    agent: Chosen,
    store: Annotated[
        str | None,
        typer.Option(
            help="The store with the messages to answer: a file, or postgresql://…; default: that of the config."
        ),
    ] = None,
    turns: Annotated[int, typer.Option(help="Largest number of turns that run at once.", min=1)] = 64,
) -> None:
    """Answer the messages of a store until Ctrl-C or SIGTERM. Any number of workers may serve one store.

    Turns that have not ended by then are continued by other workers.

    Example: clawft-trio worker --store postgresql://db.example/agents --config config.json
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import Worker, worker as serve_store

    run(serve_store, Worker(chosen=attrs.evolve(agent, store=store), turns=turns))


@app.command()
def workers(
    store: Annotated[str, typer.Argument(help="The agent's store: a file, or postgresql://…")],
    json: JsonOption = False,
) -> None:
    """Print the workers of a store, its waiting messages, and the messages that were given up after too many failures.

    Example: clawft-trio workers agent.db
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import show_workers

    run(partial(show_workers, store, as_json=json))


@app.command()
def requeue(
    store: Annotated[str, typer.Argument(help="The agent's store: a file, or postgresql://…")],
    turn: Annotated[str, typer.Argument(help="The id of the turn, as `workers` prints it.")],
) -> None:
    """Queue a message that was given up again; exit code 1 when there is no such message.

    Example: clawft-trio requeue agent.db telegram:42:17
    """
    from clawft_trio.cli.run import run
    from clawft_trio.cli.worker import requeue_turn

    if not run(requeue_turn, store, turn):
        raise typer.Exit(1)


@app.command()
def timeline(
    file: Annotated[Path, typer.Argument(help="A recording: JSON lines.")],
    html: Annotated[Path | None, typer.Option(help="File for the HTML page; default: beside the recording.")] = None,
    svg: Annotated[Path | None, typer.Option(help="File for an SVG picture.")] = None,
    chrome: Annotated[Path | None, typer.Option(help="File for a trace that ui.perfetto.dev opens.")] = None,
    turn: Annotated[
        str, typer.Option(help="Only turns whose id begins with this text, or turns of this session.")
    ] = "",
) -> None:
    """Draw recorded turns as a timeline.

    Example: clawft-trio timeline turns.jsonl --html turns.html
    """
    from clawft_trio.cli.timeline import Wanted, timeline as draw_timeline

    draw_timeline(Wanted(file=file, html=html, svg=svg, chrome=chrome, turn=turn))


app.add_typer(store, name="store")
app.add_typer(config, name="config")
app.add_typer(mcp, name="mcp")
