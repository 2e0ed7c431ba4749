"""Answers the peer's requests: each in a separate task, many at once, cancellable by the peer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import attrs
import trio
from msgspec import Raw

from clawft_trio.errors import InvalidData, PeerError
from clawft_trio.mcp.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Id, encode_error, encode_result
from clawft_trio.mcp.types import PROTOCOL_VERSION

T = TypeVar("T")

CONCURRENT = 64
"""Largest number of the peer's requests that are answered at once."""

QUEUED = 1024
"""Largest number of the peer's requests that may wait; more are refused."""

_BUSY = -32000

_log = logging.getLogger("clawft_trio.mcp")


@attrs.frozen
class IncomingRequest:
    """A request of the peer. `params` is still JSON text; the answerer decodes it to the type that it expects."""

    id: Id
    method: str
    params: Raw


Serve: TypeAlias = Callable[[IncomingRequest], Awaitable[Any]]
"""Answers one request: returns a value that JSON can represent, or raises `PeerError` to respond with an error."""


class IncomingRequests:
    """The peer's requests, from their arrival to their response."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        send_nowait: Callable[[bytes], None],
        serve: Serve | None,
        *,
        limit: float = QUEUED,
    ) -> None:
        self._send = send
        self._send_nowait = send_nowait
        self._serve = serve
        self._limit = limit
        self._nursery: trio.Nursery | None = None
        self._running: dict[Id, trio.CancelScope] = {}
        self._queue: dict[Id, IncomingRequest] = {}
        self._idle = trio.lowlevel.ParkingLot()

    @property
    def active(self) -> int:
        """Number of requests without a response."""
        return len(self._running) + len(self._queue)

    @property
    def queued(self) -> int:
        """Number of requests that wait to be started."""
        return len(self._queue)

    def use(self, nursery: trio.Nursery) -> None:
        """Answer in tasks of *nursery* from now on; when it is cancelled, requests get no response."""
        self._nursery = nursery

    def request(self, request_id: Id, method: str, params: Raw) -> None:
        """Answer the request in a separate task, or refuse it."""
        # 2026-07-28 has no `ping`: a request that names its revision is passed to the answerer, which refuses it.
        if method == "ping" and (self._serve is None or PROTOCOL_VERSION.encode() not in bytes(params)):
            self._send_nowait(encode_result(request_id, {}))
        elif self._serve is None or self._nursery is None:
            self._send_nowait(encode_error(request_id, METHOD_NOT_FOUND, f"unknown method: {method}"))
        elif request_id in self._running or request_id in self._queue:
            self._send_nowait(encode_error(request_id, _BUSY, "a request of this id has no response yet"))
        elif len(self._running) < CONCURRENT:
            self._start(IncomingRequest(request_id, method, params))
        elif len(self._queue) < self._limit:
            self._queue[request_id] = IncomingRequest(request_id, method, params)
        else:
            self._send_nowait(encode_error(request_id, _BUSY, "too many requests at once"))

    def cancel(self, request_id: Id, reason: str) -> None:
        """Stop answering the request *request_id*, if it has no response yet; it gets none."""
        scope = self._running.get(request_id)
        if scope is not None:
            scope.cancel(reason=f"the peer cancelled its request: {reason}"[:200])
        else:
            self._queue.pop(request_id, None)

    async def wait_idle(self) -> None:
        """Wait until the response to every request is queued.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self.active:
            await self._idle.park()

    def _start(self, incoming: IncomingRequest) -> None:
        assert self._nursery is not None
        scope = trio.CancelScope()
        self._running[incoming.id] = scope
        self._nursery.start_soon(self._answer, incoming, scope)

    async def _answer(self, incoming: IncomingRequest, scope: trio.CancelScope) -> None:
        assert self._serve is not None
        try:
            with scope:
                line, _ = await answer_to(incoming, self._serve)
                await self._send(line)
        finally:
            del self._running[incoming.id]
            if self._queue:
                self._start(self._queue.pop(next(iter(self._queue))))
            elif not self._running:
                self._idle.unpark_all()


async def answer_to(incoming: IncomingRequest, serve: Serve) -> tuple[bytes, int | None]:
    """Return the response to one request as a line, and its error code; None for a result.

    Cancellation: as for *serve*.
    """

    async def encoded() -> bytes:
        return encode_result(incoming.id, await serve(incoming))

    try:
        return await raising_peer_errors(incoming.method, encoded()), None
    except PeerError as exc:
        line = encode_error(incoming.id, exc.code, str(exc), **({} if exc.data is None else {"data": exc.data}))
        return line, exc.code


async def raising_peer_errors(method: str, running: Awaitable[T]) -> T:
    """Return the result of *running*, which answers *method*.

    Raises:
      PeerError: it failed; the error reveals no other details to the peer.

    Cancellation: as for *running*.
    """
    try:
        return await running
    except PeerError:
        raise
    except InvalidData as exc:
        raise PeerError(str(exc), code=INVALID_PARAMS) from exc
    except Exception as exc:
        _log.exception("answering %s failed", method)
        raise PeerError("internal error", code=INTERNAL_ERROR) from exc
