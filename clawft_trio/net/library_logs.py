"""The log lines of httpx and httpcore about our requests, without what may be secret.

At DEBUG httpcore writes every header of a response and the password of a SOCKS proxy; at INFO httpx writes the address
that a redirect leads to. Only lines about requests of this package are changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from clawft_trio.observe.redaction import redact_address

_LOGGERS = ("", ".connection", ".http11", ".http2", ".proxy", ".socks")

# Steps of httpcore whose lines name hosts and ports only. Of the others the name of the step is kept.
_HARMLESS = ("connect_tcp.", "start_tls.")

_sending: ContextVar[bool] = ContextVar("clawft_trio_sending", default=False)


def protect_logs(library: str) -> None:
    """Filter the lines of *library* (`httpx` or `httpx2`) and of its core. Calling it again changes nothing."""
    logging.getLogger(library).addFilter(_shorten_address)
    for name in _LOGGERS:
        logging.getLogger(library.replace("httpx", "httpcore") + name).addFilter(_shorten_step)


@contextmanager
def protected_logs() -> Iterator[None]:
    """The lines that are logged in this block are about a request of this package."""
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def _shorten_address(record: logging.LogRecord) -> bool:
    # Method, address, version, status and the server's own phrase.
    if _sending.get() and isinstance(record.args, tuple):
        address_free = [redact_address(str(one)) if not isinstance(one, int) else one for one in record.args]
        record.args = (*address_free[:4], *("" for _ in address_free[4:]))
    return True


def _shorten_step(record: logging.LogRecord) -> bool:
    if _sending.get() and not record.getMessage().startswith(_HARMLESS):
        record.msg, record.args = record.getMessage().partition(" ")[0], None
    return True
