"""How a client behaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs

from clawft_trio.chat import unobserved
from clawft_trio.checks import one_of
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE
from clawft_trio.mcp.multiplexer import DEFAULT_TOTAL, WINDOW
from clawft_trio.mcp.supervision import Supervision
from clawft_trio.mcp.types import Implementation, LogLevel
from clawft_trio.observe import Event

Era: TypeAlias = Literal["handshake", "stateless", "detect"]


@attrs.frozen(kw_only=True)
class McpOptions:
    """How a client behaves.

    Args:
      total: seconds a call may take, unless the call has its own.
      task_total: seconds a tool call may take that runs as a task (2025-11-25), unless the call has its own.
      start: seconds a server may take to start and to answer the handshake.
      protocol: `handshake` speaks 2024-11-05 to 2025-11-25, `stateless` speaks 2026-07-28, `detect` asks which; a
        server that exits on the probe is started again with the `initialize` handshake.
      probe: seconds a server may take to answer that question.
      log_level: the lowest level at which a server of 2026-07-28 sends its log messages; None is nothing.
      host: what this side does for the server.
      supervision: whether and how it is started again; None never does.
      window: calls that are with the server at once; others wait.
      max_message: bytes of one message from the server.
      client: name and version of the application, for the server; None is this library's.
      observer: gets `ServerStarted`, `ServerGone` and `ServerOutput`.
      uniform: the source of chance.
    """

    total: float = DEFAULT_TOTAL
    task_total: float = 3600.0
    start: float = 30.0
    protocol: Era = attrs.field(default="detect", validator=one_of("handshake", "stateless", "detect"))
    probe: float = 5.0
    log_level: LogLevel | None = None
    host: Host = Host()
    supervision: Supervision | None = Supervision()
    window: int = attrs.field(default=WINDOW, validator=attrs.validators.ge(1))
    max_message: int = MAX_MESSAGE
    client: Implementation | None = None
    observer: Callable[[Event], None] = unobserved
    uniform: Callable[[float, float], float] = random.uniform
