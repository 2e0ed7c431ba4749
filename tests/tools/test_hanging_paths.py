"""A path on a mount that does not answer costs its own turn, and that turn can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from clawft_trio import AuthContext, ToolCall, ToolContext, ToolRegistry, tool
from clawft_trio.tools import fan_out, path_keys, path_locks
from clawft_trio.tools.path_locks import PathLocks


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Paths with `hung` in their names are not resolved until this is set."""
    answers, real = threading.Event(), path_keys.path_keys

    def hang(paths, *more):
        if any("hung" in str(path) for path in paths):
            answers.wait(60)
        return real(paths, *more)

    monkeypatch.setattr(path_locks, "path_keys", hang)
    monkeypatch.setattr(fan_out, "path_keys", hang)
    yield answers
    answers.set()


def idle() -> bool:
    return trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


async def test_a_lock_on_a_hanging_path_is_cancelled_at_once_and_uses_a_thread_of_its_own(mount) -> None:
    locks = PathLocks()
    with trio.fail_after(30):
        with trio.move_on_after(0.2) as scope:
            async with locks.hold([("/hung/a", "write")]):
                raise AssertionError("it cannot be held")
        assert scope.cancelled_caught
        assert idle()
        assert locks.threads.borrowed_tokens == 1
        assert locks.statistics().holders == 0
        async with locks.hold([("/other", "write")]):
            pass
        mount.set()
        while locks.threads.borrowed_tokens:
            await trio.sleep(0.01)


@tool(mode="read_only", reads="path")
async def look(path: str) -> str:
    """Look at a path."""
    await trio.lowlevel.checkpoint()
    return "seen"


async def test_a_call_on_a_hanging_path_is_cancelled_and_calls_of_other_turns_run(mount, tmp_path: Path) -> None:
    registry = ToolRegistry([look])
    context = ToolContext(auth=AuthContext.local(), workspace=tmp_path)

    async def call(path: str) -> str:
        (result,) = await registry.execute_all(
            [ToolCall(id="1", name="look", arguments=f'{{"path": "{path}"}}')], context
        )
        return result.text

    with trio.fail_after(30):
        with trio.move_on_after(0.2) as scope:
            await call("hung")
        assert scope.cancelled_caught
        assert idle()
        assert await call("other") == "seen"
