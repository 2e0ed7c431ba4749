"""Blocks of content: text, images, sounds and resources."""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

import msgspec

from clawft_trio.mcp.types.wire import JsonObject, WireRecord, without_nulls


class TextContent(WireRecord, frozen=True, tag_field="type", tag="text"):
    """Plain text."""

    text: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ImageContent(WireRecord, frozen=True, tag_field="type", tag="image"):
    """An image in base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)

    @property
    def content(self) -> bytes:
        """The decoded image.

        Raises:
          ValueError: it is not base64.
        """
        return base64.b64decode(self.data, validate=True)


class AudioContent(WireRecord, frozen=True, tag_field="type", tag="audio"):
    """A sound in base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceLink(WireRecord, frozen=True, tag_field="type", tag="resource_link"):
    """The URI of a resource that the client may read."""

    uri: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceContents(WireRecord, frozen=True):
    """Content of a resource: `text`, or `blob` in base64."""

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class EmbeddedResource(WireRecord, frozen=True, tag_field="type", tag="resource"):
    """A resource inside a result."""

    resource: ResourceContents
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class UnknownContent(WireRecord, frozen=True, tag_field="type", tag="unknown"):
    """A block of a kind that only a later revision defines, unchanged."""

    block: JsonObject


Content: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource | UnknownContent


def content_of(block: Any) -> Content:
    """Convert *block*; a block that does not fit its kind stays unchanged, so that the others are not lost."""
    try:
        known: Content = msgspec.convert(without_nulls(block), Content)
    except msgspec.ValidationError:
        return UnknownContent(block=block if isinstance(block, dict) else {"value": block})
    return known
