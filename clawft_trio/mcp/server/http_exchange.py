"""One request over HTTP, from its arrival to the end of its response."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import trio
from msgspec import Raw

from clawft_trio.auth import AuthContext
from clawft_trio.errors import Unsupported
from clawft_trio.mcp.deadline_timer import DeadlineTimer
from clawft_trio.mcp.incoming import IncomingRequest, answer_to
from clawft_trio.mcp.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Envelope,
    Id,
    encode_error,
    encode_notification,
    parse,
)
from clawft_trio.mcp.server.answerer import Answerer
from clawft_trio.mcp.server.asgi import HttpRequest, Refusal
from clawft_trio.mcp.server.caller import Peer
from clawft_trio.mcp.server.event_stream import EventStream
from clawft_trio.mcp.server.http_checks import HEADER_MISMATCH
from clawft_trio.mcp.server.http_sessions import Session
from clawft_trio.mcp.server.options import HttpOptions
from clawft_trio.mcp.server.requests import MISSING_CAPABILITY, ServerRequest
from clawft_trio.mcp.stateless import UNSUPPORTED_VERSION
from clawft_trio.mcp.types import JsonObject
from clawft_trio.nursery import open_hidden_nursery

RESUMABLE = "2025-11-25"
"""The revision from which on a stream begins with an empty event, and may be closed early. Older clients cannot read
an event without data."""

# HTTP statuses of errors that 2026-07-28 also reports by the status.
_STATUS = {
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    INVALID_REQUEST: 400,
    PARSE_ERROR: 400,
}


def _nothing() -> None:
    """Do nothing; there is no stream to begin."""


class Exchange:
    """A request and the stream of its messages. It is the `Channel` of the request.

    Args:
      message: the request.
      peer: the client that sent it.
      stream: receives the messages of the request, the response last.
      session: session of the client; None when it has none.
      auth: sender of the request.
    """

    def __init__(
        self, message: Envelope, peer: Peer, stream: EventStream, session: Session | None, *, auth: AuthContext
    ) -> None:
        method: Any = message.method
        self.incoming: IncomingRequest = IncomingRequest(request_id(message), method, message.params)
        self.peer: Peer = peer
        self._auth = auth
        self._stream = stream
        self._session = session
        self._answer: bytes | None = None
        self._status = 200
        self._released = False
        self._begin_stream: Callable[[], None] = _nothing

    @property
    def resumable(self) -> bool:
        """Whether the client can reconnect for the rest of the stream."""
        return self._session is not None and self.peer.version >= RESUMABLE

    def notify(self, method: str, params: JsonObject) -> None:
        """Send a notification. Never blocks; the oldest messages are dropped when the client reads too slowly."""
        self._stream.put(encode_notification(method, params))
        self._begin_stream()

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        """Send a request and wait for its result.

        Raises:
          Unsupported: there is no session that could deliver a response.
          PeerError, PeerGone, RequestTimeout, ProtocolViolation: there is no result.

        Cancellation: the client is notified.
        """
        if self._session is None:
            await trio.lowlevel.checkpoint()
            raise Unsupported("without a session the client cannot answer")
        return await self._session.ask(self._stream, method, params, total=total)

    def release(self) -> None:
        """Close the current response, if the client can reconnect."""
        if self.resumable:
            self._released = True
            self._stream.detach()

    async def run(self, answerer: Answerer) -> None:
        """Answer the request.

        Cancellation: the request gets no response; its stream ends.
        """

        async def serve(incoming: IncomingRequest) -> JsonObject:
            return await answerer.answer(
                ServerRequest(
                    id=incoming.id,
                    method=incoming.method,
                    params=incoming.params,
                    peer=self.peer,
                    auth=self._auth,
                    channel=self,
                )
            )

        try:
            line, code = await answer_to(self.incoming, serve)
            self._answer = line.rstrip(b"\n")
            self._status = _STATUS.get(code or 0, 200) if self.peer.stateless else 200
            self._stream.put(line)
        finally:
            self._stream.finish()

    async def run_and_respond(
        self, answerer: Answerer, request: HttpRequest, http: HttpOptions, late: LateStreams
    ) -> None:
        """Answer a request without a session, and send the response as `respond` does.

        This task alone answers most requests; a second task is started only for a stream.

        Cancellation: as `run` and `respond`.
        """
        async with open_hidden_nursery() as nursery:

            async def stream() -> None:
                await self._respond_now(request, http)
                nursery.cancel_scope.cancel(reason="the response has ended")

            def begin_stream() -> None:
                self._begin_stream = _nothing
                nursery.start_soon(stream)

            self._begin_stream = begin_stream
            with late.watching(self):
                await self.run(answerer)
            if self._begin_stream is begin_stream:
                await request.respond(self._status, self._answer or b"")

    def begin_stream(self) -> None:
        """Begin to stream the response, if it has not begun."""
        self._begin_stream()

    async def respond(self, request: HttpRequest, http: HttpOptions) -> None:
        """Send the response as JSON if it comes soon and without other messages, otherwise as a stream.

        Returns early when the client disconnects from a stream. Before there is a stream, disconnects are not noticed.

        Cancellation: a part of the response may have been sent.
        """
        with trio.move_on_after(http.stream_after):
            await self._stream.wait_any()
        await self._respond_now(request, http)

    async def _respond_now(self, request: HttpRequest, http: HttpOptions) -> None:
        stream = self._stream
        if self._answer is not None and stream.last == 1 and not self._released:
            if self._session is not None:
                self._session.forget(stream)
            await request.respond(self._status, self._answer)
            return
        async with request.while_connected():
            ids = self._session is not None
            await request.stream(stream, 0, http, ids=ids, prime=self.resumable, only_prime=self._released)


class LateStreams:
    """Turns the responses of requests that run for `stream_after` seconds into streams, in one task for all.

    Args:
      after: these seconds.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._deadlines: dict[Exchange, float] = {}
        self._timer = DeadlineTimer(self._expire)

    async def run(self) -> None:
        """Watch requests until cancelled.

        Cancellation: requests are no longer watched.
        """
        await self._timer.run()

    @contextmanager
    def watching(self, exchange: Exchange) -> Iterator[None]:
        """Watch *exchange* for the duration of the block."""
        self._deadlines[exchange] = deadline = trio.current_time() + self._after
        self._timer.notice(deadline)
        try:
            yield
        finally:
            self._deadlines.pop(exchange, None)

    def _expire(self, now: float) -> float:
        # All have the same time limit, so the first to arrive is the first to be due.
        while self._deadlines:
            exchange, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                return deadline
            del self._deadlines[exchange]
            exchange.begin_stream()
        return math.inf


