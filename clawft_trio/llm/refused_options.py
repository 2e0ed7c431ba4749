"""Remembers optional parameters that a target has refused; its later requests are sent without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_MOST_MODELS = 256
"""Models of one provider that are remembered."""

_REQUIRED = frozenset({"model", "messages", "input", "contents", "tools", "stream"})
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of one limit: it is needed, and a server that refuses one name takes the other."""


def refused_parameter(body: str | bytes) -> str:
    """The parameter that an error names in a typed field; empty when it names none.

    `error.param` (OpenAI and its likes), `detail[].loc` (FastAPI: Mistral, vLLM), `fieldViolations[].field` (Google).
    No message is read.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    outer = decoded[0] if isinstance(decoded, list) and decoded else decoded
    return next((name for name in _named(outer) if name), "") if isinstance(outer, Mapping) else ""


def _named(outer: Mapping[str, Any]) -> Iterator[str]:
    error = outer.get("error")
    inner = error if isinstance(error, Mapping) else outer
    yield _text(inner.get("param"))
    for detail in _objects(outer.get("detail")):
        place = detail.get("loc")
        steps = [step for step in place if step != "body"] if isinstance(place, list) else []
        yield _text(steps[0]) if steps else ""
    for detail in _objects(inner.get("details")):
        for violation in _objects(detail.get("fieldViolations")):
            yield _text(violation.get("field"))


def _text(value: object) -> str:
    return value.partition(".")[0].partition("[")[0] if isinstance(value, str) else ""


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


class RefusedOptions:
    """What each model of one provider has refused."""

    def __init__(self) -> None:
        self._refused: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"<RefusedOptions of {len(self._refused)} models>"

    def of(self, model: str) -> frozenset[str]:
        """The parameters that *model* has refused."""
        return self._refused.get(model, frozenset())

    def learn(self, model: str, parameter: str, body: Mapping[str, Any]) -> bool:
        """Remember that *model* refused *parameter* of *body*; False when it is needed, unknown, or not in the body."""
        if not parameter or parameter in _REQUIRED or parameter not in body or parameter in self.of(model):
            return False
        if len(self._refused) >= _MOST_MODELS and model not in self._refused:
            self._refused.pop(next(iter(self._refused)))
        self._refused[model] = self.of(model) | {parameter}
        return True

    def without(self, model: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """*body* without what *model* has refused; a limit on the output keeps its value under its other name."""
        refused = self.of(model)
        if not refused:
            return body
        kept = {name: value for name, value in body.items() if name not in refused}
        for name, other in _LIMITS.items():
            if name in refused and name in body and other not in refused:
                kept.setdefault(other, body[name])
        return kept
