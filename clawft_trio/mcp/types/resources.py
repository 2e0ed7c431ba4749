"""Resources and their templates."""

from __future__ import annotations

import msgspec

from clawft_trio.mcp.types.content import ResourceContents
from clawft_trio.mcp.types.handshake import Icon
from clawft_trio.mcp.types.wire import JsonObject, WireRecord


class Resource(WireRecord, frozen=True):
    """A resource that a client may read."""

    uri: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceTemplate(WireRecord, frozen=True):
    """A family of resources: an RFC 6570 template of their URIs."""

    uri_template: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    annotations: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ReadResourceResult(WireRecord, frozen=True):
    """Content of a resource, in one or more parts."""

    contents: tuple[ResourceContents, ...]
    ttl_ms: float | None = None
