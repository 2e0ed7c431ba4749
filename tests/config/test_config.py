from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from clawft_trio.agent.from_config import mcp_servers
from clawft_trio.config import Config, Secret, load_config, parse_config
from clawft_trio.errors import ConfigError
from clawft_trio.mcp import StdioServer
from clawft_trio.resilience import Retry, Timeout
from clawft_trio.testing import cancel_everywhere

ORIGINAL = Path(__file__).parent / "original.json"


def problems(data: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(data))
    return [str(problem) for problem in caught.value.problems]


async def test_a_file_with_the_originals_keys_is_accepted() -> None:
    config = await load_config(ORIGINAL, environ={"OPENAI_API_KEY": "sk-1"})
    assert config.models == ("openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "local/llama3.2")
    assert config.providers["openai"].api_key.get_secret_value() == "sk-1"
    assert config.routing.tiers[0].cost_per_1k_tokens == Decimal("0.0")
    assert config.bus.overflow_policy == "block"


def test_map_keys_are_data() -> None:
    """Sender ids, variables and server names are kept as they are written; the original rewrote them."""
    config = parse_config(
        json.dumps(
            {
                "tools": {"mcpServers": {"MyServer": {"command": "x", "env": {"GITHUB_TOKEN": "t"}}}},
                "routing": {"permissions": {"users": {"telegram:JohnDoe": {"costBudgetDailyUsd": 2.5}}}},
                "providers": {"MyProvider": {"apiBase": "http://x", "extraHeaders": {"X-Team": "a"}}},
            }
        )
    )
    assert list(config.tools.mcp_servers) == ["MyServer"]
    assert list(config.tools.mcp_servers["MyServer"].env) == ["GITHUB_TOKEN"]
    assert config.routing.permissions.users["telegram:JohnDoe"].cost_budget_daily_usd == 2.5
    assert list(config.providers["MyProvider"].extra_headers) == ["X-Team"]


def test_a_price_in_camel_case_is_a_price() -> None:
    config = parse_config('{"routing": {"tiers": [{"name": "a", "models": ["openai/x"], "costPer1kTokens": 0.1}]}}')
    assert config.routing.tiers[0].cost_per_1k_tokens == Decimal("0.1")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"retry": {"max_retries": "three"}}, '$.retry.max_retries: expected int ≥ 0, got "three"'),
        ({"retry": {"max_retries": True}}, "$.retry.max_retries: expected int ≥ 0, got true"),
        (
            {"retry": {"max_retries": 1, "maxRetries": 2}},
            "$.retry.maxRetries: the same as 'max_retries', which is there, too",
        ),
        ({"retry": []}, "$.retry: expected an object, got []"),
        ({"failover": [1]}, "$.failover[0]: expected a string, got 1"),
        ({"timeouts": {"gap_ms": 0}}, "$.timeouts.gap_ms: expected number > 0, got 0"),
        (
            {"bus": {"overflow_policy": "drop_new"}},
            '$.bus.overflow_policy: expected one of "block", "drop_oldest", "drop_newest", "reject", got "drop_new"',
        ),
        ({"providers": {"openai": {"api_key": 7}}}, "$.providers['openai'].api_key: expected a string, got a number"),
        (
            {"routing": {"permissions": {"users": {"telegram:1": {"level": 7}}}}},
            "$.routing.permissions.users['telegram:1'].level: expected int out of 0, 1, 2, got 7",
        ),
    ],
)
def test_a_problem_names_its_place_and_what_was_expected(data: object, expected: str) -> None:
    assert problems(data) == [expected]


def test_names_that_lead_nowhere_are_found_when_the_file_is_read() -> None:
    assert problems({"failover": ["opnai/x", "gpt-5"]}) == [
        "$.failover[0]: unknown provider 'opnai'; did you mean 'openai'?",
        '$.failover[1]: expected "provider/model", got "gpt-5"',
    ]
    tiered = {"mode": "tiered", "tiers": [{"name": "a", "models": ["nobody/x"]}]}
    found = problems({"routing": {**tiered, "permissions": {"users": {"chat:ana": {"maxTier": "elte"}}}}})
    assert found[0].startswith("$.routing.tiers[0].models[0]: ")
    assert any(problem.startswith("$.routing.permissions.users['chat:ana'].max_tier: ") for problem in found)


def test_many_problems_are_reported_at_once() -> None:
    found = problems({"retry": {"max_retries": -1, "x": 1}, "bus": {"inbound_buffer_size": 0}, "failover": 3, "y": 1})
    assert len(found) == 5


def test_retry_defaults_when_the_section_is_absent() -> None:
    assert Config().retry.policy() == Retry()
    assert parse_config("{}").retry.statuses == frozenset({408, 409, 425, 429, *range(500, 600)} - {501, 505})


def test_missing_fields_of_retry_are_defaulted() -> None:
    policy = parse_config('{"retry": {"max_retries": 5}}').retry.policy()
    assert policy == Retry(max_retries=5)


