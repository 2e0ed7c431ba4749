"""Options of a model that a policy, a caller or a configuration sets, in general and per target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import ge, optional

from clawft_trio.chat import ChatRequest, JsonObject


@attrs.frozen(kw_only=True)
class ModelOptions:
    """How a model is asked. None, and an empty `extra`, leave it to whatever is more general."""

    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`: the nearest one that the model takes is sent
    reasoning_effort: str | None = None
    #: tokens of reasoning, for models that take a limit; 0 switches it off
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `low`, `medium`, `high`
    verbosity: str | None = None
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    seed: int | None = None
    #: put into the request body as it is, over everything else
    extra: JsonObject = attrs.field(factory=dict, repr=False)

    def over(self, general: ModelOptions) -> ModelOptions:
        """*general* with everything that this one sets."""
        own = {name: value for name, value in _fields(self).items() if value is not None and name != "extra"}
        return attrs.evolve(general, **own, extra={**general.extra, **self.extra})

    def in_place_of(self, general: ModelOptions, request: ChatRequest) -> ChatRequest:
        """*request* with these options where it has those of *general*; what its caller set otherwise stays."""
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
"""Leaves everything to the model."""


def _fields(options: ModelOptions) -> Mapping[str, Any]:
    return {field.name: getattr(options, field.name) for field in attrs.fields(ModelOptions)}
