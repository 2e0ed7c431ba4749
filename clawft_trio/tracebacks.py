"""Short tracebacks: at the public boundary, the frames of this package and of the libraries below it are hidden.

The error's message and the program's own frames show what the program did wrong or what failed outside of it; the sixty
frames between them are useful only for work on this package. `CLAWFT_TRACEBACK=1` in the environment shows all frames.
The frames of an error that is a fault of this package are never hidden.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from clawft_trio.errors import ClawftError

FULL = "CLAWFT_TRACEBACK"
"""Environment variable that, when it is set, shows all frames."""

_OURS = "clawft_trio anyio contextlib h11 httpcore httpcore2 httpx httpx2 outcome trio"

# The local variables of their frames hold the address of the store and the environment of a child process.
_WITH_SECRETS = "psycopg subprocess"

_HIDDEN = frozenset(f"{_OURS} {_WITH_SECRETS}".split())
"""Packages whose frames are hidden."""

_MOST = 200
"""Largest number of errors of one chain of causes and groups whose tracebacks are shortened."""

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
T = TypeVar("T")


def shorten_traceback(exc: E) -> E:
    """Hide the internal frames of *exc*, of its causes and of the members of groups; return *exc*."""
    if os.environ.get(FULL):
        return exc
    waiting: list[BaseException] = [exc]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if not _is_own_fault(one):
            one.__traceback__ = _visible(one.__traceback__)
        waiting.extend(inner for inner in (one.__cause__, one.__context__) if inner is not None)
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
    return exc


def _is_own_fault(exc: BaseException) -> bool:
    """Whether *exc* was raised in this package and is not one of its error classes: its frames are needed then."""
    if isinstance(exc, ClawftError | OSError | BaseExceptionGroup):
        return False
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and _package(traceback) == "clawft_trio"


def _visible(traceback: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while traceback is not None:
        if _package(traceback) not in _HIDDEN:
            kept.append(traceback)
        traceback = traceback.tb_next
    visible: TracebackType | None = None
    for one in reversed(kept):
        visible = TracebackType(visible, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return visible


def _package(traceback: TracebackType) -> str:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def short_opening(
    opening: Callable[P, AbstractAsyncContextManager[T]],
) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Wrap a public function `open_x`: errors that its context manager raises on entry get short tracebacks."""

    @wraps(opening)
    def opened(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _ShortOpening(opening(*args, **kwargs))

    return opened


class _ShortOpening(AbstractAsyncContextManager[T]):
    def __init__(self, inner: AbstractAsyncContextManager[T]) -> None:
        self._inner = inner

    async def __aenter__(self) -> T:
        try:
            return await self._inner.__aenter__()
        except Exception as exc:
            shorten_traceback(exc)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, exc, traceback)  # noqa: ASYNC102 - bounded by what it wraps
