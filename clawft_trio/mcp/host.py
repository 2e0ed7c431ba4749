"""What this side does for the servers it talks to: roots, sampling, elicitation, and an ear for what they say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import PeerError
from clawft_trio.mcp.incoming import IncomingRequest
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from clawft_trio.mcp.types import CreateMessageParams, ElicitParams, ElicitResult, JsonObject, Root

T = TypeVar("T")

Sample: TypeAlias = Callable[[CreateMessageParams], Awaitable[JsonObject]]
"""Asks a model on a server's behalf; returns a `CreateMessageResult` as JSON. See `sampling.sample_with`."""

Elicit: TypeAlias = Callable[[ElicitParams], Awaitable[ElicitResult]]
"""Asks the person on a server's behalf."""

OnServerNotification: TypeAlias = Callable[[str, Any], Awaitable[object]]
"""Gets a notification's method and decoded parameters, one after the other, in order."""


@attrs.frozen(kw_only=True)
class Host:
    """What a client offers its server. The default offers nothing.

    Args:
      roots: folders that the server may work in; None does not speak of roots at all.
      sample: asks a model.
      elicit: asks the person.
      on_notification: gets every notification that is not progress or cancellation. While it is busy others
        wait, up to a bound. What it raises is logged.
    """

    roots: tuple[Root, ...] | None = None
    sample: Sample | None = None
    elicit: Elicit | None = None
    on_notification: OnServerNotification | None = None

    def capabilities(self) -> dict[str, Any]:
        """The same, as the handshake says it."""
        offered: dict[str, Any] = {}
        if self.roots is not None:
            offered["roots"] = {"listChanged": False}
        if self.sample is not None:
            offered["sampling"] = {}
        if self.elicit is not None:
            offered["elicitation"] = {"form": {"applyDefaults": True}, "url": {}}
        return offered

    async def answer(self, incoming: IncomingRequest) -> Any:
        """Answer one request of the server.

        Raises:
          PeerError: nobody here does this, or its parameters do not fit.

        Cancellation: as that of whatever answers.
        """
        return await self.answer_to(incoming.method, incoming.params)

    async def answer_to(self, method: str, params: Raw) -> Any:
        """Answer the request *method*, which may have come inside a result (2026-07-28) instead of by itself.

        Raises:
          PeerError: nobody here does this, or its parameters do not fit.

        Cancellation: as that of whatever answers.
        """
        if method == "roots/list" and self.roots is not None:
            await trio.lowlevel.checkpoint()
            return {"roots": self.roots}
        if method == "sampling/createMessage" and self.sample is not None:
            return await self.sample(_decoded(params, _decode_sampling))
        if method == "elicitation/create" and self.elicit is not None:
            asked = _decoded(params, _decode_elicitation)
            return _with_defaults(asked, await self.elicit(asked))
        raise PeerError(f"unknown method: {method}", code=METHOD_NOT_FOUND)


_decode_sampling = msgspec.json.Decoder(CreateMessageParams).decode
_decode_elicitation = msgspec.json.Decoder(ElicitParams).decode


def _decoded(params: Raw, decode: Callable[[Raw], T]) -> T:
    try:
        return decode(params)
    except (ValueError, RecursionError) as exc:
        raise PeerError(str(exc), code=INVALID_PARAMS) from exc


def _with_defaults(asked: ElicitParams, given: ElicitResult) -> ElicitResult:
    """What was accepted, with the form's defaults for what was left out (SEP-1034)."""
    if given.action != "accept" or asked.requested_schema is None or not isinstance(given.content, dict):
        return given
    fields = asked.requested_schema.get("properties", {})
    defaults = {
        name: field["default"]
        for name, field in (fields.items() if isinstance(fields, dict) else ())
        if isinstance(field, dict) and "default" in field
    }
    return ElicitResult(action="accept", content={**defaults, **given.content})
