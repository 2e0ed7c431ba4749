"""Small readers of answers, each at its limits: positions, events, surrogates, refused parameters, addresses, options."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawft_trio.chat import ChatRequest, Message
from clawft_trio.llm.conform.pairing import in_order, mend
from clawft_trio.llm.lenient import (
    NotDecodable,
    SurrogateJoiner,
    as_index,
    decode_object,
    decode_scrubbed,
    documents,
)
from clawft_trio.llm.model_options import ModelOptions
from clawft_trio.llm.refused_options import RefusedOptions, refused_parameter


@pytest.mark.parametrize(
    ("sent", "index"),
    [
        (0, 0),
        (7, 7),
        ("0", 0),
        ("123456789", 123_456_789),
        ("1234567890", None),
        ("-1", None),
        ("x", None),
        ("", None),
        (2.0, 2),
        (2.5, None),
        (999_999_999.0, 999_999_999),
        (1e9, None),
        (-1e9, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (False, None),
        (None, None),
        ([0], None),
    ],
    ids=repr,
)
def test_a_position_is_a_number_also_as_text(sent: Any, index: int | None) -> None:
    assert as_index(sent) == index


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\ndata: {"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'data: {"a":1}', [b'{"a":1}']),
        (b"data: [DONE]", [b"[DONE]"]),
        (b'{"a":1}\n[DONE]', [b'{"a":1}', b"[DONE]"]),
        (b'{"a":\n1}', [b'{"a":\n1}']),
        (b'{"a":1}\nx', [b'{"a":1}\nx']),
        (b"data:", [b""]),
        (b"[1]\n[2]", [b"[1]\n[2]"]),
    ],
)
def test_several_objects_in_one_event_are_taken_apart(data: bytes, found: list[bytes]) -> None:
    assert documents(data) == found


@pytest.mark.parametrize(("data", "value"), [(b'{"a":1}', {"a": 1}), (b'[{"a":1}]', {"a": 1})])
def test_an_object_may_be_alone_in_a_list(data: bytes, value: object) -> None:
    assert decode_object(data) == value


@pytest.mark.parametrize("data", [b"[]", b'[{"a":1},{"b":2}]', b"1", b'"x"', b"null", b"[[1]]"])
def test_anything_else_is_no_object(data: bytes) -> None:
    with pytest.raises(NotDecodable):
        decode_object(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (rb'{"a":"\ud83d"}', "\ufffd"),
        (rb'{"a":"x\ude00y"}', "x\ufffdy"),
        (rb'{"a":"\ud83d\ude00"}', "😀"),
        ('{"a":"é"}'.encode(), "é"),
    ],
)
def test_half_a_surrogate_pair_is_replaced(data: bytes, text: str) -> None:
    assert decode_scrubbed(data) == {"a": text}
    assert decode_scrubbed(data.replace(b'"a":', b'"a":[').replace(b"}", b"]}")) == {"a": [text]}


def test_the_halves_of_a_pair_are_joined_for_each_key_alone() -> None:
    joiner = SurrogateJoiner()
    assert joiner.join("a", "x\ud83d") == "x"
    assert joiner.join("b", "y") == "y"
    assert joiner.rest("b") == ""
    assert joiner.join("a", "\ude00z") == "😀z"
    assert joiner.rest("a") == ""
    assert joiner.join("a", "\udbff") == ""
    assert joiner.rest("a") == "\ufffd"
    assert joiner.rest("a") == ""
    assert joiner.join("a", "\ud800") == ""
    assert joiner.join("a", "z") == "\ufffdz"
    # The second half of a pair is never held.
    assert joiner.join("c", "\udc00") == "\ufffd"
    assert not joiner.held


def nested(error: dict[str, Any], depth: int) -> dict[str, Any]:
    return error if depth == 0 else {"error": nested(error, depth - 1)}


@pytest.mark.parametrize(("depth", "found"), [(0, "top_p"), (1, "top_p"), (3, "top_p"), (4, "")])
def test_a_refused_parameter_is_found_in_errors_inside_of_errors(depth: int, found: str) -> None:
    assert refused_parameter(json.dumps(nested({"param": "top_p"}, depth))) == found
    raw: Any = {"param": "top_p"}
    for _ in range(depth):
        raw = {"metadata": {"raw": json.dumps(raw)}}
    assert refused_parameter(json.dumps(raw)) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"param": "body.seed"}, "seed"),
        ({"param": "$.seed"}, "seed"),
        ({"param": "stop[0]"}, "stop"),
        ({"param": "text.verbosity"}, "text.verbosity"),
        ({"param": "text.format[0].x"}, "text.format"),
        ({"param": "messages.content"}, "messages"),
        ({"detail": [{"loc": ["body", "seed"]}]}, "seed"),
        ({"detail": [{"loc": ["reasoning", "effort", 0]}]}, "reasoning.effort"),
        ({"message": {"detail": [{"loc": ["body", "seed"]}]}}, "seed"),
        ({"errors": [{"field": "seed"}]}, "seed"),
        ({"errors": [{"param": "seed", "field": "other"}]}, "seed"),
        ({"error": {"details": [{"fieldViolations": [{"field": "seed"}]}]}}, "seed"),
        ([{"error": {"param": "seed"}}], "seed"),
        ({"param": 3}, ""),
        ({"param": ""}, ""),
        ([], ""),
        ("text", ""),
    ],
)
def test_each_form_in_which_vendors_name_a_parameter(body: Any, found: str) -> None:
    assert refused_parameter(json.dumps(body)) == found
    assert refused_parameter(b"\xff") == ""


def test_a_refused_parameter_is_remembered_for_its_model_alone() -> None:
    refused, body = RefusedOptions(), {"seed": 1, "text": {"verbosity": "low"}, "max_tokens": 9}
    assert refused.learn("a", "seed", body)
    assert not refused.learn("a", "seed", body)
    assert refused.without("b", body) is body
    assert refused.without("a", body) == {"text": {"verbosity": "low"}, "max_tokens": 9}
    assert refused.learn("a", "text.verbosity", body)
    assert refused.without("a", body) == {"max_tokens": 9}
    assert refused.learn("a", "max_completion_tokens", body)
    assert refused.without("a", body) == {"max_completion_tokens": 9}
    for required in ("model", "messages", "tools", "stream"):
        assert not refused.learn("a", required, {required: 1})


def test_the_models_of_the_last_refusals_are_remembered() -> None:
    refused = RefusedOptions()
    for number in range(256):
        assert refused.learn(f"m{number}", "seed", {"seed": 1})
    assert refused.learn("m0", "user", {"user": 1})
    assert refused.of("m1") == {"seed"}
    assert refused.learn("another", "seed", {"seed": 1})
    assert refused.of("m0") == frozenset()
    assert refused.of("m1") == refused.of("another") == {"seed"}


def test_options_of_a_model_replace_the_general_ones_and_not_the_callers() -> None:
    general = ModelOptions(temperature=0.5, seed=1, extra={"a": 1, "b": 1})
    own = ModelOptions(temperature=0.0, verbosity="low", extra={"a": 2, "c": 2})
    asked = ChatRequest([Message.user("q")], temperature=0.5, seed=1, extra={"a": 1, "b": 1})
    changed = own.in_place_of(general, asked)
    assert (changed.temperature, changed.verbosity, changed.seed) == (0.0, "low", 1)
    assert changed.extra == {"a": 2, "b": 1, "c": 2}
    by_caller = ChatRequest([Message.user("q")], temperature=0.9, verbosity="high", extra={"a": 3})
    changed = own.in_place_of(general, by_caller)
    assert (changed.temperature, changed.verbosity, changed.extra) == (0.9, "high", {"a": 3, "c": 2})
    assert ModelOptions().in_place_of(general, asked) is asked
    both = own.over(general)
    assert (both.temperature, both.seed, both.verbosity, both.extra) == (0.0, 1, "low", {"a": 2, "b": 1, "c": 2})


def said(role: Any, text: str, *, refused: bool = False) -> Message:
    return Message(role, text, refused=refused)


def test_a_refused_turn_is_left_out_and_the_question_that_is_answered_now_stays() -> None:
    old = [said("user", "bad"), said("assistant", "no", refused=True)]
    now = [said("system", "note"), said("user", "q"), said("assistant", "half", refused=True), said("user", "more")]
    assert [one.text for one in mend((*old, *now))] == ["note", "more"]
    answered = (*old, said("user", "q"), said("assistant", "half", refused=True), said("assistant", "rest"))
    assert [one.text for one in mend(answered)] == ["q", "rest"]
    last = (said("user", "a"), said("assistant", "b"), said("user", "q"), said("assistant", "no", refused=True))
    assert [one.text for one in mend(last)] == ["a", "b"]
    assert not in_order(last)
    assert in_order(last[:2])
