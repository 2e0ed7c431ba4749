"""Seeing every call that could block the event loop, from the package's own frames."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

# What never waits for a disk, a peer or a clock.
_FREE = frozenset(
    {
        *(
            "_path_normpath",
            "_path_splitroot_ex",
            "WEXITSTATUS",
            "WIFEXITED",
            "WIFSIGNALED",
            "WTERMSIG",
            "close",
            "cpu_count",
            "dup",
            "fspath",
            "get_inheritable",
        ),
        *("getcwd", "getegid", "geteuid", "getgid", "getpgid", "getpid", "getppid", "getuid", "kill", "killpg", "pipe"),
        *(
            "pidfd_open",
            "pipe2",
            "putenv",
            "sched_getaffinity",
            "set_blocking",
            "set_inheritable",
            "strerror",
            "umask",
            "urandom",
        ),
    }
)

# Python code of the standard library that does its caller's bidding: who called it is who blocks.
_ERRANDS = frozenset(
    {
        *("codecs", "contextlib", "fileinput", "genericpath", "glob", "io", "ntpath", "os", "pathlib", "posixpath"),
        *("shutil", "socket", "sqlite3", "subprocess", "tempfile", "tokenize", "linecache", "mimetypes", "zipfile"),
        *("pathlib._local", "pathlib._abc", "json", "configparser", "csv", "functools", "fnmatch", "netrc", "yaml"),
    }
)

# Whose descriptor is in non-blocking mode, which a profiler cannot see.
_NEVER_WAITING = frozenset({("clawft_trio.mcp.transports.streams", "send_all", "write")})

_IN_MEMORY = frozenset({"BytesIO", "StringIO", "StringI", "IncrementalNewlineDecoder"})


def blocks(function: Any) -> bool:
    """Whether the C *function* is one that can wait for something outside the process."""
    owner = getattr(function, "__self__", None)
    name = function.__name__
    module = function.__module__ or type(owner).__module__
    if module in {"posix", "nt"}:
        return name not in _FREE
    if module in {"_io", "io"}:
        kind = type(owner).__name__
        return kind not in _IN_MEMORY and not (name.startswith("__") or name in {"fileno", "isatty", "close", "closed"})
    if module == "time":
        return name == "sleep"
    if module == "_socket":
        return name in {"getaddrinfo", "gethostbyname", "connect", "recv", "send", "sendall", "accept"}
    return module in {"sqlite3", "_sqlite3", "_posixsubprocess", "select"}


class NothingBlocks:
    """A block during which the package's blocking calls on this thread are noted; leaving it asserts that there were none.

    Other threads are not looked at: that is where such calls belong.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.looked_at = 0

    def __enter__(self) -> NothingBlocks:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        sys.setprofile(None)
        if kind is None:
            assert not self.seen, "\n".join(dict.fromkeys(self.seen))

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        self.looked_at += 1
        if blocks(function):
            caller = _caller(frame)
            name = str(caller.f_globals.get("__name__"))
            place = (name, caller.f_code.co_name, function.__name__)
            if name.partition(".")[0] == "clawft_trio" and place not in _NEVER_WAITING:
                where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
                self.seen.append(f"{where}: {caller.f_code.co_name} calls {function.__qualname__}")


def _caller(frame: FrameType) -> FrameType:
    while frame.f_back is not None and frame.f_globals.get("__name__") in _ERRANDS:
        frame = frame.f_back
    return frame
