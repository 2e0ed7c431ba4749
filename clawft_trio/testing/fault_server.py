"""A model server on loopback that breaks as its script says.

It speaks real HTTP/1.1 over real sockets, in the OpenAI dialect at `/v1/chat/completions` and the Anthropic
dialect at `/v1/messages`, streaming or not as the request asks:

    async with open_fault_server(
        [Say("Oslo is "), ResetConnection()],        # the first request
        [Say("Oslo is cold."), Finish()],            # every later one
    ) as server:
        provider = ...                               # any client, at server.url
        ...
        assert [exchange.ending for exchange in server.exchanges] == ["reset", "complete"]

HTTP is framed by h11, which httpx brings along; every fault goes to the socket underneath it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, TypeAlias

import attrs
import h11
import trio

from clawft_trio.chat import JsonObject
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import InvalidData
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.testing.dialects import Dialect, Setting, Writer, error_body, writer
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fault,
    Finish,
    Garbage,
    Hang,
    InPieces,
    Page,
    Pings,
    Preamble,
    Raw,
    Report,
    ResetConnection,
    Say,
    SendHeaders,
    Status,
    Step,
    Think,
    Wait,
    WireScript,
)

Ending = Literal["complete", "closed", "reset", "client_left", "server_stopped"]
"""How an exchange ended: the response went out in full as HTTP has it; the script closed or reset the connection;
the client was gone before; the server was shut down."""

_MAX_REQUEST = 64 * 1024 * 1024
"""Bytes of request body that are kept: far more than a test sends, and less than a machine has."""

_RECEIVE = 64 * 1024

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing discards what is unsent and answers with RST instead of FIN."""


@attrs.frozen(kw_only=True)
class SeenRequest:
    """One request, as it arrived."""

    #: from 0, in order of arrival
    number: int
    #: from 0, among the requests for the same model
    turn: int
    #: seconds since the server started, in the script's time (before scaling)
    elapsed: float
    #: `trio.current_time()` when it had arrived in full
    time: float
    #: which connection it came over, from 0
    connection: int
    dialect: Dialect
    path: str
    #: names in lower case
    headers: Mapping[str, str]
    body: JsonObject

    @property
    def model(self) -> str:
        """The model that it asks for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether it asks for a stream."""
        return bool(self.body.get("stream"))

    @property
    def answers_tools(self) -> bool:
        """Whether its last message is a tool's result."""
        messages = self.body.get("messages") or [{}]
        content = messages[-1].get("content")
        blocks = content if isinstance(content, list) else []
        return messages[-1].get("role") == "tool" or any(
            isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks
        )


@attrs.define(kw_only=True)
class Exchange:
    """One request and what became of it. `ending` is None while the script plays."""

    request: SeenRequest
    ending: Ending | None = None
    #: `trio.current_time()` of the end
    ended: float | None = None
    #: steps of the script that were begun
    steps: int = 0
    #: bytes handed to the socket
    sent: int = 0


@attrs.frozen(kw_only=True)
class FaultServerStatistics:
    """What a `FaultServer` is doing now."""

    connections_open: int
    connections_accepted: int
    requests: int
    #: exchanges whose script is being played
    running: int


Chooser: TypeAlias = Callable[[SeenRequest], WireScript]


