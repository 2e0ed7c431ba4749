"""The files of a workspace that describe the agent and its work."""

from __future__ import annotations

import os

import attrs

from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.files import OnDisk, Reads, StrPath

IDENTITY_FILES = ("SOUL.md", "IDENTITY.md")
"""Files with the agent's identity. One of them is enough to replace the built-in introduction."""

GUIDE_FILES = ("AGENTS.md", "USER.md", "TOOLS.md")
"""Files about the agent's way of working, its user, and its tools."""

BOOTSTRAP_FILES = IDENTITY_FILES + GUIDE_FILES

MAX_BYTES = 128 << 10
"""Largest size of one file: 32 000 tokens, already more than a prompt should begin with."""

_PLACES = {
    **{name: (name, f".clawft/{name}") for name in BOOTSTRAP_FILES},
    # Names that other programs use for the same file; tried last.
    "AGENTS.md": ("AGENTS.md", ".clawft/AGENTS.md", "CLAUDE.md", ".claude/CLAUDE.md", "GEMINI.md"),
}
"""The paths of each file below the workspace; the first that is not blank is used."""


@attrs.frozen(kw_only=True)
class BootstrapFile:
    """One of the bootstrap files, as the prompt contains it."""

    name: str
    #: path of the file
    source: str
    text: str = attrs.field(repr=False)
    #: the name in `BOOTSTRAP_FILES` that it is used for
    replaces: str = ""


@attrs.frozen(kw_only=True)
class Bootstrap:
    """The used files, in the order of `BOOTSTRAP_FILES`, and the problems of the others."""

    files: tuple[BootstrapFile, ...] = ()
    #: one line for each existing file that could not be used, or was changed
    problems: tuple[str, ...] = ()


def bootstrap_paths(workspace: StrPath) -> tuple[str, ...]:
    """Return all possible paths of bootstrap files, best first for each name."""
    root = os.fspath(workspace)
    # Not Path, whose joining costs more than everything else for an unchanged prompt.
    return tuple(os.path.join(root, place) for name in BOOTSTRAP_FILES for place in _PLACES[name])


async def read_bootstrap(reads: Reads, workspace: StrPath) -> Bootstrap:
    """Read the bootstrap files of *workspace*. All are optional; no problem with them raises.

    Cancellation: as for the cache's `read_many`.
    """
    paths = bootstrap_paths(workspace)
    found = await reads.read_many(paths)
    return chosen(dict(zip(paths, found, strict=True)), workspace)


def chosen(found: dict[str, OnDisk], workspace: StrPath) -> Bootstrap:
    """Return the first usable file for each name among those *found* at `bootstrap_paths(workspace)`."""
    paths = iter(bootstrap_paths(workspace))
    files: list[BootstrapFile] = []
    problems: list[str] = []
    for name in BOOTSTRAP_FILES:
        # Takes all paths of the name from the iterator, also those that are not used.
        for path in [next(paths) for _ in _PLACES[name]]:
            if files and files[-1].replaces == name:
                continue
            file, notes = _usable(name, path, found[path])
            problems.extend(notes)
            if file is not None:
                files.append(file)
    return Bootstrap(files=tuple(files), problems=tuple(problems))


def _usable(name: str, path: str, found: OnDisk) -> tuple[BootstrapFile | None, list[str]]:
    if found.state == "missing":
        return None, []
    if found.state != "file":
        return None, [f"{path}: {found.detail or 'a folder'}"]
    if found.size > MAX_BYTES:
        return None, [f"{path}: {found.size} bytes are more than {MAX_BYTES}"]
    cleaned = without_control_tokens(found.text)
    if not cleaned.clean:
        return None, [f"{path}: made of control tokens"]
    notes = [f"{path}: {cleaned.removed} control tokens removed"] if cleaned.removed else []
    text = cleaned.text.strip()
    if not text:
        return None, [*notes, f"{path}: empty"]
    # The name of the file in the workspace, without its folder.
    own = os.path.basename(path)
    return BootstrapFile(name=own, source=path, text=text, replaces=name), notes
