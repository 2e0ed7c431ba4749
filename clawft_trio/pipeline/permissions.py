"""Permission resolution: from a message's channel and sender to an `AuthContext`.

There are five layers, each of which sets only some fields. For the level and for every field, the most specific layer
that sets a value applies:

    1. the sender        `users["telegram:12345"]`
    2. the channel       `channels["telegram"]`
    3. the workspace     its own policy, with its layers 1 and 2
    4. the level         `zero_trust`, `user`, `admin` of the policy
    5. built in          `auth.ZERO_TRUST`, `USER`, `ADMIN`

The level itself is the sender's, else the channel's, else 1 for senders listed in `allow_from`, else 0. An empty list
is a value, too: it revokes.

A workspace is a directory with files of unknown origin, so its layer has a ceiling: the permissions that the sender has
without it. It can revoke and never grant.

Identities are `channel:sender`, so that 12345 on one channel has no permissions on another. A channel's name grants
nothing: the local process is `PermissionResolver.local()`, and no message can claim to come from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

import attrs
from attrs.validators import and_, ge, le, optional

from clawft_trio.auth import ADMIN, LOCAL_CHANNEL, USER, ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.checks import one_of
from clawft_trio.errors import InvalidData, PermissionDenied, Problem

LEVELS: Final[tuple[UserPermissions, ...]] = (ZERO_TRUST, USER, ADMIN)
"""Default permissions of each level."""

LADDER: Final = ("free", "standard", "premium", "elite")
"""The tier names that the built-in levels use, lowest first."""


def _strings(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if isinstance(values, str):
        raise TypeError(f"expected a list of strings, got {values!r}")
    return tuple(values)


@attrs.frozen(kw_only=True)
class PermissionOverrides:
    """The settings of one layer. None: not set; an empty list: none allowed."""

    level: int | None = attrs.field(default=None, validator=optional(one_of(0, 1, 2)))
    max_tier: str | None = None
    model_access: tuple[str, ...] | None = attrs.field(default=None, converter=_strings)
    model_denylist: tuple[str, ...] | None = attrs.field(default=None, converter=_strings)
    tool_access: tuple[str, ...] | None = attrs.field(default=None, converter=_strings)
    tool_denylist: tuple[str, ...] | None = attrs.field(default=None, converter=_strings)
    max_context_tokens: int | None = attrs.field(default=None, validator=optional(ge(0)))
    max_output_tokens: int | None = attrs.field(default=None, validator=optional(ge(0)))
    rate_limit: int | None = attrs.field(default=None, validator=optional(ge(0)))
    streaming_allowed: bool | None = None
    escalation_allowed: bool | None = None
    escalation_threshold: float | None = attrs.field(default=None, validator=optional(and_(ge(0), le(1))))
    model_override: bool | None = None
    cost_budget_daily_usd: float | None = attrs.field(default=None, validator=optional(ge(0)))
    cost_budget_monthly_usd: float | None = attrs.field(default=None, validator=optional(ge(0)))
    token_budget_daily: int | None = attrs.field(default=None, validator=optional(ge(0)))
    token_budget_monthly: int | None = attrs.field(default=None, validator=optional(ge(0)))
    turn_budget_daily: int | None = attrs.field(default=None, validator=optional(ge(0)))
    turn_budget_monthly: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: merged key by key
    custom_permissions: Mapping[str, Any] | None = attrs.field(default=None, repr=False)

    def over(self, below: UserPermissions) -> UserPermissions:
        """Return *below* with the fields that this layer sets."""
        own = {
            field.name: value
            for field in attrs.fields(PermissionOverrides)
            if (value := getattr(self, field.name)) is not None
        }
        if self.custom_permissions is not None:
            own["custom_permissions"] = {**below.custom_permissions, **self.custom_permissions}
        return attrs.evolve(below, **own)


@attrs.frozen(kw_only=True)
class SenderOverrides(PermissionOverrides):
    """The settings of one sender."""

    #: if it is set, the key is a sender id of this channel; else the key is `channel:sender`
    channel: str | None = None


NOTHING = PermissionOverrides()


@attrs.frozen(kw_only=True)
class PermissionsPolicy:
    """All permission settings of one source, global or of a workspace."""

    zero_trust: PermissionOverrides = NOTHING
    user: PermissionOverrides = NOTHING
    admin: PermissionOverrides = NOTHING
    #: by `channel:sender`, or by sender id where the entry has a `channel`
    users: Mapping[str, SenderOverrides] = attrs.field(factory=dict)
    channels: Mapping[str, PermissionOverrides] = attrs.field(factory=dict)
    #: by channel, the sender ids that have level 1
    allow_from: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise InvalidData(problems)

    def problems(self) -> list[Problem]:
        """Return the problems of the settings: keys that identify no sender or channel."""
        wrong: list[Problem] = []
        seen: set[str] = set()
        for key, entry in self.users.items():
            identity = identity_of(key, entry)
            if identity is None:
                wrong.append(Problem(f"$.users[{key!r}]", _BAD_SENDER))
            elif identity in seen:
                wrong.append(Problem(f"$.users[{key!r}]", f"{identity} occurs twice"))
            else:
                seen.add(identity)
        for kind, names in (("channels", self.channels), ("allow_from", self.allow_from)):
            wrong += [Problem(f"$.{kind}[{name!r}]", _BAD_CHANNEL) for name in names if not _is_channel(name)]
            if LOCAL_CHANNEL in names:
                wrong.append(Problem(f"$.{kind}[{LOCAL_CHANNEL!r}]", "the local process is configured by `admin`"))
        return wrong

    def at_level(self, level: int) -> PermissionOverrides:
        """Return the settings of all senders of *level*."""
        return (self.zero_trust, self.user, self.admin)[level]

    def of_sender(self, channel: str, sender_id: str) -> PermissionOverrides:
        """Return the settings of one sender."""
        identity = f"{channel}:{sender_id}"
        for key in (identity, sender_id):
            entry = self.users.get(key)
            if entry is not None and identity_of(key, entry) == identity:
                return entry
        return NOTHING

    def of_channel(self, channel: str) -> PermissionOverrides:
        """Return the settings of all senders on *channel*."""
        return self.channels.get(channel, NOTHING)


_BAD_SENDER = 'on which channel? write the key as "channel:sender", or add `channel`'
_BAD_CHANNEL = "a channel has a name without a colon"


def _is_channel(name: str) -> bool:
    # With a colon in a name, `a` + `b:c` and `a:b` + `c` would be one identity.
    return bool(name) and ":" not in name


def identity_of(key: str, entry: SenderOverrides) -> str | None:
    """Return the identity for a key of `users`; None when it identifies no sender."""
    if entry.channel is not None:
        return f"{entry.channel}:{key}" if _is_channel(entry.channel) and key else None
    channel, colon, sender = key.partition(":")
    return key if channel and colon and sender else None


_MOST_SENDERS = 1024
"""Number of senders with cached permissions."""


class PermissionResolver:
    """Resolves the permissions of senders by the rules at the top of the module.

    Args:
      policy: the global policy.
      workspace: the workspace's policy, which can only revoke.
      tiers: names of the configured tiers, lowest first; empty without tiers. An admin's `max_tier` is the last of
        them unless the policy has other settings.
    """

    def __init__(
        self,
        policy: PermissionsPolicy | None = None,
        *,
        workspace: PermissionsPolicy | None = None,
        tiers: tuple[str, ...] = (),
    ) -> None:
        self._policy = policy or PermissionsPolicy()
        self._workspace = workspace
        self._tiers = tiers
        self._permissions = lru_cache(_MOST_SENDERS)(self._resolved)
        self._local = lru_cache(1)(self._of_local)

    def resolve(self, channel: str, sender_id: str) -> AuthContext:
        """Resolve the permissions of *sender_id* on *channel*. An unknown sender has level 0.

        Raises:
          PermissionDenied: the sender or the channel is missing or invalid, or no message can come from the channel.
        """
        if channel == LOCAL_CHANNEL:
            raise PermissionDenied(f"a message cannot come from {LOCAL_CHANNEL!r}: that is the local process itself")
        if not sender_id:
            raise PermissionDenied(f"a message without a sender, on {channel!r}")
        if not _is_channel(channel):
            raise PermissionDenied(f"not a channel: {channel!r}; {_BAD_CHANNEL}")
        return AuthContext(channel=channel, sender_id=sender_id, permissions=self._permissions(channel, sender_id))

    def local(self, sender_id: str = "local") -> AuthContext:
        """Resolve the permissions of the local process: an admin, with the policy's settings for admins."""
        return AuthContext(channel=LOCAL_CHANNEL, sender_id=sender_id, permissions=self._local())

    def _of_local(self) -> UserPermissions:
        granted = self._policy.admin.over(self._built_in(2))
        if self._workspace is not None:
            granted = self._ceiling(self._workspace.admin.over(granted), granted)
        return granted

    def _resolved(self, channel: str, sender_id: str) -> UserPermissions:
        level = self._level(self._policy, channel, sender_id)
        granted = self._layered(self._policy, channel, sender_id, level)
        if self._workspace is None:
            return granted
        return self._under_workspace(self._workspace, channel, sender_id, granted)

    def _under_workspace(
        self, workspace: PermissionsPolicy, channel: str, sender_id: str, granted: UserPermissions
    ) -> UserPermissions:
        configured = self._level(workspace, channel, sender_id, otherwise=granted.level)
        level = min(configured, granted.level)
        # A lower level applies to every field: start from that level's permissions, not from the sender's.
        below = granted if level == granted.level else self._policy.at_level(level).over(self._built_in(level))
        wanted = workspace.at_level(level).over(below)
        wanted = workspace.of_channel(channel).over(wanted)
        wanted = workspace.of_sender(channel, sender_id).over(wanted)
        return self._ceiling(wanted, granted)

    def _layered(self, policy: PermissionsPolicy, channel: str, sender_id: str, level: int) -> UserPermissions:
        granted = policy.at_level(level).over(self._built_in(level))
        granted = policy.of_channel(channel).over(granted)
        granted = policy.of_sender(channel, sender_id).over(granted)
        return attrs.evolve(granted, level=level)

    def _built_in(self, level: int) -> UserPermissions:
        granted = LEVELS[level]
        if level == 2 and self._tiers:
            return attrs.evolve(granted, max_tier=self._tiers[-1])
        return granted

    def _level(self, policy: PermissionsPolicy, channel: str, sender_id: str, *, otherwise: int = 0) -> int:
        for layer in (policy.of_sender(channel, sender_id), policy.of_channel(channel)):
            if layer.level is not None:
                return layer.level
        return max(otherwise, 1) if sender_id in policy.allow_from.get(channel, ()) else otherwise

    def _ceiling(self, wanted: UserPermissions, ceiling: UserPermissions) -> UserPermissions:
        return lesser(wanted, ceiling, tiers=self._tiers)


