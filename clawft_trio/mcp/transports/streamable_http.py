"""Frames over HTTP: each is a POST, whose answer is JSON or a stream of events.

The multiplexer routes as it does over a pipe; what is different is here. A request that nobody waits for any more has
its POST closed. A stream that breaks before its answer has come is taken up where it broke (`Last-Event-ID`). A
session that the server has forgotten (404) is the end of the connection: a supervised client makes a new one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import msgspec
import trio
from msgspec import UNSET

from clawft_trio.errors import (
    MAX_BODY,
    ClawftError,
    McpError,
    PeerError,
    PeerGone,
    ProtocolViolation,
    ProviderError,
    SessionLost,
)
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE, Envelope, Id, parse
from clawft_trio.mcp.messages import Outgoing
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.transports.param_headers import header_value
from clawft_trio.mcp.types import STATELESS_VERSION
from clawft_trio.net import Clocks, HeaderValue, HttpEndpoint, HttpResponse, SSEDecoder, bearer
from clawft_trio.nursery import open_hidden_nursery

_CONNECTIONS = 256
"""Requests under way at once: each call holds one, and most of them only wait."""

_FIRST_RETRY = 1.0
"""Seconds before a broken stream is taken up again, where the server has not said."""

_LONGEST_RETRY = 30.0

_RESUMPTIONS = 20
"""Times that one stream is taken up again; its caller's clock usually runs out before."""

_LISTEN_WAIT = 1.0
"""Seconds that requests wait for the answer to the listening GET: what a server sends before it has that is lost."""

_SHORTEST_RETRY = 0.1
"""Seconds; a server may ask for less, and would be asked in a busy loop."""

_GOODBYE = 2.0
"""Seconds for telling the server that its session is over."""

_SHOWN = 200
"""Characters of a refusal's body that stand in the error's message; more of it is in `PeerError.body`."""

_KEPT_HEADERS = ("www-authenticate", "retry-after")

_JSON = "application/json"
_EVENTS = "text/event-stream"
_SESSION = re.compile(r"[\x21-\x7e]{1,512}")

# The header `Mcp-Name` repeats what these name.
_NAMING = frozenset(("tools/call", "prompts/get", "resources/read"))

_log = logging.getLogger("clawft_trio.mcp")


@attrs.frozen
class HttpServer:
    """How to reach an MCP server over streamable HTTP."""

    #: the address of its MCP endpoint
    url: str
    #: sent with every request; a value may be a callable, sync or async, that is asked each time
    headers: Mapping[str, HeaderValue] = attrs.field(factory=dict, kw_only=True, repr=False)
    #: bearer token, or a callable, sync or async, that is asked for it before each request
    token: HeaderValue | None = attrs.field(default=None, kw_only=True, repr=False)
    #: seconds until a connection is made
    connect: float = attrs.field(default=10.0, kw_only=True)
    #: redirects that are followed; secrets are not taken along to another origin
    redirects: int = attrs.field(default=2, kw_only=True)

    def endpoint(self, name: str) -> HttpEndpoint:
        """A pool of connections to it.

        Raises:
          NotConfigured: the address is none.
        """
        secret = {} if self.token is None else {"authorization": bearer(self.token)}
        return HttpEndpoint(
            self.url,
            name=name,
            headers={**self.headers, **secret},
            connections=_CONNECTIONS,
            # How long an answer takes is for the call to say, not for the connection.
            clocks=Clocks(connect=self.connect, write=30.0, first_byte=None),
            redirects=self.redirects,
        )


