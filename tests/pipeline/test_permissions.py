"""Who may do what: layers, precedence, revoking, the workspace's ceiling, and identities."""

from __future__ import annotations

from fnmatch import fnmatchcase

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.errors import InvalidData, PermissionDenied
from clawft_trio.pipeline import (
    PermissionOverrides as Say,
    PermissionResolver,
    PermissionsPolicy,
    SenderOverrides as SayOfSender,
)
from clawft_trio.pipeline.permissions import LADDER, _covers, lesser


def resolved(policy: PermissionsPolicy | None = None, sender: str = "ana", channel: str = "telegram", **kwargs):
    return PermissionResolver(policy, **kwargs).resolve(channel, sender).permissions


def test_a_stranger_has_next_to_nothing() -> None:
    assert resolved() == ZERO_TRUST


@pytest.mark.parametrize(("level", "expected"), [(0, ZERO_TRUST), (1, USER), (2, ADMIN)])
def test_each_level_has_its_built_in_rights(level, expected) -> None:
    assert resolved(PermissionsPolicy(users={"telegram:ana": SayOfSender(level=level)})) == expected


@pytest.mark.parametrize("channel", ["cli", "CLI", "system", "web", "cron"])
def test_no_channel_is_a_privilege(channel) -> None:
    assert resolved(channel=channel, sender="local") == ZERO_TRUST


def test_the_local_process_is_admin_and_no_message_can_say_that_it_is() -> None:
    resolver = PermissionResolver()
    assert resolver.local() == AuthContext.local()
    with pytest.raises(PermissionDenied):
        resolver.resolve("local", "local")


@pytest.mark.parametrize(("channel", "sender"), [("telegram", ""), ("", "ana"), ("a:b", "c"), ("local", "x")])
def test_nobody_in_particular_is_refused(channel, sender) -> None:
    with pytest.raises(PermissionDenied):
        PermissionResolver().resolve(channel, sender)


def test_the_policy_of_admins_holds_for_the_local_process_too() -> None:
    resolver = PermissionResolver(PermissionsPolicy(admin=Say(tool_denylist=["exec_shell"], max_tier="big")))
    permissions = resolver.local("ana").permissions
    assert (permissions.tool_denylist, permissions.max_tier, permissions.level) == (("exec_shell",), "big", 2)


@pytest.mark.parametrize(("tiers", "expected"), [((), "elite"), (("free", "premium"), "premium"), (("s", "xl"), "xl")])
def test_an_admins_tier_is_the_highest_there_is(tiers, expected) -> None:
    assert PermissionResolver(tiers=tiers).local().permissions.max_tier == expected


EVERY_FIELD = [
    ("level", 1, 2),
    ("max_tier", "standard", "premium"),
    ("model_access", ("a/*",), ("b/*",)),
    ("model_denylist", ("a/*",), ("b/*",)),
    ("tool_access", ("read_file",), ("web_*",)),
    ("tool_denylist", ("read_file",), ("web_*",)),
    ("max_context_tokens", 100, 200),
    ("max_output_tokens", 10, 20),
    ("rate_limit", 1, 2),
    ("streaming_allowed", True, False),
    ("escalation_allowed", True, False),
    ("escalation_threshold", 0.1, 0.2),
    ("model_override", True, False),
    ("cost_budget_daily_usd", 1.0, 2.0),
    ("cost_budget_monthly_usd", 10.0, 20.0),
    ("token_budget_daily", 100, 200),
    ("token_budget_monthly", 1000, 2000),
    ("turn_budget_daily", 1, 2),
    ("turn_budget_monthly", 10, 20),
]


def test_the_table_has_every_field() -> None:
    names = {field.name for field in attrs.fields(UserPermissions)}
    assert names == {name for name, *_ in EVERY_FIELD} | {"custom_permissions"}
    assert names == {field.name for field in attrs.fields(Say)}


@pytest.mark.parametrize(("field", "one", "other"), EVERY_FIELD)
def test_the_sender_wins_over_the_channel_and_the_channel_over_the_level(field, one, other) -> None:
    in_general = PermissionsPolicy(zero_trust=Say(**{field: other}))
    on_channel = attrs.evolve(in_general, channels={"telegram": Say(**{field: one})})
    of_sender = attrs.evolve(on_channel, users={"telegram:ana": SayOfSender(**{field: other})})
    if field != "level":  # a level does not say which level it is
        assert getattr(resolved(in_general), field) == other
    assert getattr(resolved(on_channel), field) == one
    assert getattr(resolved(of_sender), field) == other
    assert getattr(resolved(of_sender, sender="bob"), field) == one


