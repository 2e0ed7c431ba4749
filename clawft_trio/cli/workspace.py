"""`clawft-trio context` and `clawft-trio skills`: the context that a workspace gives a model, with its sources."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio
from rich.table import Table

from clawft_trio.agent.from_config import skills_of
from clawft_trio.cli.agent import existing_folder, settings_of
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.output import write_json
from clawft_trio.cli.words import counted
from clawft_trio.config import Config
from clawft_trio.context import ContextBuilder, Memory
from clawft_trio.errors import NotConfigured
from clawft_trio.files import FileCache


@attrs.frozen(kw_only=True)
class Look:
    """The options of `context` and `skills`."""

    workspace: Path | None = None
    config: Path | None = None
    #: sender whose memory is used: `channel:sender`
    sender: str = ""
    trust_workspace: bool = False
    as_json: bool = False


async def show_context(look: Look) -> None:
    """Print the exact system prompt, each part with its source and its estimated tokens.

    Raises:
      NotConfigured: no workspace is named, or it is not a folder.

    Cancellation: nothing is left behind.
    """
    settings, workspace = await _settled(look)
    cache = FileCache()
    memory = Memory(workspace, cache, per_sender=settings.memory.per_sender)
    builder = ContextBuilder(
        workspace,
        cache=cache,
        skills=skills_of(settings, workspace, cache, trust_workspace=look.trust_workspace),
        memory=memory,
    )
    prompt = await builder.explain(sender=look.sender)
    if look.as_json:
        parts = [attrs.asdict(part) for part in prompt.parts]
        _print_json({"tokens": prompt.tokens, "parts": parts, "problems": prompt.problems})
        return
    console = SafeConsole()
    for part in prompt.parts:
        console.rule(f"{part.title} · {part.source} · about {counted(part.tokens, 'token')}", align="left")
        console.print(part.text, soft_wrap=True)
    console.rule(f"about {counted(prompt.tokens, 'token')} in all", align="left")
    _print_problems(console, prompt.problems)


async def show_skills(look: Look) -> int:
    """List the skills with their problems; return the number of problems.

    Raises:
      NotConfigured: no workspace is named, or it is not a folder.

    Cancellation: nothing is left behind.
    """
    settings, workspace = await _settled(look)
    report = await skills_of(settings, workspace, FileCache(), trust_workspace=look.trust_workspace).load()
    if look.as_json:
        _print_json({"skills": [_as_text(skill) for skill in report.skills], "problems": report.problems})
        return len(report.problems)
    console = SafeConsole()
    table = Table(box=None, pad_edge=False)
    for name in ("skill", "description", "source"):
        table.add_column(name, overflow="fold")
    for skill in report.skills:
        table.add_row(skill.name, skill.description, str(skill.source))
    console.print(table if report.skills else "No skills.")
    _print_problems(console, report.problems)
    return len(report.problems)


async def _settled(look: Look) -> tuple[Config, Path]:
    await trio.lowlevel.checkpoint()
    settings = await settings_of(look.config)
    workspace = look.workspace or settings.agents.defaults.workspace
    if workspace is None:
        raise NotConfigured("no workspace: name one with --workspace, or in --config as $.agents.defaults.workspace")
    return settings, await existing_folder(workspace)


def _as_text(skill: object) -> dict[str, str]:
    return {name: str(getattr(skill, name)) for name in ("name", "description", "source")}


def _print_problems(console: SafeConsole, problems: tuple[str, ...]) -> None:
    for problem in problems:
        console.print(f"! {problem}", style="yellow", soft_wrap=not console.is_terminal)


def _print_json(value: object) -> None:
    write_json(value)
