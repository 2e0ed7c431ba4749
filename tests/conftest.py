"""Fixtures of every folder: stores on both engines, and what each test may rely on wherever the suite is started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
import steady_clock
from hypothesis import settings

# A slow example is no failure: the machine may be busy.
settings.register_profile("no deadline", settings.default, deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every asynchronous test that names no clock with a clock that does not count when the machine is busy.

    Refuse ids with compressed bytes: they hold the time, so that two processes collect different tests.
    """
    for item in items:
        if "\\x1f\\x8b" in item.nodeid:
            raise pytest.UsageError(
                f"{item.location[0]}:{item.location[1]}: compressed bytes in a parameter need an id"
            )
        if item.get_closest_marker("trio") is not None:
            item.add_marker(pytest.mark.trio(run=steady_clock.run), append=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A running PostgreSQL server, one for the session. Skipped where there is none, but not in CI."""
    why = postgres_server.missing()
    if why and os.environ.get("CI") == "true":
        pytest.fail(why)
    if why:
        pytest.skip(why)
    with postgres_server.running() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str | None:
    """Where a new store may be opened: each kind in turn."""
    if request.param == "memory":
        return None
    if request.param == "sqlite":
        return tmp_path / "folder" / "store.db"
    return request.getfixturevalue("postgres").schema()


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new store may be opened that several processes can share: each engine in turn."""
    if request.param == "sqlite":
        return tmp_path / "store.db"
    return request.getfixturevalue("postgres").schema()


@pytest.fixture(scope="session", autouse=True)
def default_sigint() -> Iterator[None]:
    """SIGINT with its default disposition: a shell starts background jobs with it ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
