"""Values of tools that JSON does not have, at every level, are shown by name and never as nothing."""

from __future__ import annotations

import json
import math
from collections import UserList
from decimal import Decimal

import pytest

from clawft_trio.tools.truncate import answer_text


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
@pytest.mark.parametrize("limit", [300, 65_536])
def test_a_number_that_json_lacks_has_its_name_at_every_level(value: float, name: str, limit: int) -> None:
    assert answer_text(value, limit=limit) == f'"{name}"'
    assert json.loads(answer_text([1.5, value, None], limit=limit)) == [1.5, name, None]
    assert json.loads(answer_text({"a": {"b": [value, 2.0]}}, limit=limit)) == {"a": {"b": [name, 2.0]}}


@pytest.mark.parametrize("value", [1.5, 0, True, None, "text", Decimal("1.5"), UserList([1, 2]), {"a": (1, 2)}])
def test_an_ordinary_value_is_the_same_at_a_small_and_a_large_limit(value: object) -> None:
    assert answer_text(value, limit=300) == answer_text(value)
    assert answer_text(value) not in {"", '"None"'}


def test_a_large_array_keeps_as_many_elements_as_fit() -> None:
    text = answer_text(list(range(10_000)), limit=1000)
    kept = json.loads(text)
    assert 900 <= len(text) <= 1000
    assert kept[:-1] == list(range(len(kept) - 1))
    assert kept[-1] == {"_truncated": f"{10_000 - len(kept) + 1} of 10000 elements left out"}
