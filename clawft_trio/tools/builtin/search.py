"""The tool search_files: find a text in files, or list files by name.

The text is literal. A model's regular expression could backtrack endlessly while it holds the interpreter; to offer
regular expressions, allow `grep` or `rg` in `run_command`.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated, BinaryIO

import attrs
from msgspec import Meta

from clawft_trio.errors import ToolFailed
from clawft_trio.tools.builtin.files import FilePath, FilePolicy, check_links, give_up_if_cancelled, in_order
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import DIRECTORY_FLAGS, Workspace, open_regular

_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"})
"""Directories that are not searched: they hold no text that a user wrote."""

_LONGEST_LINE = 300
"""Characters of a line that are returned; minified files have one line."""

_DEEPEST = 64
"""Levels of directories. A bind mount may contain itself."""

_MOST_SEEN = 200_000
"""Largest number of entries that one search examines: about 2 s."""

_PIECE = 64 * 1024
"""Bytes of a file that are searched in one step."""

_TEXT = Annotated[str, Meta(max_length=1000)]


@attrs.frozen(kw_only=True)
class _Wanted:
    text: str
    files: str
    ignore_case: bool

    def names(self, path: str) -> bool:
        return fnmatchcase(path, self.files) or fnmatchcase(path.rpartition("/")[2], self.files)


def search_tool(workspace: Workspace, policy: FilePolicy) -> Tool:
    """Make the tool search_files for one workspace."""

    # It reads files, so a permission that denies read_file denies it too.
    @tool(mode="read_only", reads="path", root=workspace.root, total=policy.total, aliases="read_file")
    def search_files(
        text: _TEXT = "",
        files: _TEXT = "*",
        path: FilePath = ".",
        ignore_case: bool = False,
        limit: Annotated[int, Meta(ge=1, le=1000)] = 100,
    ) -> str:
        """Find lines that contain a text, or files by name, below a directory.

        Args:
          text: What to look for, taken literally. Empty: list the files.
          files: Only files whose name or path matches, for example `*.py`.
          limit: How many results at most.
        """
        wanted = _Wanted(text=text.casefold() if ignore_case else text, files=files, ignore_case=ignore_case)
        found: list[str] = []
        with workspace.open_directory(path) as directory:
            prefix = "" if path == "." else f"{path.removesuffix('/')}/"
            tree = Tree(directory, hidden=workspace.private_folder())
            for result in _results(tree, prefix, wanted, policy):
                if len(found) == limit:
                    return "\n".join([*found, f"[more than {limit} results: narrow the search]"])
                found.append(result)
        if tree.left_out:
            found.append(f"[not searched: {tree.left_out}; search in a directory below]")
        return "\n".join(found) or "Nothing found."

    return search_files


def _results(tree: Tree, prefix: str, wanted: _Wanted, policy: FilePolicy) -> Iterator[str]:
    for below, name, parent in tree.files():
        path = prefix + below
        if not wanted.names(path):
            continue
        shown = _ON_ONE_LINE.sub(_escaped, path)
        if not wanted.text:
            yield shown
        else:
            yield from _lines(shown, name, parent, wanted, policy)


# A file name with a line end could pass for another result.
_ON_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


class Tree:
    """The files below an open directory, within limits of depth and entries; symlinks are not followed.

    Args:
      directory: an open descriptor, which stays open.
      hidden: status of a directory that is not visited.
    """

    def __init__(self, directory: int, *, hidden: os.stat_result | None = None) -> None:
        #: reason why a part was not visited; empty when all was visited
        self.left_out: str = ""
        self._directory = directory
        self._hidden = hidden
        self._seen = 0

    def files(self) -> Iterator[tuple[str, str, int]]:
        """Yield path, name and open parent of everything that is not a directory, in the order of names."""
        return self._below(())

    def _below(self, names: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
        with self._opened(names) as directory:
            if directory is None:
                return
            folders, others = self._listed(directory)
            for name in in_order(others):
                give_up_if_cancelled()
                yield "/".join((*names, name)), name, directory
        if folders and len(names) + 1 >= _DEEPEST:
            self.left_out = f"more than {_DEEPEST} levels of directories"
            return
        for name in in_order(folders):
            yield from self._below((*names, name))

    @contextmanager
    def _opened(self, names: tuple[str, ...]) -> Iterator[int | None]:
        """Open the directory *names*, from the top; None when it is hidden, unreadable, or was replaced."""
        # Without its parents, whose descriptors would be thousands in all threads together.
        with ExitStack() as stack:
            directory = self._directory
            for name in names:
                below = self._enter(directory, name)
                stack.close()
                if below is None:
                    yield None
                    return
                stack.callback(os.close, below)
                directory = below
            yield directory

    def _enter(self, directory: int, name: str) -> int | None:
        try:
            below = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
        except OSError:
            return None
        if self._hidden is not None and os.path.samestat(os.fstat(below), self._hidden):
            os.close(below)
            return None
        return below

    def _listed(self, directory: int) -> tuple[list[str], list[str]]:
        """Return the names of the directories to visit, and of everything else."""
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in islice(entries, max(0, _MOST_SEEN - self._seen)):
                    give_up_if_cancelled()
                    self._seen += 1
                    if not entry.is_dir(follow_symlinks=False):
                        names.append(entry.name)
                    elif entry.name not in _SKIPPED:
                        folders.append(entry.name)
                if next(entries, None) is not None:
                    self.left_out = f"more than {_MOST_SEEN} entries"
        except OSError:
            # Unreadable, or gone.
            return [], []
        return folders, names


def _lines(path: str, name: str, parent: int, wanted: _Wanted, policy: FilePolicy) -> Iterator[str]:
    try:
        with open_regular(path, parent, name) as descriptor, open(descriptor, "rb", closefd=False) as file:
            check_links(path, descriptor, policy)
            if 0 not in file.peek()[:8192]:
                for number, line in _Matching(wanted).lines(file, policy.longest_file):
                    # Other characters that end a line, such as a form feed.
                    yield f"{path}:{number}: {' '.join(line.splitlines())}"
    except (OSError, ToolFailed):
        # Unreadable, special, refused for its hard links, or deleted since it was listed.
        return


class _Matching:
    """Finds the lines of a file that contain a text, in pieces: one step of 8 MiB holds the interpreter for 0.5 s."""

    def __init__(self, wanted: _Wanted, *, piece: int = _PIECE) -> None:
        self._wanted = wanted
        self._most = piece
        self._number = 1
        # Of the line that has not ended: its beginning, its end so far, whether it contains the text.
        self._begin = self._tail = ""
        self._found = False

    def lines(self, file: BinaryIO, longest: int) -> Iterator[tuple[int, str]]:
        """Yield number and beginning of each line with the text in the first *longest* bytes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for left in range(longest, 0, -self._most):
            give_up_if_cancelled()
            data = file.read(min(self._most, left))
            yield from self._piece(decoder.decode(data, not data))
            if not data:
                break
        yield from self._end()

    def _piece(self, text: str) -> Iterator[tuple[int, str]]:
        if not self._found and self._wanted.text not in self._tail + self._folded(text):
            # Most pieces: only the last line matters, which goes on in the next piece.
            self._number += text.count("\n")
            _, end, text = text.rpartition("\n")
            if end:
                self._begin = self._tail = ""
        first, *others = text.split("\n")
        self._add(first)
        for line in others:
            yield from self._end()
            self._add(line)

    def _add(self, part: str) -> None:
        joined = self._tail + self._folded(part)
        self._found = self._found or self._wanted.text in joined
        # One character less than a match.
        self._tail = joined[max(0, len(joined) + 1 - len(self._wanted.text)) :]
        if len(self._begin) < _LONGEST_LINE:
            self._begin = (self._begin + part).lstrip()[:_LONGEST_LINE]

    def _end(self) -> Iterator[tuple[int, str]]:
        if self._found:
            yield self._number, self._begin.rstrip()
        self._number += 1
        self._begin = self._tail = ""
        self._found = False

    def _folded(self, text: str) -> str:
        return text.casefold() if self._wanted.ignore_case else text
