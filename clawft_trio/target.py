"""One model at one provider, and its name `provider/model`."""

from __future__ import annotations

from decimal import Decimal

import attrs
from attrs.validators import min_len

from clawft_trio.errors import InvalidData, Problem


def split_name(name: str) -> tuple[str, str]:
    """Split `provider/model` at the first slash. A part that is missing is empty."""
    provider, _, model = name.partition("/")
    return provider, model


@attrs.frozen
class Target:
    """One model at one provider, with what routing knows about it."""

    provider: str = attrs.field(validator=min_len(1))
    #: model name as the provider knows it; may contain slashes
    model: str = attrs.field(validator=min_len(1))
    #: tier from which the target was chosen; empty outside tiers
    tier: str = attrs.field(default="", kw_only=True)
    #: US dollars for 1 000 tokens of any kind; None when the configuration has no price
    cost_per_1k_tokens: Decimal | None = attrs.field(default=None, kw_only=True)
    #: limit on input and output tokens together; None when it is not known
    max_context_tokens: int | None = attrs.field(default=None, kw_only=True)
    #: largest number of estimated input tokens that it has not refused as too many; None when it has refused none
    max_input_tokens: int | None = attrs.field(default=None, kw_only=True)
    #: `provider/model`
    name: str = attrs.field(init=False, repr=False, eq=False)

    @name.default
    def _joined(self) -> str:
        return f"{self.provider}/{self.model}"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, name: str) -> Target:
        """Parse `provider/model`. Only the first slash divides.

        Raises:
          InvalidData: the provider or the model is missing. There is no default provider, because a model must not
            be sent to a provider by accident.
        """
        provider, model = split_name(name)
        if not provider or not model:
            raise InvalidData([Problem("$", f'expected "provider/model", got "{name}"')])
        return cls(provider, model)