def lesser(wanted: UserPermissions, ceiling: UserPermissions, *, tiers: tuple[str, ...] = ()) -> UserPermissions:
    """Return the more restrictive value of each field: the result allows only what both allow."""
    return UserPermissions(
        level=min(wanted.level, ceiling.level),
        max_tier=_lower_tier(wanted.max_tier, ceiling.max_tier, tiers or LADDER),
        model_access=_both(wanted.model_access, ceiling.model_access),
        model_denylist=_either(wanted.model_denylist, ceiling.model_denylist),
        tool_access=_both(wanted.tool_access, ceiling.tool_access) or (),
        tool_denylist=_either(wanted.tool_denylist, ceiling.tool_denylist),
        max_context_tokens=min(wanted.max_context_tokens, ceiling.max_context_tokens),
        max_output_tokens=min(wanted.max_output_tokens, ceiling.max_output_tokens),
        rate_limit=int(_lower_limit(wanted.rate_limit, ceiling.rate_limit)),
        streaming_allowed=wanted.streaming_allowed and ceiling.streaming_allowed,
        escalation_allowed=wanted.escalation_allowed and ceiling.escalation_allowed,
        escalation_threshold=max(wanted.escalation_threshold, ceiling.escalation_threshold),
        model_override=wanted.model_override and ceiling.model_override,
        cost_budget_daily_usd=_lower_limit(wanted.cost_budget_daily_usd, ceiling.cost_budget_daily_usd),
        cost_budget_monthly_usd=_lower_limit(wanted.cost_budget_monthly_usd, ceiling.cost_budget_monthly_usd),
        token_budget_daily=int(_lower_limit(wanted.token_budget_daily, ceiling.token_budget_daily)),
        token_budget_monthly=int(_lower_limit(wanted.token_budget_monthly, ceiling.token_budget_monthly)),
        turn_budget_daily=int(_lower_limit(wanted.turn_budget_daily, ceiling.turn_budget_daily)),
        turn_budget_monthly=int(_lower_limit(wanted.turn_budget_monthly, ceiling.turn_budget_monthly)),
        custom_permissions={
            name: _switched_off(wanted.custom_permissions, name, value)
            for name, value in ceiling.custom_permissions.items()
        },
    )


