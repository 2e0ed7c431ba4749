"""Nothing of a server's process group is left, however its client ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import trio

from clawft_trio.mcp import McpOptions, StdioServer, open_mcp

ALONE = McpOptions(supervision=None, protocol="handshake")

# A server with a child that ignores SIGTERM; it gives the child's pid as its name. It ignores the end of its input.
SERVER = """
import json, signal, subprocess, sys, time
child = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
process.stdout.readline()
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        server = {"name": f"{process.pid}", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": server}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
time.sleep(60)
"""

CLIENT = """
import sys, trio
from clawft_trio.mcp import McpOptions, StdioServer, open_mcp

async def main():
    options = McpOptions(supervision=None, protocol="handshake")
    async with open_mcp(StdioServer([sys.executable, "-c", sys.argv[1]]), options=options) as client:
        await trio.sleep(0.3)
        print(client.agreement.server.name, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def is_alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


@pytest.mark.skipif(os.name != "posix", reason="process groups")
async def test_a_child_that_ignores_sigterm_is_gone_when_the_block_is_left():
    server = StdioServer([sys.executable, "-c", SERVER], eof_grace=0.1, term_grace=0.2)
    for _ in range(3):
        async with open_mcp(server, options=ALONE) as client:
            pid = int(client.agreement.server.name)
            assert await trio.to_thread.run_sync(is_alive, pid)
        assert not await trio.to_thread.run_sync(is_alive, pid)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
async def test_a_client_killed_by_sigkill_leaves_no_server():
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", textwrap.dedent(CLIENT), SERVER], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with trio.fail_after(20):
        pid = int(await process.stdout.receive_some())
        assert await trio.to_thread.run_sync(is_alive, pid)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        while await trio.to_thread.run_sync(is_alive, pid):
            await trio.sleep(0.05)
    await process.stdout.aclose()
