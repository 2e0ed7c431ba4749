"""Options of a client."""

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
    """Options of a client.

    Args:
      total: seconds that a call may take, unless the call sets its own limit.
      task_total: seconds that a tool call may take that runs as a task (2025-11-25), unless the call sets its own
        limit.
      start: seconds until a server has started and completed the handshake.
      protocol: `handshake` uses 2024-11-05 to 2025-11-25, `stateless` uses 2026-07-28, `detect` asks the server; a
        server that exits on this probe is restarted with the `initialize` handshake.
      probe: seconds until the response to the probe.
      log_level: lowest level of the log messages that a server of 2026-07-28 sends; None for no messages.
      host: what this side offers the server.
      supervision: whether and how the server is restarted; None never restarts it.
      window: largest number of calls that the server has at once; others wait.
      max_message: largest message from the server in bytes.
      client: name and version of the application, for the server; None is this library's.
      observer: gets `ServerStarted`, `ServerGone` and `ServerOutput`.
      uniform: source of random numbers.
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