class FaultServer:
    """A running fault server; `open_fault_server` makes one."""

    def __init__(self, choose: Chooser, *, scale: float) -> None:
        self._choose = choose
        self._scale = scale
        self._started = trio.current_time()
        self._open = 0
        self._accepted = 0
        self._changed = trio.lowlevel.ParkingLot()
        #: every exchange, in order of arrival
        self.exchanges: list[Exchange] = []
        #: `http://127.0.0.1:port`, for clients that put `/v1` themselves
        self.origin = ""

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<FaultServer {self.origin}: {now.requests} requests, {now.connections_open} connections open>"

    @property
    def url(self) -> str:
        """The base URL, ending in `/v1`."""
        return f"{self.origin}/v1"

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request, in order of arrival."""
        return [exchange.request for exchange in self.exchanges]

    def statistics(self) -> FaultServerStatistics:
        """Its numbers now."""
        return FaultServerStatistics(
            connections_open=self._open,
            connections_accepted=self._accepted,
            requests=len(self.exchanges),
            running=sum(exchange.ending is None for exchange in self.exchanges),
        )

    async def wait_for(self, condition: Callable[[FaultServerStatistics], bool]) -> None:
        """Wait until *condition* holds of `statistics()`: `await server.wait_for(lambda now: now.running == 0)`.

        Cancellation: nothing is left behind.
        """
        await trio.lowlevel.checkpoint()
        while not condition(self.statistics()):
            await self._changed.park()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection over *stream* until it ends, then close it. For in-memory transports.

        Raises:
          Exception: what choosing a script raised.

        Cancellation: the stream is closed and its exchange ends as `server_stopped`.
        """
        number = self._accepted
        self._accepted += 1
        self._open += 1
        try:
            await _Connection(self, stream, number).converse()
        finally:
            self._open -= 1
            self._changed.unpark_all()
            await trio.aclose_forcefully(stream)

    def _begin(self, request: SeenRequest) -> Exchange:
        exchange = Exchange(request=request)
        self.exchanges.append(exchange)
        self._changed.unpark_all()
        return exchange

    def _end(self, exchange: Exchange, ending: Ending) -> None:
        exchange.ending = ending
        exchange.ended = trio.current_time()
        self._changed.unpark_all()


@asynccontextmanager
async def open_fault_server(
    *scripts: WireScript,
    models: Mapping[str, Sequence[WireScript]] | None = None,
    choose: Chooser | None = None,
    scale: float = 1.0,
    port: int = 0,
) -> AsyncGenerator[FaultServer, None]:
    """Run a fault server on 127.0.0.1 for the length of the block.

    Args:
      scripts: what to play for the first request, the second, …; the last one repeats.
      models: scripts by model name, counted for each model on its own. Other models get *scripts*, or 404.
      choose: picks the script from the request instead.
      scale: every time in a script is multiplied by it, `Retry-After` included.
      port: 0 takes a free one.

    Raises:
      OSError: the port is taken.
      Exception: what *choose* raised.
    """
    pick = choose or _by_count(scripts, models or {})
    server = FaultServer(pick, scale=scale)
    async with open_hidden_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
        server.origin = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, server.serve_stream, [listener])
        yield server
        nursery.cancel_scope.cancel(reason="fault server closed")


def _by_count(scripts: Sequence[WireScript], models: Mapping[str, Sequence[WireScript]]) -> Chooser:
    if not scripts and not models:
        raise ValueError("a script is needed: open_fault_server([Say('Hello.'), Finish()])")

    def choose(request: SeenRequest) -> WireScript:
        if request.model in models:
            mine = models[request.model]
            return mine[min(request.turn, len(mine) - 1)]
        if not scripts:
            return [Status(404, message=f"no model {request.model!r}")]
        return scripts[min(request.number, len(scripts) - 1)]

    return choose


@contextmanager
def refused_url() -> Iterator[str]:
    """A base URL at which connections are refused, for certain: the port is held, and nobody listens.

    with refused_url() as url:
        ...
    """
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


# --- one connection -------------------------------------------------------------------------------------