def read_message(body: bytes) -> Envelope:
    """Return the single message in a request's body.

    Raises:
      Refusal: there is none or more than one, or it is invalid.
    """
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise Refusal(400, error_body("the body is not UTF-8", PARSE_ERROR)) from exc
    messages = parse(body)
    if len(messages) != 1 or body.lstrip()[:1] == b"[":
        code = INVALID_REQUEST if messages else PARSE_ERROR
        raise Refusal(400, error_body("the body has to be one message", code))
    [message] = messages
    if not isinstance(message, Envelope):
        code = PARSE_ERROR if message.syntax else INVALID_REQUEST
        raise Refusal(400, error_body(message.reason[:200], code, message.id))
    return message


def request_id(message: Envelope) -> Id:
    """Return the id of a request.

    Raises:
      Refusal: it is not a valid id.
    """
    if isinstance(message.id, int | str):
        return message.id
    raise Refusal(400, error_body("an id is a string or an integer", INVALID_REQUEST))


def decode_object(params: Raw) -> JsonObject:
    """Decode the parameters of a request.

    Raises:
      Refusal: they are not an object.
    """
    try:
        found: JsonObject = _decode_object(params or b"{}") or {}
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, error_body(str(exc)[:200], INVALID_PARAMS)) from exc
    return found


def error_body(message: str, code: int = INVALID_REQUEST, key: Id | None = None, data: object = None) -> bytes:
    """Return a JSON-RPC error as the body of a response."""
    return encode_error(key, code, message, **({} if data is None else {"data": data})).rstrip(b"\n")


_decode_object = msgspec.json.Decoder(dict[str, Any] | None).decode
