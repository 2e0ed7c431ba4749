"""A model server on loopback that fails as its script demands.

It uses HTTP/1.1 over real sockets, in the OpenAI dialect at `/v1/chat/completions`, the Anthropic dialect at
`/v1/messages` and the Responses dialect at `/v1/responses`, streaming or not as the request asks:

    async with open_fault_server(
        [Say("Oslo is "), ResetConnection()],        # the first request
        [Say("Oslo is cold."), Finish()],            # every later one
    ) as server:
        provider = ...                               # any client, at server.url
        ...
        assert [exchange.ending for exchange in server.exchanges] == ["reset", "complete"]

h11, a dependency of httpx, frames HTTP; faults are written to the socket below it.
"""

from __future__ import annotations

import functools
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias

import attrs
import h11
import trio

from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import InvalidData
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.testing.dialects import DialectName, error_body
from clawft_trio.testing.script import Status, WireScript, check_scripts
from clawft_trio.testing.script_player import Exchange, ExchangeEnding, ScriptPlayer, SeenRequest
from clawft_trio.testing.vendor_checks import Complaint
from clawft_trio.testing.vendor_rules import Vendor, check_vendor, refusal, refusal_body

_MAX_REQUEST = 64 * 1024 * 1024
"""Bytes of request body that are kept: far more than a test sends, and less than the memory of a machine."""

_RECEIVE = 64 * 1024


@attrs.frozen(kw_only=True)
class FaultServerStatistics:
    """Current numbers of a `FaultServer`."""

    #: connections that are open now
    connections_open: int
    #: connections since the start
    connections_accepted: int
    #: requests since the start
    requests: int
    #: exchanges whose script is being played
    running: int


Chooser: TypeAlias = Callable[[SeenRequest], WireScript]


