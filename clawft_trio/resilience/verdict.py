"""What an error means to a strategy: may the same target be asked again, may another, and is its health in doubt.

Errors of this package state it in their fields. Errors of other origin, which reach strategies around plain functions
and user-written providers, are judged by class: `OSError`, trio's broken streams, and the exceptions of httpx and
httpx2, which are recognised by name because those libraries are not imported here. Message text is never looked at.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import trio

from clawft_trio.errors import ClawftError
from clawft_trio.nursery import leaves
from clawft_trio.retry_hints import (
    RETRYABLE_STATUSES,
    Now,
    limit_resets_after,
    retry_after as parse_retry_after,
    utc_now,
)

_HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})

# The transport errors of both libraries and of their cores.
_HTTP_TRANSPORT = frozenset({"TransportError", "TimeoutException", "NetworkError", "ProtocolError", "ProxyError"})

# Requests that were wrong before they were sent.
_HTTP_OWN_FAULT = frozenset({"LocalProtocolError", "UnsupportedProtocol"})

# The file system's answers, and a certificate that is not good: they would be the same again.
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ssl.SSLCertVerificationError,
)

# Statuses by which a server finds fault with the request: they do not count against the server.
_OF_THE_REQUEST = frozenset({400, 405, 406, 411, 412, 413, 414, 415, 416, 417, 422, 431, 451})

_SHOULD_RETRY: Mapping[str, bool] = {"true": True, "false": False}


def is_retryable(exc: BaseException) -> bool:
    """Whether the same target may succeed when asked again. A group has to be retryable in every leaf."""
    return all(map(_is_retryable, leaves(exc)))


def is_curable_elsewhere(exc: BaseException) -> bool:
    """Whether another target may succeed. A group has to be curable in every leaf."""
    return all(map(_is_curable_elsewhere, leaves(exc)))


def blames_target(exc: BaseException) -> bool:
    """Whether *exc* speaks against its target's health. An error of unknown kind does."""
    return any(map(_blames_target, leaves(exc)))


def is_untried(exc: BaseException) -> bool:
    """Whether *exc* states that the target was not asked at all (`CircuitOpen`, `BulkheadFull`)."""
    return all(getattr(leaf, "untried", False) for leaf in leaves(exc))


def retry_after(exc: BaseException, now: Now = utc_now) -> float | None:
    """Seconds until the target wants to be asked again; the longest, where a group names several."""
    waits = [_retry_after(leaf, now) for leaf in leaves(exc)]
    return max((wait for wait in waits if wait is not None), default=None)


def _is_retryable(exc: BaseException) -> bool:
    if isinstance(exc, ClawftError):
        return exc.retryable
    if isinstance(exc, OSError | trio.BrokenResourceError | trio.TooSlowError):
        return not isinstance(exc, _LASTING)
    status = status_of(exc)
    if status is not None:
        return _SHOULD_RETRY.get(_headers_of(exc).get("x-should-retry", ""), status in RETRYABLE_STATUSES)
    names = _http_names(exc)
    return bool(names & _HTTP_TRANSPORT) and not names & _HTTP_OWN_FAULT


def _is_curable_elsewhere(exc: BaseException) -> bool:
    if isinstance(exc, ClawftError):
        return exc.curable_elsewhere
    if isinstance(exc, OSError | trio.BrokenResourceError | trio.TooSlowError):
        return True
    return status_of(exc) is not None or bool(_http_names(exc) & _HTTP_TRANSPORT)


def _blames_target(exc: BaseException) -> bool:
    if isinstance(exc, ClawftError):
        return exc.blames_target
    return status_of(exc) not in _OF_THE_REQUEST


def _retry_after(exc: BaseException, now: Now) -> float | None:
    if isinstance(exc, ClawftError):
        return exc.retry_after
    status = status_of(exc)
    if status is None:
        return None
    headers = _headers_of(exc)
    asked = parse_retry_after(headers, now)
    return limit_resets_after(headers, now) if asked is None and status == 429 else asked


def _http_names(exc: BaseException) -> set[str]:
    """The names of *exc*'s classes that belong to an HTTP library."""
    return {cls.__name__ for cls in type(exc).__mro__ if cls.__module__.partition(".")[0] in _HTTP_LIBRARIES}


def status_of(exc: BaseException) -> int | None:
    """The status of an `httpx.HTTPStatusError`; None for any other error."""
    if "HTTPStatusError" not in _http_names(exc):
        return None
    status = getattr(getattr(exc, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _headers_of(exc: BaseException) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(getattr(exc, "response", None), "headers", {})
    return headers
