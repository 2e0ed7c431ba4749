"""Tells a wrong address from a missing model: both are mostly a 404.

Servers answer an unknown path with the page of their web framework, and some with the error object of the very dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from clawft_trio.observe.redaction import cut, cut_redacted, redact_address

# 501 is what Python's own file server answers to a POST.
NO_SUCH_API = frozenset({301, 302, 303, 307, 308, 404, 405, 501})
"""Statuses of a server that has no such API at an address."""

_VERSION = re.compile(r"v\d+\w*|openai", re.ASCII)

# Of the server's own words, beside the advice.
_MAX_QUOTED = 200


def has_odd_path(request: str) -> bool:
    """Whether the path of *request*, a method and a URL, is one that no API of a model has."""
    steps = _steps(request)
    return _is_doubled(steps) or not _has_version(steps)


def is_foreign(request: str, *, anthropic: bool) -> bool:
    """Whether an error in the envelope of Anthropic's dialect, or of the others, does not fit the path of *request*."""
    last = _steps(request)[-1:]
    return last == ["messages"] if not anthropic else last in (["completions"], ["responses"])


def describe(request: str, status: int, headers: Mapping[str, str], answer: str) -> str:
    """What to check when a server has no such API at the address of *request*; *answer* are its own words."""
    steps = _steps(request)
    if 300 <= status < 400:
        location = cut_redacted(headers.get("location", "").partition("?")[0], 200, redact=redact_address)
        advice = f"it redirects to {location!r}: put the address that it means into the base URL"
    elif _is_doubled(steps):
        advice = "check the base URL: it must end before the path of the request, usually in /v1"
    elif not _has_version(steps):
        advice = "check the base URL: most end in a version, such as /v1"
    else:
        advice = "check the base URL and that a model server is listening there"
    answered = f"status {status}: {cut(answer, _MAX_QUOTED)!r}" if answer else f"status {status}"
    return f"no model API answers {request} ({answered}); {advice}"


def _steps(request: str) -> list[str]:
    return request.partition("://")[2].partition("?")[0].split("/")[1:]


def _is_doubled(steps: list[str]) -> bool:
    return any(steps.count(name) > 1 for name in ("completions", "messages", "responses", "models", "v1"))


def _has_version(steps: list[str]) -> bool:
    return any(_VERSION.fullmatch(step) for step in steps)
