"""The files that say who the agent is and how it works, in its workspace."""

from __future__ import annotations

import os

import attrs

from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.files import OnDisk, Reads, StrPath

IDENTITY_FILES = ("SOUL.md", "IDENTITY.md")
"""Who the agent is. One of them is enough to replace the built-in introduction."""

GUIDE_FILES = ("AGENTS.md", "USER.md", "TOOLS.md")
"""How it works, for whom, and with what."""

BOOTSTRAP_FILES = IDENTITY_FILES + GUIDE_FILES

MAX_BYTES = 128 << 10
"""Of one file: 32 000 tokens, which is already more than a model should be told before it is asked anything."""

_FOLDERS = ("", ".clawft")
"""Where each is looked for, below the workspace; the first that is not blank wins."""


@attrs.frozen(kw_only=True)
class BootstrapFile:
    """One of the bootstrap files, as it goes into the prompt."""

    name: str
    #: the path it came from
    source: str
    text: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Bootstrap:
    """What was found, in the order of `BOOTSTRAP_FILES`, and what was wrong with the rest."""

    files: tuple[BootstrapFile, ...] = ()
    #: a line for each file that is there and could not be used, or was changed
    problems: tuple[str, ...] = ()


def bootstrap_paths(workspace: StrPath) -> tuple[str, ...]:
    """Every place where a bootstrap file may be, best first for each name."""
    root = os.fspath(workspace)
    # Not Path: its joining and back costs more than all the rest of a hot prompt.
    return tuple(os.path.join(root, folder, name) for name in BOOTSTRAP_FILES for folder in _FOLDERS)  # noqa: PTH118


async def read_bootstrap(reads: Reads, workspace: StrPath) -> Bootstrap:
    """Read the bootstrap files of *workspace*. None of them has to be there; nothing about them raises.

    Cancellation: as the cache's `read_many`.
    """
    paths = bootstrap_paths(workspace)
    found = await reads.read_many(paths)
    return chosen(dict(zip(paths, found, strict=True)), workspace)


def chosen(found: dict[str, OnDisk], workspace: StrPath) -> Bootstrap:
    """The first usable one for each name among what was *found* at `bootstrap_paths(workspace)`."""
    paths = bootstrap_paths(workspace)
    width = len(_FOLDERS)
    files, problems = [], []
    for number, name in enumerate(BOOTSTRAP_FILES):
        candidates = paths[number * width : (number + 1) * width]
        for path in candidates:
            file, said = _taken(name, path, found[path])
            problems.extend(said)
            if file is not None:
                files.append(file)
                break
    return Bootstrap(files=tuple(files), problems=tuple(problems))


def _taken(name: str, path: str, found: OnDisk) -> tuple[BootstrapFile | None, list[str]]:
    if found.state == "missing":
        return None, []
    if found.state != "file":
        return None, [f"{path}: {found.detail or 'a folder'}"]
    if found.size > MAX_BYTES:
        return None, [f"{path}: {found.size} bytes are more than {MAX_BYTES}"]
    cleaned = without_control_tokens(found.text)
    if not cleaned.clean:
        return None, [f"{path}: made of control tokens"]
    said = [f"{path}: {cleaned.removed} control tokens taken out"] if cleaned.removed else []
    text = cleaned.text.strip()
    if not text:
        return None, [*said, f"{path}: empty"]
    return BootstrapFile(name=name, source=path, text=text), said