def _switched_off(wanted: Mapping[str, Any], name: str, value: Any) -> Any:
    """Return *value*, or what *wanted* has instead of it if that is falsy."""
    instead = wanted.get(name, value)
    return value if instead else instead


def _lower_limit(one: float, other: float) -> float:
    """Return the smaller of two limits, where 0 means no limit."""
    limits = [limit for limit in (one, other) if limit > 0]
    return min(limits, default=0)


def _lower_tier(one: str, other: str, tiers: tuple[str, ...]) -> str:
    """Return the lower of two tiers; an unknown name grants nothing, so it is the lowest."""
    unknown = [name for name in (one, other) if name not in tiers]
    return unknown[0] if unknown else min(one, other, key=tiers.index)


def _either(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _both(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return patterns that match only what both match; None matches everything."""
    if one is None:
        return other
    if other is None:
        return one
    narrower = [pattern for pattern in one if any(_covers(wide, pattern) for wide in other)]
    return (*narrower, *(p for p in other if p not in narrower and any(_covers(wide, p) for wide in one)))


def _covers(wide: str, narrow: str) -> bool:
    """Whether *wide* matches everything that *narrow* matches, as far as a simple test can show."""
    if wide == narrow:
        return True
    if "[" in wide or "[" in narrow:
        return False
    # A star of *narrow* matches nothing or any text: only a star of *wide* covers both cases.
    return all(fnmatchcase(narrow.replace("*", probe).replace("?", "\0"), wide) for probe in ("", "\0\0\0"))
