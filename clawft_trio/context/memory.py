"""MEMORY.md: notes that the agent keeps between conversations."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from urllib.parse import quote

import attrs
import trio

from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.files import FileCache, Reads, StrPath
from clawft_trio.files.confinement import Confinement, real_path
from clawft_trio.tools.path_locks import PathLocks

# A link in an untrusted workspace must not redirect the model's writes to another file.
_APPEND_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    _APPEND_FLAGS |= getattr(os, _name, 0)

_LOCAL = "local:"
"""Prefix of the identities of the local process."""

_UNWRITABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
"""Characters that do not belong in a text. A zero byte would make the whole file unreadable for the cache."""


@attrs.frozen(kw_only=True)
class Remembered:
    """The contents of a memory file."""

    #: path of the file
    source: str
    #: without control tokens; empty when there are no notes
    text: str = attrs.field(default="", repr=False)
    #: reasons why the file could not be read, or what was removed from it
    problems: tuple[str, ...] = ()

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """The entries, which blank lines separate."""
        return tuple(part.strip() for part in self.text.split("\n\n") if part.strip())


class Memory:
    """A file of notes below the workspace, read through the cache and changed only by appending.

    Args:
      workspace: the notes are in `memory/MEMORY.md` below it.
      cache: the cache that also reads all other files.
      locks: the path locks of the file tools, so that their writes and appends do not overlap.
      per_sender: True gives each sender separate notes. False shares one file among all. None, the default of a
        configured agent, gives each sender of a channel separate notes, and the shared file to the local process.
      max_bytes: largest size of the file; a larger one is not read.
      max_entry: largest size of one entry in bytes.
    """

    def __init__(
        self,
        workspace: StrPath,
        cache: FileCache,
        *,
        locks: PathLocks | None = None,
        per_sender: bool | None = False,
        max_bytes: int = 64 << 10,
        max_entry: int = 4 << 10,
    ) -> None:
        self._workspace = os.fspath(workspace)
        self._folder = os.path.join(self._workspace, "memory")
        self._cache = cache
        cache.confine(self._workspace)
        self._per_sender = per_sender
        self._max_bytes = max_bytes
        self._max_entry = max_entry
        self._locks = locks if locks is not None else PathLocks()

    def path(self, sender: str = "") -> str:
        """Return the path of the notes of *sender* (its identity, `channel:name`)."""
        own = not sender.startswith(_LOCAL) if self._per_sender is None else self._per_sender
        if not (own and sender):
            return os.path.join(self._folder, "MEMORY.md")
        return os.path.join(self._folder, "senders", _folder_name(sender), "MEMORY.md")

    async def read(self, sender: str = "", *, reads: Reads | None = None) -> Remembered:
        """Return all notes of *sender*. Without notes the text is empty; no problem on the disk raises.

        Args:
          sender: an identity; it matters only with separate notes for each sender.
          reads: a `Snapshot` that the caller is filling, instead of the cache.

        Cancellation: as for the cache's `read_many`.
        """
        path = self.path(sender)
        (found,) = await (reads or self._cache).read_many([path])
        if found.state == "missing":
            return Remembered(source=path)
        if found.state != "file":
            return Remembered(source=path, problems=(f"{path}: {found.detail or 'a folder'}",))
        if found.size > self._max_bytes:
            problem = f"{path}: {found.size} bytes are more than {self._max_bytes}"
            return Remembered(source=path, problems=(problem,))
        return _cleaned(path, found.text)

    async def append(self, entry: str, sender: str = "") -> str:
        """Add *entry* at the end of the notes of *sender*, and return it as it was stored.

        It is on disk when this returns, as a separate paragraph, without control tokens.

        Raises:
          InvalidData: the entry is empty or too long, the file is full, or its folder lies outside the workspace.
          OSError: the file cannot be written, or is a link; nothing was added.

        Cancellation: the entry is written completely or not at all.
        """
        text = self._checked(entry)
        path = self.path(sender)
        async with self._locks.hold([(path, "write")]):
            # Not abandoned on cancellation, because the write must not be left half done.
            await trio.to_thread.run_sync(_append, self._workspace, path, text, self._max_bytes)
        self._cache.forget([path])
        return text

    async def search(self, query: str, sender: str = "", *, limit: int = 10) -> tuple[str, ...]:
        """Return the latest *limit* entries that contain every word of *query*, newest first; case does not matter.

        Cancellation: as for `read`.
        """
        words = query.casefold().split()
        remembered = await self.read(sender)
        hits = (part for part in reversed(remembered.paragraphs) if all(word in part.casefold() for word in words))
        return tuple(hit for hit, _ in zip(hits, range(limit), strict=False)) if words else ()

    def _checked(self, entry: str) -> str:
        cleaned = without_control_tokens(_UNWRITABLE.sub("", entry.encode("utf-8", "replace").decode()))
        # A blank line inside would split the entry in two.
        text = "\n".join(line.rstrip() for line in cleaned.text.splitlines() if line.strip()).strip()
        if not text or not cleaned.clean:
            raise InvalidData([Problem("$.entry", "nothing to remember")])
        size = len(text.encode())
        if size > self._max_entry:
            raise InvalidData([Problem("$.entry", f"{size} bytes; an entry may have {self._max_entry}")])
        return text


def _cleaned(path: str, text: str) -> Remembered:
    cleaned = without_control_tokens(text.replace("\r\n", "\n"))
    if not cleaned.clean:
        return Remembered(source=path, problems=(f"{path}: made of control tokens",))
    problems = (f"{path}: {cleaned.removed} control tokens taken out",) if cleaned.removed else ()
    return Remembered(source=path, text=cleaned.text.strip(), problems=problems)


def _folder_name(sender: str) -> str:
    """Return a folder name for an identity: readable, safe, and different for different identities.

    The digest distinguishes identities whose readable parts are equal: long names, and names that differ only in case
    on a file system that ignores case.
    """
    digest = hashlib.sha256(sender.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = quote(sender, safe="", errors="replace").replace(".", "%2E").replace("~", "%7E")
    return f"{readable[:80]}-{digest}"


def _append(workspace: str, path: str, text: str, max_bytes: int) -> None:
    folder, root = os.path.dirname(path), real_path(workspace)
    outside = InvalidData([Problem("$", "a link leads out of the workspace")], source=path)
    if os.path.commonpath([root, real_path(folder)]) != root:
        raise outside
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # Readable by its owner only.
    descriptor = os.open(path, _APPEND_FLAGS, 0o600)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if Confinement(()).opened_outside(descriptor, root):
            # The folder was replaced by a link after the check.
            raise outside
        size = state.st_size
        data = f"{text}\n\n".encode()
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n\n" + data
        if size + len(data) > max_bytes:
            raise InvalidData([Problem("$.entry", f"the memory is full: {max_bytes} bytes")], source=path)
        _write_or_undo(descriptor, data, size)
    finally:
        os.close(descriptor)


def _write_or_undo(descriptor: int, data: bytes, size: int) -> None:
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError("the disk took only part of the entry")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
