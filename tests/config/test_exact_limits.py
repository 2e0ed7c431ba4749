"""The bounds of numbers in a configuration, its defaults, and which clock applies to which model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawft_trio.agent.from_config import mcp_servers
from clawft_trio.codec import decode_json
from clawft_trio.config import Config, load_config, parse_config, with_mcp_files
from clawft_trio.config.comments import without_comments
from clawft_trio.config.effective import settings_in
from clawft_trio.config.other_clients import adopt, server_map
from clawft_trio.config.policies import command_policy, fetch_policy
from clawft_trio.errors import ConfigError
from clawft_trio.mcp import HttpServer
from clawft_trio.tools.builtin import ChildPolicy


def parsed(data: dict[str, Any]) -> Config:
    return parse_config(json.dumps(data))


def nested(path: str, value: object) -> dict[str, Any]:
    """A file with one setting; the parts of *path* are separated by spaces."""
    found: Any = value
    for part in reversed(path.split()):
        found = {part: found}
    return found


def read(path: str, value: object) -> Config:
    return parsed(nested(path, value))


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("agents defaults max_tokens", 1),
        ("agents defaults temperature", 0),
        ("agents defaults thinking_budget", 0),
        ("agents defaults max_tool_iterations", 1),
        ("agents defaults memory_window", 0),
        ("providers openai concurrency", 1),
        ("models openai/gpt-5 thinking_budget", 0),
        ("models openai/gpt-5 temperature", 0),
        ("context_windows openai/gpt-5", 1),
        ("routing cost_budgets global_daily_limit_usd", 0),
        ("routing cost_budgets global_monthly_limit_usd", 0),
        ("routing cost_budgets global_daily_limit_tokens", 0),
        ("routing cost_budgets global_monthly_limit_tokens", 0),
        ("routing cost_budgets reset_hour_utc", 0),
        ("routing rate_limiting global_rate_limit_rpm", 0),
        ("routing rate_limiting max_tracked_senders", 1),
        ("retry max_retries", 0),
        ("retry backoff_multiplier", 1),
        ("retry jitter_fraction", 0),
        ("timeouts linger_ms", 0),
        ("adaptive_limit initial", 1),
        ("adaptive_limit min_concurrent", 1),
        ("adaptive_limit max_concurrent", 1),
        ("adaptive_limit queue", 0),
        ("tools concurrency", 1),
        ("bus inbound_buffer_size", 1),
        ("bus outbound_buffer_size", 1),
    ],
)
def test_the_least_number_is_accepted_and_a_smaller_one_is_refused_at_its_place(path: str, least: int) -> None:
    read(path, least)
    with pytest.raises(ConfigError) as caught:
        read(path, least - 1)
    assert path.rsplit(maxsplit=1)[-1] in str(caught.value)


@pytest.mark.parametrize(
    ("path", "most"),
    [("routing cost_budgets reset_hour_utc", 23), ("retry backoff_multiplier", 100), ("retry jitter_fraction", 1)],
)
def test_the_largest_number_is_accepted_and_a_larger_one_is_refused(path: str, most: int) -> None:
    read(path, most)
    with pytest.raises(ConfigError):
        read(path, most + 1)


@pytest.mark.parametrize("name", ["connect_ms", "first_byte_ms", "first_content_ms", "gap_ms", "tool_gap_ms",
                                  "total_ms", "hedge_after_ms", "unstreamed_ms", "thinking_ms"])  # fmt: skip
def test_a_clock_is_positive_or_off(name: str) -> None:
    assert getattr(read(f"timeouts {name}", 0.5).timeouts, name) == 0.5
    assert getattr(read(f"timeouts {name}", None).timeouts, name) is None
    with pytest.raises(ConfigError):
        read(f"timeouts {name}", 0)


def test_the_defaults_are_those_of_the_guide() -> None:
    config = parsed({})
    defaults, tools, limit, costs = (
        config.agents.defaults,
        config.tools,
        config.adaptive_limit,
        config.routing.cost_budgets,
    )
    assert (defaults.max_tool_iterations, defaults.memory_window, defaults.compaction) == (20, 500, True)
    assert (tools.concurrency, tools.restrict_to_workspace, tools.unapproved) == (16, True, False)
    assert (tools.url_policy.enabled, tools.url_policy.allow_private) == (True, False)
    assert (limit.enabled, limit.initial, limit.min_concurrent, limit.max_concurrent, limit.queue) == (
        False,
        10,
        1,
        1000,
        1000,
    )
    assert (costs.global_daily_limit_usd, costs.global_monthly_limit_usd, costs.reset_hour_utc) == (0, 0, 0)
    assert (costs.global_daily_limit_tokens, costs.global_monthly_limit_tokens, costs.tracking_persistence) == (
        0,
        0,
        True,
    )
    assert config.skills.trust_workspace is False
    assert config.memory.per_sender is None
    assert config.warnings == ()
    server = read("tools mcp_servers x", {"command": "x"}).tools.mcp_servers["x"]
    assert (server.disabled, server.internal_only, server.trust_hints, server.allow) == (False, False, False, ("*",))


def test_a_window_out_of_bounds_is_refused_at_its_model() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed({"context_windows": {"p/a": 1, "p/b": 0, "p/c": -5}})
    assert str(caught.value).split("; ") == [
        "$.context_windows['p/b']: expected int ≥ 1, got 0",
        "$.context_windows['p/c']: expected int ≥ 1, got -5",
    ]


# Clocks.


def test_a_turn_has_ten_minutes_and_a_model_ten_seconds_of_silence_by_default() -> None:
    config = parsed({})
    assert (config.timeouts.total, config.hedge_after_of("openai/gpt-5")) == (600.0, 10.0)
    config = parsed({"timeouts": {"total_ms": None, "hedge_after_ms": None, "linger_ms": 500}})
    assert (config.timeouts.total, config.hedge_after_of("openai/gpt-5")) == (None, None)
    assert config.timeouts.clocks.linger == 0.5


def test_a_local_server_has_five_minutes_to_load_its_model_unless_the_file_says_otherwise() -> None:
    config = parsed({})
    assert [config.timeouts_of(name).clocks.first_byte for name in ("ollama", "openai", "unknown")] == [300, 30, 30]
    config = parsed({"timeouts": {"first_byte_ms": 7000}})
    assert [config.timeouts_of(name).clocks.first_byte for name in ("ollama", "openai")] == [7, 7]


def test_the_clocks_of_a_model_override_those_of_its_provider_and_these_the_general_ones() -> None:
    config = parsed(
        {
            "timeouts": {"gap_ms": 1000, "tool_gap_ms": 2000, "connect_ms": 3000},
            "providers": {"openai": {"timeouts": {"gap_ms": 10_000, "tool_gap_ms": 20_000}}},
            "models": {"openai/own": {"clocks": {"gap_ms": 100_000, "connect_ms": None}}},
        }
    )

    def clocks(provider: str, model: str) -> tuple[float | None, float | None, float | None]:
        found = config.timeouts_of(provider, model=model)
        return found.attempt.gap, found.attempt.tool_gap, found.clocks.connect

    assert clocks("openai", "own") == (100.0, 20.0, None)
    assert clocks("openai", "other") == (10.0, 20.0, 3.0)
    assert clocks("groq", "own") == (1.0, 2.0, 3.0)


def test_a_clock_of_a_model_is_checked_when_the_file_is_read() -> None:
    with pytest.raises(ConfigError):
        parsed({"models": {"openai/own": {"clocks": {"gap_ms": 0}}}})


def test_the_options_of_a_model_are_those_of_its_section() -> None:
    section = {"reasoning_effort": "low", "thinking_budget": 0, "verbosity": "high", "temperature": 0, "seed": 5}
    options = parsed({"models": {"p/m": section | {"extra": {"a": 1}}}}).model_options["p/m"].options
    assert {name: getattr(options, name) for name in section} == section
    assert options.extra == {"a": 1}


# What is shown.


@pytest.mark.parametrize("path", ["channels", "gateway", "tools web", "agents defaults extra", "models p/m extra"])
def test_sections_that_may_hold_anything_are_never_shown(path: str) -> None:
    given = nested(path, {"bot": {"value": "plain-words"}})
    shown = {one.path: one for one in settings_in(parsed(given), given)}
    hidden = [one for one in shown.values() if one.value == "***"]
    assert [one.origin for one in hidden] == ["file"]
    assert "plain-words" not in str(shown)


def test_every_origin_is_told() -> None:
    given = {"tools": {"concurrency": 4, "sets": ["files"], "mcp_servers": {"x": {"command": "x", "args": ["a"]}}}}
    origins = {one.path: (one.value, one.origin) for one in settings_in(parsed(given), given)}
    assert origins["$.tools.concurrency"] == (4, "file")
    assert origins["$.tools.sets[0]"] == ("files", "file")
    assert origins["$.tools.unapproved"] == (False, "default")
    assert origins["$.tools.mcp_servers['x'].args[0]"] == ("a", "file")
    assert origins["$.tools.mcp_servers['x'].deny"] == ([], "default")
    assert origins["$.tools.mcp_servers['x'].allow[0]"] == ("*", "default")
    assert origins["$.providers"] == ({}, "default")
    assert origins["$.store"] == (None, "default")
    keys = {"providers": {"openai": {"api_key": ""}, "groq": {"api_key": "k"}}}
    shown = {one.path: one.value for one in settings_in(parsed(keys), keys)}
    assert (shown["$.providers['openai'].api_key"], shown["$.providers['groq'].api_key"]) == ("", "***")


def test_private_addresses_are_reached_only_when_they_are_allowed_and_never_those_of_metadata() -> None:
    closed = fetch_policy(parsed({}).tools).addresses
    opened = fetch_policy(
        read("tools url_policy", {"allow_private": True, "blocked_domains": ["x.org"]}).tools
    ).addresses
    assert (closed.allowed_networks, closed.blocked_domains) == ((), ())
    assert len(opened.allowed_networks) == 9
    assert {"x.org", "169.254.169.254", "metadata.google.internal"} <= set(opened.blocked_domains)


@pytest.mark.parametrize(
    ("headers", "logs_in"),
    [
        ({}, True),
        ({"X-Team": "a"}, True),
        ({"Authorization": "Bearer x"}, False),
        ({"authorization": "Bearer x"}, False),
    ],
)
def test_a_server_with_a_token_in_its_headers_is_not_logged_in_to(headers: dict[str, str], logs_in: bool) -> None:
    section = {"url": "https://x.example/mcp", "headers": headers}
    server = mcp_servers(read("tools mcp_servers x", section))["x"].server
    assert isinstance(server, HttpServer)
    assert (server.auth is not None) is logs_in
    assert dict(server.headers) == headers


@pytest.mark.parametrize(
    ("section", "refused"),
    [
        ({"command": "x", "transport": "stdio"}, False),
        ({"url": "https://x.example", "transport": "http"}, False),
        ({"command": "x", "transport": "http"}, True),
        ({"url": "https://x.example", "transport": "stdio"}, True),
        ({"command": "x", "url": "https://x.example"}, True),
        ({}, True),
    ],
    ids=str,
)
def test_a_server_has_one_transport_and_what_it_needs(section: dict[str, str], refused: bool) -> None:
    config = read("tools mcp_servers x", section)
    if refused:
        with pytest.raises(ConfigError, match="mcp_servers"):
            mcp_servers(config)
    else:
        assert len(mcp_servers(config)) == 1
    assert mcp_servers(read("tools mcp_servers x", section | {"disabled": True})) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"failover": ["p/m"]} // at the end',
        '{"failover": /* one */ ["p/m"] /*/ two */ }',
        '/**/{"failover": [/***/"p/m",],}/* without an end',
        '{"failover": ["p/m" /* "x", */ , ] // , ]\n}',
    ],
)
def test_comments_and_trailing_commas_are_skipped(text: str) -> None:
    blanked = without_comments(text.encode())
    assert decode_json(blanked) == {"failover": ["p/m"]}
    # Places in errors stay those of the file.
    assert len(blanked) == len(text)
    assert blanked.count(b"\n") == text.count("\n")


def test_marks_of_comments_inside_of_a_text_stay() -> None:
    text = b'{"text": "a /* b */ // c, ] \\"// d"}'
    assert without_comments(text) == text


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [(True, "true"), (None, "null"), (7, "7"), ("x", "a string"), (["x"], "a list"), ([], "[]"), ("", '""')],
    ids=str,
)
def test_of_a_text_or_list_in_place_of_a_section_only_the_kind_is_shown(wrong: object, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("tools", wrong)
    assert str(caught.value) == f"$.tools: expected an object, got {shown}"


def test_the_users_skills_are_in_three_folders_unless_the_file_names_one() -> None:
    home = Path.home()
    assert parsed({}).skills.user_folders == (
        home / ".clawft/skills",
        home / ".agents/skills",
        home / ".claude/skills",
    )
    assert read("skills user", "~/.clawft/skills").skills.user_folders == parsed({}).skills.user_folders
    assert read("skills user", "/srv/skills").skills.user_folders == (Path("/srv/skills"),)
    assert read("skills user", None).skills.user_folders == ()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("tools concurrency", True, "$.tools.concurrency: expected int ≥ 1, got true"),
        ("tools concurrency", "4", '$.tools.concurrency: expected int ≥ 1, got "4"'),
        ("tools concurrency", ["secret"], "$.tools.concurrency: expected int ≥ 1, got a list"),
        ("tools concurrency", {"secret": 1}, "$.tools.concurrency: expected int ≥ 1, got an object"),
        ("tools concurrency", [], "$.tools.concurrency: expected int ≥ 1, got []"),
        ("tools sets", "files", "$.tools.sets: expected a list, got a string"),
        ("tools sets", [1], "$.tools.sets[0]: expected a string, got 1"),
        ("failover", ["p/m", {"secret": 1}], "$.failover[1]: expected a string, got an object"),
        ("providers openai", None, "$.providers['openai']: expected an object, got null"),
        ("providers openai", "sk-secret", "$.providers['openai']: expected an object, got a string"),
        ("providers openai api_key", 7, "$.providers['openai'].api_key: expected a string, got a number"),
        ("providers openai api_key", False, "$.providers['openai'].api_key: expected a string, got false"),
        ("providers openai api_key", ["x"], "$.providers['openai'].api_key: expected a string, got a list"),
        ("retry jitter_fraction", 2, "$.retry.jitter_fraction: expected number ≥ 0 ≤ 1, got 2"),
        ("bus", {"a": 1}, "$.bus.a: unknown key"),
        ("tools", {"concurency": 1}, "$.tools.concurency: unknown key; did you mean 'concurrency'?"),
        ("tools", {"allowComands": []}, "$.tools.allowComands: unknown key; did you mean 'allowCommands'?"),
        ("tools", {"allow_comands": []}, "$.tools.allow_comands: unknown key; did you mean 'allow_commands'?"),
        ("tools", {"concurrency": 1, "Concurrency": 1}, "$.tools.Concurrency: the same as 'concurrency'"),
    ],
    ids=str,
)
def test_a_problem_has_its_place_what_was_expected_and_no_more_than_the_kind_of_what_may_be_secret(
    path: str, value: object, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(path, value)
    assert str(caught.value).startswith(problem)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("keys", "listed"), [(50, 50), (51, 51), (80, 51)])
def test_of_very_many_unknown_keys_the_first_fifty_are_listed(keys: int, listed: int) -> None:
    with pytest.raises(ConfigError) as caught:
        read("bus", {f"k{number}": 1 for number in range(keys)})
    assert len(caught.value.problems) == listed
    assert ("the rest is not listed" in caught.value.problems[-1].message) == (keys > 50)


def test_a_text_of_variables_has_at_most_a_megabyte() -> None:
    most = {"A": "a" * (1 << 19)}
    config = parse_config('{"failover": ["${A}${A}/m"]}', environ=most)
    assert len(config.failover[0]) == (1 << 20) + 2
    with pytest.raises(ConfigError, match="longer than 1048576 characters with its variables"):
        parse_config('{"failover": ["${A}${A}${B}/m"]}', environ=most | {"B": "b"})


# Files of other programs.


def adopted(data: object) -> tuple[Any, list[tuple[str, str]]]:
    """The file in this library's terms, and the warnings."""
    made, warnings = adopt(data)
    return made, [(one.path, one.message) for one in warnings]


