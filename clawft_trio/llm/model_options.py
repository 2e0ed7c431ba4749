"""Options of a model that a policy, a caller or the configuration sets, for all targets or per target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import ge, optional

from clawft_trio.chat import ChatRequest, JsonObject


@attrs.frozen(kw_only=True)
class ModelOptions:
    """Options of the requests to a model. None, or an empty `extra`, means that the more general options apply."""

    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`; the nearest one that the model accepts is sent
    reasoning_effort: str | None = None
    #: reasoning tokens, for models that accept a limit; 0 switches reasoning off
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `low`, `medium`, `high`
    verbosity: str | None = None
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    seed: int | None = None
    #: fields for the request body, sent unchanged; they override all other fields
    extra: JsonObject = attrs.field(factory=dict, repr=False)

    def over(self, general: ModelOptions) -> ModelOptions:
        """Return *general*, overridden by the options that are set here."""
        own = {name: value for name, value in _fields(self).items() if value is not None and name != "extra"}
        return attrs.evolve(general, **own, extra={**general.extra, **self.extra})

    def in_place_of(self, general: ModelOptions, request: ChatRequest) -> ChatRequest:
        """Return *request* with these options where it has those of *general*; other values set by its caller stay."""
        changes: dict[str, Any] = {
            name: value
            for name, value in _fields(self).items()
            if name != "extra" and value is not None and getattr(request, name) == getattr(general, name)
        }
        extra = {
            name: value
            for name, value in self.extra.items()
            if name not in request.extra or request.extra[name] == general.extra.get(name)
        }
        if extra:
            changes["extra"] = {**request.extra, **extra}
        return attrs.evolve(request, **changes) if changes else request


NO_OPTIONS = ModelOptions()
"""Sets no option: the model's defaults apply."""


def _fields(options: ModelOptions) -> Mapping[str, Any]:
    return {field.name: getattr(options, field.name) for field in attrs.fields(ModelOptions)}