class _Connection:
    """Requests and answers in turn, until somebody closes."""

    def __init__(self, server: FaultServer, stream: trio.abc.Stream, number: int) -> None:
        self._server = server
        self._stream = stream
        self._number = number
        self._http = h11.Connection(h11.SERVER)

    async def converse(self) -> None:
        try:
            while await self._exchange():
                self._http.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            # What is not HTTP is not answered: no test needs it, and closing is always safe.
            return

    async def _exchange(self) -> bool:
        """One request and its answer. False when there was none, or nothing may follow it."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return False
        body = await self._body()
        request = self._seen(head, body)
        if request is None:
            await self._refuse(head, body)
        elif not await self._play(request):
            return False
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE)))
        return event

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > _MAX_REQUEST:
                raise h11.RemoteProtocolError("request body too large")
        return bytes(body)

    def _seen(self, head: h11.Request, body: bytes) -> SeenRequest | None:
        """The request, or None when this server has no answer to it."""
        path = head.target.decode("ascii").partition("?")[0]
        dialect = _dialect(path)
        try:
            decoded = decode_json(body) if head.method == b"POST" else None
        except InvalidData:
            return None
        if dialect is None or not isinstance(decoded, dict):
            return None
        before = self._server.exchanges
        now = trio.current_time()
        model = decoded.get("model", "")
        return SeenRequest(
            number=len(before),
            turn=sum(exchange.request.model == model for exchange in before),
            elapsed=(now - self._server._started) / (self._server._scale or 1.0),
            time=now,
            connection=self._number,
            dialect=dialect,
            path=path,
            headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
            body=decoded,
        )

    async def _refuse(self, head: h11.Request, body: bytes) -> None:
        known = _dialect(head.target.decode("ascii").partition("?")[0]) is not None
        step = Status(400, message="not a JSON object") if known and body else Status(404, message="nothing here")
        await self._send_whole(step.status, encode_json(error_body("openai", step)))

    async def _send_whole(self, status: int, body: bytes) -> None:
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))

    async def _play(self, request: SeenRequest) -> bool:
        """Play the script for *request*; False when the connection is not to be used again."""
        exchange = self._server._begin(request)
        ending: Ending = "server_stopped"
        try:
            script = tuple(self._server._choose(request))
            performance = _Performance(self._stream, self._http, exchange, script, self._server._scale)
            async with open_hidden_nursery() as nursery:
                nursery.start_soon(self._watch, nursery.cancel_scope)
                # Until the script is over: what cancels it before is the client's leaving, or our own end.
                ending = "client_left"
                ending = await performance.play(script)
                nursery.cancel_scope.cancel(reason="script over")
        except trio.Cancelled:
            ending = "server_stopped"
            raise
        except trio.BrokenResourceError:
            ending = "client_left"
        finally:
            self._server._end(exchange, ending)
        return ending == "complete"

    async def _watch(self, playing: trio.CancelScope) -> None:
        """End the playing when the client goes; keep what it sends for the next request."""
        try:
            while data := await self._stream.receive_some(_RECEIVE):
                self._http.receive_data(bytes(data))
        except trio.BrokenResourceError:
            pass
        playing.cancel(reason="client left")


def _dialect(path: str) -> Dialect | None:
    if path.endswith("/chat/completions"):
        return "openai"
    return "anthropic" if path.endswith("/messages") else None


# --- one script -----------------------------------------------------------------------------------------


class _Performance:
    """One script being played into a connection."""

    def __init__(
        self, stream: trio.abc.Stream, http: h11.Connection, exchange: Exchange, script: WireScript, scale: float
    ) -> None:
        self._stream = stream
        self._http = http
        self._exchange = exchange
        self._scale = scale
        self._request = exchange.request
        self._writer: Writer = writer(
            self._request.dialect, _setting(self._request, script), stream=self._request.stream
        )
        #: None: every event is a piece
        self._sizes: tuple[int, ...] | None = None
        self._next_size = 0
        self._gathered = bytearray()
        self._headers_sent = False

    async def play(self, script: WireScript) -> Ending:
        for step in script:
            self._exchange.steps += 1
            ending = await self._take(step)
            if ending is not None:
                return ending
        return await self._end_body(self._writer.end())

    async def _take(self, step: Step | Fault) -> Ending | None:
        match step:
            case Say() | Think() | CallTool() | Report() | Finish() | Preamble() | BadJson() | BadUtf8() | Raw():
                await self._write(self._writer.write(step))
            case ErrorEvent() if self._request.stream:
                await self._write(self._writer.write(step))
            case Wait(seconds):
                await self._pause(seconds)
            case Hang():
                await self._flush()
                await trio.sleep_forever()
            case Pings():
                await self._ping(step)
            case SendHeaders():
                await self._open(step.headers)
            case InPieces(sizes):
                self._sizes = sizes
            case _:
                return await self._fail(step)
        return None

    async def _fail(
        self, step: Status | Page | ErrorEvent | Garbage | EndBody | CloseConnection | ResetConnection
    ) -> Ending:
        match step:
            case ErrorEvent():
                return await self._status(Status(step.status, step.code, step.message))
            case Status():
                return await self._status(step)
            case Page():
                return await self._page(step.status, step.body, {"content-type": step.content_type, **step.headers})
            case EndBody():
                return await self._end_body(self._writer.torn())
            case Garbage(data):
                await self._flush()
                await self._send(data)
            case CloseConnection():
                await self._tear()
            case ResetConnection():
                await self._tear()
                _reset_on_close(self._stream)
                return "reset"
        return "closed"

    # --- bodies

    async def _write(self, events: list[bytes]) -> None:
        for event in events:
            await self._put(event)

    async def _put(self, data: bytes) -> None:
        if self._sizes is not None:
            self._gathered += data
        else:
            await self._send_chunk(data)

    async def _flush(self) -> None:
        """Send what was gathered, in pieces."""
        while self._gathered and self._sizes is not None:
            size = self._sizes[self._next_size % len(self._sizes)]
            self._next_size += 1
            piece = bytes(self._gathered[:size])
            del self._gathered[:size]
            await self._send_chunk(piece)

    async def _send_chunk(self, data: bytes) -> None:
        await self._open({})
        await self._send(self._http.send(h11.Data(data=data)) or b"")

    async def _end_body(self, last: bytes) -> Ending:
        if last:
            await self._put(last)
        await self._flush()
        await self._open({})
        await self._send(self._http.send(h11.EndOfMessage()) or b"")
        return "complete"

    async def _tear(self) -> None:
        if torn := self._writer.torn():
            await self._put(torn)
        await self._flush()

    async def _pause(self, seconds: float) -> None:
        await self._flush()
        await trio.sleep(seconds * self._scale)

    async def _ping(self, step: Pings) -> None:
        left = step.times
        while left is None or left > 0:
            await self._write(self._writer.write(step))
            await self._pause(step.every)
            left = None if left is None else left - 1

    # --- responses

    async def _open(self, headers: Mapping[str, str]) -> None:
        if self._headers_sent:
            return
        self._headers_sent = True
        await self._respond(200, {"content-type": self._writer.content_type, **headers})

    async def _respond(self, status: int, headers: Mapping[str, str]) -> None:
        id_header = "x-request-id" if self._request.dialect == "openai" else "request-id"
        every = {id_header: f"req_{self._request.number}", **headers}
        await self._send(self._http.send(h11.Response(status_code=status, headers=list(every.items()))) or b"")

    async def _status(self, step: Status) -> Ending:
        after = {} if step.retry_after is None else {"retry-after": f"{step.retry_after * self._scale:g}"}
        body = encode_json(error_body(self._request.dialect, step))
        return await self._page(step.status, body, {"content-type": "application/json", **after, **step.headers})

    async def _page(self, status: int, body: bytes, headers: Mapping[str, str]) -> Ending:
        if self._headers_sent:
            raise ValueError(f"script: a response with status {status} cannot follow a body that has begun")
        await self._respond(status, {**headers, "content-length": str(len(body))})
        await self._send(self._http.send(h11.Data(data=body)) or b"")
        await self._send(self._http.send(h11.EndOfMessage()) or b"")
        return "complete"

    async def _send(self, data: bytes) -> None:
        await self._stream.send_all(data)
        self._exchange.sent += len(data)


def _setting(request: SeenRequest, script: WireScript) -> Setting:
    options: Any = request.body.get("stream_options")
    asked = isinstance(options, dict) and bool(options.get("include_usage"))
    told = [step.usage for step in script if isinstance(step, Finish | Report) and step.usage is not None]
    return Setting(
        number=request.number,
        model=request.model,
        tell_usage=asked or request.dialect == "anthropic",
        usage=told[-1] if told else None,
    )


def _reset_on_close(stream: trio.abc.Stream) -> None:
    # A stream in memory has no RST: there, closing is the whole of it.
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
