"""`clawft-trio timeline`."""

from __future__ import annotations

import json
import math
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from observe.turns import play

from clawft_trio.cli.errors import error_lines
from clawft_trio.cli.timeline import Wanted, timeline
from clawft_trio.errors import InvalidData
from clawft_trio.observe import open_recording


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "turn.jsonl"

    async def main() -> None:
        async with open_recording(path, grace=math.inf, now=lambda: datetime(2026, 1, 2, 3, 0, tzinfo=UTC)) as record:
            await play(record)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return path


def test_a_recording_becomes_a_page_beside_it(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = recording.with_suffix(".html")
    assert timeline(Wanted(file=recording)) == [page]
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text("utf-8")
    assert "<title>turn.jsonl</title>" in text
    assert "hedge lost" in text
    assert "03:00:12.500 (+12.5 s)" in text


def test_it_becomes_what_is_asked_for_and_nothing_else(recording: Path, tmp_path: Path) -> None:
    svg, chrome = tmp_path / "x.svg", tmp_path / "x.json"
    assert timeline(Wanted(file=recording, svg=svg, chrome=chrome)) == [svg, chrome]
    assert svg.read_text("utf-8").startswith("<svg")
    assert len(json.loads(chrome.read_bytes())["traceEvents"]) > 10
    assert not recording.with_suffix(".html").exists()


@pytest.mark.parametrize("how", ["session", "id"])
def test_a_turn_can_be_chosen_by_its_session_or_the_beginning_of_its_id(recording: Path, how: str) -> None:
    first = json.loads(recording.read_bytes().splitlines()[1])
    wanted = "local:ana" if how == "session" else first["turn_id"][:6]
    assert timeline(Wanted(file=recording, turn=wanted))


def test_a_turn_that_is_not_there_is_told(recording: Path) -> None:
    with pytest.raises(InvalidData, match="no turn or session 'nobody'"):
        timeline(Wanted(file=recording, turn="nobody"))
    assert not recording.with_suffix(".html").exists()


def test_a_recording_that_was_cut_is_drawn_and_said_to_be(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording.write_bytes(recording.read_bytes()[:-40])
    assert timeline(Wanted(file=recording))
    assert "is incomplete" in capsys.readouterr().err


def test_what_is_not_a_recording_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for content in (b'{"some": "json"}\n', b"<html>", b"", b"[1]\n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(InvalidData) as caught:
            timeline(Wanted(file=path))
        assert list(error_lines(caught.value)) == [f"{path}: not a recording"]
    path.write_text('{"recording": 99, "wall": 0, "at": 0}\n')
    with pytest.raises(InvalidData, match=r"x\.jsonl: line 1: \$\.recording: version 99"):
        timeline(Wanted(file=path))
    with pytest.raises(FileNotFoundError) as missing:
        timeline(Wanted(file=tmp_path / "none.jsonl"))
    assert list(error_lines(missing.value)) == [f"{tmp_path / 'none.jsonl'}: No such file or directory"]


def test_a_page_is_not_written_over_the_recording(recording: Path) -> None:
    before = recording.read_bytes()
    with pytest.raises(InvalidData, match="recording itself"):
        timeline(Wanted(file=recording, html=recording))
    assert recording.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_what_is_drawn_of_a_recording_belongs_to_its_owner_alone(recording: Path, tmp_path: Path) -> None:
    page, svg, chrome = (tmp_path / name for name in ("x.html", "x.svg", "x.json"))
    page.touch(mode=0o644)
    for path in timeline(Wanted(file=recording, html=page, svg=svg, chrome=chrome)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
