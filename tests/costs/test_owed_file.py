"""The file of settlements that could not be written: which lines of it count."""

from __future__ import annotations

from pathlib import Path

import pytest

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
