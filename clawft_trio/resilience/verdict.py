"""Classification of errors: may the same target be retried, may another target help, does it count against the target.

Errors of this package have fields for this. Other errors, which come from plain functions and from providers of the
user, are classified by class: `OSError`, trio's broken streams, and the exceptions of httpx and httpx2, which are
recognised by name because those libraries are not imported here. The text of an error is never used.
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

# Errors in requests that were invalid before they were sent.
_HTTP_OWN_FAULT = frozenset({"LocalProtocolError", "UnsupportedProtocol"})

# Errors of the file system and of certificates, which a retry does not change.
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ssl.SSLCertVerificationError,
)

# Statuses for errors in the request, which do not count against the server.
_OF_THE_REQUEST = frozenset({400, 405, 406, 411, 412, 413, 414, 415, 416, 417, 422, 431, 451})

_SHOULD_RETRY: Mapping[str, bool] = {"true": True, "false": False}


def is_retryable(exc: BaseException) -> bool:
    """Whether a retry at the same target may succeed. Every leaf of a group has to be retryable."""
    return all(map(_is_retryable, leaves(exc)))


def is_curable_elsewhere(exc: BaseException) -> bool:
    """Whether another target may succeed. Every leaf of a group has to be curable."""
    return all(map(_is_curable_elsewhere, leaves(exc)))


def blames_target(exc: BaseException) -> bool:
    """Whether *exc* counts against its target's health. An error of an unknown class does."""
    return any(map(_blames_target, leaves(exc)))


def is_untried(exc: BaseException) -> bool:
    """Whether no request was sent to the target (`CircuitOpen`, `BulkheadFull`)."""
    return all(getattr(leaf, "untried", False) for leaf in leaves(exc))


def retry_after(exc: BaseException, now: Now = utc_now) -> float | None:
    """Return the seconds until the target accepts a retry; the longest of a group."""
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
    """Return the names of *exc*'s classes that belong to an HTTP library."""
    return {cls.__name__ for cls in type(exc).__mro__ if cls.__module__.partition(".")[0] in _HTTP_LIBRARIES}


def status_of(exc: BaseException) -> int | None:
    """Return the status of an `httpx.HTTPStatusError`; None for any other error."""
    if "HTTPStatusError" not in _http_names(exc):
        return None
    status = getattr(getattr(exc, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _headers_of(exc: BaseException) -> Mapping[str, str]:
    headers: Mapping[str, str] = getattr(getattr(exc, "response", None), "headers", {})
    return headers
