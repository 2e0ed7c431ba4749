"""What the commands tell: enough to act on, nothing twice, and no key."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
import trio
from cli.program import run
from typer.testing import CliRunner

from clawft_trio.agent import Agent
from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.cli.agent import open_chosen
from clawft_trio.cli.ask import Ask, ask
from clawft_trio.cli.check_provider import check_provider
from clawft_trio.cli.commands import app
from clawft_trio.cli.console import SafeConsole
from clawft_trio.cli.conversation import Conversation
from clawft_trio.cli.errors import error_lines
from clawft_trio.cli.mcp import call_tool
from clawft_trio.cli.options import Chosen
from clawft_trio.cli.signals import Interrupts
from clawft_trio.cli.slash import run_slash_command
from clawft_trio.config import Config, parse_config
from clawft_trio.errors import (
    AllProvidersExhausted,
    ClawftError,
    ConfigError,
    InvalidData,
    NotConfigured,
    ServerError,
    TransportFailed,
)
from clawft_trio.observe import TaskClock
from clawft_trio.testing import Finish, Say, Status, open_fault_server

KEY = "sk-very-secret-key-of-ana"


def told(*arguments: str) -> list[str]:
    """What a command that fails before it runs anything says on stderr."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ClawftError | OSError), result.output
    return list(error_lines(result.exception))


