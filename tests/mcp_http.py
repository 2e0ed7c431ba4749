"""A tiny HTTP/1.1 server for tests of the streamable HTTP transport: what it answers is each test's to say."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial

import trio


class Request:
    """One request, and the ways to answer it."""

    def __init__(self, stream, method, headers, body):
        self.stream = stream
        self.method = method
        self.headers = headers
        self.message = json.loads(body) if body else None
        self.closed = trio.Event()

    def result(self, result):
        return {"jsonrpc": "2.0", "id": self.message["id"], "result": result}

    async def respond(self, status=200, body=b"", **headers):
        headers = {"content-length": str(len(body)), "connection": "close", **headers}
        await self.head(status, **headers)
        await self.stream.send_all(body)

    async def json(self, message, status=200, **headers):
        await self.respond(status, json.dumps(message).encode(), **{"content-type": "application/json", **headers})

    async def head(self, status=200, **headers):
        lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        await self.stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def events(self):
        await self.head(200, content_type="text/event-stream", connection="close")

    async def event(self, message, *, event_id=None, retry=None):
        text = "" if message is None else json.dumps(message)
        fields = [*([f"id: {event_id}"] if event_id else []), *([f"retry: {retry}"] if retry else []), f"data: {text}"]
        await self.stream.send_all("\n".join(fields).encode() + b"\n\n")


class HttpScript:
    """Keeps every request and hands it to the test's own `answer`."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.url = ""

    async def serve(self, stream):
        buffer = b""
        async with stream:
            while b"\r\n\r\n" not in buffer:
                chunk = await stream.receive_some()
                if not chunk:
                    return
                buffer += chunk
            head, _, body = buffer.partition(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            while len(body) < int(headers.get("content-length", 0)):
                chunk = await stream.receive_some()
                if not chunk:
                    return
                body += chunk
            request = Request(stream, line.split()[0], headers, body)
            self.requests.append(request)
            try:
                await self.answer(request)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                request.closed.set()

    def methods(self):
        return [request.message["method"] if request.message else request.method for request in self.requests]


@asynccontextmanager
async def http_script(answer):
    """Yields an `HttpScript` that listens on loopback."""
    script = HttpScript(answer)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, script.serve, 0, host="127.0.0.1"))
        script.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp"
        yield script
        nursery.cancel_scope.cancel(reason="the test is over")


async def texts_of_concurrent_calls(client, times):
    """Call the tool `x` so many times at once and return the texts of the results."""
    texts = []

    async def call():
        texts.append((await client.call_tool("x")).text)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(call)
    return texts


async def initialize(request, session=""):
    """Answer the handshake; whether it was one."""
    message = request.message
    if request.method == "GET":
        await request.respond(405)
    elif request.method == "DELETE":
        await request.respond(200)
    elif message["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "h", "version": "1"}}
        await request.json(request.result(result), **({"mcp-session-id": session} if session else {}))
    elif "id" not in message:
        await request.respond(202)
    else:
        return False
    return True
