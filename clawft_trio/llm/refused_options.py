"""Remembers the optional parameters that a model has refused; later requests to it are sent without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_MOST_MODELS = 256
"""Largest number of models of one provider that are remembered."""

_GROUPS = frozenset({"text", "output_config", "reasoning"})
"""Parameters that contain several independent ones: a refused one is named by its path (`text.verbosity`)."""

SCHEMAS = frozenset(
    {"response_format", "text", "text.format", "output_config", "output_config.format", "output_format"}
)
"""Parameters with the schema of an answer. When one is refused, the schema is written into the prompt."""

MOST_REFUSALS = 4
"""Largest number of parameters that one call leaves out after refusals."""

_REQUIRED = frozenset({"model", "messages", "input", "contents", "tools", "stream"})
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of one limit: it is needed, and a server that refuses one name accepts the other."""


def refused_parameter(body: str | bytes) -> str:
    """Return the parameter that an error names in a typed field; empty when it names none.

    Read are `error.param` (OpenAI and compatible servers), `detail[].loc` (FastAPI: Mistral, vLLM),
    `fieldViolations[].field` (Google), and the same fields in the vendor's error inside a gateway's (OpenRouter's
    `metadata.raw`). Message texts are not read.
    """
    return next((name for name in _named(_decoded(body), 0) if name), "")


def _decoded(body: object) -> object:
    if not isinstance(body, str | bytes):
        return body
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return decoded[0] if isinstance(decoded, list) and decoded else decoded


def _named(outer: object, depth: int) -> Iterator[str]:
    if not isinstance(outer, Mapping) or depth > _DEEPEST:
        return
    yield _path(outer.get("param"))
    # Mistral also puts FastAPI's details under `message`.
    for details in (outer.get("detail"), outer.get("message"), outer.get("errors")):
        listed = details.get("detail") if isinstance(details, Mapping) else details
        for detail in _objects(listed):
            place = detail.get("loc")
            steps = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
            yield _path(".".join(steps))
            yield _path(detail.get("param") or detail.get("field"))
    for detail in _objects(outer.get("details")):
        for violation in _objects(detail.get("fieldViolations")):
            yield _path(violation.get("field"))
    yield from _named(outer.get("error"), depth + 1)
    metadata = outer.get("metadata")
    if isinstance(metadata, Mapping):
        yield from _named(_decoded(metadata.get("raw")), depth + 1)


_DEEPEST = 3
"""Largest depth of errors inside errors."""


def _path(value: object) -> str:
    """Return the name of a top-level parameter, or the path of one in a group."""
    if not isinstance(value, str):
        return ""
    top, _, rest = value.removeprefix("body.").removeprefix("$.").partition(".")
    top, inner = top.partition("[")[0], rest.partition(".")[0].partition("[")[0]
    return f"{top}.{inner}" if inner and top in _GROUPS else top


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


class RefusedOptions:
    """The parameters that each model of one provider has refused."""

    def __init__(self) -> None:
        self._refused: dict[str, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"<RefusedOptions of {len(self._refused)} models>"

    def of(self, model: str) -> frozenset[str]:
        """Return the parameters that *model* has refused."""
        return self._refused.get(model, frozenset())

    def learn(self, model: str, parameter: str, body: Mapping[str, Any]) -> bool:
        """Remember that *model* refused *parameter* of *body*; False when it is required, known, or not in the body."""
        if parameter in _LIMITS and parameter not in body:
            # vLLM calls the output limit `max_tokens` even when it was sent under the other name.
            parameter = _LIMITS[parameter]
        if not _holds(body, parameter) or parameter in _REQUIRED or parameter in self.of(model):
            return False
        if len(self._refused) >= _MOST_MODELS and model not in self._refused:
            self._refused.pop(next(iter(self._refused)))
        self._refused[model] = self.of(model) | {parameter}
        return True

    def without(self, model: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *body* without the parameters that *model* has refused; an output limit moves to its other name."""
        refused = self.of(model)
        if not refused:
            return body
        kept = {name: value for name, value in body.items() if name not in refused}
        for top, _, inner in (path.partition(".") for path in refused if "." in path):
            if _holds(kept, f"{top}.{inner}"):
                kept[top] = {name: value for name, value in kept[top].items() if name != inner}
                if not kept[top]:
                    del kept[top]
        for name, other in _LIMITS.items():
            if name in refused and name in body and other not in refused:
                kept.setdefault(other, body[name])
        return kept


def _holds(body: Mapping[str, Any], parameter: str) -> bool:
    top, _, inner = parameter.partition(".")
    if not inner:
        return bool(top) and top in body
    group = body.get(top)
    return isinstance(group, Mapping) and inner in group