async def test_a_recording_does_not_replace_what_is_there(tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("three years of work")
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        with pytest.raises(InvalidData, match=r"--record: .*notes\.txt exists already.*clawft-trio timeline"):
            await ask(Ask(question="hi", chosen=Chosen(base_url=server.url, record=mine)))
        assert mine.read_text() == "three years of work"
        assert server.requests == []


async def test_a_recording_may_go_into_an_empty_file_or_a_device(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    async with open_fault_server([Say("Hello."), Finish()], [Say("Hello."), Finish()]) as server:
        for place in (tmp_path / "empty.jsonl", Path("/dev/null")):
            await ask(Ask(question="hi", chosen=Chosen(base_url=server.url, record=place)))
    assert (tmp_path / "empty.jsonl").read_bytes().startswith(b'{"recording"')


def with_dead_servers(tmp_path: Path) -> Path:
    config = tmp_path / "config.json"
    dies = ["-c", f"import sys; sys.exit('\\x1b]0;out of cheese: token={KEY}')"]
    servers = {"none": {"command": "no-such-command-at-all"}, "dies": {"command": sys.executable, "args": dies}}
    config.write_text(json.dumps({"tools": {"mcp_servers": servers}}))
    return config


async def test_servers_that_do_not_start_are_told_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fault_server([Finish()]) as server:
        chosen = Chosen(base_url=server.url, config=with_dead_servers(tmp_path))
        async with open_chosen(chosen) as agent:
            said = capsys.readouterr()
            listed = await tools_of(agent, chosen)
    assert said.out == ""
    for text in (said.err, listed):
        lines = {line.split()[2]: line for line in text.splitlines() if line.startswith("MCP server ")}
        assert set(lines) == {"none", "dies"}
        assert "MCP server none did not start: " in lines["none"]
        assert "no-such-command-at-all" in lines["none"]
        assert "out of cheese" in lines["dies"]
        assert "\x1b" not in text
        assert KEY not in text


async def tools_of(agent: Agent, chosen: Chosen) -> str:
    written = StringIO()
    with TaskClock.running() as clock:
        conversation = Conversation(
            agent,
            chosen,
            name="x",
            transcript=None,
            console=SafeConsole(file=written, width=40),
            interrupts=Interrupts(),
            clock=clock,
        )
        await run_slash_command(conversation, "/tools")
    return written.getvalue()


@pytest.mark.parametrize(
    "given", [KEY, "ghp_0123456789abcdefghij", "not a name", "0123", "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "a" * 24]
)
async def test_a_key_in_place_of_its_variable_is_not_quoted(given: str) -> None:
    with pytest.raises(NotConfigured, match="this is not one") as caught:
        async with open_chosen(Chosen(base_url="http://127.0.0.1:9/v1", api_key_env=given)):
            pass
    assert given not in f"{caught.value} {caught.value!r}"
    finding = await check_provider("server", Chosen(base_url="http://127.0.0.1:9/v1", api_key_env=given), Config())
    assert given not in str(finding)


async def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(NotConfigured, match="MY_COMPANYS_KEY_2 is not set"):
        async with open_chosen(Chosen(base_url="http://127.0.0.1:9/v1", api_key_env="MY_COMPANYS_KEY_2")):
            pass


@pytest.mark.parametrize("command", ["skills", "context"])
def test_a_workspace_that_is_no_folder_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nope", "file"):
        path = tmp_path / name
        assert told(command, "--workspace", str(path)) == [f"NotConfigured: no workspace: {path} is not a folder"]


@pytest.mark.parametrize("command", [["ask", "hi"], ["chat"], ["doctor"]], ids=" ".join)
def test_a_model_without_its_provider_is_told(command: Sequence[str]) -> None:
    assert told(*command, "--model", "llama") == [
        "--model: expected provider/model, got 'llama'; for a server of your own add --base-url"
    ]


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    for command in (["ask", "hi", "--config"], ["timeline"]):
        path = str(tmp_path / "nope.json")
        assert told(*command, path) == [f"{path}: No such file or directory"]


@pytest.mark.parametrize("arguments", ["{path}", "[]", ""])
async def test_arguments_that_are_no_object_are_told_by_their_option(arguments: str) -> None:
    with pytest.raises(InvalidData) as caught:
        await call_tool(["no-such-command-at-all"], "x", arguments)
    (line,) = error_lines(caught.value)
    assert line.startswith("--arguments: ")
    assert "$" not in line


def test_a_problem_of_nobodys_keeps_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("[]", source="")
    assert next(error_lines(caught.value)).startswith("$: ")


async def test_ask_as_json_is_one_object_also_when_there_is_no_answer(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"retry": {"max_retries": 1, "base_delay_ms": 1}}')
    async with open_fault_server(*[[Status(500)]] * 2) as server:
        done = await run("ask", "hi", "--base-url", server.url, "-m", "m", "--config", str(config), "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "ServerError"
    assert "500" in error["message"]
    assert [(one["target"], one["outcome"], one["error"]) for one in error["attempts"]] == [
        ("server/m", "failed", "ServerError")
    ] * 2
    assert b"server/m: failed 2 times in " in done.stderr


async def test_ask_as_json_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotConfigured):
        await ask(Ask(question="hi", as_json=True))
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["attempts"]) == ("NotConfigured", [])


def record(target: str, error: Exception, *, started: float = 0.0, total: float = 0.5) -> AttemptRecord:
    return AttemptRecord(target=target, outcome="failed", started=started, latency=Latency(total=total), error=error)


def test_attempts_that_failed_alike_are_told_once() -> None:
    failed = [record("server/e500", ServerError("down"), started=number * 0.5, total=0.25) for number in range(4)]
    other = record("backup/small", ServerError("on fire"), started=2.0)
    exc = AllProvidersExhausted("nobody could", attempts=[*failed[:2], other, *failed[2:]])
    assert list(error_lines(exc)) == [
        "AllProvidersExhausted: no target could answer: nobody could",
        "  server/e500: failed 4 times in 1.8 s: down",
        "  backup/small: failed after 0.50 s: on fire",
    ]


@pytest.mark.parametrize(
    ("exc", "advised"),
    [
        (TransportFailed("refused", provider="mine"), True),
        (AllProvidersExhausted("none", attempts=[record("a/b", TransportFailed("refused"))]), True),
        (NotConfigured("no key", provider="openai"), True),
        (NotConfigured("config.json exists already"), False),
        (ServerError("down"), False),
        (OSError("disk"), False),
    ],
)
def test_doctor_is_named_where_it_would_find_out_more(exc: Exception, advised: bool) -> None:
    assert ([*error_lines(exc)][-1] == "See: clawft-trio doctor") is advised


def test_costs_as_json_count_in_numbers(tmp_path: Path) -> None:
    store, config = tmp_path / "agent.db", tmp_path / "config.json"
    config.write_text(json.dumps({"prices": {"server/m": {"input": 1, "output": 2}}}))

    async def spend() -> None:
        usage = Usage(input_tokens=1000, output_tokens=500)
        async with open_fault_server([Say("Hello."), Finish(usage=usage)]) as server:
            chosen = Chosen(base_url=server.url, models=("m",), store=store, config=config)
            await ask(Ask(question="hi", chosen=chosen))

    trio.run(spend)
    (row,) = json.loads(CliRunner().invoke(app, ["costs", str(store), "--format", "json"]).output)
    assert [row[name] for name in ("attempts", "input_tokens", "output_tokens", "unpriced")] == [1, 1000, 500, 0]
    assert row["cost"] == "0.002"


async def test_doctor_advises_on_the_address_when_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    address = f"https://ana:{KEY}@example.org/v1"
    wrong = parse_config(json.dumps({"providers": {"openai": {"api_base": address}}}))
    finding = await check_provider("openai", Chosen(), wrong)
    assert "credentials" in finding.message
    assert finding.advice == "Correct $.providers['openai'].api_base: http:// or https://, a host, and no credentials."
    given = await check_provider("server", Chosen(base_url=address), Config())
    assert given.advice.startswith("Correct --base-url: ")
    monkeypatch.delenv("OPENAI_API_KEY")
    fine = parse_config(json.dumps({"providers": {"openai": {"api_base": "https://example.org/v1"}}}))
    assert "Set OPENAI_API_KEY" in (await check_provider("openai", Chosen(), fine)).advice


def test_the_version_is_told() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0
    name, version = said.output.split()
    assert (name, version[0].isdecimal()) == ("clawft-trio", True)
