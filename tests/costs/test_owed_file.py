"""The file of settlements that could not be written: which lines of it count."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.costs.owed import OwedFile
from clawft_trio.costs.records import Bill, Closing

GOOD = Closing(id=7, state="settled", owner="me", bill=Bill(usage=Usage(input_tokens=10)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "7"},
        {"id": True},
        {"id": 7.0},
        {"id": None},
        {"state": "paid"},
        {"state": None},
        {"certainty": "sure"},
        {"owner": ""},
        {"owner": None},
        {"owner": 5},
        {"cost": "a lot"},
        {"usage": 5},
        {"usage": None},
    ],
    ids=str,
)
async def test_a_line_with_one_wrong_value_settles_nothing_and_the_next_line_counts(
    wrong: dict[str, object], tmp_path: Path
) -> None:
    owed = OwedFile(tmp_path / "owed")
    await owed.append([GOOD])
    line = owed.path.read_bytes()
    owed.path.write_bytes(encode_json(decode_json(line) | wrong) + b"\n" + line)
    found, _ = await owed.take()
    assert found == (GOOD,)


async def test_a_line_that_a_full_disk_has_cut_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    owed = OwedFile(tmp_path / "owed")
    await owed.append([GOOD])
    size = owed.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[0][1]))
    try:
        with pytest.raises(OSError, match="No space"):
            await owed.append([GOOD])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert owed.path.stat().st_size == size + 20
    await owed.append([GOOD])
    found, _ = await owed.take()
    assert found == (GOOD, GOOD)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
async def test_what_is_no_file_is_left_where_it_is_and_hides_no_file_of_another_process(make, tmp_path: Path) -> None:
    owed = OwedFile(tmp_path / "owed")
    make(owed.path)
    make(tmp_path / "owed.taken-1")
    with trio.fail_after(20):
        with pytest.raises(OSError, match=r"owed"):
            await owed.append([GOOD])
        assert await owed.take() == ((), None)
    owed.path.rename(tmp_path / "moved")
    await owed.append([GOOD])
    found, _ = await owed.take()
    assert found == (GOOD,)
