"""Plays the scripted answer to one request into the connection of the request."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs
import h11
import trio

from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json
from clawft_trio.testing.dialects import DialectName, DialectSetting, Writer, error_body, writer
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

ExchangeEnding = Literal["complete", "closed", "reset", "client_left", "server_stopped"]
"""How an exchange ended: the complete response was sent by HTTP; the script closed or reset the connection; the client
disconnected first; the server was stopped."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing discards unsent bytes and sends RST instead of FIN."""


@attrs.frozen(kw_only=True)
class SeenRequest:
    """One request, as it arrived."""

    #: number of the request from 0, in order of arrival
    number: int
    #: number of the request from 0, among those for the same model
    turn: int
    #: seconds since the server started, in the script's time (before scaling)
    elapsed: float
    #: `trio.current_time()` when it had arrived completely
    time: float
    #: number of its connection, from 0
    connection: int
    dialect: DialectName
    path: str
    #: headers, with names in lower case
    headers: Mapping[str, str]
    body: JsonObject

    @property
    def model(self) -> str:
        """Requested model."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether a stream is requested."""
        return bool(self.body.get("stream"))

    @property
    def answers_tools(self) -> bool:
        """Whether its last message is a tool result."""
        messages = self.body.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict):
            return False
        content = last.get("content")
        blocks = content if isinstance(content, list) else []
        results = (isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)
        return last.get("role") == "tool" or any(results)


@attrs.define(kw_only=True)
class Exchange:
    """One request and its outcome. `ending` is None while the script plays."""

    request: SeenRequest
    ending: ExchangeEnding | None = None
    #: `trio.current_time()` of the end; None while the script plays
    ended: float | None = None
    #: number of steps that have begun
    steps: int = 0
    #: number of bytes passed to the socket
    sent: int = 0


