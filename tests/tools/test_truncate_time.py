"""The time of cutting a result is linear in the result."""

from __future__ import annotations

import json
import time

import pytest

from clawft_trio.tools import answer_text


def slow(count, make):
    began = time.thread_time()
    answer_text(make(count))
    return time.thread_time() - began


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "é" * n,
        lambda n: ["\0" * 50] * (n // 50),
        lambda n: {"a": "\\" * n, "b": ['"'] * (n // 4)},
        lambda n: json.dumps(["\0" * 50] * (n // 300)),
    ],
    ids=["text", "list", "object", "json text"],
)
def test_ten_times_as_much_takes_at_most_some_ten_times_as_long(make):
    # The original shrank its result by one character and encoded all of it again, each time.
    slow(1000, make)
    small = min(slow(1_000_000, make) for _ in range(3))
    large = min(slow(10_000_000, make) for _ in range(2))
    assert large < 30 * max(small, 0.001)