class HttpTransport:
    """A `Transport` over streamable HTTP.

    Args:
      server: where it is.
      name: what it is called in errors.
      limit: bytes that one message may have.
    """

    def __init__(self, server: HttpServer, *, name: str = "", limit: int = MAX_MESSAGE) -> None:
        self._server = server
        self._name = name
        self._limit = limit
        self._session = ""
        self._version = ""
        self._posts: dict[Id, trio.CancelScope] = {}
        self._lost: McpError | None = None

    async def run(self, mux: Multiplexer) -> McpError:
        """Post frames until the server has forgotten the session.

        Raises:
          NotConfigured: the address is none.

        Cancellation: every stream is closed and the server told that the session is over, within two seconds.
        """
        async with self._server.endpoint(self._name) as http:
            try:
                async with open_hidden_nursery() as nursery:
                    await self._post_all(http, mux, nursery)
            finally:
                mux.end(self._lost or PeerGone("the connection was closed here", server=self._name))
                with trio.move_on_after(_GOODBYE, shield=True):
                    await self._end_session(http)
        assert self._lost is not None
        return self._lost

    async def _post_all(self, http: HttpEndpoint, mux: Multiplexer, nursery: trio.Nursery) -> None:
        while True:
            for frame in await mux.outgoing.take():
                if frame.cancels is not None and self._drop(frame.cancels):
                    continue
                if frame.method == "notifications/initialized":
                    # Before anything else is said: posts do not keep their order.
                    await self._post(http, mux, frame, nursery)
                    await self._start_listening(http, mux, nursery)
                else:
                    nursery.start_soon(self._post, http, mux, frame, nursery)

    def _drop(self, key: Id) -> bool:
        """Close the POST of a call that nobody waits for; whether that tells the server all there is to tell."""
        scope = self._posts.get(key)
        if scope is not None:
            scope.cancel(reason="nobody waits for this answer any more")
        # Until 2025-11-25 a closed stream is no cancellation, and the notice has to be posted.
        return self._version == STATELESS_VERSION

    # --- one frame -------------------------------------------------------------------------------------------

    async def _post(self, http: HttpEndpoint, mux: Multiplexer, frame: Outgoing, nursery: trio.Nursery) -> None:  # noqa: ASYNC910 - the request was awaited
        scope = trio.CancelScope()
        if frame.id is not None:
            self._posts[frame.id] = scope
        try:
            with scope:
                await self._exchange(http, mux, frame)
        except SessionLost as exc:
            self._lost = self._lost or exc
            nursery.cancel_scope.cancel(reason="the session is lost")
        except ClawftError as exc:
            self._fail(mux, frame, exc)
        finally:
            if frame.id is not None:
                del self._posts[frame.id]

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
        async with http.request("POST", content=body, headers=self._headers(frame)) as response:
            waiting = _Waiting(mux, frame)
            if response.status == 202:
                await response.read(limit=4096, cut=True)
            elif response.status != 200:
                await self._refused(response, waiting)
            else:
                self._note_session(frame, response)
                await self._receive(response, waiting)
            if waiting.answered or frame.id is None:
                return
        await self._resume(http, waiting)

    def _headers(self, frame: Outgoing) -> dict[str, str]:
        if frame.method == "server/discover":
            self._version = STATELESS_VERSION
        elif frame.method == "initialize":
            self._version = ""
        headers = {"content-type": _JSON, "accept": f"{_JSON}, {_EVENTS}", **self._session_headers()}
        if self._version == STATELESS_VERSION:
            headers["mcp-method"] = frame.method
            if frame.method in _NAMING:
                headers["mcp-name"] = header_value(frame.name)
            headers.update(frame.headers)
        return headers

    def _session_headers(self) -> dict[str, str]:
        headers = {}
        if self._version:
            headers["mcp-protocol-version"] = self._version
        if self._session:
            headers["mcp-session-id"] = self._session
        return headers

    def _note_session(self, frame: Outgoing, response: HttpResponse) -> None:
        if frame.method != "initialize":
            return
        session = response.headers.get("mcp-session-id", "")
        if session and not _SESSION.fullmatch(session):
            raise ProtocolViolation("the session id is not visible ASCII", server=self._name)
        self._session = session

    async def _receive(self, response: HttpResponse, waiting: _Waiting) -> None:  # noqa: ASYNC910 - the request was awaited
        if response.content_type == _EVENTS:
            await self._receive_events(response, waiting)
        elif response.content_type == _JSON:
            self._deliver(await response.read(limit=self._limit), waiting)
            if not waiting.answered and waiting.frame.id is not None:
                raise ProtocolViolation(f"{waiting.frame.method}: the body holds no answer", server=self._name)
        elif waiting.frame.id is not None:
            kind = response.content_type[:60] or "nothing"
            raise ProtocolViolation(f"{waiting.frame.method}: the answer is {kind!r}", server=self._name)

    async def _receive_events(self, response: HttpResponse, waiting: _Waiting) -> None:  # noqa: ASYNC910 - the request was awaited
        decoder = SSEDecoder(max_event=self._limit)
        try:
            async for chunk in response.chunks():
                for event in decoder.feed(chunk):
                    waiting.events += 1
                    if event.data.strip():
                        self._deliver(event.data, waiting)
                if waiting.answered:
                    return
        except ProviderError as exc:
            # A connection that breaks in mid-stream is what resuming is for.
            _log.info("%s: a stream broke: %s", self._name, exc)
        finally:
            waiting.last_event_id = decoder.last_event_id or waiting.last_event_id
            if decoder.retry is not None:
                waiting.retry = min(max(decoder.retry / 1000, _SHORTEST_RETRY), _LONGEST_RETRY)

    def _deliver(self, data: bytes, waiting: _Waiting) -> None:
        waiting.mux.last_received = trio.current_time()
        for message in parse(data):
            if isinstance(message, Envelope) and message.method is UNSET and message.id == waiting.frame.id:
                self._note_version(waiting.frame, message)
                waiting.answered = True
            elif message.id is not UNSET and message.id == waiting.frame.id and not isinstance(message, Envelope):
                waiting.answered = True
            waiting.mux.deliver(message)

    def _note_version(self, frame: Outgoing, answer: Envelope) -> None:
        if frame.method == "initialize" and answer.result:
            with suppress(ValueError):  # whoever waits for the answer will say what is wrong with it
                self._version = _decode_version(answer.result).protocol_version

    async def _refused(self, response: HttpResponse, waiting: _Waiting) -> None:
        body = await response.read(limit=self._limit, cut=True)
        if response.status == 404 and self._session:
            raise SessionLost("the server has forgotten the session", server=self._name)
        if waiting.frame.id is not None and response.content_type == _JSON:
            self._deliver(body, waiting)
        if not waiting.answered:
            raise _http_error(response, body, waiting.frame.method, self._name)

    # --- streams that broke, and the server's own -----------------------------------------------------------------

    async def _resume(self, http: HttpEndpoint, waiting: _Waiting) -> None:
        method = waiting.frame.method
        for _ in range(_RESUMPTIONS):
            if not waiting.last_event_id or self._version == STATELESS_VERSION:
                raise PeerGone(f"{method}: the stream ended before the answer", server=self._name)
            await trio.sleep(waiting.retry)
            if await self._get(http, waiting) is None and waiting.answered:
                return
        raise PeerGone(f"{method}: the stream broke {_RESUMPTIONS} times", server=self._name)

    async def _get(
        self, http: HttpEndpoint, waiting: _Waiting, opened: Callable[[], None] = lambda: None
    ) -> int | None:
        """Receive a stream by GET, and call *opened* once it is open; the status if there was none."""
        headers = {"accept": _EVENTS, **self._session_headers()}
        if waiting.last_event_id:
            headers["last-event-id"] = waiting.last_event_id
        async with http.request("GET", headers=headers) as response:
            if response.status != 200 or response.content_type != _EVENTS:
                return response.status
            opened()
            await self._receive_events(response, waiting)
            return None

    async def _start_listening(self, http: HttpEndpoint, mux: Multiplexer, nursery: trio.Nursery) -> None:
        answered = trio.Event()
        nursery.start_soon(self._listen, http, mux, answered)
        with trio.move_on_after(_LISTEN_WAIT):
            await answered.wait()

    async def _listen(self, http: HttpEndpoint, mux: Multiplexer, answered: trio.Event) -> None:
        """Receive what the server sends outside of any call, where it offers that.

        Only a POST can end a session: a 404 here is what a server without such a stream may answer. *answered* is set
        when the server has answered the first GET.
        """
        waiting = _Waiting(mux, Outgoing(b""))
        wait = 0.0
        while True:
            received = waiting.events
            try:
                status = await self._get(http, waiting, answered.set)
            except ClawftError as exc:
                _log.info("%s: the listening stream failed: %s", self._name, exc)
                status = 0
            answered.set()
            if status is not None and (400 <= status < 500 or status == 501):
                return  # noqa: ASYNC910 - the request was awaited
            # A stream that ends without a single event, over and over, is opened less and less often.
            wait = 0.0 if waiting.events > received else min(max(2 * wait, _FIRST_RETRY), _LONGEST_RETRY)
            await trio.sleep(max(wait, waiting.retry))

    async def _end_session(self, http: HttpEndpoint) -> None:  # noqa: ASYNC910 - the request was awaited
        if not self._session or isinstance(self._lost, SessionLost):
            return  # noqa: ASYNC910 - the request was awaited
        try:
            async with http.request("DELETE", headers=self._session_headers()):
                pass
        except ClawftError as exc:
            _log.info("%s: it could not be told that the session is over: %s", self._name, exc)


