"""An ASGI server in memory: what hypercorn does to an application, without sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import attrs
import trio

STATELESS = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
}
JSON_HEADERS = {
    "host": "localhost:8000",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}


@attrs.define
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)

    def events(self):
        return [event for event in map(parse_event, self.body.decode().split("\n\n")) if event]


def parse_event(text):
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(":"))
    if not fields:
        return None
    data = fields.get("data", "").strip()
    return {**fields, "message": json.loads(data) if data else None}


class Open:
    """A response that is being received."""

    def __init__(self):
        self.status = None
        self.headers = {}
        self.ended = False
        self.disconnect = trio.Event()
        self._buffer = b""
        self._moved = trio.lowlevel.ParkingLot()

    async def send(self, message):
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._buffer += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self._moved.unpark_all()

    async def event(self):
        while b"\n\n" not in self._buffer:
            assert not self.ended, "the stream has ended"
            await self._moved.park()
        text, _, self._buffer = self._buffer.partition(b"\n\n")
        return parse_event(text.decode()) or await self.event()

    async def whole(self):
        while not self.ended:
            await self._moved.park()
        return Response(self.status, self.headers, self._buffer)


class Driver:
    def __init__(self, app):
        self.app = app

    @asynccontextmanager
    async def open(self, method, body=b"", headers=None, path="/mcp", pieces=None):
        """Send a request; leaving the block disconnects."""
        response = Open()
        parts = list(pieces if pieces is not None else [body])

        async def receive():
            await trio.lowlevel.checkpoint()
            if parts:
                part = parts.pop(0)
                if part is None:
                    await trio.sleep_forever()
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await response.disconnect.wait()
            return {"type": "http.disconnect"}

        raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.app, scope, receive, response.send)
            yield response
            response.disconnect.set()

    async def request(self, method, body=b"", headers=None, path="/mcp", pieces=None):
        async with self.open(method, body, headers, path, pieces) as response:
            return await response.whole()

    async def stateless(self, method, params=None, *, key=1, headers=None, meta=None):
        params = {"_meta": META if meta is None else meta, **(params or {})}
        return await self.request("POST", encode(key, method, params), stateless_headers(method, params, headers))

    def open_stateless(self, method, params=None, *, key=1, headers=None, meta=None):
        params = {"_meta": META if meta is None else meta, **(params or {})}
        return self.open("POST", encode(key, method, params), stateless_headers(method, params, headers))

    async def initialize(self, capabilities=None, version="2025-11-25", headers=None):
        params = {"protocolVersion": version, "capabilities": capabilities or {}}
        answer = await self.request("POST", encode(0, "initialize", params), {**JSON_HEADERS, **(headers or {})})
        return SessionDriver(self, answer, {**JSON_HEADERS, **(headers or {})}, version)


class SessionDriver:
    def __init__(self, driver, answer, headers, version):
        self.driver = driver
        self.answer = answer
        session = answer.headers.get("mcp-session-id")
        self.headers = {**headers, "mcp-protocol-version": version}
        if session:
            self.headers["mcp-session-id"] = session

    async def call(self, method, params=None, *, key=1):
        return await self.driver.request("POST", encode(key, method, params or {}), self.headers)

    def open(self, method, params=None, *, key=1):
        return self.driver.open("POST", encode(key, method, params or {}), self.headers)

    async def send(self, message):
        return await self.driver.request("POST", json.dumps({"jsonrpc": "2.0", **message}).encode(), self.headers)

    def listen(self, last_event_id=None):
        more = {} if last_event_id is None else {"last-event-id": last_event_id}
        return self.driver.open("GET", headers={**self.headers, **more})


def encode(key, method, params):
    return json.dumps({"jsonrpc": "2.0", "id": key, "method": method, "params": params}).encode()


def stateless_headers(method, params, headers):
    named = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
    found = {**JSON_HEADERS, "mcp-protocol-version": STATELESS, "mcp-method": method}
    if method in named:
        found["mcp-name"] = params[named[method]]
    return {name: value for name, value in {**found, **(headers or {})}.items() if value is not None}