class ScriptPlayer:
    """Plays one script into a connection."""

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
        #: sizes of pieces; None: every event is a piece
        self._sizes: tuple[int, ...] | None = None
        self._next_size = 0
        #: body that waits for the next pause, with `InPieces`
        self._gathered = bytearray()
        self._begun = False

    async def play(self, script: WireScript) -> ExchangeEnding:
        """Play the script to its end.

        Cancellation: the exchange ends as `server_stopped`.
        """
        for step in script:
            self._exchange.steps += 1
            ending = await self._take(step)
            if ending is not None:
                return ending
        return await self._end_body(self._writer.end())

    async def _take(self, step: Step | Fault) -> ExchangeEnding | None:
        match step:
            case Say() | Think() | CallTool() | Report() | Finish() | Preamble() | BadJson() | BadUtf8() | Raw():
                await self._send(self._body(self._writer.write(step)))
            case ErrorEvent() if self._request.stream:
                await self._send(self._body(self._writer.write(step)))
            case Pings():
                await self._ping(step)
            case Wait(seconds):
                await self._pause(seconds)
            case Hang():
                await self._pause(math.inf)
            case SendHeaders(headers):
                await self._send(self._opening(headers))
            case InPieces(sizes):
                await self._send(self._rest())
                self._sizes = sizes
            case _:
                return await self._fail(step)
        return None

    async def _fail(
        self, step: Status | Page | ErrorEvent | Garbage | EndBody | CloseConnection | ResetConnection
    ) -> ExchangeEnding:
        match step:
            case Status():
                return await self._status(step)
            case ErrorEvent():
                return await self._error(step)
            case Page():
                return await self._page(step.status, step.body, {"content-type": step.content_type, **step.headers})
            case EndBody():
                return await self._end_body(self._writer.torn())
            case Garbage(data):
                await self._send(self._rest() + data)
                return "closed"
            case _:
                return await self._break_off(reset=isinstance(step, ResetConnection))

    def _body(self, events: list[bytes]) -> bytes:
        """Return *events* framed for the wire; empty when they are collected for the next pause."""
        if self._sizes is not None:
            self._gathered += b"".join(events)
            return b""
        return b"".join(map(self._chunk, events))

    def _rest(self) -> bytes:
        """Return everything that was collected, in pieces."""
        framed = b""
        while self._gathered and self._sizes is not None:
            size = self._sizes[self._next_size % len(self._sizes)]
            self._next_size += 1
            framed += self._chunk(bytes(self._gathered[:size]))
            del self._gathered[:size]
        return framed

    def _chunk(self, data: bytes) -> bytes:
        return self._opening() + self._frame(h11.Data(data=data))

    def _opening(self, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
        """Return the head of the response at the first call; empty afterwards."""
        if self._begun:
            return b""
        return self._head(200, {"content-type": self._writer.content_type, **headers})

    def _head(self, status: int, headers: Mapping[str, str]) -> bytes:
        if self._begun:
            raise ValueError(f"script: a response with status {status} cannot follow one that has begun")
        self._begun = True
        id_header = "x-request-id" if self._request.dialect == "openai" else "request-id"
        every = {id_header: f"req_{self._request.number}", **headers}
        return self._frame(h11.Response(status_code=status, headers=list(every.items())))

    def _frame(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> bytes:
        return self._http.send(event) or b""

    async def _send(self, data: bytes) -> None:
        await self._stream.send_all(data)
        self._exchange.sent += len(data)

    async def _pause(self, seconds: float) -> None:
        await self._send(self._rest())
        await trio.sleep(seconds * self._scale)

    async def _ping(self, step: Pings) -> None:
        await trio.lowlevel.checkpoint()
        left = math.inf if step.times is None else step.times
        while left > 0:
            await self._send(self._body(self._writer.write(step)))
            await self._pause(step.every)
            left -= 1

    async def _end_body(self, last: bytes) -> ExchangeEnding:
        rest = self._body([last] if last else []) + self._rest() + self._opening()
        await self._send(rest + self._frame(h11.EndOfMessage()))
        return "complete"

    async def _break_off(self, *, reset: bool) -> ExchangeEnding:
        torn = self._writer.torn()
        await self._send(self._body([torn] if torn else []) + self._rest())
        if not reset:
            return "closed"
        _reset_on_close(self._stream)
        return "reset"

    async def _status(self, step: Status) -> ExchangeEnding:
        after = {} if step.retry_after is None else {"retry-after": _seconds(step.retry_after * self._scale)}
        body = encode_json(error_body(self._request.dialect, step))
        return await self._page(step.status, body, {"content-type": "application/json", **after, **step.headers})

    async def _error(self, step: ErrorEvent) -> ExchangeEnding:
        if not self._begun:
            return await self._status(Status(step.status, step.code, step.message))
        # The status is already 200, so the error becomes the body, as at gateways that keep connections alive.
        return await self._end_body(encode_json(error_body(self._request.dialect, step)))

    async def _page(self, status: int, body: bytes, headers: Mapping[str, str]) -> ExchangeEnding:
        head = self._head(status, {**headers, "content-length": str(len(body))})
        # In one write: a client that has read everything may disconnect, and must not count as disconnected early.
        await self._send(head + self._frame(h11.Data(data=body)) + self._frame(h11.EndOfMessage()))
        return "complete"


def _seconds(seconds: float) -> str:
    """Format seconds without an exponent, and whole seconds without a fraction: most clients read only those."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _setting(request: SeenRequest, script: WireScript) -> DialectSetting:
    options: Any = request.body.get("stream_options")
    asked = isinstance(options, dict) and bool(options.get("include_usage"))
    reported = [step.usage for step in script if isinstance(step, Finish | Report) and step.usage is not None]
    return DialectSetting(
        number=request.number,
        model=request.model,
        sends_usage=asked or request.dialect == "anthropic",
        usage=reported[-1] if reported else None,
    )


def _reset_on_close(stream: trio.abc.Stream) -> None:
    # An in-memory stream has no RST: closing it is sufficient.
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
