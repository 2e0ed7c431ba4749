"""The trace that is current here, as W3C Trace Context for another process, and back.

OpenTelemetry is used where the application has imported it; without it there is no current span, and nothing to do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

FIELDS = ("traceparent", "tracestate")
"""What is sent. Baggage is not: it is the application's own data, and the other process may be a stranger's."""

_LONGEST = 512
"""Characters of one field; the limit that the recommendation names for `tracestate`."""


def current_trace() -> dict[str, str]:
    """`traceparent`, and `tracestate` if it holds anything, of the span that is current; empty where there is none."""
    fields: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        _propagator().inject(fields)
    return {name: fields[name] for name in FIELDS if fields.get(name)}


@contextmanager
def continuing(fields: Mapping[str, Any]) -> Iterator[None]:
    """Make the remote span that *fields* name the parent of the spans that begin inside the block.

    What is no valid trace context is ignored.
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
    # An extra, which the application has imported: nothing is loaded for one that does not use it.
    return import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
