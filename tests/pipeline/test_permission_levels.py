"""What each level of permissions grants, and how limits and patterns decide."""

from __future__ import annotations

import attrs
import pytest

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, AuthContext, UserPermissions, matches_any

FIELDS = (
    "level",
    "max_tier",
    "max_context_tokens",
    "max_output_tokens",
    "rate_limit",
    "streaming_allowed",
    "escalation_allowed",
    "escalation_threshold",
    "model_override",
    "cost_budget_daily_usd",
    "cost_budget_monthly_usd",
    "token_budget_daily",
    "token_budget_monthly",
    "turn_budget_daily",
    "turn_budget_monthly",
)

# The levels of clawft, whose configurations are read unchanged.
LEVELS = [
    (ZERO_TRUST, (0, "free", 4096, 1024, 10, False, False, 1.0, False, 0.10, 2.00, 0, 0, 0, 0)),
    (USER, (1, "standard", 16_384, 4096, 60, True, True, 0.6, False, 5.0, 100.0, 0, 0, 0, 0)),
    (ADMIN, (2, "elite", 200_000, 16_384, 0, True, True, 0.0, True, 0.0, 0.0, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("level", "values"), LEVELS, ids=["zero trust", "user", "admin"])
def test_the_levels_are_those_of_clawft(level: UserPermissions, values: tuple[object, ...]) -> None:
    assert tuple(getattr(level, name) for name in FIELDS) == values
    assert level.model_access is None
    assert (level.model_denylist, level.tool_denylist, dict(level.custom_permissions)) == ((), (), {})


def test_the_lowest_level_may_use_no_tool_the_middle_one_a_few_and_the_highest_all() -> None:
    tools = (
        "read_file",
        "write_file",
        "edit_file",
        "list_directory",
        "load_skill",
        "web_search",
        "web_fetch",
        "message",
    )
    assert USER.tool_access == tools
    for name in (*tools, "run_command", "anything"):
        assert not ZERO_TRUST.may_use_tool(name)
        assert USER.may_use_tool(name) is (name in tools)
        assert ADMIN.may_use_tool(name)


@pytest.mark.parametrize(
    ("access", "denied", "name", "allowed"),
    [
        (("a",), (), "a", True),
        (("a",), (), "ab", False),
        (("a*",), (), "ab", True),
        (("a?",), (), "a", False),
        (("[ab]x",), (), "bx", True),
        (("A",), (), "a", False),
        (("*",), ("a*",), "ab", False),
        (("*",), ("a*",), "ba", True),
        ((), (), "a", False),
        ((), ("b",), "a", False),
    ],
)
def test_patterns_decide_about_tools_and_models(access, denied, name: str, allowed: bool) -> None:
    given = UserPermissions(tool_access=access, tool_denylist=denied, model_access=access, model_denylist=denied)
    assert given.may_use_tool(name) is allowed
    assert given.may_use_model(name) is allowed
    assert matches_any(name, access) is (allowed or name.startswith("ab") and bool(denied))


def test_without_a_list_of_models_all_are_allowed_but_the_denied() -> None:
    assert ZERO_TRUST.may_use_model("any/model")
    assert not attrs.evolve(ZERO_TRUST, model_denylist=["any/*"]).may_use_model("any/model")


@pytest.mark.parametrize(
    ("asked", "window", "limit"),
    [
        (None, None, 1024),
        (100, None, 100),
        (5000, None, 1024),
        (None, 1000, 500),
        (None, 1001, 500),
        (400, 1000, 400),
        (600, 1000, 500),
        (None, 1, 1),
        (None, 0, 1),
        (None, 100_000, 1024),
        (0, None, 0),
    ],
)
def test_the_output_limit_is_the_least_of_all(asked: int | None, window: int | None, limit: int) -> None:
    assert ZERO_TRUST.output_limit(asked, window=window) == limit


def test_the_local_process_is_an_admin_with_an_account_of_its_own() -> None:
    local = AuthContext.local()
    assert (local.sender_id, local.channel, local.permissions) == ("local", "local", ADMIN)
    assert local.identity == "local:local"
    assert AuthContext.local("ana").identity == "local:ana"
    assert AuthContext(sender_id="a", channel="ch").identity == "ch:a"
    assert AuthContext().permissions is ZERO_TRUST