class _Waiting:
    """A stream, and the answer that it is to bring."""

    def __init__(self, mux: Multiplexer, frame: Outgoing) -> None:
        self.mux = mux
        self.frame = frame
        self.answered = False
        self.last_event_id = ""
        self.retry = _FIRST_RETRY
        self.events = 0


class _Version(msgspec.Struct, rename="camel"):
    protocol_version: str = ""


_decode_version = msgspec.json.Decoder(_Version).decode


def _http_error(response: HttpResponse, body: bytes, method: str, server: str) -> McpError:
    kept = {name: response.headers[name][:MAX_BODY] for name in _KEPT_HEADERS if name in response.headers}
    text = body[: 4 * MAX_BODY].decode("utf-8", "replace")
    error = PeerError(
        f"{method or 'GET'}: HTTP status {response.status}{_reason(text)}",
        code=response.status,
        server=server,
        status=response.status,
        body=text,
        headers=kept,
    )
    error.retryable = response.status == 429 or response.status >= 500
    wait = response.headers.get("retry-after", "")
    if wait.isdigit():
        error.retry_after = float(wait[:9])
    return error


def _reason(body: str) -> str:
    """The first words of *body* if it is text for people, on one line."""
    words = " ".join(body[:_SHOWN].split())
    return f": {words}" if words.isprintable() and words and not words.startswith("<") else ""
