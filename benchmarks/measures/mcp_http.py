"""Requests to one MCP server over HTTP: tool calls by one client at a time and by 16, in both kinds of revision.

The load is the same bytes over kept-alive connections. The CPU figure is the server process's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, Round, Setting, Stopwatch

RATE = Figure("rate", "requests/s")
CLIENTS = (1, 16)
REVISIONS = ("2025-11-25", "2026-07-28")
KINDS = {"clawft_trio": ("clawft_trio", ""), "mcp": ("mcp", "mcp"), "mcp, JSON": ("mcp, JSON", "mcp")}

_TICKS = os.sysconf("SC_CLK_TCK")


def named(kind: str, revision: str, clients: int) -> str:
    return f"{kind}, {revision}, {clients} at once"


def requesting(kind: str, revision: str, clients: int) -> Open:
    """Rounds of tool calls by *clients* connections."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls = setting.sized(1600, 32) // clients
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.mcp_http_server", kind, str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:

                async def one_round(watch: Stopwatch) -> None:
                    # Anew for each round: servers close connections that are idle between rounds.
                    connections = [await Connection.open(port, revision) for _ in range(clients)]
                    cpu, wall = cpu_of(server.pid), trio.current_time()
                    async with trio.open_nursery() as nursery:
                        for connection in connections:
                            nursery.start_soon(connection.call, calls)
                    wall, cpu = trio.current_time() - wall, cpu_of(server.pid) - cpu
                    watch.add(calls * clients, wall=wall, cpu=cpu)
                    watch.note(RATE.key, calls * clients / wall)
                    for connection in connections:
                        await connection.close()

                await (await connected(port)).aclose()
                yield one_round
            finally:
                server.kill()

    return opened


class Connection:
    """One kept-alive connection, with a session where the revision has one."""

    def __init__(self, stream: trio.SocketStream, port: int, revision: str) -> None:
        self._stream = stream
        self._buffer = b""
        self._port = port
        self._headers = {"mcp-protocol-version": revision}
        self._meta: dict[str, object] = {}

    @classmethod
    async def open(cls, port: int, revision: str) -> Connection:
        found = cls(await connected(port), port, revision)
        if revision == "2026-07-28":
            prefix = "io.modelcontextprotocol/"
            found._meta = {f"{prefix}protocolVersion": revision, f"{prefix}clientCapabilities": {}}
            found._headers |= {"mcp-method": "tools/call", "mcp-name": "echo"}
            return found
        client = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}}
        head = await found._exchange(found._request("initialize", client))
        session = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"mcp-session-id"))
        found._headers["mcp-session-id"] = session.partition(b":")[2].strip().decode()
        await found._exchange(found._request("notifications/initialized", {}, key=None))
        return found

    async def close(self) -> None:
        await self._stream.aclose()

    async def call(self, times: int) -> None:
        params = {"name": "echo", "arguments": {"text": "x" * 32}}
        request = self._request("tools/call", {**params, "_meta": self._meta} if self._meta else params)
        for _ in range(times):
            head = await self._exchange(request)
            assert head.startswith(b"HTTP/1.1 200"), head

    def _request(self, method: str, params: dict[str, object], key: int | None = 1) -> bytes:
        message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if key is None else {"id": key})}
        body = json.dumps(message).encode()
        headers = {
            "host": f"127.0.0.1:{self._port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(body)),
            **self._headers,
        }
        lines = [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + body

    async def _exchange(self, request: bytes) -> bytes:
        """Send one request and read its whole response; returns the head."""
        await self._stream.send_all(request)
        head = await self._until(b"\r\n\r\n")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            await self._until(b"0\r\n\r\n")
        else:
            _, _, rest = lower.partition(b"content-length:")
            length = int(rest.partition(b"\r\n")[0] or 0)
            while len(self._buffer) < length:
                await self._receive()
            self._buffer = self._buffer[length:]
        return head

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    async def _receive(self) -> None:
        data = await self._stream.receive_some()
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


async def connected(port: int) -> trio.SocketStream:
    with trio.fail_after(120):  # twelve servers start at once
        while True:
            try:
                return await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def cpu_of(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rate_goal(revision: str, clients: int) -> Goal:
    return Goal(
        says=f"MCP requests per second over HTTP, {revision}, {clients} at once, of the official SDK's server",
        of=named("clawft_trio", revision, clients),
        to=named("mcp", revision, clients),
        figure=RATE.key,
        at_least=1,
    )


BENCH = Bench(
    title="Tool calls to an MCP server over HTTP",
    item="request",
    limit="The official SDK's server under uvicorn, answering with JSON instead of streams.",
    against=named("mcp, JSON", REVISIONS[0], 1),
    figures=(CPU, WALL, RATE),
    rounds=4,
    cases=tuple(
        Case(
            named(kind, revision, clients),
            requesting(argument, revision, clients),
            role="peer" if needs else "ours",
            needs=needs,
        )
        for revision in REVISIONS
        for clients in CLIENTS
        for kind, (argument, needs) in KINDS.items()
    ),
    goals=tuple(rate_goal(revision, clients) for revision in REVISIONS for clients in CLIENTS),
)
