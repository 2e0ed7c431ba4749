"""The bounds of numbers in a configuration, its defaults, and which clock applies to which model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawft_trio.agent.from_config import mcp_servers
from clawft_trio.codec import decode_json
from clawft_trio.config import Config, parse_config
from clawft_trio.config.comments import without_comments
from clawft_trio.config.effective import settings_in
from clawft_trio.config.policies import fetch_policy
from clawft_trio.errors import ConfigError
from clawft_trio.mcp import HttpServer


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
    assert origins["$.providers"] == ({}, "default")
    assert origins["$.store"] == (None, "default")


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
