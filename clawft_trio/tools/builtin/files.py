"""Tools on files: read_file, write_file, edit_file, list_directory."""

from __future__ import annotations

import codecs
import heapq
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any

import attrs
import trio
from msgspec import Meta

from clawft_trio.errors import ToolFailed
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import Workspace

_CHUNK = 1 << 16

_MOST_LISTED = 100_000
"""Largest number of examined entries of a directory: about 10 MB of names."""

_WINDOW = 256 * 1024
"""Characters of a file that one step of an edit searches."""

_SORTED = 5000
"""Number of names that are sorted at once."""

FilePath = Annotated[str, Meta(min_length=1, max_length=4096, description="Path, relative to the workspace.")]


@attrs.frozen(kw_only=True)
class FilePolicy:
    """The limits of the file tools. Sizes are bytes."""

    #: largest result of read_file; every result is also cut at `FanOutPolicy.longest_answer`
    longest_read: int = attrs.field(default=60_000, validator=attrs.validators.ge(1024))
    #: largest file that is edited or written
    longest_file: int = attrs.field(default=8 * 1024 * 1024, validator=attrs.validators.ge(1024))
    #: number of entries of a listing
    most_entries: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    #: seconds that one call may take
    total: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    #: whether to refuse files with several names (hard links), because one may be outside of the workspace
    refuse_hard_links: bool = False


def file_tools(workspace: Workspace, policy: FilePolicy) -> tuple[Tool, ...]:
    """Make the file tools for one workspace."""
    return (
        _read_file(workspace, policy),
        _write_file(workspace, policy),
        _edit_file(workspace, policy),
        _list_directory(workspace, policy),
    )


def _read_file(workspace: Workspace, policy: FilePolicy) -> Tool:
    @tool(mode="read_only", reads="path", root=workspace.root, total=policy.total)
    def read_file(
        path: FilePath,
        first_line: Annotated[int, Meta(ge=1)] = 1,
        line_count: Annotated[int, Meta(ge=1)] | None = None,
    ) -> str:
        """Read a text file, or a range of its lines.

        Args:
          first_line: Where to begin; 1 is the first line.
          line_count: How many lines at most; all by default.
        """
        with workspace.open_file(path) as descriptor:
            check_links(path, descriptor, policy)
            return _Lines(path, descriptor, policy.longest_read).read(first_line, line_count)

    return read_file


def check_links(path: str, descriptor: int, policy: FilePolicy) -> None:
    """Refuse a file with several names, if *policy* does.

    Raises:
      ToolFailed: the file has several names.
    """
    names = os.fstat(descriptor).st_nlink
    if policy.refuse_hard_links and names > 1:
        raise ToolFailed(f"{path}: the file has {names} names, and one may be outside of the workspace")


