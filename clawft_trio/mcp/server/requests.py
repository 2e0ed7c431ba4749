"""A request of a client, and functions that all methods use: tool contexts, rounds of input, pages of lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.auth import AuthContext
from clawft_trio.errors import ClientLacksCapability, PeerError
from clawft_trio.mcp.jsonrpc import Id
from clawft_trio.mcp.server.caller import Channel, ConnectedClient, InputRequired, Peer, ProgressReporter, Rounds
from clawft_trio.mcp.server.input_state import StateSigner, request_digest
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.pages import page_of
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.server.wire import InputParams, ListParams, decode_params
from clawft_trio.mcp.types import LATEST_HANDSHAKE, JsonObject
from clawft_trio.nursery import leaves
from clawft_trio.tools.tool import ToolContext

T = TypeVar("T")

MISSING_CAPABILITY = -32021
"""Error code: the client lacks a capability, which `data.requiredCapabilities` names."""


@attrs.frozen(kw_only=True)
class ServerRequest:
    """One request, its client, and the channel of its messages."""

    id: Id
    method: str
    params: Raw
    peer: Peer
    #: sender that the request runs for: over HTTP each request has a token, and a session may have several
    auth: AuthContext
    channel: Channel


Methods = Mapping[str, Callable[[ServerRequest], Awaitable[dict[str, Any]]]]
"""Functions that answer requests, by the method of the protocol."""


def tasks_of(peer: Peer) -> TaskTable | None:
    """Return the tasks of *peer*; None if its revision has no tasks, or the server does not offer them."""
    return peer.tasks if peer.version == LATEST_HANDSHAKE else None


def tool_context(
    options: ServeOptions, request: ServerRequest, name: str, asked: InputParams, arguments: bytes
) -> ToolContext:
    """Return the context in which a tool, resource or prompt runs for *request*.

    Args:
      options: options of the server.
      request: the request.
      name: name of the tool or prompt, or URI of the resource.
      asked: the decoded parameters of the request.
      arguments: arguments of the tool or prompt, as JSON.

    Raises:
      PeerError: `requestState` was not made by this server for the same request.
    """
    peer = request.peer
    rounds = _rounds(options, request, name, asked, arguments) if peer.stateless else None
    return ToolContext(
        auth=request.auth,
        workspace=options.workspace,
        observer=ProgressReporter(request.channel, asked.meta.get("progressToken"), options.observer),
        client=ConnectedClient(peer, request.channel, total=options.client_answer, rounds=rounds),
    )


def _rounds(options: ServeOptions, request: ServerRequest, name: str, asked: InputParams, arguments: bytes) -> Rounds:
    def signer() -> StateSigner:
        return StateSigner(
            secret=options.state_secret,
            principal=request.auth.identity,
            request=request_digest(request.method, name, _canonical(arguments)),
        )

    def sign(answers: Mapping[str, JsonObject]) -> str:
        return signer().sign(answers, expires=options.now().timestamp() + options.state_lifetime)

    known: Mapping[str, JsonObject] = {}
    if asked.request_state is not None:
        known = signer().verify(asked.request_state, now=options.now().timestamp())
    return Rounds(sign, {**known, **(asked.input_responses or {})})


async def with_input(running: Awaitable[T]) -> T | InputRequired:
    """Await *running*; return its result, or the input that the client has to provide before it can continue.

    Raises:
      PeerError: the client lacks the capability to provide that input.

    Cancellation: as for *running*.
    """
    try:
        return await running
    except ClientLacksCapability as exc:
        raise lacks(exc) from exc
    except (InputRequired, BaseExceptionGroup) as exc:
        found = leaves(exc)
        required = [leaf for leaf in found if isinstance(leaf, InputRequired)]
        if not required or len(required) < len([leaf for leaf in found if not isinstance(leaf, trio.Cancelled)]):
            raise
        return required[0]


def page(options: ServeOptions, key: str, entries: list[tuple[str, Any]], request: ServerRequest) -> dict[str, Any]:
    """Return a result whose member *key* is the page of *entries* that *request* asks for.

    Raises:
      PeerError: the cursor is not from this server.
    """
    asked = decode_params(request.params, ListParams)
    shown, cursor = page_of(entries, asked.cursor, options.page_size)
    found: dict[str, Any] = {key: shown, **({} if cursor is None else {"nextCursor": cursor})}
    return {**found, **caching(options)} if request.peer.stateless else found


def caching(options: ServeOptions) -> JsonObject:
    """Return the members of a result that limit its caching by clients of 2026-07-28."""
    # Private, because the result depends on the permissions of the sender.
    return {"ttlMs": int(options.cache * 1000), "cacheScope": "private"}


def lacks(error: ClientLacksCapability) -> PeerError:
    """Return the error response for a client without a required capability."""
    return PeerError(str(error), code=MISSING_CAPABILITY, data={"requiredCapabilities": error.capabilities})


def _canonical(arguments: bytes) -> bytes:
    # A client that repeats the call may write the members of the arguments in another order.
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments or b"{}"), order="sorted")
    except (ValueError, RecursionError):
        return arguments
