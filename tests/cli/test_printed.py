"""What the commands print and return, by example."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cli.program import run
from net.servers import answering, open_server, response

from clawft_trio import Usage, open_agent
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.cli.report import CheckResult, print_report
from clawft_trio.messages import InboundMessage
from clawft_trio.store import open_store
from clawft_trio.store.ownership import Ownership
from clawft_trio.testing import (
    CallTool,
    Finish,
    ResetConnection,
    Say,
    ScriptedProvider,
    Status,
    open_fault_server,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes")


def test_a_report_has_a_line_for_each_finding_and_its_advice_below(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(
        [
            CheckResult(check="config", subject="", message="fits", seconds=0.0009),
            CheckResult(
                check="provider", subject="p", message="slow", outcome="warning", advice="Wait.", seconds=0.001
            ),
            CheckResult(
                check="mcp", subject="files", message="gone", outcome="problem", advice="Start it.", seconds=1.5
            ),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "✓ config: fits",
        "! provider p: slow (1 ms)",
        "  → Wait.",
        "✗ mcp files: gone (1500 ms)",
        "  → Start it.",
    ]


# ask


async def test_streamed_text_that_is_taken_back_ends_its_line_and_is_marked_beside_it() -> None:
    async with open_fault_server([Say("It is su"), ResetConnection()], [Say("It rains."), Finish()]) as server:
        done = await run("ask", "hi", "--base-url", server.url, "-m", "m", "--stream")
    assert (done.returncode, done.stdout) == (0, b"It is su\nIt rains.\n")
    assert b"Taken back (TransportFailed at server/m" in done.stderr
    assert done.stderr.count(b"The answer begins anew.") == 1


async def test_streamed_text_before_a_call_of_a_tool_has_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain")
    scripts = ([Say("Let me see."), CallTool("read_file", {"path": "notes.txt"}), Finish()], [Say("Rain.\n"), Finish()])
    async with open_fault_server(*scripts) as server:
        done = await run("ask", "hi", "--base-url", server.url, "-m", "m", "--workspace", str(tmp_path), "--stream")
    assert done.stdout == b"Let me see.\nRain.\n"
    assert b"Taken back" not in done.stderr


async def test_stream_and_json_do_not_go_together() -> None:
    done = await run("ask", "hi", "--base-url", "http://127.0.0.1:9/v1", "--stream", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["type"] == "InvalidData"
    assert b"--stream: does not go with --json" in done.stderr


async def test_an_answer_as_json_has_what_a_program_needs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"prices": {"server/m": {"input": 1, "output": 2}}}))
    usage = Usage(input_tokens=1000, output_tokens=500)
    scripts = (
        [CallTool("read_file", {"path": "notes.txt"}), Finish(usage=usage)],
        [Say("Rain."), Finish(usage=usage)],
    )
    async with open_fault_server(*scripts) as server:
        options = ["--config", str(config), "--workspace", str(tmp_path), "--store", str(tmp_path / "s.db")]
        done = await run("ask", "hi", "--base-url", server.url, "-m", "m", *options, "--session", "trip", "--json")
    told = json.loads(done.stdout)
    assert done.stderr == b""
    assert (told["usage"]["input_tokens"], told["cost_usd"], told["rounds"]) == (2000, "0.004", 2)
    assert (told["provider"], told["model"], told["finish_reason"]) == ("server", "m", "stop")
    assert told["session"] == "local:trip"
    assert told["tools"] == [{"name": "read_file", "outcome": "ok"}]
    assert [(one["target"], one["error"]) for one in told["attempts"]] == [("server/m", None)] * 2


async def test_the_key_of_the_named_variable_is_sent() -> None:
    async with open_fault_server([Say("Hello."), Finish()]) as server:
        named = ["--api-key-env", "MY_KEY"]
        await run("ask", "hi", "--base-url", server.url, *named, env={"MY_KEY": " my-own-key "})
        assert server.requests[-1].headers["authorization"] == "Bearer my-own-key"
        await run("ask", "hi", "--base-url", server.url)
        assert "authorization" not in server.requests[-1].headers


async def test_retries_of_a_quick_answer_are_not_told() -> None:
    async with open_fault_server([Status(503, retry_after=0.01)], [Say("Hello."), Finish()]) as server:
        done = await run("ask", "hi", "--base-url", server.url, "-m", "m")
    (summary,) = done.stderr.decode().splitlines()
    assert summary.startswith("answered by server/m · ")
    assert " · 1 round · 2 attempts · " in summary


# costs


@asynccontextmanager
async def spent(path: Path) -> AsyncGenerator[str, None]:
    """A store in which two senders have spent something at a model without a price."""
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
    model = ScriptedProvider([Say("x"), Finish(usage=usage)], name="p")
    async with open_agent(["p/m"], providers={"p": model}, store=path / "s.db") as agent:
        for sender in ("ana", "ben", "ana"):
            await agent.ask("q", sender_id=sender)
    yield str(path / "s.db")


async def test_costs_are_those_of_a_sender_and_of_the_last_days(tmp_path: Path) -> None:
    async with spent(tmp_path) as store:

        async def attempts(*options: str) -> list[tuple[str, int]]:
            done = await run("costs", store, "--format", "json", *options)
            assert done.returncode == 0
            return [(one.get("sender", one.get("target")), one["attempts"]) for one in json.loads(done.stdout)]

        assert sorted(await attempts()) == [("local:ana", 2), ("local:ben", 1)]
        assert await attempts("--sender", "local:ben") == [("local:ben", 1)]
        assert sorted(await attempts("--days", "1", "--by", "sender")) == [("local:ana", 2), ("local:ben", 1)]
        assert await attempts("--by", "target") == [("p/m", 3)]
        none = await run("costs", store, "--sender", "local:nobody")
        assert (none.stdout, none.stderr) == (b"Nothing was spent.\n", b"")


async def test_the_table_of_costs_has_the_groups_in_their_order_and_what_has_no_price(tmp_path: Path) -> None:
    async with spent(tmp_path) as store:
        done = await run("costs", store, "--by", "target", "--by", "sender")
        heading, *rows = [line.split() for line in done.stdout.decode().splitlines()]
        assert heading == [*("sender", "target", "attempts", "plain", "cached", "written", "output"),
                           *("cost,", "$", "certainty", "unpriced")]  # fmt: skip
        assert [row[:7] for row in sorted(rows)] == [
            ["local:ana", "p/m", "2", "12", "8", "0", "10"],
            ["local:ben", "p/m", "1", "6", "4", "0", "5"],
        ]
        assert done.stderr.decode().startswith("p/m is unpriced: ")
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"prices": {"p/m": {"input": 1, "output": 2}}}))
        explained = (await run("costs", store, "--config", str(config))).stderr.decode()
        assert explained.startswith("p/m is unpriced: it has a price now, and had none when it was asked")
        wrong = await run("costs", store, "--config", str(tmp_path / "none.json"))
        assert wrong.returncode == 2
    assert (await run("costs", str(tmp_path / "none.db"))).returncode == 2
    assert not (tmp_path / "none.db").exists()


async def test_a_group_that_is_none_is_named_with_those_that_are(tmp_path: Path) -> None:
    async with spent(tmp_path) as store:
        done = await run("costs", store, "--by", "day", "--by", "colour", "--by", "size")
    assert done.returncode == 2
    assert b"--by: expected some of sender, " in done.stderr
    assert done.stderr.rstrip().endswith(b"got colour, size")


# workers


async def test_workers_lists_leases_waiting_messages_and_what_was_given_up(tmp_path: Path) -> None:
    store = str(tmp_path / "s.db")
    async with open_store(store, migrations=MIGRATIONS):
        pass
    idle = await run("workers", store)
    assert idle.stdout.decode().splitlines() == ["No worker holds a lease.", "No open messages."]
    async with open_store(store, migrations=MIGRATIONS) as opened:
        ownership = Ownership(opened, length=20)
        assert await ownership.acquire("session:test:1")
        for number in range(2):
            message = InboundMessage(channel="test", sender_id="ana", chat_id="1", id=f"m{number}", content="hi")
            await Journal(opened).accepted(message)
        busy = (await run("workers", store, env={"COLUMNS": "300"})).stdout.decode().splitlines()
        await ownership.release_all()
    assert busy[0].split() == ["worker", "sessions", "channels", "leases", "end", "in"]
    assert busy[1].startswith(ownership.owner)
    assert busy[2].startswith("2 open messages in 1 session, the oldest ")


# context and skills


async def test_context_shows_each_part_with_its_source_and_skills_their_table(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("You are Nora.")
    folder = tmp_path / ".clawft" / "skills" / "greet"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: greet\ndescription: Greets.\n---\nHi.\n")
    config = tmp_path / "config.json"
    skills = {"user": str(tmp_path / "none")}
    config.write_text(json.dumps({"skills": skills, "agents": {"defaults": {"workspace": str(tmp_path)}}}))
    shown = (await run("context", "--config", str(config), env={"COLUMNS": "300"})).stdout.decode()
    assert f"SOUL.md · {tmp_path / 'SOUL.md'} · about " in shown
    assert "\nYou are Nora.\n" in shown
    total, problem = shown.splitlines()[-2:]
    assert " in all " in total
    assert problem.endswith("1 entries not read: the skills of this workspace are not trusted")
    untrusted = await run("skills", "--config", str(config), env={"COLUMNS": "300"})
    assert (untrusted.returncode, untrusted.stdout.decode().splitlines()) == (1, ["No skills.", problem])
    listed = await run("skills", "--config", str(config), "--trust-workspace", env={"COLUMNS": "300"})
    heading, row = (line.split() for line in listed.stdout.decode().splitlines())
    assert heading == ["skill", "description", "source"]
    assert row[:2] == ["greet", "Greets."]
    (folder / "SKILL.md").write_text("no front matter")
    broken = await run("skills", "--config", str(config), "--trust-workspace", env={"COLUMNS": "300"})
    assert broken.returncode == 1
    assert [line[:2] for line in broken.stdout.decode().splitlines()] == ["No", "! "]


# doctor


def configured(tmp_path: Path, **sections: object) -> list[str]:
    (tmp_path / "config.json").write_text(json.dumps(sections))
    return ["--config", str(tmp_path / "config.json")]


async def findings(*arguments: str) -> dict[tuple[str, str], dict[str, str]]:
    done = await run("doctor", "--json", *arguments)
    return {(one["check"], one["subject"]): one for one in json.loads(done.stdout)["findings"]}


MODELS = response(b'{"data": [{"id": "m"}]}')


async def test_models_without_a_price_are_a_warning_only_for_a_budget_in_dollars(tmp_path: Path) -> None:
    async with open_server(answering(MODELS)) as server:
        own = ["--base-url", f"{server.url}/v1", "-m", "m"]
        priced = {"prices": {"server/m": {"input": 1, "output": 2}}}
        for sections, outcome in (
            ({}, "ok"),
            ({"routing": {"cost_budgets": {"global_daily_limit_usd": 1}}}, "warning"),
            ({"routing": {"cost_budgets": {"global_monthly_limit_usd": 1}}}, "warning"),
            ({"routing": {"cost_budgets": {"global_daily_limit_usd": 1}}, **priced}, "ok"),
        ):
            found = (await findings(*own, *configured(tmp_path, **sections)))["prices", ""]
            assert (found["outcome"], bool(found["advice"])) == (outcome, outcome == "warning")
            assert (found["message"] == "every model has one") is ("prices" in sections)


async def test_a_folder_and_a_store_are_looked_at_where_they_are_named(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        async with open_store(tmp_path / f"{name}.db", migrations=MIGRATIONS):
            pass
    given = configured(
        tmp_path, agents={"defaults": {"workspace": str(tmp_path / "one")}}, store=str(tmp_path / "one.db")
    )
    found = await findings(*given)
    assert found["skills", str(tmp_path / "one")]["message"].endswith(" skills")
    assert found["store", str(tmp_path / "one.db")]["message"] == "whole"
    named = ["--workspace", str(tmp_path / "other"), "--store", str(tmp_path / "other.db")]
    found = await findings(*given, *named)
    assert {subject for check, subject in found if check in {"skills", "store"}} == {named[1], named[3]}
    found = await findings(*named[:3], str(tmp_path / "none.db"))
    assert found["store", str(tmp_path / "none.db")]["message"].startswith("not there yet")
    assert not (tmp_path / "none.db").exists()


async def test_a_configuration_that_cannot_be_read_is_the_only_problem_it_causes(tmp_path: Path) -> None:
    found = await findings(*configured(tmp_path, retri={}))
    assert [(check, one["outcome"]) for (check, _), one in found.items()] == [("config", "problem")]
    found = await findings(*configured(tmp_path))
    assert [(check, one["outcome"]) for (check, _), one in found.items()] == [("config", "ok"), ("provider", "problem")]


async def test_a_server_that_ends_is_run_by_hand_and_one_at_an_address_is_reached(tmp_path: Path) -> None:
    servers = {
        "dies": {"command": sys.executable, "args": ["-S", "-c", ""]},
        "away": {"url": "http://127.0.0.1:9/mcp"},
        "wrong": {"command": "x", "env": {"KEY": "${NOBODY_SET_THIS}"}},
    }
    found = await findings(*configured(tmp_path, tools={"mcp_servers": servers}))
    assert found["mcp", "dies"]["advice"] == "Run its command by hand: it prints why it ends."
    assert found["mcp", "away"]["advice"] == "Is its address right, and the network up?"
    assert found["mcp", "wrong"]["advice"] == "Set what is missing, or correct $.tools.mcp_servers['wrong']."


# config


async def test_an_address_of_the_environment_is_shown_unless_the_file_has_one(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": " http://one.example/v1 "}
    line = "$.providers['openai'].api_base = \"http://one.example/v1\"  # environment, from OPENAI_BASE_URL"
    for providers, there in (
        ({}, True),
        ({"openai": {}}, True),
        ({"openai": {"api_base": "http://two.example"}}, False),
    ):
        path = configured(tmp_path, providers=providers)[1]
        lines = (await run("config", "show", path, env=env)).stdout.decode().splitlines()
        assert (line in lines) is there


async def test_init_names_the_variables_that_are_not_set(tmp_path: Path) -> None:
    path = str(tmp_path / "config.json")
    models = ["-m", "openai/gpt-5-mini", "-m", "anthropic/claude-haiku-4-5", "-m", "ollama/x"]
    done = await run("config", "init", path, *models, "--workspace", str(tmp_path), env={"OPENAI_API_KEY": "k"})
    wrote, then = done.stdout.decode().splitlines()
    assert wrote == f"Wrote {path}: openai/gpt-5-mini, anthropic/claude-haiku-4-5, ollama/x."
    assert then == f"ANTHROPIC_API_KEY is not set; check it with: clawft-trio doctor --config {path}"
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "agents": {"defaults": {"model": "openai/gpt-5-mini", "workspace": str(tmp_path)}},
        "providers": {
            "openai": {"api_key": "${OPENAI_API_KEY}"},
            "anthropic": {"api_key": "${ANTHROPIC_API_KEY}"},
        },
        "failover": ["anthropic/claude-haiku-4-5", "ollama/x"],
    }
    again = await run("config", "init", path, "--force", "-m", "ollama/x")
    assert json.loads((tmp_path / "config.json").read_text()) == {"agents": {"defaults": {"model": "ollama/x"}}}
    assert again.stdout.decode().splitlines()[1] == f"check it with: clawft-trio doctor --config {path}"


# mcp

SERVER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    blocks = [{"type": "text", "text": "rain"}, {"type": "image", "data": "AAAA", "mimeType": "image/png"}]
    tools = [{"name": "look", "description": "  Looks.\\nMore.", "inputSchema": {"type": "object"}},
             {"name": "bare", "inputSchema": {"type": "object"}}]
    results = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
        "tools/list": {"tools": tools},
        "tools/call": {"content": blocks, "isError": asked.get("params", {}).get("name") == "bare"},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": results.get(asked["method"], {})}), flush=True)
"""


async def test_tools_of_a_server_are_listed_and_called_by_hand(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    server = ["--", sys.executable, "-S", str(tmp_path / "server.py")]
    listed = (await run("mcp", "list", *server)).stdout.decode().splitlines()
    assert [line.split() for line in listed] == [["tool", "description"], ["look", "Looks."], ["bare"]]
    called = await run("mcp", "call", "look", *server)
    text, image = called.stdout.decode().splitlines()
    assert (called.returncode, text, json.loads(image)["data"]) == (0, "rain", "AAAA")
    assert (await run("mcp", "call", "bare", *server)).returncode == 1


async def test_the_agent_of_a_server_works_in_its_folder(tmp_path: Path) -> None:
    assert (await run("mcp", "serve", str(tmp_path / "none"))).returncode == 2
    nothing = await run("mcp", "serve", str(tmp_path), "--agent")
    assert nothing.returncode == 2
    assert b"no model" in nothing.stderr