class _Lines:
    """A range of a file's lines, read in pieces, so that a file may have any size."""

    def __init__(self, path: str, descriptor: int, longest: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._longest = longest

    def read(self, first: int, count: int | None) -> str:
        kept = bytearray()
        end = None if count is None else first + count
        line = 1
        for piece in self._pieces():
            if line == end or (line >= first and len(kept) + len(piece) > self._longest):
                return self._stopped(kept, piece, line, first)
            if line >= first:
                kept += piece
            line += piece.endswith(b"\n")
        if first > 1 and not kept:
            raise ToolFailed(f"{self._path}: has fewer than {first} lines")
        return self._decode(kept, final=True)

    def _pieces(self) -> Iterator[bytes]:
        """Yield the file's lines; a line longer than a chunk comes in several pieces."""
        with open(self._descriptor, "rb", buffering=_CHUNK, closefd=False) as file:
            for number in itertools.count():
                if number % 1024 == 0:
                    give_up_if_cancelled()
                piece = file.readline(_CHUNK)
                if not piece:
                    return
                yield piece

    def _stopped(self, kept: bytearray, piece: bytes, line: int, first: int) -> str:
        if line == first:
            shown = (kept + piece)[: self._longest]
            return f"{self._decode(shown, final=False)}\n[line {line} is longer than {self._longest} bytes]"
        return f"{self._decode(kept, final=False)}[more follows: read on with first_line={line}]"

    def _decode(self, data: bytes | bytearray, *, final: bool) -> str:
        if 0 in data:
            raise ToolFailed(f"{self._path}: not text ({os.fstat(self._descriptor).st_size} bytes)")
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(data, final)
        return text if "\ufffd" not in text else f"{text}\n[not valid UTF-8: some characters were replaced]"


def give_up_if_cancelled() -> None:
    """Raise `Cancelled` in a thread after its caller was cancelled."""
    # Outside of a trio thread there is no caller that can be cancelled.
    with suppress(RuntimeError):
        trio.from_thread.check_cancelled()


def _write_file(workspace: Workspace, policy: FilePolicy) -> Tool:
    @tool(mode="mutating", idempotent=True, writes="path", root=workspace.root, total=policy.total)
    def write_file(path: FilePath, content: str) -> str:
        """Write a text file: all of it is replaced. Missing directories are made.

        Args:
          content: The whole new content.
        """
        data = _encoded(content, policy)
        workspace.replace(path, data)
        return f"Wrote {len(data)} bytes to {path}"

    return write_file


def _encoded(content: str, policy: FilePolicy) -> bytes:
    try:
        data = content.encode()
    except UnicodeEncodeError as exc:
        raise ToolFailed(f"the content is not Unicode text: {exc.reason}") from exc
    if len(data) > policy.longest_file:
        raise ToolFailed(f"the content is longer than {policy.longest_file} bytes")
    return data


def _edit_file(workspace: Workspace, policy: FilePolicy) -> Tool:
    @tool(mode="mutating", writes="path", root=workspace.root, total=policy.total)
    def edit_file(path: FilePath, old_text: Annotated[str, Meta(min_length=1)], new_text: str) -> str:
        """Replace one passage of a text file. It must occur exactly once.

        Args:
          old_text: The passage as it stands in the file, with enough context to be unique.
          new_text: What to put in its place.
        """
        whole, status = _whole_text(workspace, path, policy)
        found = _find(old_text, whole, 0)
        if found < 0:
            raise ToolFailed(f"{path}: old_text not found in file")
        # The search continues at the next character, because an overlapping occurrence is ambiguous, too.
        if _find(old_text, whole, found + 1) >= 0:
            raise ToolFailed(f"{path}: old_text appears more than once; provide more context to make it unique")
        edited = f"{whole[:found]}{new_text}{whole[found + len(old_text) :]}"
        workspace.replace(path, _encoded(edited, policy), read=status)
        return f"Edited {path}"

    return edit_file


def _find(passage: str, whole: str, start: int, *, window: int = _WINDOW) -> int:
    """Return where *passage* begins in *whole*, at *start* or later; -1 when it does not occur."""
    # In windows, because one search of 8 MiB can hold the interpreter for 0.1 s.
    window = max(window, len(passage))
    places = (whole.find(passage, at, at + window + len(passage) - 1) for at in range(start, len(whole), window))
    return next((place for place in places if place >= 0), -1)


def _whole_text(workspace: Workspace, path: str, policy: FilePolicy) -> tuple[str, os.stat_result]:
    """Return the text of a file, and its status before it was read."""
    with workspace.open_file(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        check_links(path, descriptor, policy)
        status = os.fstat(descriptor)
        data = file.read(policy.longest_file + 1)
    if len(data) > policy.longest_file:
        raise ToolFailed(f"{path}: longer than {policy.longest_file} bytes")
    try:
        return data.decode(), status
    except UnicodeDecodeError as exc:
        raise ToolFailed(f"{path}: not UTF-8 text") from exc


def _list_directory(workspace: Workspace, policy: FilePolicy) -> Tool:
    @tool(mode="read_only", reads="path", root=workspace.root, total=policy.total, aliases="list_dir")
    def list_directory(path: FilePath = ".") -> list[dict[str, Any]]:
        """List a directory: name, type and size in bytes of each entry, sorted by name."""
        with workspace.open_directory(path) as descriptor:
            with os.scandir(descriptor) as found:
                names = [entry.name for entry in islice(_cancellable(found), _MOST_LISTED)]
                more = next(found, None) is not None
            entries = [_entry(name, descriptor) for name in islice(in_order(names), policy.most_entries)]
        if more:
            entries.append({"_truncated": f"more than {_MOST_LISTED} entries; the rest was not looked at"})
        elif len(names) > policy.most_entries:
            entries.append({"_truncated": f"{len(names) - policy.most_entries} of {len(names)} entries left out"})
        return entries

    return list_directory


def in_order(names: Sequence[str], *, part: int = _SORTED) -> Iterator[str]:
    """Yield *names* sorted."""
    # In parts, because sorting 200 000 names at once holds the interpreter for 0.1 s.
    return heapq.merge(*(sorted(names[at : at + part]) for at in range(0, len(names), part)))


def _cancellable(found: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    for entry in found:
        give_up_if_cancelled()
        yield entry


def _entry(name: str, directory: int) -> dict[str, Any]:
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return {"name": name, "type": "gone"}
    kind = next((word for test, word in _KINDS if test(found.st_mode)), "special")
    return {"name": name, "type": kind} | ({"size": found.st_size} if kind == "file" else {})


_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"))
