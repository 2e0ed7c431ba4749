"""Streamable HTTP as an ASGI application: with sessions up to 2025-11-25, and 2026-07-28 without them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import trio
from msgspec import UNSET

from clawft_trio.auth import AuthContext
from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_REQUEST, Envelope, Id, encode_notification, encode_result
from clawft_trio.mcp.notifications import decode_cancelled
from clawft_trio.mcp.server.answerer import Answerer
from clawft_trio.mcp.server.asgi import HttpRequest, Receive, Refusal, Scope, Send
from clawft_trio.mcp.server.bearer import Rejection, authenticate, metadata, metadata_paths
from clawft_trio.mcp.server.caller import Peer
from clawft_trio.mcp.server.changes import Change
from clawft_trio.mcp.server.event_stream import EventStream
from clawft_trio.mcp.server.http_checks import (
    accepts,
    check_param_headers,
    check_standard_headers,
    check_version_header,
    host_allowed,
    is_json,
    origin_allowed,
)
from clawft_trio.mcp.server.http_exchange import (
    Exchange,
    LateStreams,
    decode_object,
    error_body,
    read_message,
    request_id,
)
from clawft_trio.mcp.server.http_sessions import Session, Sessions
from clawft_trio.mcp.server.options import HttpOptions, ServeOptions
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.stateless import Subscription, declares_version, read_meta, stateless_peer
from clawft_trio.mcp.transports.param_headers import Path, header_paths
from clawft_trio.mcp.types import HANDSHAKE_VERSIONS
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.tools.registry import ToolRegistry
from clawft_trio.tools.tool import Tool

BUSY = -32000
"""Error code for too many requests, sessions or streams; sent with HTTP 503."""

_UNDECLARED = "2025-03-26"
"""Revision of clients that do not name one."""


@asynccontextmanager
async def open_mcp_app(
    server: McpServer | ToolRegistry, *, options: ServeOptions | None = None, http: HttpOptions | None = None
) -> AsyncGenerator[McpApp, None]:
    """Open an ASGI 3 application that offers *server* at `http.path`, for any ASGI server that runs on trio.

    Leaving the block cancels running requests and closes all sessions.

    Cancellation: as when the block is left.
    """
    offered = McpServer(server) if isinstance(server, ToolRegistry) else server
    async with open_hidden_nursery() as nursery:
        app = McpApp(offered, options or ServeOptions(), http or HttpOptions(), nursery)
        with offered.watching(app.note_change):
            nursery.start_soon(app.sessions.close_idle)
            nursery.start_soon(app.late.run)
            yield app
        nursery.cancel_scope.cancel(reason="the application is closed")


class McpApp:
    """The application. `open_mcp_app` creates one."""

    def __init__(self, server: McpServer, options: ServeOptions, http: HttpOptions, nursery: trio.Nursery) -> None:
        self.sessions: Sessions = Sessions(http)
        self.late: LateStreams = LateStreams(http.stream_after)
        self._answerer = Answerer(server, options)
        self._server = server
        self._options = options
        self._http = http
        self._nursery = nursery
        self._requests = 0
        self._listeners = 0
        self._subscriptions: dict[EventStream, Subscription] = {}
        #: for each tool that was called, the arguments that headers repeat
        self._paths: dict[str, tuple[Tool, Mapping[Path, str]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request.

        Cancellation: cancels the request, if its client has no session; with a session it continues.
        """
        if scope["type"] == "lifespan":
            await _follow_lifespan(receive, send)
        elif scope["type"] == "http":
            request = HttpRequest(scope, receive, send)
            try:
                await self._route(request)
            except Refusal as refusal:
                await request.respond(refusal.status, refusal.body, refusal.headers)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def note_change(self, change: Change) -> None:
        """Pass a change to the clients that requested notifications of it."""
        self.sessions.note_change(change)
        for stream, subscription in self._subscriptions.items():
            if subscription.filter.wants(change):
                stream.put_once(encode_notification(change.method, subscription.params_of(change)))

    async def _route(self, request: HttpRequest) -> None:
        http = self._http
        self._check_sender(request)
        if http.bearer is not None and request.method == "GET" and request.path in metadata_paths(http.bearer):
            await request.respond_json(200, metadata(http.bearer))
        elif request.path != http.path:
            raise Refusal(404, b"")
        elif request.method == "OPTIONS":
            await request.respond(204)
        else:
            await self._dispatch(request, await self._authenticate(request))

    async def _dispatch(self, request: HttpRequest, auth: AuthContext) -> None:
        if request.method == "POST":
            await self._post(request, auth)
        elif request.method == "GET" and self._http.sessions:
            await self._get(request, auth)
        elif request.method == "DELETE" and self._http.sessions:
            self.sessions.close(self._session_of(request, auth))
            await request.respond(204)
        else:
            raise Refusal(405, b"", {"allow": "GET, POST, DELETE" if self._http.sessions else "POST"})

    def _check_sender(self, request: HttpRequest) -> None:
        if not host_allowed(request.headers.get("host"), self._http.hosts):
            raise Refusal(403, error_body("this host name is not served"))
        origin = request.headers.get("origin")
        if not origin_allowed(origin, self._http.origins):
            raise Refusal(403, error_body("this origin may not use the server"))
        if origin is not None:
            request.response_headers |= _cors(origin)

    async def _authenticate(self, request: HttpRequest) -> AuthContext:
        if self._http.bearer is None:
            return self._options.auth
        found = await authenticate(self._http.bearer, request.headers)
        if isinstance(found, Rejection):
            raise Refusal(found.status, b"", {"www-authenticate": found.challenge} if found.challenge else {})
        return found

    async def _post(self, request: HttpRequest, auth: AuthContext) -> None:
        if not is_json(request.headers.get("content-type")):
            raise Refusal(415, error_body("the body has to be application/json"))
        if not accepts(request.headers.get("accept"), "application/json", "text/event-stream"):
            raise Refusal(406, error_body("Accept has to list application/json and text/event-stream"))
        message = read_message(await request.body(self._http))
        if _is_stateless(request, message):
            await self._post_stateless(request, message, auth)
        elif message.method == "initialize" and message.id is not UNSET:
            await self._initialize(request, message, auth)
        elif self._http.sessions:
            await self._post_in_session(request, message, auth)
        else:
            version = request.headers.get("mcp-protocol-version", _UNDECLARED)
            await self._post_alone(request, message, Peer(auth=auth, initialized=True, version=version))

    async def _post_stateless(self, request: HttpRequest, message: Envelope, auth: AuthContext) -> None:
        if message.method is UNSET:
            raise Refusal(400, error_body("this revision has no responses of clients"))
        if message.id is UNSET:
            await request.respond(202)
            return
        key = request_id(message)
        try:
            peer = self._checked_peer(request, message, auth)
            if message.method == "subscriptions/listen":
                subscription = self._subscription(key, message, auth)
                await self._listen(request, subscription, key)
                return
        except PeerError as exc:
            raise Refusal(400, error_body(str(exc), exc.code, key, exc.data)) from exc
        await self._post_alone(request, message, peer)

    async def _post_alone(self, request: HttpRequest, message: Envelope, peer: Peer) -> None:
        """Answer a request that ends with its connection."""
        if message.method is UNSET or message.id is UNSET:
            await request.respond(202)
            return
        exchange = Exchange(message, peer, self._stream(), None, auth=peer.auth)
        self._admit(exchange.incoming.id)
        self._requests += 1
        try:
            await exchange.run_and_respond(self._answerer, request, self._http, self.late)
        finally:
            self._requests -= 1

    def _checked_peer(self, request: HttpRequest, message: Envelope, auth: AuthContext) -> Peer:
        meta = read_meta(message.params)
        check_version_header(request.headers, meta.protocol_version)
        peer = stateless_peer(meta, auth)
        params = decode_object(message.params)
        method: Any = message.method
        check_standard_headers(request.headers, method, params)
        if method == "tools/call":
            check_param_headers(request.headers, self._header_paths(params.get("name")), params.get("arguments"))
        return peer

    def _header_paths(self, name: object) -> Mapping[Path, str]:
        tool = self._server.tools.get(name) if isinstance(name, str) else None
        if tool is None:
            return {}
        known = self._paths.get(tool.name)
        if known is None or known[0] is not tool:
            known = self._paths[tool.name] = (tool, _paths_of(tool))
        return known[1]

    def _subscription(self, key: Id, message: Envelope, auth: AuthContext) -> Subscription:
        uris, level = self._options.max_subscriptions, auth.permissions.level
        is_hidden = partial(self._server.is_hidden, level=level)
        return Subscription(key, message.params, max_uris=uris, is_hidden=is_hidden)

    async def _listen(self, request: HttpRequest, subscription: Subscription, key: Id) -> None:
        stream = self._stream()
        stream.put(encode_notification("notifications/subscriptions/acknowledged", subscription.acknowledgment))
        with self._listener(key):
            self._subscriptions[stream] = subscription
            try:
                async with request.while_connected():
                    await request.stream(stream, 0, self._http, ids=False)
            finally:
                del self._subscriptions[stream]

    def _stream(self) -> EventStream:
        http = self._http
        return EventStream("", max_events=http.replay_events, max_bytes=http.replay_bytes, replay=False)

    async def _initialize(self, request: HttpRequest, message: Envelope, auth: AuthContext) -> None:
        key = request_id(message)
        peer = Peer(auth=auth)
        session = None
        if self._http.sessions:
            session = self.sessions.open(peer)
            if session is None:
                raise Refusal(503, error_body("too many sessions", BUSY, key), {"retry-after": "60"})
            if self._options.tasks is not None:
                session.offer_tasks(self._options.tasks, self._nursery)
        try:
            result = self._answerer.initialize(peer, message.params)
        except PeerError as exc:
            if session is not None:
                self.sessions.close(session)
            raise Refusal(400, error_body(str(exc), exc.code, key)) from exc
        headers = {} if session is None else {"mcp-session-id": session.id}
        await request.respond(200, encode_result(key, result).rstrip(b"\n"), headers)

    def _session_of(self, request: HttpRequest, auth: AuthContext) -> Session:
        session_id = request.headers.get("mcp-session-id")
        if session_id is None:
            raise Refusal(400, error_body("Mcp-Session-Id is missing: initialize first"))
        session = self.sessions.get(session_id, auth.identity)
        if session is None:
            raise Refusal(404, error_body("there is no such session"))
        version = request.headers.get("mcp-protocol-version")
        if version is not None and version not in HANDSHAKE_VERSIONS:
            raise Refusal(400, error_body("MCP-Protocol-Version is not one of this server's"))
        return session

    async def _post_in_session(self, request: HttpRequest, message: Envelope, auth: AuthContext) -> None:
        session = self._session_of(request, auth)
        if message.method is UNSET:
            session.deliver(message)
            await request.respond(202)
        elif message.id is UNSET:
            _take_notification(session, message)
            await request.respond(202)
        else:
            await self._request_in_session(request, message, session, auth)

    async def _request_in_session(
        self, request: HttpRequest, message: Envelope, session: Session, auth: AuthContext
    ) -> None:
        key = request_id(message)
        if key in session.running:
            raise Refusal(400, error_body("a request of this id is running", INVALID_REQUEST, key))
        if len(session.running) >= self._http.max_session_requests:
            raise _busy(key)
        self._admit(key)
        exchange = Exchange(message, session.peer, session.open_stream(), session, auth=auth)
        self._requests += 1
        session.running[key] = trio.CancelScope()
        # The request continues when this connection breaks: the client can reconnect for the response.
        self._nursery.start_soon(self._run_in_session, exchange, session)
        with session.in_use():
            await exchange.respond(request, self._http)

    async def _run_in_session(self, exchange: Exchange, session: Session) -> None:
        key = exchange.incoming.id
        try:
            with session.in_use(), session.running[key]:
                await exchange.run(self._answerer)
        finally:
            self._requests -= 1
            del session.running[key]
            session.prune()

    async def _get(self, request: HttpRequest, auth: AuthContext) -> None:
        if not accepts(request.headers.get("accept"), "text/event-stream"):
            raise Refusal(406, error_body("Accept has to list text/event-stream"))
        session = self._session_of(request, auth)
        found = session.stream_of(request.headers.get("last-event-id", ""))
        stream, after = found or (session.standalone, session.standalone.sent)
        with self._listener(None), session.in_use():
            async with request.while_connected():
                await request.stream(stream, after, self._http, ids=True)

    def _admit(self, key: Id) -> None:
        if self._requests >= self._http.max_requests:
            raise _busy(key)

    @contextmanager
    def _listener(self, key: Id | None) -> Iterator[None]:
        if self._listeners >= self._http.max_listeners:
            raise _busy(key)
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1


def _paths_of(tool: Tool) -> Mapping[Path, str]:
    try:
        return header_paths(tool.parameters)
    except ValueError:
        # Clients do not use a tool with such a schema, and send no headers for it.
        return {}


def _is_stateless(request: HttpRequest, message: Envelope) -> bool:
    version = request.headers.get("mcp-protocol-version")
    if version is not None and version not in HANDSHAKE_VERSIONS:
        return True
    return message.method is not UNSET and declares_version(message.params)


def _take_notification(session: Session, message: Envelope) -> None:
    if message.method == "notifications/cancelled":
        with suppress(ValueError, RecursionError):
            notice = decode_cancelled(message.params)
            scope = None if notice.request_id is None else session.running.get(notice.request_id)
            if scope is not None:
                scope.cancel(reason="the client cancelled its request")


def _busy(key: Id | None) -> Refusal:
    return Refusal(503, error_body("too many requests at once", BUSY, key), {"retry-after": "1"})


def _cors(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": "*, Authorization",
        "access-control-expose-headers": "Mcp-Session-Id, WWW-Authenticate",
        "vary": "Origin",
    }


async def _follow_lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge the lifespan messages; `open_mcp_app` has already started everything."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
