"""What every command under `cli/run.py` does on signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import pytest
import trio
from cli.program import CLEAN

from clawft_trio.cli import run
from clawft_trio.cli.main import main
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
    assert b"run._until_terminated" in shown


# A command that is asked to end, says a long goodbye, and is asked again meanwhile.
_STORM = """
import subprocess
import trio
from clawft_trio.cli import commands, main

async def command():
    try:
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        await trio.lowlevel.open_process(["sh", "-c", "for i in 1 2 3 4 5 6; do kill -TERM $PPID; done"], **quiet)
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
        print("goodbye", flush=True)

def app():
    from clawft_trio.cli.run import run
    run(command)

commands.app = app
main.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_storm_of_sigterm_ends_like_one() -> None:
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-W", "ignore", "-c", _STORM],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=CLEAN,
        )
    assert (done.returncode, done.stdout, done.stderr) == (143, b"goodbye\n", b"Terminated.\n")


async def test_sigterm_that_comes_before_the_command_ends_it_too(autojump_clock: trio.testing.MockClock) -> None:
    termination = run._Termination()
    termination()
    with trio.move_on_after(1), trio.CancelScope() as scope, termination.ending(scope):
        await trio.sleep_forever()
    assert scope.cancelled_caught


def test_a_command_that_ends_by_itself_leaves_sigterm_as_it_was() -> None:
    async def command() -> int:
        await trio.lowlevel.checkpoint()
        return 7

    before = signal.getsignal(signal.SIGTERM)
    assert run.run(command) == 7
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_sigusr1_before_anybody_listens_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["clawft-trio", "--version"])
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert ended.value.code == 0


LOADING = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "trio":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["clawft-trio", "ask", "hi"]
runpy.run_module("clawft_trio", run_name="__main__")
"""


async def test_ctrl_c_while_the_first_modules_load_ends_in_one_line() -> None:
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-c", LOADING], capture_stdout=True, capture_stderr=True, check=False, env=CLEAN
        )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"Interrupted.\n")
