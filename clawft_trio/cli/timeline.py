"""`clawft-trio timeline`: converts a recording to an HTML page, a picture, or a trace for Perfetto."""

from __future__ import annotations

import io
import os
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import attrs

from clawft_trio.cli.output import write_line
from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.files.pipes import TimedFile
from clawft_trio.observe import Recording, chrome_trace, read_recording, spans_of, timeline_html, timeline_svg
from clawft_trio.observe.recording import bounded_lines


@attrs.frozen(kw_only=True)
class Wanted:
    """The options of `timeline`."""

    #: a recording (JSON lines)
    file: Path
    #: path of the page; when no output is named, next to the recording
    html: Path | None = None
    #: path of the picture
    svg: Path | None = None
    #: path of the trace for https://ui.perfetto.dev
    chrome: Path | None = None
    #: only turns whose id has this prefix, or of this session
    turn: str = ""


def timeline(wanted: Wanted) -> list[Path]:
    """Draw a recording; print and return the files that were written.

    Raises:
      InvalidData: it is not a recording, or has no such turn.
      OSError: a file cannot be read or written.
    """
    if wanted.file in {wanted.html, wanted.svg, wanted.chrome}:
        raise InvalidData([Problem("$", "this is the recording itself")], source=str(wanted.file))
    recording = _read(wanted.file)
    if recording.cut:
        write_line("The last line is incomplete; the recording process may have ended there.", error=True)
    written = _written(wanted, _only(recording, wanted))
    for path in written:
        write_line(str(path))
    return written


def _read(path: Path) -> Recording:
    with _open_bounded(path) as file:
        lines = bounded_lines(file)
        first = next(lines, b"")
        if not _is_header(first):
            raise InvalidData([Problem("$", "not a recording")], source=str(path))
        # Not by seeking back, because it may be a pipe.
        return read_recording(chain([first], lines), source=str(path))


_LONGEST_WAIT = 10.0
"""Seconds to wait for the next data of a pipe, which may have no writer."""


def _open_bounded(path: Path) -> BinaryIO:
    if path.is_fifo():
        return io.BufferedReader(TimedFile(path, wait=_LONGEST_WAIT))
    return path.open("rb")


def _is_header(line: bytes) -> bool:
    """Return whether *line* is intended as the header of a recording, of any version."""
    try:
        data = decode_json(line)
    except InvalidData:
        return False
    return isinstance(data, dict) and "recording" in data


def _only(recording: Recording, wanted: Wanted) -> Recording:
    """Return *recording* with only the selected turns."""
    if not wanted.turn:
        return recording
    tree = spans_of(recording.events)
    turns = [span for span in tree.roots if span.kind == "turn"]
    chosen = {
        span.id
        for span in turns
        if wanted.turn in {span.id[: len(wanted.turn)], str(span.attributes.get("session", ""))}
    }
    if not chosen:
        raise InvalidData([Problem("--turn", f"no turn or session {wanted.turn!r} in it")], source=str(wanted.file))
    return attrs.evolve(recording, events=tuple(one for one in recording.events if one.turn_id in chosen))


def _written(wanted: Wanted, recording: Recording) -> list[Path]:
    tree = spans_of(recording.events)
    wall = recording.header.wall + tree.start - recording.header.at
    html = wanted.html
    if html is None and wanted.svg is None and wanted.chrome is None:
        html = wanted.file.with_suffix(".html")
    written = []
    if html is not None:
        _write(html, timeline_html(tree, title=wanted.file.name, wall=wall).encode())
        written.append(html)
    if wanted.svg is not None:
        _write(wanted.svg, timeline_svg(tree, wall=wall).encode())
        written.append(wanted.svg)
    if wanted.chrome is not None:
        _write(wanted.chrome, chrome_trace(tree))
        written.append(wanted.chrome)
    return written


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, like the recording that it is made from."""
    # Not blocking, because a pipe may have no reader.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        if os.name == "posix" and path.is_file():
            os.fchmod(descriptor, 0o600)
        file.write(data)