def adopted_server(server: dict[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
    made, warnings = adopted({"tools": {"mcp_servers": {"s": server}}})
    return made["tools"]["mcp_servers"]["s"], warnings


@pytest.mark.parametrize(
    ("given", "made"),
    [
        # A command in one list, with and without further arguments; an empty list stays and is refused later.
        ({"command": ["npx", "a"]}, {"command": "npx", "args": ["a"]}),
        ({"command": ["npx", "a"], "args": ["b"]}, {"command": "npx", "args": ["a", "b"]}),
        ({"command": ["npx"]}, {"command": "npx", "args": []}),
        ({"command": []}, {"command": []}),
        ({"command": ["npx", 5]}, {"command": ["npx", 5]}),
        ({"command": {"path": "npx"}}, {"command": "npx"}),
        ({"command": {"path": "npx", "args": ["a"], "env": {}}}, {"command": "npx", "args": ["a"], "env": {}}),
        # What is empty is left out.
        ({"command": "x", "url": None}, {"command": "x"}),
        ({"command": None, "url": "u"}, {"url": "u"}),
        # Numbers and truth values become text, other values stay, and null is left out.
        (
            {"env": {"a": 1, "b": 1.5, "c": True, "d": False, "e": None, "f": "x", "g": ["y"]}},
            {"env": {"a": "1", "b": "1.5", "c": "true", "d": "false", "f": "x", "g": ["y"]}},
        ),
        ({"headers": {"a": 1}}, {"headers": {"a": "1"}}),
        ({"env": ["a"]}, {"env": ["a"]}),
        # Kinds of servers.
        ({"type": "local"}, {"transport": "stdio"}),
        ({"type": "stdio"}, {"transport": "stdio"}),
        ({"type": "remote"}, {"transport": "http"}),
        ({"transportType": "streamable-http"}, {"transport": "http"}),
        ({"transport": "tcp"}, {"transport": "tcp"}),
        ({"transport": 5}, {"transport": 5}),
        # Whether it is used.
        ({"enabled": True}, {"disabled": False}),
        ({"enabled": False}, {"disabled": True}),
        # Two spellings stay two, so that the file is refused.
        ({"url": "a", "serverUrl": "b"}, {"url": "a", "serverUrl": "b"}),
        ({"serverUrl": "b"}, {"url": "b"}),
        ({"tools": ["a", "b"]}, {"allow": ["a", "b"]}),
        ({"tools": []}, {"allow": []}),
    ],
    ids=str,
)
def test_a_server_of_another_program_is_put_into_the_terms_of_this_one(given: dict[str, Any], made: object) -> None:
    assert adopted_server(given) == (made, [])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("alwaysAllow", ["a"], "not used: no call is approved in advance; hand in `approve`"),
        ("timeout", 5, "not used: its unit differs between clients; write `total_ms`"),
        ("envFile", "x", "not used: no file of variables is read; write them under `env`"),
        ("icon", "x", "not used"),
        ("comand", "x", "not used; did you mean 'command'?"),
        ("tools", [1], "not used"),
        ("tools", {"a": {}}, "not used"),
        ("enabled", "yes", "not used"),
    ],
)
def test_a_key_of_another_program_that_is_not_used_has_a_warning_with_the_reason(
    key: str, value: object, message: str
) -> None:
    assert adopted_server({"command": "x", key: value}) == (
        {"command": "x"},
        [(f"$.tools.mcp_servers['s'].{key}", message)],
    )


