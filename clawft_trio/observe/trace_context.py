"""Sends and receives the current trace as W3C Trace Context.

OpenTelemetry is used only when the application has imported it; without it there is no current span.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

FIELDS = ("traceparent", "tracestate")
"""Fields that are sent. Baggage is not sent: it is the application's data, and the other process may be foreign."""

_LONGEST = 512
"""Characters of one field; the limit that the recommendation gives for `tracestate`."""


def current_trace() -> dict[str, str]:
    """Return `traceparent`, and `tracestate` when it is not empty, of the current span; empty when there is no span."""
    fields: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        _propagator().inject(fields)
    return {name: fields[name] for name in FIELDS if fields.get(name)}


@contextmanager
def continuing(fields: Mapping[str, Any]) -> Iterator[None]:
    """Make the remote span in *fields* the parent of the spans that begin inside the block.

    An invalid trace context is ignored.
    """
    given = {name: value for name in FIELDS if isinstance(value := fields.get(name), str) and len(value) <= _LONGEST}
    if "traceparent" not in given or "opentelemetry.trace" not in sys.modules:
        yield
        return
    context = import_module("opentelemetry.context")
    token = context.attach(_propagator().extract(given))
    try:
        yield
    finally:
        context.detach(token)


def _propagator() -> Any:
    # An optional package that the application has already imported; it is not loaded for others.
    return import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
