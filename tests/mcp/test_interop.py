"""Real servers, official clients, the public conformance suite: installs what it talks to (opt-in).

pytest -m installs tests/mcp/test_interop.py
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import venv
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trio

from clawft_trio.mcp import HttpServer, McpOptions, StdioServer, open_mcp

pytestmark = [pytest.mark.installs, pytest.mark.timeout(900)]

PACKAGES = [
    "node@22",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
]


def run(*command, **kwargs):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **kwargs)
    said = done.stderr + done.stdout
    assert done.returncode == 0, said[-6000:]
    return said


@pytest.fixture(scope="session")
def npm(tmp_path_factory):
    folder = Path(os.environ.get("MCP_INTEROP_NPM", "") or tmp_path_factory.mktemp("npm"))
    if not (folder / "node_modules").exists():
        run("npm", "init", "-y", cwd=folder)
        run("npm", "install", "--no-audit", "--no-fund", *PACKAGES, cwd=folder)
    return folder


def make_venv(folder, *packages):
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", "-q", *packages)
    return folder / "bin"


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    return make_venv(tmp_path_factory.mktemp("venv"), "mcp==2.3.0", "mcp-server-time", "mcp-server-git")


@pytest.fixture(scope="session")
def old_python(tmp_path_factory):
    return make_venv(tmp_path_factory.mktemp("old"), "mcp-server-sqlite", "mcp<2")


def node(npm):
    return str(npm / "node_modules" / "node" / "bin" / "node")


def of(npm, package, *arguments):
    return [node(npm), str(npm / "node_modules" / "@modelcontextprotocol" / package / "dist" / "index.js"), *arguments]


async def talk(command, tool, arguments, *, env=None, protocol="handshake"):
    """Greets, lists and calls; returns the answer's text and what was agreed."""
    with trio.fail_after(60):
        options = McpOptions(protocol=protocol)
        async with open_mcp(StdioServer(command, env=env or {}), name="real", options=options) as client:
            tools = await client.list_tools()
            assert tool in {one.name for one in tools}
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.text
            return result.text, client.agreement.protocol_version


@pytest.mark.parametrize("protocol", ["handshake", "detect"])
async def test_everything(npm, protocol):
    text, version = await talk(of(npm, "server-everything", "stdio"), "echo", {"message": "hi"}, protocol=protocol)
    assert "hi" in text
    assert version == "2025-11-25"


async def test_filesystem(npm, tmp_path):
    (tmp_path / "a.txt").write_text("content of a")
    command = of(npm, "server-filesystem", str(tmp_path))
    text, _ = await talk(command, "read_text_file", {"path": str(tmp_path / "a.txt")})
    assert "content of a" in text


async def test_memory(npm, tmp_path):
    env = {"MEMORY_FILE_PATH": str(tmp_path / "memory.json")}
    text, _ = await talk(of(npm, "server-memory"), "read_graph", {}, env=env)
    assert "entities" in text


@pytest.mark.parametrize(("protocol", "expected"), [("handshake", "2025-11-25"), ("detect", "2026-07-28")])
async def test_time(python, protocol, expected):
    command = [str(python / "mcp-server-time"), "--local-timezone", "UTC"]
    text, version = await talk(command, "get_current_time", {"timezone": "UTC"}, protocol=protocol)
    assert "UTC" in text
    assert version == expected


async def test_git(python, tmp_path):
    run("git", "init", "-q", cwd=tmp_path)
    command = [str(python / "mcp-server-git"), "--repository", str(tmp_path)]
    text, _ = await talk(command, "git_status", {"repo_path": str(tmp_path)})
    assert "branch" in text


@pytest.mark.parametrize("protocol", ["handshake", "detect"])
async def test_sqlite(old_python, tmp_path, protocol):
    command = [str(old_python / "mcp-server-sqlite"), "--db-path", str(tmp_path / "x.db")]
    text, version = await talk(command, "list_tables", {}, protocol=protocol)
    assert text == "[]"
    assert version == "2025-11-25"


# As in the SDK's examples: an unknown session is refused with 400.
NODE_HTTP_SERVER = """
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
const transports = new Map();
async function handle(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
  let transport = transports.get(request.headers["mcp-session-id"]);
  if (!transport && body?.method === "initialize") {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(), onsessioninitialized: (id) => transports.set(id, transport) });
    const server = new McpServer({ name: "t", version: "1" });
    server.registerTool("hello", {}, () => ({ content: [{ type: "text", text: "hello" }] }));
    await server.connect(transport);
  }
  if (transport) return transport.handleRequest(request, response, body);
  response.writeHead(400, { "content-type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id: null,
    error: { code: -32000, message: "Bad Request: No valid session ID provided" } }));
}
const server = createServer(handle).listen(Number(process.argv[2] ?? 0), "127.0.0.1",
  () => console.log(server.address().port));
"""