def test_http_with_events_is_asked_as_streamable_http_and_a_warning_says_so() -> None:
    assert adopted_server({"type": "sse", "url": "u"}) == (
        {"transport": "http", "url": "u"},
        [("$.tools.mcp_servers['s'].transport", "HTTP with SSE is asked as streamable HTTP")],
    )


def test_servers_at_the_top_of_a_file_are_moved_and_the_other_keys_of_its_program_left_out() -> None:
    servers = {"a": {"command": "a"}, "b": {"command": "b"}}
    own = {"b": {"command": "own"}}
    for name in ("mcpServers", "servers", "context_servers", "mcp_servers"):
        made, warnings = adopted({name: servers, "editor": 1, "failover": ["p/m"], "tools": {"mcp-servers": own}})
        assert made == {"failover": ["p/m"], "tools": {"mcp-servers": {"a": {"command": "a"}, "b": {"command": "own"}}}}
        assert warnings == [("$.editor", "of another program; not used")]
    assert adopted({"mcpServers": servers}) == ({"tools": {"mcpServers": servers}}, [])
    # Only a list of servers makes it such a file.
    for data in ({"mcpServers": [], "editor": 1}, {"editor": 1}, [servers], "x", None):
        assert adopted(data) == (data, [])
    assert adopted({"mcpServers": servers, "tools": 5}) == ({"tools": 5}, [])
    assert adopted({"mcpServers": servers, "tools": {"mcpServers": 5}})[0] == {"tools": {"mcpServers": 5}}


