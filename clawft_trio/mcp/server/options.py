"""Options of a server: identity, permissions, limits."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.auth import AuthContext, matches_any
from clawft_trio.chat import unobserved
from clawft_trio.mcp.handshake import client_info
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE
from clawft_trio.mcp.types import Implementation


@attrs.frozen(kw_only=True)
class TaskOptions:
    """Which tools clients of 2025-11-25 may or must call as tasks, and how long tasks are kept."""

    #: patterns of tools that may be called as a task
    optional: tuple[str, ...] = attrs.field(default=("*",), converter=tuple)
    #: patterns of tools that must be called as a task by clients that support tasks
    required: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    #: seconds that a task is kept after its creation, when the client names no time
    ttl: float = attrs.field(default=3600.0, validator=attrs.validators.gt(0))
    #: longest time in seconds that a task is kept
    max_ttl: float = attrs.field(default=24 * 3600.0, validator=attrs.validators.gt(0))
    #: seconds between two polls that clients are asked for
    poll: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    #: largest number of tasks of one client; tasks whose result was fetched are dropped first
    max_tasks: int = attrs.field(default=256, validator=attrs.validators.ge(1))

    def support(self, tool: str) -> Literal["required", "optional", "forbidden"]:
        """Return whether the tool called *tool* must, may or must not be called as a task."""
        if matches_any(tool, self.required):
            return "required"
        return "optional" if matches_any(tool, self.optional) else "forbidden"


@attrs.frozen(kw_only=True)
class ServeOptions:
    """Identity of a server, the sender that it runs tools for, and limits. Durations are in seconds."""

    #: sender that tools run for. Over stdio the host has started this process, so it is the local process; over HTTP a
    #: verified token may name another sender.
    auth: AuthContext = attrs.field(factory=lambda: AuthContext.local("mcp"))
    #: name and version of this server
    server: Implementation = attrs.field(factory=client_info)
    #: description of the whole server for the host's model
    instructions: str = ""
    #: folder that tools work in
    workspace: Path | None = None
    #: gets the events of `observe.events`
    observer: Any = attrs.field(default=unobserved, repr=False)
    #: largest message from a stdio host in bytes
    max_message: int = attrs.field(default=MAX_MESSAGE, validator=attrs.validators.ge(1))
    #: how long running requests may continue after a stdio host has closed its end
    drain: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))
    #: how long the client may take to answer a request of a tool; a person may be asked
    client_answer: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    #: number of entries in one page of a list
    page_size: int = attrs.field(default=500, validator=attrs.validators.ge(1))
    #: how long clients of 2026-07-28 may cache a list or a resource; 0: not at all
    cache: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    #: largest number of resources that one connection may subscribe to, and of its `subscriptions/listen` streams
    max_subscriptions: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    #: tool calls as tasks; None: they are not offered
    tasks: TaskOptions | None = TaskOptions()
    #: key that signs the state that clients of 2026-07-28 carry between two rounds of a call. Processes that serve one
    #: URL need the same key.
    state_secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False)
    #: how long such state is accepted
    state_lifetime: float = attrs.field(default=3600.0, validator=attrs.validators.gt(0))
    #: returns calendar time
    now: Callable[[], datetime] = attrs.field(default=lambda: datetime.now(UTC), repr=False)


@attrs.frozen(kw_only=True)
class VerifiedToken:
    """The sender and the scopes of a valid bearer token."""

    #: sender that this token's requests run for
    auth: AuthContext
    scopes: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)


Verify: TypeAlias = Callable[[str], Awaitable[VerifiedToken | None]]
"""Checks a bearer token: signature, issuer, audience, expiry. None: the token is not valid here."""


@attrs.frozen(kw_only=True)
class Bearer:
    """Requires bearer tokens, as OAuth 2.1 resource servers do (RFC 6750, RFC 9728).

    Args:
      verify: checks a token. It must check that the token was issued for *resource* (its audience).
      resource: the public URL of the MCP endpoint, which clients request tokens for.
      authorization_servers: URLs of the issuers of tokens.
      scopes: scopes that a token needs for any request.
      metadata: further members of the protected-resource metadata document.
    """

    verify: Verify = attrs.field(repr=False)
    resource: str
    authorization_servers: tuple[str, ...] = attrs.field(converter=tuple)
    scopes: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class HttpOptions:
    """Limits and checks of the HTTP endpoint. Durations are in seconds, sizes in bytes."""

    #: path of the endpoint
    path: str = attrs.field(default="/mcp", validator=attrs.validators.matches_re(r"/[!-~]*"))
    #: values of `Host` that are served; None: only the loopback names. Entries without a port allow every port, "*"
    #: allows everything. Protects a local server from web pages that rebind their DNS name to it.
    hosts: tuple[str, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(tuple))
    #: values of `Origin` (`https://app.example`) that are served in addition to loopback; "*" allows everything
    origins: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    #: bearer tokens that requests must carry; None: requests are anonymous
    bearer: Bearer | None = None
    #: whether clients of revisions up to 2025-11-25 get a session. Without sessions no request reaches the client,
    #: nothing is resumed, and any process behind the URL can answer any request.
    sessions: bool = True
    #: largest number of sessions, all clients together
    max_sessions: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    #: idle time after which a session without requests and streams is closed
    session_idle: float = attrs.field(default=3600.0, validator=attrs.validators.gt(0))
    #: largest number of concurrent requests, all clients together; further requests get 503
    max_requests: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    #: largest number of concurrent requests of one session
    max_session_requests: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    #: largest number of streams that stay open for notifications, all clients together
    max_listeners: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    #: largest request
    max_body: int = attrs.field(default=4 * 1024 * 1024, validator=attrs.validators.ge(1))
    #: how long the body of a request may take to arrive
    body_within: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    #: time after which a request without a response gets a stream, which can be kept alive and resumed
    stream_after: float = attrs.field(default=0.5, validator=attrs.validators.ge(0))
    #: silence on a stream after which a comment keeps it alive
    keepalive: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    #: time after which a client with a closed stream should reconnect
    retry: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    #: largest number of events of one stream that are kept for clients that reconnect
    replay_events: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    #: largest size of one stream that is kept
    replay_bytes: int = attrs.field(default=1024 * 1024, validator=attrs.validators.ge(1))
    #: largest number of ended streams of one session that can still be resumed
    replay_streams: int = attrs.field(default=32, validator=attrs.validators.ge(1))
