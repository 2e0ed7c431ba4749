"""The configuration of routing: tiers, escalation and selection."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs
from attrs.validators import and_, ge, le, min_len, optional

from clawft_trio.checks import one_of
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.target import Target

SelectionStrategy: TypeAlias = Literal["preference_order", "round_robin", "lowest_cost", "random", "least_latency"]
STRATEGIES: tuple[SelectionStrategy, ...] = (
    "preference_order",
    "round_robin",
    "lowest_cost",
    "random",
    "least_latency",
)


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"expected a list of strings, got {values!r}")
    return tuple(values)


def _range(ends: Iterable[float]) -> tuple[float, float]:
    low, high = ends
    return (low, high)


def _price(value: Decimal | float | str | None) -> Decimal | None:
    # From its `str`, so that 0.1 is a tenth of a dollar and not its nearest binary fraction.
    return None if value is None else Decimal(str(value))


@attrs.frozen
class ModelTier:
    """Models of one class of quality and price."""

    #: the name that permissions use
    name: str = attrs.field(validator=min_len(1))
    #: `provider/model`, in order of preference
    models: tuple[str, ...] = attrs.field(default=(), converter=_strings, kw_only=True)
    #: the complexities that the tier is meant for, both ends included
    complexity_range: tuple[float, float] = attrs.field(default=(0.0, 1.0), converter=_range, kw_only=True)
    #: US dollars for 1 000 tokens; None is an unknown price, not 0
    cost_per_1k_tokens: Decimal | None = attrs.field(
        default=None, converter=_price, validator=optional(ge(Decimal(0))), kw_only=True
    )
    #: window of its models, input and output together; None is unknown
    max_context_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)), kw_only=True)

    def __attrs_post_init__(self) -> None:
        low, high = self.complexity_range
        if not 0 <= low <= high <= 1:
            raise InvalidData([Problem("$.complexity_range", f"expected 0 ≤ low ≤ high ≤ 1, got [{low}, {high}]")])

    def suits(self, complexity: float) -> bool:
        """Whether the tier is meant for *complexity*."""
        low, high = self.complexity_range
        return low <= complexity <= high

    def targets(self) -> tuple[Target, ...]:
        """Return the models as targets."""
        return tuple(
            attrs.evolve(
                Target.parse(name),
                tier=self.name,
                cost_per_1k_tokens=self.cost_per_1k_tokens,
                max_context_tokens=self.max_context_tokens,
            )
            for name in self.models
        )


@attrs.frozen(kw_only=True)
class EscalationPolicy:
    """Rules for tasks that are too complex for the tiers of their sender."""

    #: whether tasks may use a higher tier
    enabled: bool = False
    #: lowest complexity that may; a sender's own threshold counts, too, and the higher of both decides
    threshold: float = attrs.field(default=0.6, validator=and_(ge(0), le(1)))
    #: number of tiers above the sender's highest
    max_escalation_tiers: int = attrs.field(default=1, validator=ge(1))


@attrs.frozen(kw_only=True)
class RoutingPolicy:
    """The rules by which models are chosen."""

    #: `static` tries the configured models in order; `tiered` chooses by complexity and permission
    mode: Literal["static", "tiered"] = attrs.field(default="static", validator=one_of("static", "tiered"))
    #: the tiers, lowest first
    tiers: tuple[ModelTier, ...] = ()
    #: order of the models within a tier
    selection_strategy: SelectionStrategy = attrs.field(default="preference_order", validator=one_of(*STRATEGIES))
    #: `provider/model`, tried after all other targets
    fallback_model: str | None = None
    #: `provider/model`: tried after the targets of the tiers, in order; static routing does not use it
    failover: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    #: whether complex tasks may use tiers above those of their sender
    escalation: EscalationPolicy = EscalationPolicy()
    #: replacement when the budget is too small: a cheaper tier that suits the task, any cheaper tier, or none
    budget_downgrade: Literal["matching", "any", "never"] = attrs.field(
        default="matching", validator=one_of("matching", "any", "never")
    )
