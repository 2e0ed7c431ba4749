"""Identity and permissions of a sender."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from clawft_trio.field_docs import document_fields
from clawft_trio.keys import joined_key

LOCAL_CHANNEL = "local"
"""The channel of the local process, which is admin. Bus adapters cannot use this name."""


def _patterns(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether *name* matches one of *patterns* (`*`, `?`, `[…]`; case-sensitive)."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@attrs.frozen(kw_only=True)
class UserPermissions:
    """The permissions of one sender, with all defaults applied. The default values allow almost nothing."""

    #: 0 zero trust, 1 user, 2 admin
    level: int = 0
    #: the highest routing tier, by name; an unknown name grants none
    max_tier: str = "free"
    #: patterns of `provider/model`; None allows all, an empty tuple allows none
    model_access: tuple[str, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(_patterns))
    #: patterns of `provider/model`; overrides `model_access`
    model_denylist: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    #: patterns of tool names; an empty tuple allows none
    tool_access: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    #: patterns of tool names; overrides `tool_access`
    tool_denylist: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    #: limit on input tokens of a request
    max_context_tokens: int = 4096
    #: limit on output tokens of an answer
    max_output_tokens: int = 1024
    #: requests per window; 0 is unlimited
    rate_limit: int = 10
    #: whether partial answers are shown
    streaming_allowed: bool = False
    #: whether complex requests may use a higher tier
    escalation_allowed: bool = False
    #: complexity, 0 to 1, from which a higher tier may be used
    escalation_threshold: float = 1.0
    #: whether `ChatRequest.model` may choose the model
    model_override: bool = False
    #: US dollars per day; 0 is unlimited
    cost_budget_daily_usd: float = 0.10
    #: US dollars per month; 0 is unlimited
    cost_budget_monthly_usd: float = 2.00
    #: input and output tokens together, per day; 0 is unlimited
    token_budget_daily: int = 0
    #: the same per month; 0 is unlimited
    token_budget_monthly: int = 0
    #: turns that the sender starts per day; 0 is unlimited
    turn_budget_daily: int = 0
    #: the same per month; 0 is unlimited
    turn_budget_monthly: int = 0
    #: for the application's own tools: `ToolMetadata.custom_permissions`
    custom_permissions: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    def output_limit(self, asked: int | None = None, *, window: int | None = None) -> int:
        """Return the token limit of an answer: *asked*, within the sender's limit and half of the model's *window*."""
        half = None if window is None else max(1, window // 2)
        return min(limit for limit in (asked, self.max_output_tokens, half) if limit is not None)

    def may_use_tool(self, name: str) -> bool:
        """Whether the tool called *name* is allowed; the deny list overrides."""
        return matches_any(name, self.tool_access) and not matches_any(name, self.tool_denylist)

    def may_use_model(self, target: str) -> bool:
        """Whether the model *target* (`provider/model`) is allowed; the deny list overrides."""
        allowed = self.model_access is None or matches_any(target, self.model_access)
        return allowed and not matches_any(target, self.model_denylist)


ZERO_TRUST = UserPermissions()

USER = UserPermissions(
    level=1,
    max_tier="standard",
    tool_access=(
        "read_file",
        "write_file",
        "edit_file",
        "list_directory",
        "load_skill",
        "web_search",
        "web_fetch",
        "message",
    ),
    max_context_tokens=16_384,
    max_output_tokens=4096,
    rate_limit=60,
    streaming_allowed=True,
    escalation_allowed=True,
    escalation_threshold=0.6,
    cost_budget_daily_usd=5.0,
    cost_budget_monthly_usd=100.0,
)

ADMIN = UserPermissions(
    level=2,
    max_tier="elite",
    tool_access=("*",),
    max_context_tokens=200_000,
    max_output_tokens=16_384,
    rate_limit=0,
    streaming_allowed=True,
    escalation_allowed=True,
    escalation_threshold=0.0,
    model_override=True,
    cost_budget_daily_usd=0.0,
    cost_budget_monthly_usd=0.0,
)


@attrs.frozen(kw_only=True)
class AuthContext:
    """Identity and permissions of the sender of a request. The runtime makes it; it is never read from the content of
    a message.
    """

    sender_id: str = ""
    channel: str = ""
    permissions: UserPermissions = ZERO_TRUST
    #: account for budgets and limits: the sender, namespaced by channel
    identity: str = attrs.field(init=False, repr=False, eq=False)

    @identity.default
    def _joined(self) -> str:
        return joined_key(self.channel, self.sender_id)

    @classmethod
    def local(cls, sender_id: str = "local") -> AuthContext:
        """Make the context of the local process, which is admin because it is the process, not by a name."""
        return cls(sender_id=sender_id, channel=LOCAL_CHANNEL, permissions=ADMIN)


document_fields(__name__)