def test_an_input_with_a_default_is_filled_in_and_others_stay() -> None:
    inputs = [{"id": "a", "default": "1"}, {"id": "b"}, {"id": 5, "default": "x"}, {"id": "c", "default": 5}, "d"]
    servers = {"s": {"command": "x", "args": ["${input:a} ${input:b}", "${input:c}"], "env": {"K": "${input:a}"}}}
    made, warnings = adopted({"servers": servers, "inputs": inputs})
    assert warnings == []
    assert made == {
        "tools": {
            "mcpServers": {
                "s": {
                    "command": "x",
                    "args": ["${input:a:-1} ${input:b}", "${input:c}"],
                    "env": {"K": "${input:a:-1}"},
                }
            }
        }
    }


def test_sections_without_effect_have_a_warning_only_when_something_is_in_them() -> None:
    assert adopted({"gateway": {}, "voice": None, "channels": {}})[1] == []
    assert [path for path, _ in adopted({"gateway": {"a": 1}, "Kernel": 1})[1]] == ["$.gateway", "$.Kernel"]
    assert adopted({"tools": {"web": {}, "restrictToWorkspace": True}})[1] == []
    assert [path for path, _ in adopted({"tools": {"Web": {"a": 1}, "restrict_to_workspace": False}})[1]] == [
        "$.tools.Web",
        "$.tools.restrict_to_workspace",
    ]


