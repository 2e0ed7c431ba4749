"""Checks of a request's headers: its origin, what it accepts, and whether headers that repeat the body match it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from clawft_trio.errors import PeerError
from clawft_trio.mcp.transports.param_headers import Path, value_at
from clawft_trio.mcp.types import JsonObject

HEADER_MISMATCH = -32020
"""Error code when a header is missing, malformed, or differs from the body."""

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))

_BASE64_START = "=?base64?"
_BASE64_END = "?="

_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def host_allowed(host: str | None, allowed: Sequence[str] | None) -> bool:
    """Return whether the `Host` header is served; *allowed* None means the loopback names.

    A web page can point its own DNS name at a local server, but cannot change the `Host` that the browser sends.
    """
    if host is None:
        return False
    name = _without_port(host.lower())
    if allowed is None:
        return name in _LOOPBACK
    return any(one in ("*", host.lower(), name) for one in map(str.lower, allowed))


def origin_allowed(origin: str | None, allowed: Sequence[str]) -> bool:
    """Return whether a browser page of *origin* may use the server. Programs send no origin."""
    if origin is None or "*" in allowed or origin.lower() in map(str.lower, allowed):
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    is_origin = parts.scheme in ("http", "https") and not (parts.path or parts.query or parts.fragment)
    return is_origin and _without_port(parts.netloc.lower()) in _LOOPBACK


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and port.isascii() else host


def accepts(header: str | None, *kinds: str) -> bool:
    """Return whether an `Accept` header allows all of *kinds*; a missing one allows everything."""
    if header is None:
        return True
    ranges = {part.partition(";")[0].strip().lower() for part in header.split(",")}
    return all(ranges & {kind, f"{kind.partition('/')[0]}/*", "*/*"} for kind in kinds)


def is_json(content_type: str | None) -> bool:
    """Return whether a `Content-Type` header means JSON."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == "application/json"


def check_version_header(headers: Mapping[str, str], version: object) -> None:
    """Check `MCP-Protocol-Version` against the version in the body.

    Raises:
      PeerError: it is missing or different.
    """
    found = headers.get("mcp-protocol-version")
    if found != version:
        raise _mismatch("MCP-Protocol-Version", found)


def check_standard_headers(headers: Mapping[str, str], method: str, params: JsonObject) -> None:
    """Check `Mcp-Method`, and `Mcp-Name` if the request names a tool, prompt or resource.

    Raises:
      PeerError: one is missing, malformed or different from the body.
    """
    if headers.get("mcp-method") != method:
        raise _mismatch("Mcp-Method", headers.get("mcp-method"))
    if method in _NAMED:
        found = headers.get("mcp-name")
        if found is None or _decoded(found, "Mcp-Name") != params.get(_NAMED[method]):
            raise _mismatch("Mcp-Name", found)


def check_param_headers(headers: Mapping[str, str], paths: Mapping[Path, str], arguments: Any) -> None:
    """Check the `Mcp-Param-…` headers that a tool's schema requires (`x-mcp-header`).

    Raises:
      PeerError: one is missing, malformed, superfluous or different from the body.
    """
    for path, name in paths.items():
        header = f"Mcp-Param-{name}"
        found = headers.get(header.lower())
        value = value_at(arguments, path)
        if value is None and found is None:
            continue
        if value is None or found is None or not _same(_decoded(found, header), value):
            raise _mismatch(header, found)


def _same(text: str, value: object) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int):
        # Numbers are compared as numbers: 42.0 is 42.
        try:
            return len(text) < 32 and (int(text) if text.lstrip("-").isdecimal() else float(text)) == value
        except (ValueError, OverflowError):
            return False
    return text == value


def _decoded(text: str, header: str) -> str:
    if not (text.startswith(_BASE64_START) and text.endswith(_BASE64_END)):
        if not text.isascii():
            raise _mismatch(header, text)
        return text
    try:
        return base64.b64decode(text[len(_BASE64_START) : -len(_BASE64_END)], validate=True).decode()
    except (ValueError, binascii.Error) as exc:
        raise _mismatch(header, text) from exc


def _mismatch(header: str, found: str | None) -> PeerError:
    what = "is missing" if found is None else f"{found[:100]!r} does not match the body"
    return PeerError(f"Header mismatch: {header} {what}", code=HEADER_MISMATCH)
