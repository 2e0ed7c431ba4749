"""Frames over HTTP: each frame is a POST, whose response is JSON or a stream of events.

The multiplexer routes as over a pipe; this module handles the differences. The POST of a request that no call waits
for is closed. A stream that breaks before its response has arrived is resumed (`Last-Event-ID`). A session that the
server has dropped ends the connection: a supervised client opens a new one and sends the requests that were refused
once more. The server responds 404 then; for other refusals `SessionCheck` decides.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from clawft_trio.errors import (
    MAX_BODY,
    ClawftError,
    McpError,
    PeerError,
    PeerGone,
    ProviderError,
    SessionLost,
)
from clawft_trio.mcp.auth.http import OAuthHttp
from clawft_trio.mcp.auth.oauth import OAuthSession
from clawft_trio.mcp.auth.tokens import spellings
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE, METHOD_NOT_FOUND, Id, encode_request
from clawft_trio.mcp.messages import Outgoing
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.transports.answer_stream import (
    EVENTS,
    FIRST_RETRY,
    JSON,
    LONGEST_RETRY,
    LONGEST_WITH_MESSAGES,
    AnswerStream,
    Reconnects,
)
from clawft_trio.mcp.transports.http_refusals import (
    error_in,
    http_error,
    may_mean_session_lost,
    means_no_stream,
    wants_login,
)
from clawft_trio.mcp.transports.http_server import HttpServer
from clawft_trio.mcp.transports.http_session import HttpSession
from clawft_trio.mcp.transports.legacy_sse import REFUSALS, open_stream
from clawft_trio.mcp.transports.session_check import PingSupport, SessionCheck
from clawft_trio.net import HttpEndpoint, HttpResponse
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe.redaction import cut_redacted, make_redactor

_LISTEN_WAIT = 1.0
"""Seconds that requests wait for the response to the listening GET: earlier messages of the server are lost."""

_DRAIN = 1.0
"""Seconds that requests of a lost session have to be answered, or to be refused as well."""

_DELETE_GRACE = 2.0
"""Seconds for the request to the server to delete the session."""

_log = logging.getLogger("clawft_trio.mcp")

_ANSWERING = 8
"""Tasks that post responses and notifications; each waits until the server has accepted one."""


class HttpTransport:
    """A `Transport` over streamable HTTP.

    Args:
      server: the server.
      name: its name in errors.
      limit: largest message in bytes.
      pings: what earlier transports found out about this server's pings; None if lost sessions are not replaced, so
        that only a 404 ends one.
    """

    def __init__(
        self, server: HttpServer, *, name: str = "", limit: int = MAX_MESSAGE, pings: PingSupport | None = None
    ) -> None:
        self._server = server
        self._name = name
        self._limit = limit
        self._pings = pings
        self._check: SessionCheck | None = None
        self._session = HttpSession(name)
        self._posts: dict[Id, trio.CancelScope] = {}
        self._post_ended = trio.lowlevel.ParkingLot()
        self._lost: McpError | None = None
        self._login: OAuthSession | None = None
        #: last values of the headers that may hold secrets, by name
        self._sent: dict[str, str] = {}
        #: endpoint for the messages to a server of 2024-11-05; its responses arrive by a separate stream
        self._legacy: HttpEndpoint | None = None

    async def run(self, mux: Multiplexer) -> McpError:
        """Post frames until the server has dropped the session.

        Raises:
          NotConfigured: the URL is invalid.

        Cancellation: every stream is closed and the session is deleted at the server, within two seconds.
        """
        server = self._server
        mux.redact = self._redact
        policy = None if server.auth is None else server.auth.policy
        async with (
            server.endpoint(self._name, self._sent) as http,
            OAuthHttp(
                self._name, verify=server.verify, proxy=server.proxy, policy=policy, peers=lambda: http.peers
            ) as oauth_http,
        ):
            if server.auth is not None:
                self._login = OAuthSession(
                    server.auth, server.url, oauth_http, name=self._name, hold_clocks=mux.hold_clocks
                )
            if self._pings is not None:
                self._check = SessionCheck(partial(self._ping, http), self._pings)
            try:
                async with open_hidden_nursery() as nursery:
                    await self._post_all(http, mux, nursery)
            finally:
                mux.end(self._lost or PeerGone("the connection was closed here", server=self._name))
                with trio.move_on_after(_DELETE_GRACE, shield=True):
                    await self._end_session(http)
        assert self._lost is not None
        return self._lost

    async def _post_all(self, http: HttpEndpoint, mux: Multiplexer, nursery: trio.Nursery) -> None:
        # A few tasks respond in turn to a server that sends thousands of requests at once.
        answers, waiting = trio.open_memory_channel[Outgoing](math.inf)
        for _ in range(_ANSWERING):
            nursery.start_soon(self._post_answers, http, mux, waiting, nursery)
        while True:
            for frame in await mux.outgoing.take():
                if frame.cancels is not None and self._drop(frame.cancels):
                    continue
                if self._lost is not None:
                    self._refuse(mux, frame)
                    continue
                if frame.method == "notifications/initialized":
                    # Before any other message, because posts do not keep their order.
                    await self._post(http, mux, frame, nursery)
                    if self._session.id and self._check is not None:
                        await self._check.prove_support()
                    if self._legacy is None:
                        await self._start_listening(http, mux, nursery)
                elif frame.id is None:
                    answers.send_nowait(frame)
                else:
                    nursery.start_soon(self._post, http, mux, frame, nursery)

    async def _post_answers(
        self,
        http: HttpEndpoint,
        mux: Multiplexer,
        waiting: trio.MemoryReceiveChannel[Outgoing],
        nursery: trio.Nursery,
    ) -> None:
        async for frame in waiting:
            await self._post(http, mux, frame, nursery)

    def _answer_stream(self, mux: Multiplexer, frame: Outgoing) -> AnswerStream:
        on_version = self._session.note_version
        return AnswerStream(mux, frame, limit=self._limit, server=self._name, on_version=on_version)

    def _drop(self, key: Id) -> bool:
        """Close the POST of a call that no longer waits; return whether this alone cancels it at the server."""
        scope = self._posts.get(key)
        if scope is not None:
            scope.cancel(reason="no call waits for this answer")
        # Until 2025-11-25 closing a stream is not a cancellation, so the notification must be posted.
        return self._session.stateless

    async def _post(self, http: HttpEndpoint, mux: Multiplexer, frame: Outgoing, nursery: trio.Nursery) -> None:
        scope = trio.CancelScope()
        if frame.id is not None:
            self._posts[frame.id] = scope
        try:
            with scope:
                await self._exchange(http, mux, frame)
        except SessionLost as exc:
            if self._lost is None:
                self._lost = exc
                nursery.start_soon(self._drain, nursery)
            self._refuse(mux, frame)
        except ClawftError as exc:
            if not await self._fall_back(http, mux, frame, nursery, exc):
                self._fail(mux, frame, exc)
        finally:
            if frame.id is not None:
                del self._posts[frame.id]
                self._post_ended.unpark_all()

    def _refuse(self, mux: Multiplexer, frame: Outgoing) -> None:
        """Fail a request that did not run because its session is lost."""
        if frame.id is not None:
            error = SessionLost("the server has forgotten the session", server=self._name)
            error.refused = True
            error.__cause__ = None if self._lost is None else self._lost.__cause__
            mux.fail(frame.id, error)

    async def _drain(self, nursery: trio.Nursery) -> None:
        """End the transport when the POSTs of the lost session have ended.

        They are not all refused: some servers finish what they have begun.
        """
        with trio.move_on_after(_DRAIN):
            await trio.lowlevel.checkpoint()
            while self._posts:
                await self._post_ended.park()
        nursery.cancel_scope.cancel(reason="the session is lost")

    async def _fall_back(
        self, http: HttpEndpoint, mux: Multiplexer, frame: Outgoing, nursery: trio.Nursery, exc: ClawftError
    ) -> bool:
        """Try HTTP+SSE (2024-11-05) after a refused `initialize`; return whether the server supports it."""
        refused = frame.method == "initialize" and isinstance(exc, PeerError) and exc.status in REFUSALS
        if not refused:
            return False
        opened = trio.Event()
        nursery.start_soon(self._listen_legacy, http, mux, nursery, opened)
        await opened.wait()
        if self._legacy is None:
            return False
        try:
            await self._exchange(http, mux, frame)
        except ClawftError as failed:
            self._fail(mux, frame, failed)
        return True

    async def _listen_legacy(
        self, http: HttpEndpoint, mux: Multiplexer, nursery: trio.Nursery, opened: trio.Event
    ) -> None:
        """Receive the stream of a server of 2024-11-05; *opened* is set when it is open, or when it failed."""
        get = self._request(http, "GET", {"accept": EVENTS})
        try:
            async with open_stream(get, self._server.url, name=self._name, limit=self._limit) as stream:
                if stream is None:
                    return
                async with attrs.evolve(self._server, url=stream.endpoint).endpoint(self._name, self._sent) as posts:
                    self._legacy = posts
                    opened.set()
                    ended = await stream.receive(mux)
                self._lost = self._lost or ended
                nursery.cancel_scope.cancel(reason="the event stream has ended")
        except ClawftError as exc:
            _log.info("%s: HTTP+SSE failed: %s", self._name, exc)
        finally:
            opened.set()

    async def _post_legacy(self, posts: HttpEndpoint, frame: Outgoing, body: bytes) -> None:
        headers = {"content-type": JSON, "accept": JSON}
        async with self._request(posts, "POST", headers, body) as response:
            refusal = await response.read_refusal(limit=4 * MAX_BODY + 1)
            if not 200 <= response.status < 300:
                raise http_error(response, self._shown(refusal), frame.method, self._name)

    def _fail(self, mux: Multiplexer, frame: Outgoing, exc: ClawftError) -> None:
        error = exc
        if isinstance(exc, ProviderError):
            error = PeerGone(f"{frame.method}: {exc.message}", server=self._name)
            error.__cause__ = exc
        if frame.id is None:
            _log.info("%s: %s was not delivered: %s", self._name, frame.method or "an answer", error)
        else:
            mux.fail(frame.id, error)

    async def _exchange(self, http: HttpEndpoint, mux: Multiplexer, frame: Outgoing) -> None:
        body = frame.line.rstrip(b"\n")
        if self._legacy is not None:
            await self._post_legacy(self._legacy, frame, body)
            return
        answer = self._answer_stream(mux, frame)
        async with self._request(http, "POST", self._session.post_headers(frame), body) as response:
            if response.status == 202:
                await response.read_refusal(limit=4096)
            elif response.status != 200:
                await self._refused(response, answer)
            else:
                self._session.note_response(frame, response)
                await answer.receive(response)
            if answer.answered or frame.id is None:
                return
        await self._resume(http, answer)

    @asynccontextmanager
    async def _request(
        self, http: HttpEndpoint, method: str, headers: dict[str, str], content: bytes | None = None
    ) -> AsyncGenerator[HttpResponse, None]:
        """Send a request; repeat it with a new token after a 401, and after a 403 that requires more scopes."""
        login = self._login
        renewed: set[int] = set()
        while True:
            token = None if login is None else await login.access_token()
            authorization = {} if token is None else {"authorization": f"Bearer {token}"}
            async with http.request(method, content=content, headers={**headers, **authorization}) as response:
                challenge = response.headers.get("www-authenticate", "")
                wants = login is not None and wants_login(response.status, challenge)
                if not wants or response.status in renewed or method == "DELETE":
                    yield response
                    return
            assert login is not None
            renewed.add(response.status)
            await login.renew(response.status, challenge, token)

    async def _refused(self, response: HttpResponse, answer: AnswerStream) -> None:
        body = await response.read_refusal(limit=self._limit)
        if answer.frame.id is not None and response.content_type == JSON and error_in(body) is None:
            answer.deliver(body)
        if answer.answered:
            return
        error = http_error(response, self._shown(body), answer.frame.method, self._name)
        if await self._shows_session_lost(response, body, answer.frame.id):
            raise SessionLost("the server has forgotten the session", server=self._name) from error
        raise error

    def _shown(self, body: bytes) -> str:
        """Return the beginning of an error page, without the secrets that were sent."""
        most = 4 * MAX_BODY
        text = body[:most].decode("utf-8", "replace")
        return cut_redacted(text, most, redact=self._redact, partial=len(body) > most)

    def _redact(self, text: str) -> str:
        text = text if self._login is None else self._login.redact(text)
        return make_redactor(spellings(self._sent.values()))(text)

    async def _shows_session_lost(self, response: HttpResponse, body: bytes, key: Id | None) -> bool:
        if not self._session.id or not may_mean_session_lost(response, body, key):
            return False
        if response.status == 404:
            return True
        return key is not None and self._check is not None and await self._check.is_lost()

    async def _ping(self, http: HttpEndpoint) -> bool | None:
        """Send a ping in the session; return whether it was accepted, or None if the response does not show that."""
        key = "session-check"
        headers = {"content-type": JSON, "accept": f"{JSON}, {EVENTS}", **self._session.headers()}
        try:
            async with self._request(http, "POST", headers, encode_request(key, "ping")) as response:
                if response.status == 200:
                    return True
                body = await response.read_refusal(limit=4 * MAX_BODY)
        except ClawftError:
            return None
        refused = may_mean_session_lost(response, body, key)
        return False if refused and ((error := error_in(body)) is None or error.code != METHOD_NOT_FOUND) else None

    async def _resume(self, http: HttpEndpoint, answer: AnswerStream) -> None:
        """Resume a stream until the response has arrived; the number of times is limited by the caller's clock only."""
        method = answer.frame.method
        reconnects = Reconnects(longest=LONGEST_WITH_MESSAGES)
        lived = 0.0
        while True:
            if not answer.last_event_id or self._session.stateless:
                raise PeerGone(f"{method}: the stream ended before the answer", server=self._name)
            await trio.sleep(reconnects.wait_after(lived, retry=answer.retry))
            began = trio.current_time()
            status = await self._get(http, answer)
            lived = trio.current_time() - began
            if answer.answered:
                return
            if means_no_stream(status):
                raise PeerGone(f"{method}: the stream broke, and cannot be resumed: HTTP {status}", server=self._name)

    async def _get(
        self, http: HttpEndpoint, stream: AnswerStream, opened: Callable[[], None] = lambda: None
    ) -> int | None:
        """Receive a stream by GET, and call *opened* once it is open; return the status if there was no stream."""
        headers = {"accept": EVENTS, **self._session.headers()}
        if stream.last_event_id:
            headers["last-event-id"] = stream.last_event_id
        async with self._request(http, "GET", headers) as response:
            if response.status != 200 or response.content_type != EVENTS:
                return response.status
            opened()
            await stream.receive_events(response)
            return None

    async def _start_listening(self, http: HttpEndpoint, mux: Multiplexer, nursery: trio.Nursery) -> None:
        answered = trio.Event()
        nursery.start_soon(self._listen, http, mux, answered)
        with trio.move_on_after(_LISTEN_WAIT):
            await answered.wait()

    async def _listen(self, http: HttpEndpoint, mux: Multiplexer, answered: trio.Event) -> None:
        """Receive the messages that the server sends outside of calls, if it offers that.

        Only a POST can end a session: a server without such a stream may respond 404 here. *answered* is set when the
        server has responded to the first GET.
        """
        stream = self._answer_stream(mux, Outgoing(b""))
        quiet = Reconnects(shortest=FIRST_RETRY, longest=LONGEST_RETRY)
        busy = Reconnects(longest=LONGEST_WITH_MESSAGES)
        while True:
            began, received = trio.current_time(), stream.messages
            try:
                status = await self._get(http, stream, answered.set)
            except ClawftError as exc:
                _log.info("%s: the listening stream failed: %s", self._name, exc)
                status = 0
            answered.set()
            if means_no_stream(status):
                return
            lived = trio.current_time() - began
            if stream.messages > received:
                quiet.reset()
                await trio.sleep(busy.wait_after(lived, retry=stream.retry))
            else:
                await trio.sleep(quiet.wait_after(lived, retry=stream.retry))

    async def _end_session(self, http: HttpEndpoint) -> None:
        if not self._session.id or isinstance(self._lost, SessionLost):
            return
        try:
            async with self._request(http, "DELETE", self._session.headers()):
                pass
        except ClawftError as exc:
            _log.info("%s: the session could not be deleted: %s", self._name, exc)
