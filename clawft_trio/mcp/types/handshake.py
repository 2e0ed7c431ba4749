"""Records of the handshake: identity and capabilities of both sides."""

from __future__ import annotations

from typing import Any

import msgspec

from clawft_trio.mcp.types.wire import JsonObject, WireRecord


class Icon(WireRecord, frozen=True):
    """An image for a user interface, by its URL. It is untrusted: nothing here fetches it."""

    src: str = ""
    mime_type: str | None = None
    sizes: Any = None
    theme: str | None = None


class Implementation(WireRecord, frozen=True):
    """Name and version of a client or server."""

    name: str = ""
    version: str = ""
    title: str | None = None
    description: str | None = None
    website_url: str | None = None
    icons: tuple[Icon, ...] = ()


class Capabilities(WireRecord, frozen=True):
    """The features that a server offers; None for a feature that it does not offer."""

    tools: JsonObject | None = None
    resources: JsonObject | None = None
    prompts: JsonObject | None = None
    completions: JsonObject | None = None
    logging: JsonObject | None = None
    experimental: JsonObject | None = None
    #: requests that may be run as tasks (2025-11-25)
    tasks: JsonObject | None = None
    extensions: JsonObject | None = None


class InitializeResult(WireRecord, frozen=True):
    """A server's part of the `initialize` handshake."""

    protocol_version: str
    capabilities: Capabilities = Capabilities()
    server_info: Implementation = Implementation()
    instructions: str | None = None


class DiscoverResult(WireRecord, frozen=True):
    """The description of a server of revision 2026-07-28."""

    supported_versions: tuple[str, ...]
    capabilities: Capabilities = Capabilities()
    instructions: str | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)
