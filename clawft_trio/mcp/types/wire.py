"""What all records of MCP share: revisions, the base class, and null members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

JsonObject: TypeAlias = Mapping[str, Any]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that begin with `initialize`, oldest first."""

LATEST_HANDSHAKE = HANDSHAKE_VERSIONS[-1]

STATELESS_VERSION = "2026-07-28"
"""The revision without a handshake: every request carries the version and the client's capabilities."""


PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
"""The member of `_meta` that names the revision of a request."""


class WireRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base class of all records of the protocol."""


T = TypeVar("T")

# Members whose content belongs to a tool or its caller: in it null is a value.
_FOREIGN = frozenset(
    (
        "structuredContent",
        "arguments",
        "input",
        "inputResponses",
        "inputSchema",
        "outputSchema",
        "requestedSchema",
        "_meta",
    )
)


def decode_without_nulls(raw: bytes | Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode *raw*; if that fails, decode it without null members, because some peers send null for missing fields.

    Raises:
      msgspec.DecodeError: it does not fit.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        return decoder.decode(msgspec.json.encode(without_nulls(msgspec.json.decode(raw))))


def without_nulls(value: Any) -> Any:
    """Return decoded JSON without its null members, except for those in content of a tool or its caller."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        # A prompt's `arguments` are a list that belongs to the protocol.
        key: member if key in _FOREIGN and isinstance(member, dict) else without_nulls(member)
        for key, member in value.items()
        if member is not None
    }


class EmptyResult(WireRecord, frozen=True):
    """An empty result: the request succeeded."""