def test_permissions_of_a_user_without_a_channel_are_left_out_with_a_warning() -> None:
    users = {"ana": {"level": 2}, "bo": {"level": 1, "Channel": "cli"}, "cli:cy": {"level": 0}, "di": 5}
    routing = {"mode": "static", "permissions": {"users": users, "admin": {}}}
    made, [(path, why)] = adopted({"routing": routing, "failover": []})
    assert made["routing"]["permissions"]["users"] == {name: users[name] for name in ("bo", "cli:cy", "di")}
    assert (made["routing"]["mode"], made["routing"]["permissions"]["admin"], made["failover"]) == ("static", {}, [])
    assert path == "$.routing.permissions.users['ana']"
    assert "on which channel?" in why
    for data in ({"routing": 5}, {"routing": {"permissions": 5}}, {"routing": {"permissions": {"users": 5}}}, {}):
        assert adopted(data) == (data, [])


@pytest.mark.parametrize(
    ("data", "servers"),
    [
        ({"mcpServers": {"a": {}}}, {"a": {}}),
        ({"mcpServers": 5, "servers": {"a": {}}}, {"a": {}}),
        ({"mcp": {"servers": {"a": {}}}}, {"a": {}}),
        ({"mcp": {"a": {}}}, {"a": {}}),
        ({"extensions": {"a": {"cmd": "x"}, "b": {"type": "builtin"}, "c": 5, "d": {"uri": "u"}}}, None),
        ({"tools": {"mcp_servers": {"a": {}}}}, {"a": {}}),
        ({"tools": {"web": {"a": {}}}}, "none"),
        ({"tools": 5}, "none"),
        ([], "none"),
    ],
)
def test_the_servers_of_a_file_are_where_its_program_has_them(data: object, servers: object) -> None:
    found = server_map(data)
    if servers is None:
        assert found == {"a": {"cmd": "x"}, "d": {"uri": "u"}}
    else:
        assert found == (None if servers == "none" else servers)


