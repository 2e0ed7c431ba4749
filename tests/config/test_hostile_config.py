"""A configuration file of any kind costs a bounded time and memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from clawft_trio.config import load as loading, load_config
from clawft_trio.errors import ConfigError


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/null", "/", "/proc/self/mem"])
async def test_a_device_or_a_folder_is_refused(path: str) -> None:
    with trio.fail_after(10), pytest.raises(ConfigError):
        await load_config(path)


async def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "c.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="more than the 1048576"):
        await load_config(tmp_path / "c.json")


async def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, (tmp_path / "pipe").write_text, '{"failover": ["openai/x"]}')
        assert (await load_config(tmp_path / "pipe")).failover == ("openai/x",)


async def test_a_pipe_without_a_writer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PIPE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"pipe: \$: no data for 0.1 s"):
        await load_config(tmp_path / "pipe")
    # No thread is left behind: forty of them would stop every other thread of the program.
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


async def test_a_pipe_whose_writer_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PIPE", 0.2)
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        for _ in range(2):
            os.write(writer, b" " * 100)
            with pytest.raises(ConfigError, match="no data"):
                await load_config(tmp_path / "pipe")
    finally:
        os.close(writer)


async def test_a_name_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await load_config(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json"))
