"""How a conversation begins: `initialize`, and what both sides then know of each other."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import msgspec

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.types import (
    HANDSHAKE_VERSIONS,
    LATEST_HANDSHAKE,
    Capabilities,
    Implementation,
    InitializeResult,
)


@attrs.frozen(kw_only=True)
class Agreement:
    """What the handshake settled."""

    protocol_version: str
    capabilities: Capabilities
    server: Implementation
    #: what the server would like the model to know about it; the words of a stranger
    instructions: str = ""
    #: goes into every request (2026-07-28); None where nothing does
    meta: Mapping[str, Any] | None = None


def client_info() -> Implementation:
    """Who we are."""
    try:
        number = version("clawft-trio")
    except PackageNotFoundError:
        number = "0"
    return Implementation(name="clawft-trio", version=number)


async def greet(mux: Multiplexer, host: Host, *, total: float) -> Agreement:
    """Shake hands. Nothing else is sent before the server has answered: some drop or misorder what is.

    Raises:
      McpError: it did not answer, or speaks no revision that we speak.

    Cancellation: the server is not told, as the protocol demands; the connection is no good any more.
    """
    result = await mux.call(
        "initialize",
        {"protocolVersion": LATEST_HANDSHAKE, "capabilities": host.capabilities(), "clientInfo": client_info()},
        decode=_decode,
        total=total,
        quiet=True,
    )
    if result.protocol_version not in HANDSHAKE_VERSIONS:
        raise ProtocolViolation(f"it speaks revision {result.protocol_version!r}, which we do not", server=mux.name)
    mux.notify_nowait("notifications/initialized")
    return Agreement(
        protocol_version=result.protocol_version,
        capabilities=result.capabilities,
        server=result.server_info,
        instructions=result.instructions or "",
    )


_decode = msgspec.json.Decoder(InitializeResult).decode
