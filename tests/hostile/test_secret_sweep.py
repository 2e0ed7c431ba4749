"""A secret in every field of the configuration that a user can fill; every output is searched for it.

The fields are found by walking the classes of the configuration: a new one is planted without a change here, or has to
be named below as public.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import pytest
import trio
from hostile.planting import MARK, echo, secret, shown_of_a_failed_question, told
from mcp_oauth import as_json, world
from net.servers import open_server

from clawft_trio import open_agent
from clawft_trio.agent import Agent
from clawft_trio.cli.config import show
from clawft_trio.cli.doctor import Doctor, doctor
from clawft_trio.cli.options import Chosen
from clawft_trio.config import Config, parse_config
from clawft_trio.config.structuring import Secret, camel
from clawft_trio.errors import ClawftError
from clawft_trio.mcp import HttpServer, McpOptions, MemoryTokenStore, OAuth, OAuthClient, open_mcp
from clawft_trio.observe import LogObserver
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider
from clawft_trio.testing.mcp_server import scripted_server

# Names, words, patterns and folders: shown on purpose.
PUBLIC = {
    "AgentDefaults": {"workspace", "instructions", "model", "reasoning_effort", "verbosity", "compaction_model"},
    "ProviderConfig": {"quirks", "rules", "api_version", "deployments"},
    "ModelConfig": {"reasoning_effort", "verbosity", "quirks", "rules"},
    "McpServerConfig": {"command", "cwd", "allow", "deny"},
    "ToolsConfig": {"sets", "allow_commands"},
    "CommandPolicyConfig": {"allowlist", "denylist"},
    "UrlPolicyConfig": {"allowed_domains", "blocked_domains"},
    "ModelTier": {"name", "models"},
    "RoutingConfig": {"fallback_model", "failover"},
    "PermissionsPolicy": {"allow_from"},
    "SkillsConfig": {"user"},
    "Config": {"failover", "mcp_config", "price_aliases", "context_windows"},
}
_PERMISSIONS = {"max_tier", "model_access", "model_denylist", "tool_access", "tool_denylist"}
PUBLIC["PermissionOverrides"] = _PERMISSIONS
PUBLIC["SenderOverrides"] = _PERMISSIONS | {"channel"}

MCP = scripted_server("--banner", "not JSON")

# The keys of the sections that name things.
KEYS = {"providers": "corp", "model_options": "corp/m", "mcp_servers": "planted"}


def planted_in(cls: type[Any]) -> dict[str, Any]:
    """The JSON of *cls* with a secret in every field that takes text and is not public."""
    found: dict[str, Any] = {}
    for field in (one for one in attrs.fields(cls) if one.init):
        if field.name not in PUBLIC.get(cls.__name__, ()):
            value = planted_as(field.name, get_type_hints(cls)[field.name])
            if value is not None:
                found[camel(field.name)] = value
    return found


def planted_as(name: str, wanted: Any) -> Any:
    """A value of the type *wanted* with secrets in it; None where it takes no text."""
    inner = get_args(wanted)
    if get_origin(wanted) is types.UnionType:
        return next((value for one in inner if (value := planted_as(name, one)) is not None), None)
    if get_origin(wanted) is Literal or wanted is type(None):
        return None
    if name == "args":
        return ["-c", "import time; time.sleep(60)", "--token", secret(), f"--password={secret()}", secret()]
    if len(inner) == 2 and Ellipsis not in inner:
        value = planted_as(name, inner[1])
        return None if value is None else {KEYS.get(name, "X-Y"): value}
    if inner:
        value = planted_as(name, inner[0])
        return None if value is None else [value]
    if wanted is Any:
        return {"token": secret(), "deep": [{"value": secret()}]}
    if attrs.has(wanted):
        return planted_in(wanted) or None
    if wanted in {str, Secret}:
        return f"http://ana:{secret()}@127.0.0.1:9/?q={secret()}" if wanted is str else secret()
    return None


def planted(url: str) -> dict[str, Any]:
    """A whole configuration, made usable: each provider and server once for each way to reach it."""
    config = planted_in(Config)
    config["store"] = f"postgresql://ana:{secret()}@127.0.0.1:9/agents?password={secret()}"
    corp = {**config["providers"]["corp"], "apiBase": f"{url}/v1?k={secret()}"}
    config["providers"] = {"corp": corp, "anthropic": {**corp, "extraHeaders": {"X-Z": secret()}}}
    both = config["tools"]["mcpServers"]["planted"]
    local = {key: value for key, value in both.items() if key not in {"url", "headers"}}
    remote = {key: value for key, value in both.items() if key not in {"args", "env"}}
    config["tools"]["mcpServers"] = {
        "local": {**local, "command": MCP[0], "args": [*MCP[1:], "--words", secret()]},
        "noisy": {**local, "command": sys.executable, "args": ["-c", NOISY, "--token", secret()]},
        "remote": {**remote, "url": f"{url.replace('://', f'://u:{secret()}@')}/mcp?key={secret()}"},
    }
    return config | {"retry": {"maxRetries": 1, "baseDelayMs": 1}}


NOISY = "import os, sys; sys.stderr.write(' '.join(sys.argv) + ' '.join(os.environ.values())); sys.exit(3)"


def words_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for key, one in value.items() for word in [key, *words_in(one)]]
    return [word for one in value for word in words_in(one)] if isinstance(value, list) else [str(value)]


def test_every_field_that_takes_text_is_planted_or_public() -> None:
    config = planted_in(Config)
    assert {"apiKey", "apiBase", "corsProxy", "extraHeaders"} <= set(config["providers"]["corp"])
    assert {"args", "env", "url", "headers"} <= set(config["tools"]["mcpServers"]["planted"])
    assert {"store", "gateway", "channels", "voice", "kernel", "delegation"} <= set(config)
    assert sum(MARK in word for word in words_in(config)) > 25
    for name, fields in PUBLIC.items():
        (cls,) = [one for one in _classes(Config) if one.__name__ == name]
        assert fields <= {field.name for field in attrs.fields(cls)}


def _classes(cls: type[Any]) -> set[type[Any]]:
    found = {cls}
    waiting = [get_type_hints(cls)[field.name] for field in attrs.fields(cls)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and attrs.has(one) and one not in found:
            found.add(one)
            waiting += [get_type_hints(one)[field.name] for field in attrs.fields(one)]
        waiting += get_args(one)
    return found


async def test_a_repr_and_the_commands_show_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(planted("http://127.0.0.1:9")))
    config = parse_config(path.read_text())
    out = {"repr": repr(config), "warnings": repr(config.warnings)}
    out["parts"] = "".join(map(repr, (*config.providers.values(), *config.tools.mcp_servers.values())))
    await show(path)
    await show(path, as_json=True)
    await doctor(Doctor(chosen=Chosen(config=path), total=5.0))
    shown = capsys.readouterr()
    out["commands"] = shown.out + shown.err
    assert all(out.values())
    assert {where for where, text in out.items() if MARK in text} == set()


def _children() -> list[int]:
    """The processes below this one."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


