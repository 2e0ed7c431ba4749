"""What every command under `cli/running.py` does on signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import pytest
import trio
from cli.test_cli import CLEAN

from clawft_trio.testing import Hang, Say, open_fault_server


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
async def test_sigusr1_shows_what_the_tasks_wait_for_and_the_command_goes_on() -> None:
    async with open_fault_server([Say("My gue"), Hang()]) as server, trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "clawft_trio", "ask", "hello", "--base-url", server.url]
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, capture_stdout=True, stderr=subprocess.PIPE, check=False, env=CLEAN)
        )
        shown = b""
        with trio.fail_after(30):
            await server.wait_for(lambda now: now.running == 1)
            for _ in range(2):
                process.send_signal(signal.SIGUSR1)
                while shown.count(b"serve_task_tree  running") <= _:
                    shown += await process.stderr.receive_some()
            process.terminate()
            async for _ in process.stderr:
                pass
            await process.wait()
    assert process.returncode == 143
    assert b"AgentLoop.serve  waits" in shown
    assert b"running._until_terminated" in shown