def test_a_level_and_its_rights_never_come_from_different_layers() -> None:
    policy = PermissionsPolicy(
        channels={"telegram": Say(level=0)},
        users={"telegram:ana": SayOfSender(level=2)},
    )
    assert resolved(policy) == ADMIN
    assert resolved(policy, sender="bob") == ZERO_TRUST


def test_custom_permissions_are_merged_key_by_key() -> None:
    policy = PermissionsPolicy(
        zero_trust=Say(custom_permissions={"a": 1, "b": 1}),
        channels={"telegram": Say(custom_permissions={"b": 2, "c": 2})},
        users={"telegram:ana": SayOfSender(custom_permissions={"c": 3})},
    )
    assert resolved(policy).custom_permissions == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("field", ["tool_access", "model_access", "model_denylist", "tool_denylist"])
def test_an_empty_list_is_a_word(field) -> None:
    policy = PermissionsPolicy(user=Say(**{field: ["x"]}), users={"telegram:ana": SayOfSender(level=1, **{field: []})})
    assert getattr(resolved(policy), field) == ()


def test_revoked_tools_and_models_are_gone() -> None:
    policy = PermissionsPolicy(users={"telegram:ana": SayOfSender(level=2, tool_access=[], model_access=[])})
    permissions = resolved(policy)
    assert not permissions.may_use_tool("read_file")
    assert not permissions.may_use_model("openai/gpt-5-mini")


def test_a_user_may_list_directories() -> None:
    assert USER.may_use_tool("list_directory")


def test_the_same_number_on_another_channel_is_nobody() -> None:
    policy = PermissionsPolicy(users={"telegram:12345": SayOfSender(level=2)})
    assert resolved(policy, "12345").level == 2
    assert resolved(policy, "12345", channel="discord") == ZERO_TRUST


def test_a_bare_sender_id_needs_its_channel() -> None:
    policy = PermissionsPolicy(users={"U12345ABC": SayOfSender(level=1, channel="slack")})
    assert resolved(policy, "U12345ABC", channel="slack").level == 1
    assert resolved(policy, "U12345ABC", channel="discord").level == 0
    assert resolved(policy, "u12345abc", channel="slack").level == 0
    with pytest.raises(InvalidData, match=r"users\['U12345ABC'\]"):
        PermissionsPolicy(users={"U12345ABC": SayOfSender(level=1)})