async def test_no_output_of_an_agent_shows_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)
    keys = {name: secret() for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CORP_API_KEY", "DATABASE_URL")}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    async with open_server(echo) as server:
        given = planted(server.url)
        others = {*keys.values(), *words_in({key: one for key, one in given.items() if key != "tools"})}

        def check_children(_: Agent) -> None:
            for child in _children():
                shown = _read(f"/proc/{child}/cmdline") + _read(f"/proc/{child}/environ")
                assert not [word for word in others if MARK in word and word in shown]

        out = await shown_of_a_failed_question(
            parse_config(json.dumps(given)),
            tmp_path,
            models=["corp/m", "anthropic/m"],
            failing_servers=2,
            observers=[LogObserver(), LogObserver(texts=True, logger=logging.getLogger("with.texts"))],
            while_open=check_children,
        )
    out["logs"] = caplog.text + "".join(str(vars(one)) for one in caplog.records)
    assert all(text.strip() for text in out.values())
    assert {where for where, text in out.items() if MARK in text} == set()


ENVIRONMENT = ["sh", "-c", "tr '\\0' '\\n' < /proc/self/environ; cat /proc/$$/cmdline"]


async def test_a_command_of_a_model_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CORP_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL")
    for name in names:
        monkeypatch.setenv(name, secret())
    tools = {"sets": ["commands"], "unapproved": True, "allowCommands": ["sh **"]}
    config = parse_config(json.dumps({"tools": tools, "providers": {"corp": {"apiKey": secret()}}}))
    model = ScriptedProvider([CallTool("run_command", {"argv": ENVIRONMENT}), Finish()], [Say("x"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": model}, config=config, workspace=tmp_path) as agent:
        reply = await agent.ask("q")
    (answer,) = reply.tools
    assert answer.outcome == "ok", answer.text
    assert "PATH=" in answer.text
    assert MARK not in answer.text
    assert not [name for name in names if name in answer.text]


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("failing", ["token", "refresh", "registration", "resource"])
async def test_no_error_of_a_login_shows_a_token_or_a_secret(failing: str, status: int, caplog) -> None:
    """The server answers with what it was sent, in every field that an error repeats."""
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)

    async def repeat(request):
        await trio.lowlevel.checkpoint()
        sent = f"{request.body.decode()} {request.headers} {secret()}"
        return as_json(status, {"error": sent, "error_description": sent, "access_token": [sent], "client_id": 5})

    async with world() as made:
        made.token_response = {"access_token": secret(), "refresh_token": secret()}
        made.redirect = {"code": secret()}
        made.expires_in = 3600
        store = MemoryTokenStore()
        client = None if failing == "registration" else OAuthClient(client_id="mine", client_secret=secret())
        if failing in {"token", "registration"}:
            made.issuer.routes["/token" if failing == "token" else "/register"] = repeat
        oauth = OAuth(user_agent=made, client=client, store=store)
        server = HttpServer(f"{made.resource.url}/mcp", auth=oauth)
        with pytest.raises(ClawftError) as caught:
            async with open_mcp(server, options=McpOptions(supervision=None, protocol="handshake")) as opened:
                made.valid = {}
                if failing == "resource":
                    made.resource.routes["/mcp"] = repeat
                made.issuer.routes["/token"] = repeat
                await opened.call_tool("t")
        shown = f"{told(caught.value)} {vars(caught.value)} {oauth!r} {server!r} {store!r} {vars(store)} {client!r}"
    assert MARK not in shown
    assert MARK not in caplog.text


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_the_costs_and_the_timeline_of_the_command_line_show_no_key(tmp_path: Path, form: str) -> None:
    path, key = tmp_path / "c.json", secret()
    path.write_text(json.dumps({"store": str(tmp_path / "s.db"), "providers": {"corp": {"apiKey": key}}}))
    env = {**os.environ, "OPENAI_API_KEY": secret(), "CLAWFT_CONFIG": str(path)}
    words = [sys.executable, "-m", "clawft_trio", "costs", str(tmp_path / "s.db"), "--format", form]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert MARK not in done.stdout + done.stderr
