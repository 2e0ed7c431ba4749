"""Our `serve_*` functions work with what trio_typing describes. At run time: its stubs break type checkers."""

from __future__ import annotations

import warnings

import pytest
import trio

with warnings.catch_warnings():
    # Its own import of a deprecated module is not ours to mend.
    warnings.simplefilter("ignore")
    trio_typing = pytest.importorskip("trio_typing")


async def test_a_task_status_of_trios_is_one_of_trio_typings() -> None:
    seen: list[object] = []

    async def serve(*, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        seen.append(task_status)
        task_status.started(7)

    async with trio.open_nursery() as nursery:
        assert await nursery.start(serve) == 7
    assert isinstance(seen[0], trio_typing.TaskStatus)
    assert isinstance(nursery, trio_typing.Nursery)
