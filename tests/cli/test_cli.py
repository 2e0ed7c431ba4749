"""The command line as its user meets it: arguments, streams, signals and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from cli.program import CLEAN, run

from clawft_trio.attempts import Usage
from clawft_trio.mcp import HttpServer, open_mcp
from clawft_trio.testing import CallTool, FaultServer, Finish, Hang, Page, Say, Status, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


async def test_the_demo_gets_its_answer_through() -> None:
    done = await run("demo", "--speed", "20")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert text.count("taken back") == 2
    assert "Tromsø is dry" in text
    assert text.count("read_file") >= 6  # three answers, three bars
    assert "backup/small" in text
    assert "699 tokens in, 92 out" in text


@pytest.mark.parametrize("seen", [b"loopback", b"My guess", b"driest"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_ctrl_c_and_sigterm_at_any_time_end_it_with_their_code(
    seen: bytes, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-u", "-m", "clawft_trio", "demo", "--speed", "0.3"]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, capture_stderr=True, check=False)
        )
        shown = b""
        with trio.fail_after(60):
            while seen not in shown:
                shown += await process.stdout.receive_some()
        process.send_signal(number)
        with trio.fail_after(20):
            async for _ in process.stdout:
                pass
            await process.wait()
    assert process.returncode == code


async def test_sigterm_hangs_up_on_the_model_before_it_ends() -> None:
    async with open_fault_server([Say("My gue"), Hang()]) as server:
        command = [sys.executable, "-m", "clawft_trio", "ask", "hello", "--base-url", server.url]
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(trio.run_process, command, capture_stdout=True, capture_stderr=True, check=False, env=CLEAN)
            )
            with trio.fail_after(60):
                await server.wait_for(lambda now: now.connections_open == 1)
                await trio.sleep(0.2)
                process.terminate()
                await process.wait()
                await server.wait_for(lambda now: now.connections_open == 0)
    assert process.returncode == 143


async def test_ask_streams_the_answer_and_sums_up_beside_it() -> None:
    async with open_fault_server([Say("Hello "), Say("there."), Finish()]) as server:
        done = await run("ask", "hi", "--base-url", server.url, "--model", "m")
    assert (done.returncode, done.stdout.decode().strip()) == (0, "Hello there.")
    assert b"answered by server/m" in done.stderr


async def test_ask_as_json_is_one_object() -> None:
    async with open_fault_server([Status(500)], [Say("Hello."), Finish()]) as server:
        done = await run("ask", "-", "--base-url", server.url, "--model", "m", "--json", stdin=b"hi")
    told = json.loads(done.stdout)
    assert told["text"] == "Hello."
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["failed", "ok"]
    assert told["attempts"][0]["error"] == "ServerError"


async def test_ask_reads_the_workspaces_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain on Monday")

    def choose(request: object) -> list[object]:
        if request.answers_tools:
            return [Say(request.body["messages"][-1]["content"]), Finish()]
        return [CallTool("read_file", {"path": "notes.txt"}), Finish()]

    async with open_fault_server(choose=choose) as server:
        done = await run(
            "ask", "What is in notes.txt?", "--base-url", server.url, "-m", "m", "--workspace", str(tmp_path)
        )
    assert done.returncode == 0
    assert b"rain on Monday" in done.stdout


async def test_a_broken_config_is_told_whole_with_places(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"retry": {"max_retries": "three", "maxRetry": 1}, "retri": {}}')
    done = await run("ask", "hi", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        f"{path}: $.retri: unknown key; did you mean 'retry'?",
        f"{path}: $.retry.maxRetry: unknown key; did you mean 'maxRetries'?",
        f'{path}: $.retry.max_retries: expected int ≥ 0, got "three"',
    ]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["ask", "hi", "-m", "openai/gpt-5-mini"], b"OPENAI_API_KEY"),
        (["ask", "hi", "-m", "opnai/x"], b"did you mean 'openai'"),
        (["ask", "hi", "-m", "nothing"], b"provider/model"),
        (["ask", "hi"], b"no model"),
        (["ask", "hi", "--base-url", "http://localhost:1/v1", "--api-key-env", "MY_KEY"], b"MY_KEY"),
        (["ask", "hi", "--config", "/nowhere/config.json"], b"No such file"),
        (["ask", "hi", "--base-url", "nonsense"], b"URL"),
        (["bogus"], b"No such command"),
    ],
)
async def test_what_is_wrong_is_said_and_ends_with_2(arguments: list[str], word: bytes) -> None:
    done = await run(*arguments)
    assert done.returncode == 2
    assert word in done.stderr


async def hostile(server: FaultServer) -> subprocess.CompletedProcess[bytes]:
    env = {"MY_KEY": "sk-very-secret"}
    return await run("ask", "hi", "--base-url", server.url, "-m", "m", "--api-key-env", "MY_KEY", env=env)


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    done = await run("ask", "hi", "--base-url", "http://127.0.0.1:9/v1", "-m", "m")
    assert done.returncode == 1
    assert b"TransportFailed" in done.stderr


@pytest.mark.parametrize(
    "page",
    [
        Page(b"<html>" + b"sk-very-secret " * 20 + b"</html>"),
        Page(b"x" * 5_000_000, status=400),
        Page(b'{"error": {"message": "bad key sk-very-secret"}}', status=401, content_type="application/json"),
    ],
)
async def test_whatever_a_server_says_the_error_is_short_and_without_the_key(page: Page) -> None:
    async with open_fault_server([page]) as server:
        done = await hostile(server)
    assert done.returncode == 1
    assert b"sk-very-secret" not in done.stdout + done.stderr
    assert len(done.stderr) < 20_000


async def test_help_says_what_there_is() -> None:
    done = await run("--help")
    assert done.returncode == 0
    assert b"demo" in done.stdout
    assert b"ask" in done.stdout


async def test_context_prints_the_prompt_with_its_sources(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("You are Nora.")
    done = await run("context", "--workspace", str(tmp_path), "--json")
    told = json.loads(done.stdout)
    assert [part["title"] for part in told["parts"]][:1] == ["SOUL.md"]
    assert told["parts"][0]["source"] == str(tmp_path / "SOUL.md")
    plain = await run("context", "--workspace", str(tmp_path))
    assert b"You are Nora." in plain.stdout


async def test_skills_are_listed_and_what_is_wrong_with_any_is_told(tmp_path: Path) -> None:
    for name, text in {
        "good": "---\nname: good\ndescription: Fine.\n---\nDo it.\n",
        "bad": "no front matter, and no instructions",
    }.items():
        folder = tmp_path / ".clawft" / "skills" / name
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(text)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"skills": {"user": str(tmp_path / "none")}}))
    looked = ("--workspace", str(tmp_path), "--config", str(config))
    done = await run("skills", *looked, "--trust-workspace", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [skill["name"] for skill in told["skills"]] == ["good"]
    assert any("bad" in problem for problem in told["problems"])
    untrusted = await run("skills", *looked, "--json")
    assert json.loads(untrusted.stdout)["skills"] == []


async def test_costs_say_who_spent_what_in_three_forms(tmp_path: Path) -> None:
    store, config = tmp_path / "agent.db", tmp_path / "config.json"
    config.write_text(json.dumps({"prices": {"server/m": {"input": 1, "output": 2, "cached": 1}}}))
    async with open_fault_server(
        [Say("Hello."), Finish(usage=Usage(input_tokens=1000, output_tokens=500, cached_tokens=600))]
    ) as server:
        asked = await run(
            "ask", "hi", "--base-url", server.url, "-m", "m", "--store", str(store), "--config", str(config)
        )
        assert asked.returncode == 0, asked.stderr
    told = json.loads((await run("costs", str(store), "--format", "json")).stdout)
    assert [(row["sender"], row["target"], row["cost"], row["certainty"]) for row in told] == [
        ("local:local", "server/m", "0.002", "exact")
    ]
    rows = (await run("costs", str(store), "--by", "sender", "--format", "csv")).stdout.decode().splitlines()
    assert rows[0].startswith("sender,attempts,")
    assert rows[1].startswith("local:local,1,1000,500,0.002")
    parts = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    cached, written, plain = (parts[name] for name in ("cached_tokens", "cache_write_tokens", "plain_tokens"))
    assert (cached, written, plain) == ("600", "0", "400")
    assert [row["plain_tokens"] for row in told] == [400]
    assert b"local:local" in (await run("costs", str(store))).stdout
    assert (await run("costs", str(store), "--by", "colour")).returncode == 2


async def test_mcp_serves_lists_and_calls(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain on Monday")
    server = ["--", sys.executable, "-m", "clawft_trio", "mcp", "serve", str(tmp_path)]
    listed = await run("mcp", "list", "--json", *server)
    names = [one["name"] for one in json.loads(listed.stdout)]
    assert "read_file" in names
    assert "write_file" not in names
    called = await run("mcp", "call", "read_file", "-a", '{"path": "notes.txt"}', *server)
    assert (called.returncode, called.stdout.strip()) == (0, b"rain on Monday")
    missing = await run("mcp", "call", "read_file", "-a", '{"path": "none.txt"}', *server)
    assert missing.returncode == 1
    nobody = await run("mcp", "list", "--", "no-such-command-at-all")
    assert nobody.returncode == 1
    assert b"no-such-command-at-all" in nobody.stderr


async def test_mcp_serves_over_http(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rain on Monday")
    command = [sys.executable, "-m", "clawft_trio", "mcp", "serve", str(tmp_path), "--http", "127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        line = bytes(await server.stdout.receive_some()).decode()
        address = line.split()[-1]
        called = await run("mcp", "call", "read_file", "-a", '{"path": "notes.txt"}', address)
        assert (called.returncode, called.stdout.strip()) == (0, b"rain on Monday"), called.stderr
        server.terminate()
    refused = await run("mcp", "serve", str(tmp_path), "--http", "0.0.0.0:0")
    assert (refused.returncode, b"bearer" in refused.stderr) == (2, True)


async def test_a_recorded_turn_becomes_a_page(tmp_path: Path) -> None:
    record, page = tmp_path / "turn.jsonl", tmp_path / "turn.html"
    async with open_fault_server([Status(500)], [Say("Hello."), Finish()]) as server:
        asked = await run("ask", "hi", "--base-url", server.url, "-m", "m", "--record", str(record))
    assert asked.returncode == 0, asked.stderr
    drawn = await run("timeline", str(record), "--html", str(page))
    assert drawn.returncode == 0, drawn.stderr
    assert "server/m" in page.read_text()
    wrong = await run("timeline", str(page))
    assert wrong.returncode == 2


async def test_mcp_serves_skills_as_prompts_and_an_agent_as_a_tool_over_http(tmp_path: Path) -> None:
    folder = tmp_path / ".agents" / "skills" / "greet"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: greet\ndescription: Greets.\n---\nGreet $ARGUMENTS.\n")
    async with open_fault_server([Say("It rains."), Finish()]) as model, trio.open_nursery() as nursery:
        where = ["mcp", "serve", str(tmp_path), "--trust-workspace", "--http", "127.0.0.1:0"]
        command = [sys.executable, "-m", "clawft_trio", *where, "--base-url", model.url, "-m", "m"]
        server = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        address = bytes(await server.stdout.receive_some()).decode().split()[-1]
        async with open_mcp(HttpServer(address)) as client:
            assert "ask" in {one.name for one in await client.list_tools()}
            assert (await client.call_tool("ask", {"question": "Weather?"})).text == "It rains."
            assert [one.name for one in await client.list_prompts()] == ["greet"]
            prompt = await client.get_prompt("greet", {"arguments": "Ana"})
            assert "Ana" in prompt.messages[0].content.text
        server.terminate()