# Policies of clawft.


@pytest.mark.parametrize(
    ("denylist", "allowed"),
    [
        ([], ["cat", "ls"]),
        (["ls -l"], ["cat"]),
        (["l*"], ["cat"]),
        (["cat", "ls"], []),
        # A rule that cannot be split into words is one word.
        (["ls '"], ["cat", "ls"]),
        (["'"], ["cat", "ls"]),
        ([""], ["cat", "ls"]),
        (["lsx", "x ls"], ["cat", "ls"]),
    ],
    ids=str,
)
def test_a_program_on_both_lists_of_the_original_is_not_allowed(denylist: list[str], allowed: list[str]) -> None:
    config = read("tools command_policy", {"allowlist": ["cat", "ls"], "denylist": denylist})
    assert list(command_policy(config.tools).allow) == allowed
    refused = [name for name in ("cat", "ls") if name not in allowed]
    assert [one.path for one in config.warnings] == [
        f"$.tools.command_policy.allowlist[{['cat', 'ls'].index(name)}]" for name in refused
    ]
    assert all("the deny list has it, too" in one.message for one in config.warnings)


def test_only_what_is_not_obeyed_of_the_policies_of_the_original_has_a_warning() -> None:
    def warned(section: dict[str, Any]) -> list[str]:
        return [one.path.removeprefix("$.tools.") for one in parsed({"tools": section}).warnings]

    assert warned({"command_policy": {"mode": "allowlist"}}) == []
    assert warned({"command_policy": {"mode": "denylist", "allowlist": ["python"]}}) == ["command_policy.mode"]
    assert warned({"url_policy": {"enabled": True}}) == []
    assert warned({"url_policy": {"enabled": False}}) == ["url_policy.enabled"]
    assert warned({"url_policy": {"allowed_domains": ["x.org"]}}) == ["url_policy.allowed_domains"]
    assert warned({"url_policy": {"allowed_domains": ["x.org"], "allow_private": True}}) == []
    assert command_policy(parsed({"tools": {"allow_commands": ["ls", "ls"]}}).tools).allow == ("ls",)
    defaults, own = parsed({}).tools, read("tools exec timeout", 7).tools
    assert command_policy(own).child.total == 7
    assert command_policy(defaults).child == ChildPolicy()