PYTHON_HTTP_SERVER = """
import sys
from mcp.server.fastmcp import FastMCP
server = FastMCP("t", host="127.0.0.1", port=int(sys.argv[1]))
@server.tool()
def hello() -> str:
    return "hello"
server.run("streamable-http")
"""


@contextmanager
def listening(program, script, port):
    """Run a server until the end of the block, which begins when its port is open."""
    with subprocess.Popen([program, script, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield
        finally:
            server.kill()


@pytest.mark.parametrize("language", ["node", "python"])
async def test_a_server_that_was_restarted_gets_a_new_session(language, npm, old_python, tmp_path):
    if language == "node":
        script = npm / "interop_server.mjs"
        script.write_text(NODE_HTTP_SERVER)
        program = node(npm)
    else:
        script = tmp_path / "server.py"
        script.write_text(PYTHON_HTTP_SERVER)
        program = str(old_python / "python")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with trio.fail_after(120):
        async with AsyncExitStack() as stack:
            with listening(program, script, port):
                options = McpOptions(protocol="handshake")
                server = HttpServer(f"http://127.0.0.1:{port}/mcp")
                client = await stack.enter_async_context(open_mcp(server, options=options))
                assert (await client.call_tool("hello")).text == "hello"
            with listening(program, script, port):
                assert (await client.call_tool("hello")).text == "hello"
                assert client.restarts == 1


SERVER = """
import trio
from clawft_trio.mcp import serve_mcp
from clawft_trio.tools import ToolContext, ToolRegistry, tool

@tool
async def add(a: int, b: int) -> int:
    '''The sum.'''
    return a + b

@tool
async def count(steps: int, context: ToolContext) -> str:
    '''Counts.'''
    for step in range(1, steps + 1):
        context.progress(step, steps)
        await trio.sleep(0.01)
    return "counted"

trio.run(serve_mcp, ToolRegistry([add, count]))
"""

PYTHON_CLIENT = """
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=[sys.argv[2]])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        sums = await asyncio.gather(*(session.call_tool("add", {"a": n, "b": 1}) for n in range(50)))
        seen = []
        async def show(progress, total, message): seen.append(progress)
        await session.call_tool("count", {"steps": 3}, progress_callback=show)
        await session.send_ping()
        wrong = await session.call_tool("add", {"a": "x"})
        try:
            await session.call_tool("nonsense", {}); unknown = None
        except Exception as exc:
            unknown = exc.error.code
    print(json.dumps([tools, [int(r.content[0].text) for r in sums], seen, wrong.is_error, unknown]))

asyncio.run(main())
"""

NODE_CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
const client = new Client({ name: "t", version: "1" });
await client.connect(new StdioClientTransport({ command: process.argv[2], args: [process.argv[3]] }));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const sums = await Promise.all(Array.from({ length: 50 }, (_, n) =>
  client.callTool({ name: "add", arguments: { a: n, b: 1 } })));
const seen = [];
await client.callTool({ name: "count", arguments: { steps: 3 } }, undefined, { onprogress: (p) => seen.push(p.progress) });
await client.ping();
const wrong = await client.callTool({ name: "add", arguments: { a: "x" } });
let unknown = null;
try { await client.callTool({ name: "nonsense", arguments: {} }); } catch (error) { unknown = error.code; }
console.log(JSON.stringify([tools, sums.map((r) => Number(r.content[0].text)), seen, wrong.isError, unknown]));
await client.close();
"""

EXPECTED = [["add", "count"], list(range(1, 51)), [1, 2, 3], True, -32602]


def served(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    return script


def test_the_official_python_client_is_served(python, tmp_path):
    client = tmp_path / "client.py"
    client.write_text(PYTHON_CLIENT)
    said = run(python / "python", client, sys.executable, served(tmp_path), timeout=60)
    assert json.loads(said.splitlines()[-1]) == EXPECTED


def test_the_official_typescript_client_is_served(npm, tmp_path):
    client = npm / "interop_client.mjs"
    client.write_text(NODE_CLIENT)
    said = run(node(npm), client, sys.executable, served(tmp_path), timeout=60)
    assert json.loads(said.splitlines()[-1]) == EXPECTED