@pytest.mark.parametrize(
    "section",
    [
        {
            "max_retries": 2,
            "base_delay_ms": 100,
            "max_delay_ms": 900,
            "jitter_fraction": 0.5,
            "retryable_status_codes": [429],
        },
        {"maxRetries": 2, "baseDelayMs": 100, "maxDelayMs": 900, "jitterFraction": 0.5, "retryableStatusCodes": [429]},
        {
            "max_retries": 2,
            "initial_backoff_ms": 100,
            "max_backoff_ms": 900,
            "jitter": 0.5,
            "retryable_status_codes": [429],
        },
        {"maxRetries": 2, "initialBackoffMs": 100, "maxBackoffMs": 900, "jitter": 0.5, "retryableStatusCodes": [429]},
    ],
)
def test_both_sets_of_names_in_both_spellings_set_the_same_policy(section: dict[str, object]) -> None:
    retry = parse_config(json.dumps({"retry": section})).retry
    assert retry.policy() == Retry(max_retries=2, first_wait=0.1, longest_wait=0.9, jitter=0.5)
    assert retry.statuses == {429}


def test_an_empty_list_of_statuses_is_every_server_error() -> None:
    assert parse_config('{"retry": {"retryable_status_codes": []}}').retry.statuses == frozenset(range(500, 600))


def test_the_retries_of_a_provider_override_the_general_ones() -> None:
    config = parse_config(
        '{"retry": {"max_retries": 5, "base_delay_ms": 100}, "providers": {"a": {"retry": {"max_retries": 1}}}}'
    )
    assert config.retry_of("a").policy() == Retry(max_retries=1, first_wait=0.1)
    assert config.retry_of("b").policy() == Retry(max_retries=5, first_wait=0.1)


def test_clocks_are_seconds_in_the_policies() -> None:
    timeouts = parse_config('{"timeouts": {"connect_ms": 100, "gapMs": 2500, "first_content_ms": null}}').timeouts
    assert timeouts.clocks.connect == 0.1
    assert timeouts.attempt == Timeout(first_content=None, gap=2.5, tool_gap=180.0)


def test_a_secret_is_never_shown() -> None:
    config = parse_config(
        '{"providers": {"a": {"api_key": "${KEY}", "extra_headers": {"X": "hush"}}}}', environ={"KEY": "hush"}
    )
    assert "hush" not in repr(config)
    assert "hush" not in str(config.providers["a"].api_key)
    assert config.providers["a"].api_key == Secret("hush")


def test_a_variable_that_is_not_set_is_known_by_name() -> None:
    key = parse_config('{"providers": {"a": {"api_key": "${MY_KEY}"}}}', environ={}).providers["a"].api_key
    assert not key
    assert key.missing == ("MY_KEY",)


@pytest.mark.parametrize(
    ("content", "word"), [(b"{", "$"), (b"\xff", "$"), (b"[" * 100_000, "$"), (b"7", "expected an object")]
)
async def test_what_is_no_configuration_is_one_problem(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        await load_config(path)
    assert word in str(caught.value.problems[0])


async def test_a_missing_or_huge_file_is_a_problem_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        await load_config(tmp_path / "none.json")
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (1 << 21))
    with pytest.raises(ConfigError, match="bytes are more than"):
        await load_config(huge)


async def test_reading_can_be_cancelled_anywhere() -> None:
    async def operation() -> None:
        await load_config(ORIGINAL, environ={})

    await cancel_everywhere(operation, trio.lowlevel.checkpoint)


SECTIONS = [
    "agents", "defaults", "providers", "retry", "max_retries", "timeouts", "gap_ms", "failover", "bus", "tools",
    "mcp_servers", "command", "args", "env", "routing", "tiers", "name", "models", "permissions", "users", "openai", "x",
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SECTIONS), inner, max_size=3),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(SECTIONS), json_values, max_size=4))
def test_any_text_gives_a_configuration_or_a_list_of_problems(data: dict[str, object]) -> None:
    try:
        parse_config(json.dumps(data))
    except ConfigError as exc:
        assert exc.problems
        assert all(problem.path.startswith("$") for problem in exc.problems)


def test_an_mcp_server_is_as_its_section_says() -> None:
    section = {
        "command": "x",
        "args": ["-y"],
        "allow": ["read_*"],
        "deny": ["*_all"],
        "totalMs": 1500,
        "retry": {"max_retries": 1},
    }
    config = parse_config(
        json.dumps({"tools": {"mcp_servers": {"files": section, "web": {"url": "https://x.example/mcp"}}}})
    )
    servers = mcp_servers(config)
    files = servers["files"]
    assert files.server == StdioServer(("x", "-y"))
    assert (files.allow, files.deny, files.total, files.strategy) == (
        ("read_*",),
        ("*_all",),
        1.5,
        Retry(max_retries=1),
    )
    assert servers["web"].strategy is None
    with pytest.raises(ConfigError, match="either command or url"):
        mcp_servers(parse_config('{"tools": {"mcp_servers": {"none": {}}}}'))


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    assert parse_config(b'\xef\xbb\xbf{"failover": ["openai/x"]}').models == ("openai/x",)
