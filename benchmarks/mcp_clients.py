"""MCP clients over stdio, each talking to a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from clawft_trio.mcp import open_mcp

ROOT = Path(__file__).parent.parent
# By its path and not with -m: it has to start in any working directory and with any environment.
SERVER = str(Path(__file__).with_name("mcp_echo.py"))
COMMAND = [sys.executable, SERVER]
TEXT = {"text": "x" * 32}

CallTool: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[Any]]
OpenMcp: TypeAlias = Callable[[], AbstractAsyncContextManager[CallTool]]


@asynccontextmanager
async def ours() -> AsyncGenerator[CallTool, None]:
    async with open_mcp(COMMAND) as client:
        await client.list_tools()
        yield client.call_tool


@asynccontextmanager
async def official() -> AsyncGenerator[CallTool, None]:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])
    async with stdio_client(server) as (read, write), ClientSession(read, write, read_timeout_seconds=30) as session:
        await session.initialize()
        await session.list_tools()
        yield session.call_tool


@asynccontextmanager
async def fastmcp() -> AsyncGenerator[CallTool, None]:
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    # Else it leaves the server running when it is closed.
    async with Client(StdioTransport(command=COMMAND[0], args=COMMAND[1:], keep_alive=False)) as client:
        await client.list_tools()
        yield client.call_tool


@contextmanager
def pipe() -> Iterator[tuple[Any, Any]]:
    """The server's standard input and output, blocking."""
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process.stdin, process.stdout
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def request(number: int) -> bytes:
    params = {"name": "echo", "arguments": TEXT}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode() + b"\n"


NPM = os.environ.get("BENCHMARKS_NPM", "")
"""A folder whose `node_modules` has `@modelcontextprotocol/sdk`; empty: the TypeScript SDK is not measured."""

PROGRAM = """
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";
const [npm, command, script] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(createRequire(npm + "/").resolve("@modelcontextprotocol/sdk/" + path)));
const { Client } = await sdk("client/index.js");
const { StdioClientTransport } = await sdk("client/stdio.js");
const client = new Client({ name: "bench", version: "1" });
await client.connect(new StdioClientTransport({ command, args: [script] }));
await client.listTools();
const one = () => client.callTool({ name: "echo", arguments: { text: "x".repeat(32) } });
for await (const line of createInterface({ input: process.stdin })) {
  const [calls, flight] = JSON.parse(line), each = Math.floor(calls / flight);
  const cpu = process.cpuUsage(), began = process.hrtime.bigint();
  await Promise.all(Array.from({ length: flight }, async () => { for (let i = 0; i < each; i++) await one(); }));
  const wall = Number(process.hrtime.bigint() - began) / 1e9, used = process.cpuUsage(cpu);
  console.log(JSON.stringify([wall, (used.user + used.system) / 1e6]));
}
await client.close();
"""


@contextmanager
def typescript(folder: Path) -> Iterator[Callable[[int, int], tuple[float, float]]]:
    """Runs so many calls, so many in flight; wall and CPU seconds."""
    program = folder / "client.mjs"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        ["node", str(program), NPM, *COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def calls(count: int, flight: int) -> tuple[float, float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([count, flight]) + "\n")
        process.stdin.flush()
        wall, cpu = json.loads(process.stdout.readline())
        return wall, cpu

    try:
        yield calls
    finally:
        process.communicate(timeout=10)
