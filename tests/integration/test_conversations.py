"""What the simulation takes for a whole conversation, and what it does not."""

from __future__ import annotations

import pytest
from integration.conversations import LOST, Line, asked, faults

_QUESTION = Line("user", "[3.1] a question")
_CALLS = Line("assistant", "", (("a", "look"), ("b", "note")))
_ANSWERS = [Line("tool", "a: fine", answers="a"), Line("tool", "x", answers="b")]
_REPLY = Line("assistant", "[3.1] done.")


def test_a_whole_conversation_has_no_faults() -> None:
    lines = [_QUESTION, _CALLS, *_ANSWERS, _REPLY, Line("user", "[3.4] another")]
    assert not list(faults(lines))
    assert asked(lines) == "3.4"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([_CALLS, *_ANSWERS, _ANSWERS[1], _REPLY], id="answered twice"),
        pytest.param([_CALLS, _ANSWERS[0], _REPLY], id="not answered"),
        pytest.param([_CALLS, *_ANSWERS[::-1], _REPLY], id="not in call order"),
        pytest.param([_CALLS, Line("tool", "b: fine", answers="a"), _ANSWERS[1]], id="the answer of another call"),
        pytest.param([Line("user", "[3.1] a"), Line("user", "[4.2] b")], id="of two chats"),
        pytest.param([Line("user", "[3.2] a"), Line("user", "[3.1] b")], id="out of order"),
        pytest.param([_QUESTION, Line("assistant", f"so {LOST}")], id="a broken answer"),
    ],
)
def test_a_conversation_that_is_not_whole_is_noticed(lines: list[Line]) -> None:
    assert list(faults(lines))


def test_only_the_last_calls_of_a_stopped_turn_may_be_without_answers() -> None:
    assert list(faults([_QUESTION, _CALLS]))
    assert not list(faults([_QUESTION, _CALLS], dangling=True))
    assert list(faults([_CALLS, _QUESTION], dangling=True))
