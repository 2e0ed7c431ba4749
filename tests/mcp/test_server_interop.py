"""Our server under the public conformance suite and official clients: installs what it talks to (opt-in).

pytest -m installs tests/mcp/test_server_interop.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.installs, pytest.mark.timeout(900)]

NPM = [
    "node@22",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/client@2.4.0",
]
PIP = ["mcp==2.3.0", "fastmcp-slim[client]==4.1.6"]

#: scenarios of an optional extension, which this server does not offer
TASKS = "tasks-"
SCORED = {"2025-11-25": 30, "2026-07-28": 37}
ROUNDS = 10


@pytest.fixture(scope="session")
def npm(tmp_path_factory):
    folder = Path(os.environ.get("MCP_SERVER_NPM", "") or tmp_path_factory.mktemp("npm"))
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "init", "-y"], cwd=folder, check=True, capture_output=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *NPM], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    if ready := os.environ.get("MCP_SERVER_PYTHON"):
        return ready
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", *PIP], check=True)
    return folder / "bin" / "python"


@contextmanager
def everything():
    program = Path(__file__).with_name("everything_server.py")
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def address():
    with everything() as found:
        yield found


def node(npm, *arguments, **kwargs):
    command = [npm / "node_modules" / ".bin" / "node", *arguments]
    return subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=600, cwd=npm, **kwargs)


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("revision", SCORED)
def test_every_server_scenario_of_the_conformance_suite_passes(npm, address, revision, round_):
    suite = npm / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    done = node(npm, suite, "server", "--url", address, "--requirements", revision)
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    results = dict(re.findall(r"^[✓✗] (\S+): (\d+ passed, \d+ failed)$", summary, re.MULTILINE))
    assert len([name for name in results if not name.startswith(TASKS)]) >= SCORED[revision], done.stdout[-3000:]
    failed = {name: result for name, result in results.items() if not result.endswith(" 0 failed")}
    assert {name for name in failed if not name.startswith(TASKS)} == set(), done.stdout[-6000:]


PYTHON_SDK = """
import asyncio, sys
from mcp import Client, types

async def elicit(context, params):
    return types.ElicitResult(action="accept", content={"response": "yes"})

async def sample(context, params):
    return types.CreateMessageResult(role="assistant", model="m", content=types.TextContent(type="text", text="sampled"))

async def main(mode):
    seen = []
    async def progress(done, total, message):
        seen.append(done)
    async with Client(sys.argv[1], mode=mode, elicitation_callback=elicit, sampling_callback=sample) as client:
        tools = await client.list_tools()
        assert len(tools.tools) > 20
        print((await client.call_tool("test_simple_text", {})).content[0].text)
        await client.call_tool("test_tool_with_progress", {}, progress_callback=progress)
        print(seen)
        print((await client.call_tool("test_elicitation", {"message": "?"})).content[0].text)
        print((await client.call_tool("test_sampling", {"prompt": "?"})).content[0].text)
        print((await client.read_resource("test://static-text")).contents[0].text)
        print((await client.get_prompt("test_simple_prompt")).messages[0].content.text)
        print((await client.call_tool("test_error_handling", {})).is_error)

asyncio.run(main(sys.argv[2]))
"""

EXPECTED = [
    "This is a simple text response for testing.",
    "[0.0, 50.0, 100.0]",
    'User response: action=accept, content={"response": "yes"}',
    "LLM response: sampled",
    "This is the content of the static text resource.",
    "This is a simple prompt for testing.",
    "True",
]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_official_python_client_drives_the_server(python, address, mode):
    done = subprocess.run([python, "-c", PYTHON_SDK, address, mode], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines() == EXPECTED


FASTMCP = """
import asyncio, sys
from fastmcp import Client

async def main():
    async with Client(sys.argv[1]) as client:
        assert len(await client.list_tools()) > 20
        print((await client.call_tool("test_simple_text", {})).content[0].text)
        print((await client.read_resource("test://static-text"))[0].text)
        print((await client.get_prompt("test_simple_prompt")).messages[0].content.text)

asyncio.run(main())
"""


def test_fastmcps_client_drives_the_server(python, address):
    done = subprocess.run([python, "-c", FASTMCP, address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines() == [EXPECTED[0], EXPECTED[4], EXPECTED[5]]


TYPESCRIPT = """
const [kind, address] = process.argv.slice(2);
const old = kind === 'v1';
const { Client } = await import(old ? '@modelcontextprotocol/sdk/client/index.js' : '@modelcontextprotocol/client');
const { StreamableHTTPClientTransport } = await import(
  old ? '@modelcontextprotocol/sdk/client/streamableHttp.js' : '@modelcontextprotocol/client');
const client = new Client({ name: 'test', version: '1' }, { capabilities: {} });
const transport = new StreamableHTTPClientTransport(new URL(address));
await client.connect(transport);
const lines = [];
lines.push((await client.callTool({ name: 'test_simple_text', arguments: {} })).content[0].text);
const seen = [];
await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, undefined, { onprogress: (p) => seen.push(p.progress) })
  .catch((error) => { throw error; });
lines.push(JSON.stringify(seen));
lines.push((await client.readResource({ uri: 'test://static-text' })).contents[0].text);
lines.push((await client.getPrompt({ name: 'test_simple_prompt' })).messages[0].content.text);
lines.push(JSON.stringify((await client.callTool({ name: 'test_reconnection', arguments: {} })).content[0].text));
await client.close();
console.log(JSON.stringify(lines));
process.exit(0);
"""


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_the_official_typescript_clients_drive_the_server(npm, address, kind):
    script = npm / "drive.mjs"
    source = TYPESCRIPT
    if kind == "v2":
        # The second argument of `callTool` holds the options there.
        source = source.replace("arguments: {} }, undefined, {", "arguments: {} }, {")
    script.write_text(source)
    done = node(npm, script, kind, address)
    assert done.returncode == 0, done.stderr[-4000:]
    text, progress, resource, prompt, reconnected = json.loads(done.stdout)
    assert [text, resource, prompt] == [EXPECTED[0], EXPECTED[4], EXPECTED[5]]
    assert json.loads(progress)[-1] == 100
    assert "Reconnection test completed" in reconnected