# Files.


async def test_the_largest_file_is_read_and_one_with_a_byte_more_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"{}".ljust(1 << 20))
    assert await load_config(file) == parsed({})
    file.write_bytes(b"{}".ljust((1 << 20) + 1))
    with pytest.raises(ConfigError, match="1048577 bytes are more than the 1048576 that are read"):
        await load_config(file)


async def test_an_earlier_file_of_servers_overrides_a_later_one_and_the_configuration_both(tmp_path: Path) -> None:
    for number, names in enumerate(("ab", "bc", "abcd")):
        servers = {name: {"command": f"{number}", "icon": "x"} for name in names}
        (tmp_path / f"{number}.json").write_text(json.dumps({"mcpServers": servers}))
    config = parsed({"tools": {"mcp_servers": {"a": {"command": "own"}}}, "mcp_config": ["0.json"]})
    config = await with_mcp_files(config, ["1.json", "2.json"], folder=tmp_path)
    commands = {name: one.command for name, one in config.tools.mcp_servers.items()}
    assert commands == {"a": "own", "b": "0", "c": "1", "d": "2"}
    assert len(config.warnings) == 8


@pytest.mark.parametrize(
    ("text", "place"), [('{"a" 1}', "(line 1, column 6)"), ('{\n "é": 1,\n  "ü" 2}', "(line 3, column 7)")]
)
def test_what_is_not_json_has_its_line_and_column(text: str, place: str) -> None:
    for data in (text, text.encode(), b"\xef\xbb\xbf" + text.encode()):
        with pytest.raises(ConfigError) as caught:
            parse_config(data)
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("openai/gpt-5", ""),
        ("elsewhere/m", ""),
        ("opnai/gpt-5", "unknown provider 'opnai'; did you mean 'openai'?"),
        ("gpt-5", 'expected "provider/model", got "gpt-5"'),
        ("/gpt-5", 'expected "provider/model", got "/gpt-5"'),
        ("openai/", 'expected "provider/model", got "openai/"'),
    ],
)
def test_a_model_has_a_provider_and_a_name(model: str, problem: str) -> None:
    for path, data in (("$.failover[1]", {"failover": ["p/m", model]}),
                       ("$.agents.defaults.model", nested("agents defaults model", model))):  # fmt: skip
        if problem:
            with pytest.raises(ConfigError) as caught:
                parsed(data)
            assert str(caught.value) == f"{path}: {problem}"
        else:
            parsed(data)
    assert parse_config('{"failover": ["opnai/m"]}', providers=["opnai"]).failover == ("opnai/m",)
