"""The tool search_files: find a text in files, or list files by name.

The text is literal. A model's regular expression could backtrack endlessly while it holds the interpreter; to offer
regular expressions, allow `grep` or `rg` in `run_command`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated

import attrs
from msgspec import Meta

from clawft_trio.errors import ToolFailed
from clawft_trio.tools.builtin.files import FilePath, FilePolicy, check_links, give_up_if_cancelled
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import DIRECTORY_FLAGS, Workspace, open_regular

_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"})
"""Directories that are not searched: they hold no text that a user wrote."""

_LONGEST_LINE = 300
"""Characters of a line that are returned; minified files have one line."""

_DEEPEST = 64
"""Levels of directories; each takes a descriptor while it is searched. A bind mount may contain itself."""

_MOST_SEEN = 200_000
"""Largest number of entries that one search examines: about 2 s."""

_TEXT = Annotated[str, Meta(max_length=1000)]


@attrs.frozen(kw_only=True)
class _Wanted:
    text: str
    files: str
    ignore_case: bool

    def names(self, path: str) -> bool:
        return fnmatchcase(path, self.files) or fnmatchcase(path.rpartition("/")[2], self.files)

    def found_in(self, line: str) -> bool:
        return self.text in (line.casefold() if self.ignore_case else line)


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
        return self._below(self._directory, "", 1)

    def _below(self, directory: int, prefix: str, depth: int) -> Iterator[tuple[str, str, int]]:
        folders, names = self._listed(directory)
        for name in names:
            give_up_if_cancelled()
            yield prefix + name, name, directory
        if folders and depth >= _DEEPEST:
            self.left_out = f"more than {_DEEPEST} levels of directories"
            return
        for name in folders:
            try:
                below = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            except OSError:
                # Unreadable, or replaced since it was listed.
                continue
            try:
                if self._hidden is None or not os.path.samestat(os.fstat(below), self._hidden):
                    yield from self._below(below, f"{prefix}{name}/", depth + 1)
            finally:
                os.close(below)

    def _listed(self, directory: int) -> tuple[list[str], list[str]]:
        """Return the names of the directories to visit, and of everything else, sorted."""
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in islice(entries, max(0, _MOST_SEEN - self._seen)):
                    give_up_if_cancelled()
                    self._seen += 1
                    (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
                if next(entries, None) is not None:
                    self.left_out = f"more than {_MOST_SEEN} entries"
        except OSError:
            # Unreadable, or gone.
            return [], []
        return sorted(set(folders) - _SKIPPED), sorted(names)


def _lines(path: str, name: str, parent: int, wanted: _Wanted, policy: FilePolicy) -> Iterator[str]:
    try:
        with open_regular(path, parent, name) as descriptor, open(descriptor, "rb", closefd=False) as file:
            check_links(path, descriptor, policy)
            data = file.read(policy.longest_file)
    except (OSError, ToolFailed):
        # Unreadable, special, refused for its hard links, or deleted since it was listed.
        return
    if 0 in data[:8192]:
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if wanted.found_in(line):
            yield f"{path}:{number}: {line.strip()[:_LONGEST_LINE]}"
