"""What a check for resources that are left behind finds, and how long it waits."""

from __future__ import annotations

import os
import threading

import pytest
import trio

from clawft_trio.errors import Unsupported
from clawft_trio.testing import leaks, nothing_left
from clawft_trio.testing.leaks import HeldResources


async def test_what_is_left_is_named_and_what_was_there_before_is_not(tmp_path):
    with (tmp_path / "before").open("w"):
        check = nothing_left(grace=0.0)
        await check()
        with (tmp_path / "after").open("w"), pytest.raises(AssertionError) as caught:
            await check()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with pytest.raises(AssertionError, match="left behind: 1 tasks$"):
                await check()
            nursery.cancel_scope.cancel(reason="seen")
        await check()
    assert str(caught.value).endswith(str(tmp_path / "after"))
    assert "before" not in str(caught.value)


async def test_what_is_closed_soon_is_waited_for():
    reading, writing = os.pipe()
    os.close(writing)
    check = nothing_left(grace=5.0)
    again = os.dup(reading)
    timer = threading.Timer(0.05, os.close, [again])
    timer.start()
    await check()
    timer.join()
    os.close(reading)


async def test_descriptors_are_named_by_their_number_where_there_are_no_links(tmp_path, monkeypatch):
    monkeypatch.setattr(leaks, "_FD_FOLDER", tmp_path)
    for name in ("0", "987654"):
        (tmp_path / name).touch()
    assert HeldResources.now().descriptors == {"0"}
    monkeypatch.setattr(leaks, "_FD_FOLDER", tmp_path / "missing")
    with pytest.raises(Unsupported, match="/dev/fd"):
        HeldResources.now()
