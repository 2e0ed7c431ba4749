"""The commands and their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import trio
import typer

from clawft_trio.cli.ask import Ask, ask as ask_once
from clawft_trio.cli.demo import demo as show_demo

app: typer.Typer = typer.Typer(
    name="clawft-trio",
    help="The runtime for LLM agents on trio whose answers must get through.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def everything() -> None:
    """The runtime for LLM agents on trio whose answers must get through."""


@app.command()
def demo(
    speed: Annotated[
        float, typer.Option(help="Play faster or slower; 1 is a comfortable reading speed.", min=0.1)
    ] = 1.0,
) -> None:
    """See a model break in the middle of its answer, and the answer get through. Needs no network and no key."""
    trio.run(show_demo, speed)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask; `-` reads it from standard input.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="provider/model, or with --base-url the model's name; repeat it for fallbacks."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server, up to and including the version: http://localhost:8080/v1"),
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the key.")] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="A folder with SOUL.md, AGENTS.md and files that the model may read."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config.json.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Ask once and print the answer.

    Example: clawft-trio ask "What is in notes.txt?" --base-url http://localhost:8080/v1 --model llama --workspace .
    """
    words = sys.stdin.read() if question == "-" else question
    wanted = Ask(
        question=words,
        models=tuple(model or ()),
        base_url=base_url,
        api_key_env=api_key_env,
        workspace=workspace,
        config=config,
        as_json=json,
    )
    trio.run(ask_once, wanted)
