"""The handshake in both eras of the protocol, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import msgspec
import trio

from clawft_trio.errors import AuthorizationFailed, McpError, PeerError, PeerGone, ProtocolViolation
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.messages import CallOptions
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.stateless import SERVER_INFO, UNSUPPORTED_VERSION, request_meta
from clawft_trio.mcp.types import (
    HANDSHAKE_VERSIONS,
    LATEST_HANDSHAKE,
    STATELESS_VERSION,
    Capabilities,
    DiscoverResult,
    Implementation,
    InitializeResult,
    decode_without_nulls,
)

MAX_INSTRUCTIONS = 16_384
"""Characters of a server's instructions that are kept."""


@attrs.frozen(kw_only=True)
class Agreement:
    """Result of the handshake."""

    protocol_version: str
    capabilities: Capabilities
    server: Implementation
    #: the server's text for the model; untrusted
    instructions: str = ""
    #: `_meta` of every request (2026-07-28); None in other revisions
    meta: Mapping[str, Any] | None = None


def client_info() -> Implementation:
    """Return the name and version of this library."""
    try:
        number = version("clawft-trio")
    except PackageNotFoundError:
        number = "0"
    return Implementation(name="clawft-trio", version=number)


async def initialize(mux: Multiplexer, host: Host, *, total: float, client: Implementation | None = None) -> Agreement:
    """Perform the `initialize` handshake. Nothing else is sent before its response: some servers drop or reorder it.

    Raises:
      McpError: the server did not respond, or supports no revision that we support.

    Cancellation: the server is not notified, as the protocol demands; the connection is unusable.
    """
    result = await mux.call(
        "initialize",
        {
            "protocolVersion": LATEST_HANDSHAKE,
            "capabilities": host.capabilities(),
            "clientInfo": client or client_info(),
        },
        decode=_decode_initialize,
        options=CallOptions(total=total, quiet=True),
    )
    if result.protocol_version not in HANDSHAKE_VERSIONS:
        raise ProtocolViolation(f"it speaks revision {result.protocol_version!r}, which we do not", server=mux.name)
    mux.notify_nowait("notifications/initialized")
    return Agreement(
        protocol_version=result.protocol_version,
        capabilities=result.capabilities,
        server=result.server_info,
        instructions=(result.instructions or "")[:MAX_INSTRUCTIONS],
    )


async def discover(
    mux: Multiplexer,
    host: Host,
    *,
    total: float,
    log_level: str | None = None,
    client: Implementation | None = None,
) -> Agreement:
    """Request the identity and capabilities of a server of 2026-07-28. From then on it may send no requests.

    Raises:
      PeerError: it does not support the request, or only other revisions (code -32022).
      McpError: it did not respond.

    Cancellation: the server is not notified.
    """
    meta = request_meta(host, client or client_info(), log_level)
    options = CallOptions(total=total, quiet=True)
    ask = partial(mux.call, "server/discover", {"_meta": meta}, decode=_decode_discover, options=options)
    try:
        found = await ask()
    except PeerError as exc:
        if not _means_ask_again(exc):
            raise
        found = await ask()
    if STATELESS_VERSION not in found.supported_versions:
        raise PeerError(f"it speaks {found.supported_versions}", code=UNSUPPORTED_VERSION, server=mux.name)
    mux.one_way = True
    return Agreement(
        protocol_version=STATELESS_VERSION,
        capabilities=found.capabilities,
        server=_identity(found),
        instructions=(found.instructions or "")[:MAX_INSTRUCTIONS],
        meta=meta,
    )


async def detect(
    mux: Multiplexer,
    host: Host,
    *,
    total: float,
    probe: float,
    log_level: str | None = None,
    client: Implementation | None = None,
) -> Agreement:
    """Send `server/discover` as in 2026-07-28, and perform the `initialize` handshake if it was not understood.

    No single error code identifies the era: real servers respond with several, or not at all.

    Raises:
      PeerGone: it exited; some servers do so on any request before `initialize`.
      McpError: it supports neither.

    Cancellation: as `initialize`.
    """
    began = trio.current_time()
    try:
        return await discover(mux, host, total=probe, log_level=log_level, client=client)
    except (PeerGone, AuthorizationFailed):
        raise
    except McpError:
        left = total - (trio.current_time() - began)
        return await initialize(mux, host, total=left, client=client)


async def detect_by_initialize(
    mux: Multiplexer,
    host: Host,
    *,
    total: float,
    probe: float,
    log_level: str | None = None,
    client: Implementation | None = None,
) -> Agreement:
    """Perform the `initialize` handshake, and use 2026-07-28 if it was refused: for streams that cannot be reopened.

    Some servers exit on any other request before `initialize`, so it is sent first.

    Raises:
      McpError: it supports neither.

    Cancellation: as `initialize`.
    """
    try:
        return await initialize(mux, host, total=total, client=client)
    except PeerError as exc:
        if not _means_ask_again(exc):
            return await discover(mux, host, total=probe, log_level=log_level, client=client)
    # The refusal names the revision, and discovery is optional: each request shows what the server offers.
    mux.one_way = True
    return Agreement(
        protocol_version=STATELESS_VERSION,
        capabilities=Capabilities(tools={}, resources={}, prompts={}),
        server=Implementation(),
        meta=request_meta(host, client or client_info(), log_level),
    )


def _means_ask_again(exc: PeerError) -> bool:
    """Return whether a refusal of our revision lists this same revision: some servers refuse it once by mistake."""
    supported = exc.data.get("supported") if isinstance(exc.data, dict) else None
    return exc.code == UNSUPPORTED_VERSION and isinstance(supported, list) and STATELESS_VERSION in supported


def _identity(found: DiscoverResult) -> Implementation:
    try:
        return msgspec.convert((found.meta or {}).get(SERVER_INFO, {}), Implementation)
    except msgspec.ValidationError:
        return Implementation()


_decode_initialize = partial(decode_without_nulls, decoder=msgspec.json.Decoder(InitializeResult))
_decode_discover = partial(decode_without_nulls, decoder=msgspec.json.Decoder(DiscoverResult))
