"""One ASGI request and its response: reads a bounded body, sends JSON or an event stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import msgspec
import trio

from clawft_trio.errors import ClawftError
from clawft_trio.mcp.server.event_stream import EventStream
from clawft_trio.mcp.server.options import HttpOptions
from clawft_trio.nursery import open_hidden_nursery

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRITE_WITHIN = 60.0
"""Seconds in which a client has to read one write. A slower client is disconnected."""

_encode = msgspec.json.Encoder().encode


class Refusal(ClawftError):
    """The request gets an HTTP error response."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status: int = status
        self.body: bytes = body
        self.headers: Mapping[str, str] = {} if headers is None else headers


class HttpRequest:
    """A request, with its headers by lower-case name; repeated ones are joined with commas."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._receive = receive
        self._send = send
        self.headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        #: headers of every response
        self.response_headers: dict[str, str] = {}

    async def body(self, http: HttpOptions) -> bytes:
        """Return the complete body.

        Raises:
          Refusal: it is too large or too slow, or the client has disconnected.

        Cancellation: a part of it was read.
        """
        too_large = Refusal(413, b"")
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > http.max_body):
            await trio.lowlevel.checkpoint()
            raise too_large
        length = int(declared) if declared.isdecimal() else -1
        parts: list[bytes] = []
        size = 0
        with trio.move_on_after(http.body_within):
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    raise Refusal(400, b"")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > http.max_body:
                    raise too_large
                # The server checks the body against its declared length, and its empty last part costs a pass of the
                # loop.
                if not message.get("more_body", False) or size == length:
                    return b"".join(parts)
        raise Refusal(408, b"")

    async def wait_gone(self) -> None:
        """Wait until the client has disconnected. Call it only after `body`.

        Cancellation: nothing has changed.
        """
        # The rest of the body comes first.
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def respond(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        kind: str = "application/json",
    ) -> None:
        """Send a complete response.

        Cancellation: a part of it may have been sent.
        """
        sent = {**self.response_headers, **(headers or {}), "content-length": str(len(body))}
        if body:
            sent["content-type"] = kind
        with trio.move_on_after(WRITE_WITHIN):
            await self._send({"type": "http.response.start", "status": status, "headers": _raw(sent)})
            await self._send({"type": "http.response.body", "body": body})

    async def respond_json(self, status: int, value: object) -> None:
        """Send *value* as JSON.

        Cancellation: a part of it may have been sent.
        """
        await self.respond(status, _encode(value))

    async def stream(
        self,
        stream: EventStream,
        after: int,
        http: HttpOptions,
        *,
        ids: bool,
        prime: bool = False,
        only_prime: bool = False,
    ) -> None:
        """Send the messages of *stream* after number *after* as server-sent events, until it ends.

        Ends early when another reader replaces this one, or when the client does not read in time.

        Args:
          stream: the messages.
          after: number of the last message that the client has.
          http: keep-alive and retry times.
          ids: give events ids, so that the client can resume.
          prime: begin with an empty event, so that the client has an id from the start.
          only_prime: send nothing else; the client reconnects for the rest.

        Cancellation: a part of an event may have been sent; the stream keeps it.
        """
        reader = stream.attach()
        headers = {
            **self.response_headers,
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            # Proxies such as nginx would buffer events.
            "x-accel-buffering": "no",
        }
        await self._send({"type": "http.response.start", "status": 200, "headers": _raw(headers)})
        if prime:
            await self._write(f"id: {stream.name}-{after}\nretry: {int(http.retry * 1000)}\ndata: \n\n".encode())
        if not only_prime:
            await self._send_events(stream, reader, after, http, ids=ids)
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_events(self, stream: EventStream, reader: int, after: int, http: HttpOptions, *, ids: bool) -> None:
        while True:
            data = b": keep-alive\n\n"
            with trio.move_on_after(http.keepalive):
                events = await stream.read(reader, after)
                if not events:
                    return
                after = events[-1][0]
                data = b"".join([_event(stream, number, message, ids=ids) for number, message in events])
            if not await self._write(data):
                return

    @asynccontextmanager
    async def while_connected(self) -> AsyncGenerator[trio.Nursery, None]:
        """Run the body and the tasks that it starts only while the client is connected. Call it only after `body`.

        Cancellation: as for any nursery.
        """
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._cancel_when_gone, nursery.cancel_scope)
            yield nursery
            nursery.cancel_scope.cancel(reason="the response is complete")

    async def _cancel_when_gone(self, scope: trio.CancelScope) -> None:
        await self.wait_gone()
        scope.cancel(reason="the client has disconnected")

    async def _write(self, data: bytes) -> bool:
        with trio.move_on_after(WRITE_WITHIN) as scope:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        return not scope.cancelled_caught


def _event(stream: EventStream, number: int, message: bytes, *, ids: bool) -> bytes:
    head = f"event: message\nid: {stream.name}-{number}\ndata: " if ids else "event: message\ndata: "
    return b"".join((head.encode(), message.rstrip(b"\n"), b"\n\n"))


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
