"""The tool search_files: where a text occurs, or which files there are.

The text is taken as it is. A regular expression from a model could backtrack for ever, and would hold the
interpreter while it does; who wants them allows `grep` or `rg` in `run_command`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated

import attrs
from msgspec import Meta

from clawft_trio.errors import ToolFailed
from clawft_trio.tools.builtin.files import FilePath, FilePolicy, give_up_if_cancelled
from clawft_trio.tools.tool import Tool, tool
from clawft_trio.tools.workspace import Workspace, open_regular

_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"})
"""Directories in which nobody looks for text of his own."""

_LONGEST_LINE = 300
"""Characters of a line that are shown; minified files have one line."""

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
    """The tool search_files for one workspace."""

    # Who may not read files must not read them this way.
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
            for result in _results(directory, prefix, wanted, policy.longest_file):
                if len(found) == limit:
                    return "\n".join([*found, f"[more than {limit} results: narrow the search]"])
                found.append(result)
        return "\n".join(found) or "Nothing found."

    return search_files


def _results(directory: int, prefix: str, wanted: _Wanted, longest: int) -> Iterator[str]:
    for below, name, parent in _files(directory):
        give_up_if_cancelled()
        path = prefix + below
        if not wanted.names(path):
            continue
        if not wanted.text:
            yield path
        else:
            yield from _lines(path, name, parent, wanted, longest)


def _files(directory: int) -> Iterator[tuple[str, str, int]]:
    """Path, name and open parent of everything below *directory* that is no directory; links are not followed."""
    for above, directories, names, parent in os.fwalk(".", dir_fd=directory):
        directories[:] = sorted(set(directories) - _SKIPPED)
        prefix = above[2:] + "/" if len(above) > 1 else ""
        for name in sorted(names):
            yield prefix + name, name, parent


def _lines(path: str, name: str, parent: int, wanted: _Wanted, longest: int) -> Iterator[str]:
    try:
        with open_regular(path, parent, name) as descriptor, open(descriptor, "rb", closefd=False) as file:
            data = file.read(longest)
    except (OSError, ToolFailed):
        # Unreadable, special, or gone since it was listed.
        return
    if 0 in data[:8192]:
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if wanted.found_in(line):
            yield f"{path}:{number}: {line.strip()[:_LONGEST_LINE]}"
