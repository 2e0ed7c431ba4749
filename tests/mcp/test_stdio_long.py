"""What takes longer with real child processes: cancellation at any moment, and very large messages."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp import McpOptions, StdioServer, open_mcp
from clawft_trio.testing import cancel_everywhere
from clawft_trio.testing.mcp_server import scripted_server

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SERVER = StdioServer(scripted_server(), eof_grace=1.0, term_grace=1.0)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def children():
    """Processes of ours that run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(status.parent.name))
    return found


async def test_connect_list_call_and_close_cancelled_everywhere_leave_no_process_and_no_descriptor():
    async def operation():
        async with open_mcp(SERVER) as client:
            await client.list_tools()
            async with trio.open_nursery() as nursery:
                for n in range(3):
                    nursery.start_soon(client.call_tool, "echo", {"text": str(n)})

    await operation()
    before, tasks = descriptors(), trio.lowlevel.current_statistics().tasks_living

    async def check():
        await trio.testing.wait_all_tasks_blocked()
        assert children() == []
        assert descriptors() <= before
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await cancel_everywhere(operation, check) > 20


async def test_a_reply_of_32_mib_arrives_and_one_above_the_limit_costs_its_call_only():
    async with open_mcp(SERVER) as client:
        with trio.fail_after(120):
            assert len((await client.call_tool("big", {"size": 32 * 2**20}, total=100)).text) == 32 * 2**20
            with pytest.raises(ProtocolViolation, match="in one message, more than"):
                await client.call_tool("big", {"size": 64 * 2**20}, total=100)
            assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"


async def test_a_server_that_writes_rubbish_for_ever_is_survived():
    async with open_mcp(SERVER, options=McpOptions(max_message=1_000_000)) as client:
        rubbish = base64.b64encode(os.urandom(1_000_000).replace(b"\n", b"") + b"\n").decode()
        for _ in range(20):
            assert (await client.call_tool("raw", {"base64": rubbish, "answer": True})).text == "written"
        assert client.statistics().malformed >= 20