class FaultServer:
    """A running fault server; `open_fault_server` creates one."""

    def __init__(self, choose: Chooser, *, scale: float, accepts: Vendor | None = None) -> None:
        self._choose = choose
        self._scale = scale
        self._started = trio.current_time()
        self._open = 0
        self._accepted = 0
        #: number of requests by model
        self._asked: Counter[str] = Counter()
        self._changed = trio.lowlevel.ParkingLot()
        self._accepts = accepts
        #: requests that the vendor would refuse, with the reason
        self.refusals: list[tuple[SeenRequest, Complaint]] = []
        #: every exchange, in order of arrival
        self.exchanges: list[Exchange] = []
        #: `http://127.0.0.1:port`, for clients that append `/v1`
        self.origin = ""

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<FaultServer {self.origin}: {now.requests} requests, {now.connections_open} connections open>"

    @property
    def url(self) -> str:
        """Base URL, ending in `/v1`."""
        return f"{self.origin}/v1"

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request, in order of arrival."""
        return [exchange.request for exchange in self.exchanges]

    def statistics(self) -> FaultServerStatistics:
        """Return the current numbers."""
        return FaultServerStatistics(
            connections_open=self._open,
            connections_accepted=self._accepted,
            requests=len(self.exchanges),
            running=sum(exchange.ended is None for exchange in self.exchanges),
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
          Exception: raised while a script was chosen.

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

    def _complaint(self, request: SeenRequest) -> Complaint | None:
        """Return why the vendor refuses *request*; None when it accepts it, or no vendor was named."""
        complaint = None if self._accepts is None else refusal(self._accepts, request.body)
        if complaint is not None:
            self.refusals.append((request, complaint))
        return complaint

    def _begin(self, request: SeenRequest) -> Exchange:
        exchange = Exchange(request=request)
        self._asked[request.model] += 1
        self.exchanges.append(exchange)
        self._changed.unpark_all()
        return exchange

    def _end(self, exchange: Exchange) -> None:
        exchange.ending = exchange.ending or "server_stopped"
        exchange.ended = trio.current_time()
        self._changed.unpark_all()


@asynccontextmanager
async def open_fault_server(
    *scripts: WireScript,
    models: Mapping[str, Sequence[WireScript]] | None = None,
    choose: Chooser | None = None,
    scale: float = 1.0,
    port: int = 0,
    accepts: str = "",
) -> AsyncGenerator[FaultServer, None]:
    """Run a fault server on 127.0.0.1 for the duration of the block.

    Args:
      scripts: scripts for the first request, the second, …; the last one repeats.
      models: scripts by model name, counted per model. Other models get *scripts*, or 404.
      choose: chooses the script for a request, instead of *scripts* and *models*.
      scale: factor for every time in a script, `Retry-After` included.
      port: the port to listen on; 0 selects a free one.
      accepts: a vendor (`testing.vendor_rules.Vendor`): a request that it would refuse gets its 400 and no script is
        played for it. `FaultServer.refusals` lists them.

    Raises:
      OSError: the port is in use.
      TypeError: a script is a single step: `open_fault_server([Say("a"), Finish()])` has one script of two steps.
      ValueError: there is no script, or there are no rules for the vendor.
      Exception: raised by *choose*.

    Cancellation: connections are closed, and nothing is left behind.
    """
    pick = choose or _by_count(scripts, models or {})
    server = FaultServer(pick, scale=scale, accepts=check_vendor(accepts) if accepts else None)
    async with open_hidden_nursery() as nursery:
        listen = functools.partial(trio.serve_tcp, server.serve_stream, port, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(listen)
        server.origin = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel(reason="fault server closed")


def _by_count(scripts: Sequence[WireScript], models: Mapping[str, Sequence[WireScript]]) -> Chooser:
    if not scripts and not models:
        raise ValueError("a script is needed: open_fault_server([Say('Hello.'), Finish()])")
    check_scripts((*scripts, *models.values()))

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
    """Provide a base URL at which connections are certainly refused: the port is held, and no process listens.

    with refused_url() as url:
        ...
    """
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


class _Connection:
    """One connection: requests and answers in turn, until one side closes."""

    def __init__(self, server: FaultServer, stream: trio.abc.Stream, number: int) -> None:
        self._server = server
        self._stream = stream
        self._number = number
        self._http = h11.Connection(h11.SERVER)

    async def converse(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            while await self._exchange():
                self._http.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            # Bytes that are not HTTP are not answered: no test needs it, and closing is always safe.
            return

    async def _exchange(self) -> bool:
        """Handle one request and its answer; return False when there was none, or nothing may follow it."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return False
        body = await self._body()
        request = self._seen(head, body)
        if request is None:
            await self._refuse(head, body)
        elif (complaint := self._server._complaint(request)) is not None:
            await self._send_whole(400, encode_json(refusal_body(self._server._accepts or "openai", complaint)))
        elif not await self._play(request):
            return False
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _event(self) -> object:
        await trio.lowlevel.checkpoint()
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
        """Return the decoded request, or None when this server has no answer to it."""
        path = head.target.decode("ascii").partition("?")[0]
        dialect = _dialect(path)
        try:
            decoded = decode_json(body) if head.method == b"POST" else None
        except InvalidData:
            return None
        if dialect is None or not isinstance(decoded, dict):
            return None
        asked = self._server._asked
        now = trio.current_time()
        model = str(decoded.get("model", ""))
        return SeenRequest(
            number=asked.total(),
            turn=asked[model],
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
        """Play the script for *request*; return False when the connection must not be used again."""
        exchange = self._server._begin(request)
        try:
            exchange.ending = await self._perform(exchange)
        except trio.BrokenResourceError:
            exchange.ending = "client_left"
        finally:
            self._server._end(exchange)
        return exchange.ending == "complete"

    async def _perform(self, exchange: Exchange) -> ExchangeEnding:
        script = tuple(self._server._choose(exchange.request))
        performance = ScriptPlayer(self._stream, self._http, exchange, script, self._server._scale)
        # Only the watcher ends the block before the script is over.
        ending: ExchangeEnding = "client_left"
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            exchange.ending = ending = await performance.play(script)
            nursery.cancel_scope.cancel(reason="script over")
        return ending

    async def _watch(self, playing: trio.CancelScope) -> None:
        """Cancel the playing when the client disconnects; keep what it sends for the next request."""
        with suppress(trio.BrokenResourceError):
            while data := await self._stream.receive_some(_RECEIVE):
                self._http.receive_data(bytes(data))
        playing.cancel(reason="client left")


def _dialect(path: str) -> DialectName | None:
    if path.endswith("/chat/completions"):
        return "openai"
    if path.endswith("/responses"):
        return "responses"
    return "anthropic" if path.endswith("/messages") else None
