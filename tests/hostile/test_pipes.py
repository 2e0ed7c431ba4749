"""Named pipes in place of files: nothing waits for their other end without bound."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import trio

from clawft_trio.cli import config as cli_config, timeline
from clawft_trio.context import Memory
from clawft_trio.errors import InvalidData, StoreError
from clawft_trio.files import FileCache
from clawft_trio.mcp.auth.store import FileTokenStore
from clawft_trio.observe import open_recording

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_timeline_of_a_pipe_without_a_writer_fails(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "_LONGEST_WAIT", 0.1)
    with pytest.raises(OSError, match="no data for 0.1 s"):
        timeline.timeline(timeline.Wanted(file=pipe))


def test_a_recording_with_a_line_of_any_length_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b'{"recording": 1, "wall": 1.0, "at": 1.0}\n')
    os.truncate(path, 64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidData, match="record: line 2: longer than"):
            timeline.timeline(timeline.Wanted(file=path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_a_token_file_that_is_a_pipe_is_an_error_that_names_it(pipe: Path) -> None:
    pipe.chmod(0o600)
    with pytest.raises(StoreError, match="pipe: the token file cannot be read: it is not a file") as caught:
        await FileTokenStore(pipe).load("https://example.com/mcp")
    assert caught.value.path == str(pipe)


async def test_no_configuration_is_written_to_a_pipe_without_a_reader(pipe: Path) -> None:
    with pytest.raises(OSError, match="No such device"):
        cli_config._write(pipe, "{}", force=True)


async def test_a_timeline_is_drawn_from_a_pipe_with_a_writer(tmp_path: Path, pipe: Path) -> None:
    async with open_recording(tmp_path / "record"):
        pass
    code = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_bytes(pathlib.Path(sys.argv[1]).read_bytes())"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "record", pipe]):
        wanted = timeline.Wanted(file=pipe, html=tmp_path / "out.html")
        assert await trio.to_thread.run_sync(timeline.timeline, wanted) == [tmp_path / "out.html"]
    assert "<html" in (tmp_path / "out.html").read_text()


async def test_nothing_is_recorded_or_drawn_to_a_pipe_without_a_reader(tmp_path: Path, pipe: Path) -> None:
    with pytest.raises(OSError, match="No such device"):
        async with open_recording(pipe):
            raise AssertionError("it was opened")
    async with open_recording(tmp_path / "record"):
        pass
    with pytest.raises(OSError, match="No such device"):
        timeline.timeline(timeline.Wanted(file=tmp_path / "record", html=pipe))


@pytest.mark.parametrize("read", [False, True], ids=["no reader", "a reader"])
async def test_no_note_is_added_to_a_pipe(tmp_path: Path, read: bool) -> None:
    (tmp_path / "memory").mkdir()
    path = tmp_path / "memory" / "MEMORY.md"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if read else None
    try:
        with pytest.raises(OSError, match="No such device|not a regular file"):
            await Memory(tmp_path, FileCache()).append("likes tea")
    finally:
        if reader is not None:
            assert os.read(reader, 10) == b""
            os.close(reader)
