"""The parameters of the policies: which values are accepted, at the limits, and the defaults that the guide states."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest

from clawft_trio.resilience import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Hold,
    Policy,
    Preview,
    Retry,
    Timeout,
)

TINY = 1e-9

LIMITS: dict[Any, dict[str, tuple[list[float], list[float]]]] = {
    AdaptiveLimit: {
        "initial": ([1], [0]),
        "min_concurrent": ([1], [0]),
        "max_concurrent": ([1], [0]),
        "decrease": ([TINY, 1], [0, 1 + TINY]),
        "saturation": ([TINY, 1], [0, 1 + TINY]),
        "cool_down": ([0], [-TINY]),
        "queue": ([0], [-1]),
        "queue_for": ([TINY], [0]),
        "elsewhere_after": ([0], [-TINY]),
    },
    Bulkhead: {"max_concurrent": ([1], [0]), "queue": ([0], [-1]), "queue_for": ([TINY], [0])},
    CircuitBreaker: {
        "failure_ratio": ([TINY, 1], [0, 1 + TINY]),
        "minimum_calls": ([1], [0]),
        "window": ([TINY], [0]),
        "open_for": ([TINY], [0]),
        "longest_open": ([TINY], [0]),
        "longest_hold": ([TINY], [0]),
    },
    partial(Hedge, after=1): {"extra": ([1], [0])},
    Hedge: {"after": ([0], [-TINY])},
    Retry: {
        "max_retries": ([0], [-1]),
        "first_wait": ([0], [-TINY]),
        "multiplier": ([1, 100], [1 - TINY, 100.01]),
        "longest_wait": ([0], [-TINY]),
        "jitter": ([0, 1], [-TINY, 1 + TINY]),
        "total": ([TINY], [0]),
        "longest_retry_after": ([0], [-TINY]),
        "longest_retry_after_elsewhere": ([0], [-TINY]),
    },
    Timeout: {name: ([TINY], [0]) for name in ("first_content", "gap", "tool_gap", "total")},
    Hold: {"max_characters": ([1], [0])},
    Preview: {"seconds": ([TINY], [0]), "characters": ([1], [0])},
}

CASES = [(policy, name, *values) for policy, names in LIMITS.items() for name, values in names.items()]


@pytest.mark.parametrize(("policy", "name", "legal", "illegal"), CASES)
def test_a_parameter_is_accepted_up_to_its_limit(
    policy: Any, name: str, legal: list[float], illegal: list[float]
) -> None:
    # An adaptive limit also compares its parameters with each other.
    for value in legal:
        others = {"min_concurrent": 1, "initial": 1} if policy is AdaptiveLimit and name == "max_concurrent" else {}
        assert getattr(policy(**others, **{name: value}), name) == value
    for value in illegal:
        with pytest.raises(ValueError):
            policy(**{name: value})


@pytest.mark.parametrize("policy", [policy for policy in LIMITS if isinstance(policy, type)])
def test_every_number_among_the_parameters_has_a_limit_that_is_tested(policy: type[Policy]) -> None:
    tested = {name for maker, names in LIMITS.items() if getattr(maker, "func", maker) is policy for name in names}
    fields = [field for field in attrs.fields(policy) if field.init]
    assert {field.name for field in fields if field.type in {"int", "float", "float | None", "int | None"}} <= tested
