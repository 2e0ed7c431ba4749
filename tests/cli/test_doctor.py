"""`clawft-trio doctor`: what it finds, what it advises, and what it never says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from cli.program import run
from cli.terminal import open_terminal
from net.servers import Conversation, Talk, answering, hear_nothing, open_server, response

from clawft_trio.testing import Finish, Say, open_fault_server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes")

KEY = "sk-very-secret-key-of-ana"


def listing(*names: str) -> bytes:
    return response(json.dumps({"data": [{"id": name} for name in names]}).encode())


def write(path: Path, settings: object) -> str:
    path.write_text(json.dumps(settings))
    return str(path)


async def findings(*arguments: str, code: int, env: dict[str, str] | None = None) -> dict[tuple[str, str], dict]:
    done = await run("doctor", "--json", *arguments, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    assert KEY.encode() not in done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is (code == 0)
    return {(one["check"], one["subject"]): one for one in told["findings"]}


async def test_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    async with open_server(answering(listing("small", "large-20260101"))) as server:
        config = write(
            tmp_path / "config.json",
            {
                "providers": {"mine": {"api_base": f"{server.url}/v1", "api_key": "${MY_KEY}"}},
                "failover": ["mine/small", "mine/large"],
                "agents": {"defaults": {"workspace": str(tmp_path / "workspace")}},
                "tools": {"mcp_servers": {"files": {"command": sys.executable, "args": MCP(tmp_path)}}},
            },
        )
        store = str(tmp_path / "agent.db")
        found = await findings("--config", config, "--store", store, code=0, env={"MY_KEY": KEY})
    assert [one["outcome"] for one in found.values()] == ["ok"] * 6
    assert found["provider", "mine"]["message"] == "2 models; key from MY_KEY, as configured"
    assert found["provider", "mine"]["seconds"] > 0
    assert found["mcp", "files"]["message"].endswith(" tools")
    assert not Path(store).exists()


def MCP(tmp_path: Path) -> list[str]:
    return ["-m", "clawft_trio", "mcp", "serve", str(tmp_path)]


async def test_everything_is_wrong_and_each_has_its_advice(tmp_path: Path) -> None:
    async def silent(peer: Conversation) -> None:
        await hear_nothing(peer)

    refusing = response(b'{"error": {"message": "bad key %s"}}' % KEY.encode(), status="401 No")
    (tmp_path / "agent.db").write_text("no database" * 100)
    async with open_server(answering(refusing)) as refuses, open_server(silent) as hangs:
        config = write(
            tmp_path / "config.json",
            {
                "providers": {
                    "openai": {"api_base": refuses.url, "api_key": KEY},
                    "slow": {"api_base": hangs.url},
                    "gone": {"api_base": "http://127.0.0.1:9/v1"},
                    "anthropic": {},
                    "groq": {"api_key": "${NOBODY_SET_THIS}"},
                },
                "agents": {"defaults": {"workspace": str(tmp_path / "nowhere")}},
                "tools": {
                    "mcp_servers": {
                        "none": {"command": "no-such-command-at-all"},
                        "dies": {
                            "command": sys.executable,
                            "args": ["-c", f"import sys; sys.exit('token={KEY}')"],
                        },
                        "hangs": {"command": sys.executable, "args": ["-c", "import time; time.sleep(99)"]},
                    }
                },
            },
        )
        found = await findings("--config", config, "--store", str(tmp_path / "agent.db"), "--total", "3", code=1)
    wrong = {key: one for key, one in found.items() if one["outcome"] != "ok"}
    assert set(found) - set(wrong) <= {("config", config), ("prices", "")}
    assert all(one["advice"] for one in wrong.values())
    said = {subject: one["message"] for (_, subject), one in wrong.items()}
    advised = {subject: one["advice"] for (_, subject), one in wrong.items()}
    assert said["slow"] == "no answer in time"
    assert "key from the configuration file is refused" in advised["openai"]
    assert "Is it running" in advised["gone"]
    assert "ANTHROPIC_API_KEY" in advised["anthropic"]
    assert "NOBODY_SET_THIS" in said["groq"]
    assert "Install it" in advised["none"]
    assert "***" in said["dies"]
    assert advised[str(tmp_path / "nowhere")].startswith("Make it: mkdir")
    assert "backup" in advised[str(tmp_path / "agent.db")]
    # Side by side: three that hang take as long as one.
    assert max(one["seconds"] for one in found.values()) < 2.5 * 3


async def test_a_model_that_is_not_listed_is_a_problem_with_a_guess() -> None:
    async with open_server(answering(listing("gpt-5-mini"))) as server:
        found = await findings("--base-url", f"{server.url}/v1", "-m", "gpt-5-minni", code=1)
    assert found["provider", "server"]["outcome"] == "problem"
    assert found["provider", "server"]["advice"] == "Did you mean gpt-5-mini?"


@pytest.mark.parametrize("listed", ["llama3.2:latest", "llama3.2-20260101", "llama3.2"])
async def test_a_model_is_listed_also_with_a_tag_or_a_date(listed: str) -> None:
    async with open_server(answering(listing(listed))) as server:
        found = await findings("--base-url", f"{server.url}/v1", "-m", "llama3.2", code=0)
    assert found["provider", "server"]["outcome"] == "ok"


async def test_the_models_of_a_small_server_are_named() -> None:
    async with open_server(answering(listing("qwen3-8b.gguf", "other"))) as server:
        found = await findings("--base-url", f"{server.url}/v1", "-m", "m", code=1)
    assert found["provider", "server"]["advice"] == "Its models are: qwen3-8b.gguf, other"


@pytest.mark.parametrize(
    ("raw", "outcome", "message"),
    [
        (response(b"{}", status="404 No"), "warning", "does not look like a model server"),
        (response(b"{}", status="503 No"), "warning", "ServerError"),
        (response(b"<html>"), "problem", "InvalidResponse"),
        (response(b"", status="302 Found", headers="location: https://x.example/login\r\n"), "problem", "redirects"),
        (response(b'{"data": "none"}'), "problem", "InvalidResponse"),
    ],
)
async def test_what_a_server_says_is_understood(raw: bytes, outcome: str, message: str) -> None:
    async with open_server(answering(raw)) as server:
        found = await findings("--base-url", f"{server.url}/v1", code=int(outcome == "problem"))
    assert found["provider", "server"]["outcome"] == outcome
    assert message in found["provider", "server"]["message"]


async def test_without_anything_it_says_how_to_begin() -> None:
    found = await findings(code=1)
    assert "OPENAI_API_KEY" in found["provider", ""]["advice"]


async def test_a_broken_config_is_told_line_by_line_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", {"retri": {}, "bus": 3, "agents": {"defaults": {"maxToken": 1}}})
    done = await run("doctor", "--config", config, "--base-url", "http://127.0.0.1:9/v1")
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "$.retri" in text
    assert "$.agents.defaults.maxToken: unknown key" in " ".join(text.split())  # no secret: nothing is masked
    assert "$.bus" in text
    assert "TransportFailed" in text
    missing = await run("doctor", "--config", str(tmp_path / "none.json"))
    assert b"clawft-trio config init" in missing.stdout


async def test_what_takes_longer_than_a_second_is_said_to() -> None:
    async with (
        open_server(hear_nothing) as server,
        open_terminal("doctor", "--base-url", server.url, "--total", "2", columns=30) as terminal,
    ):
        # A busy machine may show the second second first.
        await terminal.see("Checking … ")
        assert await terminal.end() == 1
        assert "no answer in time" in " ".join(terminal.text.split())


def only(path: str, *names: str) -> Talk:
    """A server that has a list of models at *path*, and a page of its own for everything else."""

    async def talk(peer: Conversation) -> None:
        while (request := await peer.request()) is not None:
            known = request[0].split(b" ")[1].startswith(path.encode())
            await peer.send(listing(*names) if known else response(b"<html>no</html>", status="404 Not Found"))

    return talk


@pytest.mark.parametrize(
    ("given", "there"), [("", "/v1"), ("/v1/chat/completions", "/v1"), ("/v1", ""), ("/v1/messages", "/v1")]
)
async def test_the_api_is_found_near_a_wrong_address(given: str, there: str) -> None:
    async with open_server(only(f"{there}/models", "m")) as server:
        found = await findings("--base-url", f"{server.url}{given}", "-m", "m", code=1)
    assert found["provider", "server"]["advice"] == f"Correct --base-url: {server.url}{there}"


async def test_a_file_server_is_not_taken_for_a_model_server() -> None:
    async with open_server(only("/nothing")) as server:
        found = await findings("--base-url", f"{server.url}/v1", code=0)
        assert found["provider", "server"]["outcome"] == "warning"
        probed = await findings("--base-url", f"{server.url}/v1", "-m", "m", "--probe", code=1)
    assert "does not look like a model server" in found["provider", "server"]["message"]
    assert "m: WrongAddress" in probed["provider", "server"]["message"]


async def test_probe_asks_for_one_token() -> None:
    async with open_fault_server([Say("ok"), Finish()]) as server:
        found = await findings("--base-url", server.url, "-m", "m", "--probe", code=0)
    assert found["provider", "server"]["message"].endswith("; m answered")
    asked = [request.body for request in server.requests if request.body]
    assert [body["max_tokens"] for body in asked] == [1]


async def test_an_address_from_the_environment_is_shown(tmp_path: Path) -> None:
    async with open_server(answering(listing("gpt-5-mini"))) as server:
        env = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
        found = await findings("-m", "openai/gpt-5-mini", code=0, env=env)
        shown = await run("config", "show", env=env)
    assert f"address from OPENAI_BASE_URL: {server.url}/v1" in found["provider", "openai"]["message"]
    assert f"$.providers['openai'].api_base = \"{server.url}/v1\"  # environment, from OPENAI_BASE_URL" in (
        shown.stdout.decode()
    )


async def test_why_a_model_has_no_price_is_shown() -> None:
    async with open_server(answering(listing("m"))) as server:
        found = await findings("--base-url", f"{server.url}/v1", "-m", "m", code=0)
    assert found["prices", ""]["message"].startswith("server/m is unpriced: ")
