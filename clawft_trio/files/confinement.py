"""Check whether symbolic links lead out of a folder. Everything here blocks."""

from __future__ import annotations

import errno
import os
import stat

_DESCRIPTORS = "/proc/self/fd"
"""Linux has links to the files of open descriptors here."""


class Confinement:
    """A check of paths against folders; made for one batch of paths, because it caches resolved folders.

    Args:
      roots: absolute folders. A path belongs to the outermost of them that contains it; others are not checked.
    """

    def __init__(self, roots: tuple[str, ...]) -> None:
        self._roots = roots
        self._resolved: dict[str, str] = {}

    def root_of(self, path: str) -> str | None:
        """Return the folder that *path* must stay in; None when it belongs to none."""
        if not self._roots:
            return None
        absolute = os.path.abspath(path)
        return min((root for root in self._roots if _below(absolute, root)), key=len, default=None)

    def leaves(self, path: str, root: str) -> bool:
        """Whether *path* leads out of *root* by a link at its end or in one of its folders.

        Raises:
          OSError: there is nothing at *path*.
        """
        folder, name = os.path.split(os.path.abspath(path))
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        target = real_path(path) if is_link else os.path.join(self._real(folder), name)
        return not _below(target, self._real(root))

    def opened_outside(self, descriptor: int, root: str) -> bool:
        """Whether an opened file lies outside of *root*, wherever its path leads now.

        On Linux only; elsewhere the check before opening is the only one.
        """
        try:
            target = os.readlink(f"{_DESCRIPTORS}/{descriptor}")
        except OSError:
            return False
        return not _below(target, self._real(root))

    def _real(self, folder: str) -> str:
        if folder not in self._resolved:
            self._resolved[folder] = real_path(folder)
        return self._resolved[folder]


def real_path(path: str) -> str:
    """Return *path* without symbolic links.

    Raises:
      OSError: a chain of links is too long.
    """
    try:
        return os.path.realpath(path)
    except RecursionError:
        # It follows a link of a link by a call of itself, and without the kernel's limit of 40.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