def test_a_senders_colon_is_its_own() -> None:
    policy = PermissionsPolicy(
        users={
            "matrix:@ana:example.org": SayOfSender(level=1),
            "@bob:example.org": SayOfSender(level=2, channel="matrix"),
        }
    )
    assert resolved(policy, "@ana:example.org", channel="matrix").level == 1
    assert resolved(policy, "@bob:example.org", channel="matrix").level == 2


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        ({"users": {"telegram:": SayOfSender()}}, "users['telegram:']"),
        ({"users": {":ana": SayOfSender()}}, "users[':ana']"),
        ({"users": {"": SayOfSender(channel="telegram")}}, "users['']"),
        ({"users": {"ana": SayOfSender(channel="a:b")}}, "users['ana']"),
        ({"users": {"t:ana": SayOfSender(), "ana": SayOfSender(channel="t")}}, "users['ana']"),
        ({"channels": {"a:b": Say()}}, "channels['a:b']"),
        ({"channels": {"": Say()}}, "channels['']"),
        ({"channels": {"local": Say(level=0)}}, "channels['local']"),
        ({"allow_from": {"local": ("x",)}}, "allow_from['local']"),
    ],
)
def test_a_name_that_means_nobody_is_a_problem_with_its_place(policy, place) -> None:
    with pytest.raises(InvalidData) as caught:
        PermissionsPolicy(**policy)
    assert [problem.path for problem in caught.value.problems] == [f"$.{place}"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": 3},
        {"level": -1},
        {"rate_limit": -1},
        {"max_output_tokens": -1},
        {"escalation_threshold": 1.1},
        {"cost_budget_daily_usd": -0.01},
        {"tool_access": "read_file"},
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(wrong) -> None:
    with pytest.raises((ValueError, TypeError)):
        Say(**wrong)


@pytest.mark.parametrize("channel", ["telegram", "discord", "slack"])
def test_who_is_listed_is_a_user_on_every_channel_alike(channel) -> None:
    policy = PermissionsPolicy(allow_from={channel: ("ana",)})
    assert resolved(policy, channel=channel) == USER
    assert resolved(policy, "bob", channel=channel) == ZERO_TRUST
    assert resolved(policy, channel="elsewhere") == ZERO_TRUST


@pytest.mark.parametrize(
    "said", [{"channels": {"telegram": Say(level=0)}}, {"users": {"telegram:ana": SayOfSender(level=0)}}]
)
def test_a_stated_level_counts_more_than_being_listed(said) -> None:
    assert resolved(PermissionsPolicy(allow_from={"telegram": ("ana",)}, **said)) == ZERO_TRUST


@pytest.mark.parametrize(
    "workspace",
    [
        PermissionsPolicy(users={"telegram:ana": SayOfSender(level=2)}),
        PermissionsPolicy(channels={"telegram": Say(level=2)}),
        PermissionsPolicy(user=Say(**{f.name: getattr(ADMIN, f.name) for f in attrs.fields(UserPermissions)})),
        PermissionsPolicy(user=Say(custom_permissions={"deploy": True}, rate_limit=0, cost_budget_daily_usd=0)),
        PermissionsPolicy(user=Say(model_access=["*"], tool_denylist=[], model_denylist=[])),
        PermissionsPolicy(allow_from={"telegram": ("ana",)}),
    ],
)
def test_a_workspace_cannot_give(workspace) -> None:
    policy = PermissionsPolicy(
        users={"telegram:ana": SayOfSender(level=1, model_access=["openai/*"], model_denylist=["openai/o1"])}
    )
    granted = resolved(policy)
    assert resolved(policy, workspace=workspace) == granted
    assert resolved(policy, sender="bob", workspace=workspace) == ZERO_TRUST


@pytest.mark.parametrize(("field", "less"), [
    ("max_tier", "free"),
    ("model_access", ("openai/gpt-*",)),
    ("model_access", ()),
    ("model_denylist", ("openai/o1",)),
    ("tool_access", ("read_file",)),
    ("tool_access", ()),
    ("tool_denylist", ("exec_shell",)),
    ("max_context_tokens", 10),
    ("max_output_tokens", 10),
    ("rate_limit", 1),
    ("streaming_allowed", False),
    ("escalation_allowed", False),
    ("escalation_threshold", 0.9),
    ("model_override", False),
    ("cost_budget_daily_usd", 0.5),
    ("cost_budget_monthly_usd", 0.5),
    ("token_budget_daily", 5),
    ("token_budget_monthly", 5),
    ("turn_budget_daily", 1),
    ("turn_budget_monthly", 1),
])  # fmt: skip
def test_a_workspace_can_take_away(field, less) -> None:
    policy = PermissionsPolicy(users={"telegram:ana": SayOfSender(level=2)})
    for workspace in (
        PermissionsPolicy(admin=Say(**{field: less})),
        PermissionsPolicy(channels={"telegram": Say(**{field: less})}),
        PermissionsPolicy(users={"telegram:ana": SayOfSender(**{field: less})}),
    ):
        assert getattr(resolved(policy, workspace=workspace), field) == less
    local = PermissionResolver(policy, workspace=PermissionsPolicy(admin=Say(**{field: less}))).local()
    assert getattr(local.permissions, field) == less


def test_a_workspace_can_lower_a_level_and_everything_with_it() -> None:
    policy = PermissionsPolicy(users={"telegram:ana": SayOfSender(level=2, tool_access=["web_*"])})
    lowered = resolved(policy, workspace=PermissionsPolicy(users={"telegram:ana": SayOfSender(level=1)}))
    assert lowered.level == 1
    assert lowered.max_output_tokens == USER.max_output_tokens
    assert set(lowered.tool_access) == {"web_search", "web_fetch"}


def test_a_tier_that_does_not_exist_is_the_lowest() -> None:
    policy = PermissionsPolicy(users={"telegram:ana": SayOfSender(level=2)})
    workspace = PermissionsPolicy(admin=Say(max_tier="premuim"))
    assert resolved(policy, workspace=workspace, tiers=("free", "premium")).max_tier == "premuim"


def test_a_workspace_switches_custom_permissions_only_off() -> None:
    policy = PermissionsPolicy(zero_trust=Say(custom_permissions={"deploy": True, "limit": 3}))
    workspace = PermissionsPolicy(zero_trust=Say(custom_permissions={"deploy": False, "limit": 9, "more": True}))
    assert resolved(policy, workspace=workspace).custom_permissions == {"deploy": False, "limit": 3}


names = st.text("ab/-", min_size=1, max_size=4)
patterns = st.lists(st.text("ab*?/", min_size=1, max_size=4), max_size=3).map(tuple)
permissions = st.builds(
    UserPermissions,
    level=st.integers(0, 2),
    max_tier=st.sampled_from([*LADDER, "typo"]),
    model_access=st.none() | patterns,
    model_denylist=patterns,
    tool_access=patterns,
    tool_denylist=patterns,
    max_context_tokens=st.integers(0, 9),
    max_output_tokens=st.integers(0, 9),
    rate_limit=st.integers(0, 3),
    streaming_allowed=st.booleans(),
    escalation_allowed=st.booleans(),
    escalation_threshold=st.sampled_from([0.0, 0.5, 1.0]),
    model_override=st.booleans(),
    cost_budget_daily_usd=st.sampled_from([0.0, 1.0, 2.0]),
    cost_budget_monthly_usd=st.sampled_from([0.0, 1.0, 2.0]),
    token_budget_daily=st.integers(0, 2),
    token_budget_monthly=st.integers(0, 2),
    turn_budget_daily=st.integers(0, 2),
    turn_budget_monthly=st.integers(0, 2),
)


def no_more_than(less: UserPermissions, more: UserPermissions) -> bool:
    def limited(one: float, other: float) -> bool:
        return other == 0 or 0 < one <= other

    def rank(tier: str) -> int:
        return LADDER.index(tier) if tier in LADDER else -1

    return (
        less.level <= more.level
        and rank(less.max_tier) <= rank(more.max_tier)
        and less.max_context_tokens <= more.max_context_tokens
        and less.max_output_tokens <= more.max_output_tokens
        and limited(less.rate_limit, more.rate_limit)
        and limited(less.cost_budget_daily_usd, more.cost_budget_daily_usd)
        and limited(less.cost_budget_monthly_usd, more.cost_budget_monthly_usd)
        and limited(less.token_budget_daily, more.token_budget_daily)
        and limited(less.token_budget_monthly, more.token_budget_monthly)
        and limited(less.turn_budget_daily, more.turn_budget_daily)
        and limited(less.turn_budget_monthly, more.turn_budget_monthly)
        and less.streaming_allowed <= more.streaming_allowed
        and less.escalation_allowed <= more.escalation_allowed
        and less.escalation_threshold >= more.escalation_threshold
        and less.model_override <= more.model_override
    )


@given(permissions, permissions, st.lists(names, min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_the_lesser_of_two_allows_what_both_allow_at_most(one, other, asked) -> None:
    both = lesser(one, other)
    assert no_more_than(both, one) and no_more_than(both, other)
    for name in asked:
        assert both.may_use_model(name) <= (one.may_use_model(name) and other.may_use_model(name))
        assert both.may_use_tool(name) <= (one.may_use_tool(name) and other.may_use_tool(name))
    again = lesser(both, both)
    assert no_more_than(again, both) and no_more_than(both, again)
    for name in asked:
        assert both.may_use_tool(name) == again.may_use_tool(name)


@given(st.text("ab*?", max_size=4), st.text("ab*?", max_size=4), st.text("ab", max_size=5))
@settings(deadline=None, max_examples=500)
def test_a_pattern_covers_another_only_if_it_matches_everything_that_one_does(wide, narrow, name) -> None:
    if _covers(wide, narrow) and fnmatchcase(name, narrow):
        assert fnmatchcase(name, wide)


@pytest.mark.parametrize(
    ("allowed", "denied", "may"), [("*", "rm*", False), ("rm_file", "rm_*", False), ("*", "ls", True)]
)
def test_a_deny_list_overrides_what_is_allowed(allowed: str, denied: str, may: bool) -> None:
    tools = UserPermissions(tool_access=(allowed,), tool_denylist=(denied,))
    models = UserPermissions(model_access=(allowed,), model_denylist=(denied,))
    assert (tools.may_use_tool("rm_file"), models.may_use_model("rm_file")) == (may, may)


LOOKALIKES = {
    "decomposed": "jose\u0301",
    "another case": "JOSÉ",
    "full width": "ｊｏｓé",
    "a Cyrillic letter": "jоsé",
    "an invisible character": "josé\u200b",
    "a blank": "josé ",
    "a line end": "josé\n",
    "NUL": "josé\0",
    "a channel before it": "telegram:josé",
}


@pytest.mark.parametrize("name", LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_name_that_only_looks_like_another_has_not_its_permissions(name: str) -> None:
    policy = PermissionsPolicy(
        users={"telegram:josé": SayOfSender(level=2)}, allow_from={"telegram": ("josé",), "slack": ("josé",)}
    )
    assert resolved(policy, sender="josé").level == 2
    assert (resolved(policy, sender=name).level, resolved(policy, sender=name, channel="slack").level) == (0, 0)


@pytest.mark.parametrize("channel", ["local", "", "a:b", "telegram:josé"])
def test_a_channel_with_a_reserved_name_has_no_senders(channel: str) -> None:
    with pytest.raises(PermissionDenied):
        resolved(channel=channel)


@pytest.mark.parametrize("channel", ["Local", "local ", "ｌｏｃａｌ", "local\0", "lоcal", "loca\u200bl"])
def test_a_channel_that_only_looks_like_the_local_process_has_strangers(channel: str) -> None:
    assert resolved(channel=channel, sender="local") == ZERO_TRUST
