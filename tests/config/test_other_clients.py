"""Configurations as other programs write them. Shapes are those of public files; names and values are our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from clawft_trio import open_agent, parse_config
from clawft_trio.agent.from_config import builtin_policy, mcp_servers
from clawft_trio.config import load_config, with_mcp_files
from clawft_trio.config.comments import without_comments
from clawft_trio.errors import ConfigError, NotConfigured
from clawft_trio.mcp import HttpServer, StdioServer
from clawft_trio.net.addresses import AddressRefused
from clawft_trio.testing import ScriptedProvider

SERVER = {"command": "npx", "args": ["-y", "@example/mcp"]}

# Each file, and the warnings that it gives.
FILES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Claude Desktop": ({"mcpServers": {"s": SERVER}, "globalShortcut": "Ctrl+Space"}, ["$.globalShortcut"]),
    "Claude Desktop with preferences": (
        {"preferences": {"theme": "dark"}, "mcpServers": {"s": {**SERVER, "env": {"A": "b"}}}},
        ["$.preferences"],
    ),
    "Claude Code": ({"mcpServers": {"s": {"type": "stdio", **SERVER, "env": {}}}}, []),
    "Cursor": ({"mcpServers": {"s": {**SERVER, "envFile": ".env"}}}, ["$.tools.mcpServers['s'].envFile"]),
    "VS Code": ({"servers": {"s": {"type": "stdio", **SERVER}}, "inputs": []}, []),
    "VS Code settings.json": ({"servers": {"s": SERVER}, "chat.agent.enabled": True}, ["$.chat.agent.enabled"]),
    "Zed": ({"context_servers": {"s": {**SERVER, "source": "custom"}}}, ["$.tools.mcpServers['s'].source"]),
    "the original's .mcp.json": (
        {"mcpServers": {"s": {**SERVER, "autoStart": False}}},
        ["$.tools.mcpServers['s'].autoStart"],
    ),
    "our own": ({"tools": {"mcp_servers": {"s": SERVER}}}, []),
}


@pytest.mark.parametrize("program", FILES)
async def test_a_file_of_another_program_is_a_configuration_and_an_mcp_file(program: str, tmp_path: Path) -> None:
    data, warned = FILES[program]
    config = parse_config(json.dumps(data))
    assert mcp_servers(config)["s"].server == StdioServer(("npx", "-y", "@example/mcp"), env=config_env(data)), (
        config.warnings
    )
    assert [warning.path for warning in config.warnings] == warned
    (tmp_path / "mcp.json").write_text(json.dumps(data))
    named = await with_mcp_files(parse_config("{}"), ["mcp.json"], folder=tmp_path)
    assert named.tools.mcp_servers == config.tools.mcp_servers


def config_env(data: dict[str, Any]) -> dict[str, str]:
    servers = data.get("mcpServers", {})
    return servers.get("s", {}).get("env", {})


SERVERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "stdio": ({"type": "stdio", "command": "npx", "args": ["x"]}, []),
    "http": ({"type": "http", "url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer k"}}, []),
    "streamable HTTP": ({"transport": "streamable_http", "url": "https://mcp.example/mcp"}, []),
    "streamable-http": ({"type": "streamable-http", "url": "https://mcp.example/mcp"}, []),
    "SSE": ({"type": "sse", "url": "https://mcp.example/sse"}, ["transport"]),
    "Windsurf": ({"serverUrl": "https://mcp.example/mcp"}, []),
    "Gemini CLI": (
        {"httpUrl": "https://mcp.example/mcp", "trust": True, "includeTools": ["a"], "excludeTools": ["b"]},
        ["trust"],
    ),
    "Cline": (
        {"command": "x", "disabled": False, "autoApprove": ["a"], "timeout": 60},
        ["autoApprove", "timeout"],
    ),
    "Roo": ({"command": "x", "alwaysAllow": ["a"], "disabledTools": ["b"]}, ["alwaysAllow"]),
    "Copilot": ({"type": "local", "command": "x", "args": [], "tools": ["*"]}, []),
    "opencode": ({"type": "local", "command": ["x", "-y"], "enabled": True, "environment": {"A": "b"}}, []),
    "numbers and booleans in env": ({"command": "x", "env": {"PORT": 8080, "DEBUG": True, "NONE": None}}, []),
    "cwd": ({"command": "x", "cwd": "/srv"}, []),
    "an empty url beside a command": ({"command": "x", "url": ""}, []),
    "an empty command beside a url": ({"command": "", "url": "https://mcp.example/mcp"}, []),
    "a description": ({"command": "x", "description": "Files.", "icon": "a.png"}, ["description", "icon"]),
}


@pytest.mark.parametrize("program", SERVERS)
def test_a_server_of_another_program_starts_and_unused_keys_are_warned_of(program: str) -> None:
    server, warned = SERVERS[program]
    config = parse_config(json.dumps({"tools": {"mcpServers": {"s": server}}}))
    made = mcp_servers(config)["s"].server
    assert isinstance(made, StdioServer if server.get("command") else HttpServer)
    assert [warning.path for warning in config.warnings] == [f"$.tools.mcpServers['s'].{key}" for key in warned]


def test_the_values_of_other_programs_are_kept() -> None:
    servers = {
        "a": SERVERS["numbers and booleans in env"][0],
        "b": SERVERS["opencode"][0],
        "c": SERVERS["Gemini CLI"][0],
        "d": {"command": "x", "disabled": True},
        "e": {"command": "x", "enabled": False},
        "f": SERVERS["cwd"][0],
    }
    made = mcp_servers(parse_config(json.dumps({"mcpServers": servers})))
    assert sorted(made) == ["a", "b", "c", "f"]
    assert made["a"].server == StdioServer("x", env={"PORT": "8080", "DEBUG": "true"})
    assert made["b"].server == StdioServer(("x", "-y"), env={"A": "b"})
    assert (made["c"].allow, made["c"].deny) == (("a",), ("b",))
    assert made["f"].server == StdioServer("x", cwd="/srv")


@pytest.mark.parametrize(
    "server",
    [
        {},
        {"command": "x", "url": "https://mcp.example/mcp"},
        {"type": "http", "command": "x"},
        {"type": "stdio", "url": "https://mcp.example/mcp"},
    ],
)
def test_a_server_that_cannot_be_reached_is_refused(server: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        mcp_servers(parse_config(json.dumps({"mcpServers": {"s": server}})))


@pytest.mark.parametrize(
    "server",
    [{"command": 5}, {"command": "x", "args": "y"}, {"command": "x", "env": []}, {"command": "x", "transport": "tcp"}, 5],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_with_its_place(server: object) -> None:
    with pytest.raises(ConfigError, match=r"\$\.tools\.mcpServers\['s'\]"):
        parse_config(json.dumps({"mcpServers": {"s": server}}))


VARIABLES = [
    ("${TOKEN}", "t"),
    ("${env:TOKEN}", "t"),
    ("Bearer ${env:TOKEN}!", "Bearer t!"),
    ("${MISSING:-d}", "d"),
    ("${env:MISSING:-d}", "d"),
    ("${TOKEN:-d}", "t"),
    ("${MISSING:-}", ""),
    ("${input:api-key}", "k"),
    ("${input:other:-d}", "d"),
    ("a $TOKEN b", "a $TOKEN b"),
]
ENVIRON = {"TOKEN": "t", "API_KEY": "k"}


@pytest.mark.parametrize(("written", "value"), VARIABLES)
def test_variables_of_other_programs_are_filled_in_everywhere(written: str, value: str) -> None:
    server = {"command": "x", "args": [written], "env": {"A": written}}
    made = mcp_servers(parse_config(json.dumps({"mcpServers": {"s": server}}), environ=ENVIRON))["s"].server
    assert made == StdioServer(("x", value), env={"A": value})


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("${MISSING}", "MISSING"),
        ("${env:MISSING}", "MISSING"),
        ("${input:git-token}", "GIT_TOKEN"),
        ("${command:pickProcess}", "${command:pickProcess}"),
        ("${workspaceFolder}/a", "workspaceFolder"),
        ("${config:a.b}", "${config:a.b}"),
    ],
)
@pytest.mark.parametrize("place", ["args", "env", "headers", "url", "cwd"])
def test_a_place_that_cannot_be_filled_in_is_refused_and_never_sent(written: str, named: str, place: str) -> None:
    server: dict[str, Any] = {"url": "https://mcp.example"} if place in {"headers", "url"} else {"command": "x"}
    server[place] = {"args": [written], "env": {"A": written}, "headers": {"A": written}}.get(place, written)
    config = parse_config(json.dumps({"mcpServers": {"s": server}}), environ={})
    with pytest.raises(NotConfigured) as caught:
        mcp_servers(config)
    assert f"set {named}" in str(caught.value)


def test_the_default_of_an_input_is_used() -> None:
    data = {
        "inputs": [{"id": "region", "type": "promptString", "default": "eu"}, {"id": "key", "type": "promptString"}],
        "servers": {"s": {"command": "x", "args": ["${input:region}"]}},
    }
    assert mcp_servers(parse_config(json.dumps(data), environ={}))["s"].server == StdioServer(("x", "eu"))


AS_THEY_ARE = {
    "VS Code's mcp.json, with comments": """{
        // the servers
        "servers": { "s": { "command": "npx", /* no // comment */ "args": ["-y", "http://x//y,}"], }, },
    }""",
    "VS Code's settings.json": '{"editor.tabSize": 4, "mcp": {"servers": {"s": {"command": "npx"}}}}',
    "opencode.json": '{"mcp": {"s": {"type": "local", "command": ["npx", "x"], "environment": {"A": "1"}}}}',
    "Goose": '{"extensions": {"s": {"type": "stdio", "cmd": "npx", "envs": {"A": "1"}}, "dev": {"type": "builtin"}}}',
    "Zed's older form": '{"context_servers": {"s": {"command": {"path": "npx", "args": ["x"], "env": {"A": "1"}}}}}',
    "snake case": '{"mcp_servers": {"s": {"command": "npx"}}}',
    "Amp": '{"amp.mcpServers": {"s": {"command": "npx"}}}',
    "a byte order mark": '\ufeff{"mcpServers": {"s": {"command": "npx"}}}',
}


@pytest.mark.parametrize("program", AS_THEY_ARE)
async def test_the_files_of_other_programs_are_read_as_they_are(program: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(AS_THEY_ARE[program], "utf-8")
    config = await with_mcp_files(parse_config("{}"), ["file.json"], folder=tmp_path)
    assert {name: server.command for name, server in config.tools.mcp_servers.items()} == {"s": "npx"}
    if "comments" in program:
        assert config.tools.mcp_servers["s"].args == ("-y", "http://x//y,}")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_without_comments_is_left_as_it_is(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    assert without_comments(text) == text


def test_places_stay_where_they_are_and_unclosed_comments_end_with_the_text() -> None:
    assert without_comments(b'{"a": 1, // x\n}') == b'{"a": 1      \n}'
    assert without_comments(b"[1, /* 2,\n 3") == b"[1,      \n  "
    assert len(without_comments(b"/*/" * 200_000)) == 600_000


async def test_files_named_in_the_configuration_are_read_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"a": SERVER, "b": SERVER}}))
    own = {"tools": {"mcpServers": {"b": {"command": "mine"}}}, "mcpConfig": ["mcp.json"]}
    (tmp_path / "config.json").write_text(json.dumps(own))
    config = await load_config(tmp_path / "config.json")
    assert {name: server.command for name, server in config.tools.mcp_servers.items()} == {"a": "npx", "b": "mine"}
    assert config.mcp_config == ()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"mcpServers": []}', '{"other": {"a": {}}}'])
async def test_a_file_without_servers_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "mcp.json").write_text(text)
    with pytest.raises(ConfigError, match=r"mcp\.json"):
        await with_mcp_files(parse_config("{}"), [tmp_path / "mcp.json"])
    with pytest.raises(ConfigError, match=r"missing\.json"):
        await with_mcp_files(parse_config("{}"), [tmp_path / "missing.json"])


async def test_an_agent_reads_the_files_of_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"gone": {"command": "/no/such/program"}}}))
    config = parse_config(json.dumps({"mcpConfig": [str(tmp_path / "mcp.json")]}))
    async with open_agent(["s/m"], providers={"s": ScriptedProvider.saying("ok")}, config=config) as agent:
        assert list(agent.parts.toolset.failures) == ["gone"]


def test_the_command_policy_of_the_original_is_obeyed_and_its_rest_is_warned_of() -> None:
    tools = {
        "exec": {"timeout": 7},
        "commandPolicy": {"allowlist": ["ls", "cat", "python", "rm"], "denylist": ["rm -rf /"]},
        "allowCommands": ["git status"],
    }
    config = parse_config(json.dumps({"tools": tools}))
    policy = builtin_policy(config).commands
    assert policy.allow == ("git status", "ls", "cat") and policy.child.total == 7
    assert [warning.path for warning in config.warnings] == [
        "$.tools.command_policy.allowlist[2]",
        "$.tools.command_policy.allowlist[3]",
    ]
    denying = parse_config(json.dumps({"tools": {"command_policy": {"mode": "denylist", "denylist": ["rm"]}}}))
    assert builtin_policy(denying).commands.allow == () and len(denying.warnings) == 1


def test_the_url_policy_of_the_original_is_obeyed() -> None:
    urls = {"allowPrivate": True, "blockedDomains": ["evil.example"]}
    policy = builtin_policy(parse_config(json.dumps({"tools": {"urlPolicy": urls}}))).fetch
    assert policy is not None
    policy.addresses.check_address("inside", "10.1.2.3")
    for host in ("evil.example", "www.evil.example", "metadata.google.internal"):
        with pytest.raises(AddressRefused):
            policy.addresses.check_host(host)
    closed = builtin_policy(parse_config("{}")).fetch
    assert closed is not None
    with pytest.raises(AddressRefused):
        closed.addresses.check_address("inside", "10.1.2.3")
    lax = parse_config('{"tools": {"urlPolicy": {"enabled": false, "allowedDomains": ["intra.example"]}}}')
    assert [warning.path for warning in lax.warnings] == [
        "$.tools.url_policy.enabled",
        "$.tools.url_policy.allowed_domains",
    ]


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"gateway": {"port": 1}}, "$.gateway"),
        ({"channels": {"telegram": {"enabled": True}}}, "$.channels"),
        ({"voice": {"enabled": True}}, "$.voice"),
        ({"tools": {"web": {"search": {"apiKey": "k"}}}}, "$.tools.web"),
        ({"tools": {"restrictToWorkspace": False}}, "$.tools.restrictToWorkspace"),
        ({"routing": {"permissions": {"users": {"ana": {"level": 2}}}}}, "$.routing.permissions.users['ana']"),
    ],
)
def test_a_section_of_the_original_without_a_counterpart_gives_a_warning(section: dict[str, Any], path: str) -> None:
    config = parse_config(json.dumps(section))
    assert [warning.path for warning in config.warnings] == [path]


def test_an_unknown_key_of_our_own_is_still_refused() -> None:
    for data in ({"tols": {}}, {"tools": {"x": 1}}, {"agents": {"x": 1}}):
        with pytest.raises(ConfigError, match="unknown key"):
            parse_config(json.dumps(data))
