"""Requests of 2026-07-28: their checked `_meta`, and their notification streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw

from clawft_trio.auth import AuthContext
from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.server.caller import LEVELS, Peer
from clawft_trio.mcp.server.changes import Change, Filter
from clawft_trio.mcp.server.wire import ListenParams, MetaParams, RequestMeta, decode_params
from clawft_trio.mcp.stateless import CLIENT_CAPABILITIES, UNSUPPORTED_VERSION
from clawft_trio.mcp.types import PROTOCOL_VERSION, STATELESS_VERSION, JsonObject

_MARK = PROTOCOL_VERSION.encode()

SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"


def declares_version(params: Raw) -> bool:
    """Return whether a request names its revision itself. Only such requests belong to 2026-07-28 or later."""
    if _MARK not in bytes(params):
        return False
    try:
        meta = decode_params(params, MetaParams).meta
    except PeerError:
        # It has the key, in an invalid `_meta`: `stateless_peer` refuses it with the reason.
        return True
    return meta is not None and meta.protocol_version is not UNSET


def read_meta(params: Raw) -> RequestMeta:
    """Return the `_meta` of a request.

    Raises:
      PeerError: a required member is missing.
    """
    meta = decode_params(params, MetaParams).meta
    if meta is None:
        raise PeerError("_meta is missing", code=INVALID_PARAMS)
    for key, value in ((PROTOCOL_VERSION, meta.protocol_version), (CLIENT_CAPABILITIES, meta.client_capabilities)):
        if value is UNSET:
            raise PeerError(f"_meta lacks {key}", code=INVALID_PARAMS)
    return meta


def stateless_peer(meta: RequestMeta, auth: AuthContext) -> Peer:
    """Return the client of one request, as its *meta* describes it.

    Raises:
      PeerError: it uses another revision, or requests an unknown log level.
    """
    if meta.protocol_version != STATELESS_VERSION:
        data = {"supported": [STATELESS_VERSION], "requested": meta.protocol_version}
        raise PeerError("unsupported revision", code=UNSUPPORTED_VERSION, data=data)
    level: Any = None if meta.log_level is UNSET else meta.log_level
    if level is not None and level not in LEVELS:
        raise PeerError(f"unknown log level; known: {', '.join(LEVELS)}", code=INVALID_PARAMS)
    capabilities: Any = meta.client_capabilities
    return Peer(
        auth=auth,
        stateless=True,
        initialized=True,
        version=STATELESS_VERSION,
        capabilities=capabilities,
        log_level=level,
    )


class Subscription:
    """One `subscriptions/listen` request: its filter, and its messages.

    Args:
      request_id: id of the request.
      params: its parameters.
      max_uris: largest number of resources in it.
      is_hidden: returns whether its sender may not read a resource, whose changes are then not reported.

    Raises:
      PeerError: the parameters do not fit, or it requests too many resources.
    """

    def __init__(self, request_id: int | str, params: Raw, *, max_uris: int, is_hidden: Callable[[str], bool]) -> None:
        asked = decode_params(params, ListenParams).notifications
        if len(asked.resource_subscriptions) > max_uris:
            raise PeerError(f"more than {max_uris} resources in one subscription", code=INVALID_PARAMS)
        wanted = {
            "tools": asked.tools_list_changed,
            "prompts": asked.prompts_list_changed,
            "resources": asked.resources_list_changed,
        }
        kinds = frozenset(kind for kind, one in wanted.items() if one)
        self._meta = {SUBSCRIPTION_ID: request_id}
        uris = frozenset(uri for uri in asked.resource_subscriptions if not is_hidden(uri))
        self.filter: Filter = Filter(kinds, uris)

    @property
    def acknowledgment(self) -> JsonObject:
        """Parameters of the stream's first message."""
        honored: dict[str, Any] = {f"{kind}ListChanged": True for kind in sorted(self.filter.kinds)}
        if self.filter.uris:
            honored["resourceSubscriptions"] = sorted(self.filter.uris)
        return {"_meta": self._meta, "notifications": honored}

    def params_of(self, change: Change) -> JsonObject:
        """Return the parameters of the notification of *change*."""
        return {"_meta": self._meta, **({"uri": change.uri} if change.kind == "resource" else {})}

    @property
    def result(self) -> JsonObject:
        """Response that ends the stream."""
        return {"resultType": "complete", "_meta": self._meta}
