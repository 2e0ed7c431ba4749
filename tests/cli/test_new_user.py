"""Whatever somebody types who has never seen it: an answer in words, an exit code that means it, and no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from cli.program import CLEAN, run
from cli.terminal import open_terminal
from typer.main import get_command
from typer.testing import CliRunner

from clawft_trio.cli.commands import app
from clawft_trio.testing import Finish, Say, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells")

NOBODY = "http://127.0.0.1:9/v1"


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    else:
        for name, one in inner.items():
            yield from leaves(one, (*path, name))


COMMANDS = dict(leaves(get_command(app)))
EACH = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def with_option(option: str) -> list[tuple[str, ...]]:
    return [path for path, command in COMMANDS.items() if any(option in one.opts for one in command.params)]


def arguments_of(path: tuple[str, ...], tmp_path: Path) -> list[str]:
    """What the command cannot do without."""
    return {
        ("ask",): ["hi"],
        ("costs",): [str(tmp_path / "agent.db")],
        ("worker",): ["--store", str(tmp_path / "worker.db")],
        ("mcp", "serve"): [str(tmp_path)],
        ("mcp", "list"): ["--", "no-such-command-at-all"],
        ("mcp", "call"): ["echo", "--", "no-such-command-at-all"],
    }.get(path, [])


@EACH
@pytest.mark.parametrize("columns", [30, 100])
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...], columns: int) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})
    assert done.exit_code == 0
    assert f"Example: clawft-trio {' '.join(path)}" in " ".join(done.output.split())
    assert "\x1b" not in done.output


@EACH
def test_every_example_is_one_that_the_command_takes(path: tuple[str, ...]) -> None:
    """Its options are there, and what it cannot do without is given."""
    command = COMMANDS[path]
    example = command.help.rpartition("Example: ")[2].split(" > ")[0]
    options = {option for parameter in command.params for option in parameter.opts}
    ours = example.partition(" -- ")[0]
    assert set(re.findall(r"(?<!\S)-{1,2}[a-z][a-z-]*", ours)) <= options


async def test_the_programs_help_says_what_exit_codes_mean() -> None:
    done = await run("--help", env={"COLUMNS": "30"})
    said = " ".join(done.stdout.decode().split())
    for code in ("0 success", "1 no answer", "2 the command line", "130 interrupted", "143 terminated"):
        assert code in said
    assert (await run()).returncode == 2
    assert (await run("mcp")).returncode == 2
    assert (await run("config")).returncode == 2


@EACH
def test_an_option_that_is_not_there_is_told(path: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*path, "--no-such-option"])
    assert done.exit_code == 2
    assert "no-such-option" in done.output + done.stderr


@pytest.mark.parametrize("path", [path for path, one in COMMANDS.items() if any(p.required for p in one.params)])
def test_an_argument_that_is_missing_is_told(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path])
    assert done.exit_code == 2
    assert "Missing" in done.output + done.stderr


BROKEN = {
    "no json": b"{",
    "not utf-8": b"\xff\xfe{}",
    "a list": b"[]",
    "an unknown key": b'{"retri": {}}',
    "a secret in the wrong place": b'{"providers": {"openai": "sk-very-secret-key-of-ana"}}',
    "deep": b"[" * 100_000,
    "large": b" " * 2_000_000,
}


@pytest.mark.parametrize("path", [*with_option("--config"), ("config", "show")], ids=" ".join)
async def test_a_config_that_is_missing_or_broken_is_told_with_its_name(path: tuple[str, ...], tmp_path: Path) -> None:
    option = [] if path == ("config", "show") else ["--config"]
    expected = 1 if path == ("doctor",) else 2
    files = {name: tmp_path / f"{number}.json" for number, name in enumerate(BROKEN)}
    for name, file in files.items():
        file.write_bytes(BROKEN[name])
    for file in [*files.values(), tmp_path / "none.json"]:
        done = await run(*path, *option, str(file), *arguments_of(path, tmp_path))
        said = done.stdout + done.stderr
        assert (done.returncode, str(file).encode() in said) == (expected, True), said
        assert b"very-secret" not in said


@pytest.mark.parametrize("path", [("ask", "hi"), ("chat",)], ids=" ".join)
async def test_without_config_and_model_it_says_what_to_name(path: tuple[str, ...]) -> None:
    done = await run(*path)
    assert done.returncode == 2
    assert b"--model provider/model" in done.stderr


@pytest.mark.parametrize("path", [("context",), ("skills",)], ids=" ".join)
async def test_without_a_workspace_it_says_so(path: tuple[str, ...]) -> None:
    done = await run(*path)
    assert done.returncode == 2
    assert b"--workspace" in done.stderr


@pytest.mark.parametrize("path", [("ask", "hi"), ("chat",), ("doctor",)], ids=" ".join)
async def test_without_a_network_it_is_told_in_time(path: tuple[str, ...], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"retry": {"max_retries": 1, "base_delay_ms": 10}}')
    done = await run(*path, "--base-url", NOBODY, "-m", "m", "--config", str(config), stdin=b"hi\n")
    assert done.returncode == 1
    assert b"TransportFailed" in done.stdout + done.stderr
    refused = await run("mcp", "list", "http://127.0.0.1:9/mcp")
    assert refused.returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["chat --base-url URL", "ask - --base-url URL", "doctor --base-url URL"])
async def test_streams_that_are_closed_do_no_harm(command: str, closed: str) -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        shell = f"echo hi | {sys.executable} -m clawft_trio {command.replace('URL', server.url)} {closed}"
        with trio.fail_after(60):
            done = await trio.run_process(
                ["sh", "-c", shell], capture_stdout=True, capture_stderr=True, env=CLEAN, check=False
            )
    assert b"Traceback" not in done.stderr
    reads = "doctor" not in command
    assert done.returncode == (2 if reads and "<" in closed else 0)


async def test_a_reader_that_leaves_early_is_no_disaster() -> None:
    async with open_fault_server([*(Say("word " * 2000) for _ in range(50)), Finish()]) as server:
        shell = f"{sys.executable} -m clawft_trio ask hi --base-url {server.url} | head -c 5"
        with trio.fail_after(60):
            done = await trio.run_process(["sh", "-c", shell], capture_stdout=True, capture_stderr=True, env=CLEAN)
    assert done.stdout == b"word "
    # How much of it the pipe took before the reader left is the system's affair; the summary may be all that is said.
    assert done.stderr == b"" or done.stderr.startswith(b"answered by server/default")


async def test_a_terminal_that_knows_only_ascii_gets_words() -> None:
    done = await run("doctor", "--base-url", NOBODY, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    text = done.stdout.decode("ascii")
    assert "PROBLEM provider server" in text
    assert "ok config" in text
    assert "  -> " in text


async def test_what_is_piped_has_no_escape_codes(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("You are Nora.")
    folder = ["--workspace", str(tmp_path)]
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        agent = ["--base-url", server.url, *folder]
        for command in (["ask", "hi", *agent], ["doctor", *agent], ["context", *folder], ["skills", *folder]):
            done = await run(*command)
            assert b"\x1b" not in done.stdout + done.stderr, command


async def test_on_a_terminal_there_are_colours_and_with_no_color_none() -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        async with open_terminal("doctor", "--base-url", NOBODY, columns=30, env=env) as terminal:
            assert await terminal.end() == 1
        assert bool(colour.search(terminal.raw)) is coloured, env


# Else the command line asks which shell is its parent process, and takes no name of one.
NO_SHELL_DETECTION = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    done = await run("--show-completion", shell, env=NO_SHELL_DETECTION)
    assert done.returncode == 0, done.stderr
    assert b"clawft" in done.stdout.lower()


async def test_bash_completes_commands_and_options() -> None:
    """The script in a real bash: what Tab offers."""
    program = Path(sys.executable).with_name("clawft-trio")
    if not program.exists():
        pytest.skip("the program is not installed beside this Python")
    asked = "\n".join(
        [
            f'eval "$({program} --show-completion bash)"',
            f'clawft-trio() {{ {program} "$@"; }}',
            "COMP_WORDS=(clawft-trio co); COMP_CWORD=1; _clawft_trio_completion clawft-trio",
            'echo "${COMPREPLY[@]}"',
        ]
    )
    with trio.fail_after(60):
        env = {**CLEAN, **NO_SHELL_DETECTION, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        done = await trio.run_process(
            ["bash", "-c", asked], capture_stdout=True, stderr=subprocess.STDOUT, env=env, check=False
        )
    assert set(done.stdout.decode().split()) == {"config", "context", "costs"}


async def test_json_stays_json_whatever_the_terminal(tmp_path: Path) -> None:
    async with open_terminal("config", "show", "--json", columns=30, env={"TERM": "dumb"}) as terminal:
        assert await terminal.end() == 0
    assert isinstance(json.loads(terminal.text), list)
