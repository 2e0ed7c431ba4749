"""Lenient decoding of one event: what is read, what is empty, and what is several events in one."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.llm import lenient
from clawft_trio.llm.lenient import NotDecodable, SurrogateJoiner


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"[NaN, Infinity, -Infinity]", [None, None, None]),
        (b'"\\ud83d"', "\ud83d"),
        (b'"\xed\xa0\xbd"', "\ud83d"),
        (b'"a\tb"', "a\tb"),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b"1e999", float("inf")),
    ],
)
def test_what_the_typed_decoder_refuses_is_decoded(data: bytes, value: Any) -> None:
    assert lenient.decode(data) == value
    assert lenient.is_json(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xfe\xff"])
def test_what_is_no_json_is_not_decodable(data: bytes) -> None:
    with pytest.raises(NotDecodable):
        lenient.decode(data)
    assert not lenient.is_json(data)


@pytest.mark.parametrize(
    ("data", "value"), [(b'{"a": 1}', {"a": 1}), (b'[{"a": 1}]', {"a": 1}), (b"[]", None), (b"[{}, {}]", None), (b"3", None)]
)  # fmt: skip
def test_an_object_may_stand_in_a_list_by_itself(data: bytes, value: Any) -> None:
    if value is None:
        with pytest.raises(NotDecodable, match="expected an object"):
            lenient.decode_object(data)
    else:
        assert lenient.decode_object(data) == value


@pytest.mark.parametrize("data", [b'{"\\ud83d": ["\\ud83d"]}', b'{"\xed\xa0\xbd": ["\xed\xa0\xbd"]}'])
def test_unpaired_surrogates_are_replaced_in_names_and_values(data: bytes) -> None:
    assert lenient.decode_scrubbed(data) == {"\ufffd": ["\ufffd"]}
    assert lenient.decode_object(data) == {"\ud83d": ["\ud83d"]}


def test_a_value_that_is_nested_too_deeply_is_not_decodable() -> None:
    value: Any = "x"
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotDecodable, match="nested too deeply"):
        lenient.scrubbed(value)
    while isinstance(value, list):
        # Freed level by level: the interpreter recurses otherwise.
        value = value.pop()


@pytest.mark.parametrize(
    ("data", "named", "is_one"),
    [
        *((data, "", True) for data in (b"", b"null", b"[]", b'""', b"false", b"0")),
        (b"ping", "ping", True),
        (b"{}", "ping", False),
        (b"x", "", False),
        (b"null", "message", True),
        (b"{}", "", False),
    ],
)
def test_a_heartbeat_is_empty_or_named_so_and_no_object(data: bytes, named: str, is_one: bool) -> None:
    assert lenient.is_heartbeat(data, named) is is_one


@pytest.mark.parametrize(
    ("error", "stated"),
    [
        (None, False), ("", False), (0, False), (False, False), ({}, False), ([], False), ("x", True), (1, True),
        ({"code": 0, "message": ""}, False), ({"code": 0, "message": "x"}, True), ({"a": {"b": [None]}}, False),
        ([None, {"a": 1}], True), ([0, ""], False),
    ],
)  # fmt: skip
def test_an_error_of_empty_fields_is_none(error: Any, stated: bool) -> None:
    assert lenient.is_stated(error) is stated


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"a": 1}', [b'{"a": 1}']),
        (b"plain", [b"plain"]),
        (b'{"a": 1}\n{"b": 2}', [b'{"a": 1}', b'{"b": 2}']),
        (b'{"a": 1}\ndata: {"b": 2}', [b'{"a": 1}', b'{"b": 2}']),
        (b'{"a": 1}\n\n [DONE] ', [b'{"a": 1}', b"[DONE]"]),
        (b'data: {"a": 1}', [b'{"a": 1}']),
        (b"data:", [b""]),
        (b"data:\ndata:", [b""]),
        # One object over several lines, and text, are one event.
        (b'{"a":\n1}', [b'{"a":\n1}']),
        (b'{"a": 1}\ntext', [b'{"a": 1}\ntext']),
        (b'{"a": 1}\n{"b"', [b'{"a": 1}\n{"b"']),
        (b"data: text", [b"data: text"]),
    ],
)
def test_the_objects_of_one_event_are_several_events(data: bytes, found: list[bytes]) -> None:
    assert lenient.documents(data) == found


def test_a_half_of_a_character_waits_for_its_other_half() -> None:
    joiner = SurrogateJoiner()
    assert joiner.join("a", "x\ud83d") == "x"
    assert joiner.join("b", "y") == "y"
    assert joiner.held == {"a": "\ud83d"}
    assert joiner.join("a", "\ude00z") == "\U0001f600z"
    assert joiner.join("a", "\udbff") == ""
    assert joiner.rest("a") == "\ufffd"
    assert joiner.rest("a") == ""
    assert joiner.join("a", "\ud800") == ""
    assert joiner.join("a", "x") == "\ufffdx"
    assert joiner.join("a", "\udc00") == "\ufffd"
    assert joiner.join("a", "") == ""
    assert not joiner.held


@pytest.mark.parametrize(
    ("value", "index"),
    [(0, 0), (3, 3), ("0", 0), ("3", 3), (0.0, 0), (2.0, 2), (True, None), (False, None), (None, None), ("x", None), ([], None)],
    ids=repr,
)  # fmt: skip
def test_an_index_may_be_a_number_or_its_text(value: Any, index: int | None) -> None:
    assert lenient.as_index(value) == index


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("", ""), (None, None), ([], None), ({}, None), (0, 0), ([1], 0), (False, 0)],
    ids=repr,
)
def test_a_text_that_is_used_is_a_text_or_missing(value: Any, text: Any) -> None:
    if text == 0:
        with pytest.raises(NotDecodable, match=f"the name is of the type {type(value).__name__}"):
            lenient.as_text(value, of="the name")
    else:
        assert lenient.as_text(value, of="the name") == text


@pytest.mark.parametrize(
    ("value", "objects"),
    [
        ([{"a": 1}, None, {}], [{"a": 1}, {}]),
        ({"a": 1}, [{"a": 1}]),
        ({}, [{}]),
        *((missing, []) for missing in (None, [], "", False, 0)),
        (["", 0], [{}, {}]),
    ],
    ids=repr,
)
def test_objects_that_are_used_are_a_list_one_object_or_missing(value: Any, objects: Any) -> None:
    assert lenient.as_objects(value, of="calls") == objects


@pytest.mark.parametrize("value", ["x", 3, True, ["x"], [3]], ids=repr)
def test_what_is_no_list_of_objects_is_not_decodable(value: Any) -> None:
    with pytest.raises(NotDecodable, match="calls is of the type"):
        lenient.as_objects(value, of="calls")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (["x", {"text": "y"}, 3, None], "xy"),
        ({"content": ""}, ""),
        ({"text": "", "content": "x", "summary": "z"}, "x"),
        ({"thinking": [{"text": "x"}]}, "x"),
        ({"other": "x"}, ""),
        ([[[["x"]]]], "x"),
        ([[[[["x"]]]]], ""),
        ({"text": {"text": {"text": {"text": "x"}}}}, "x"),
        ({"text": {"text": {"text": {"text": {"text": "x"}}}}}, ""),
        (3, ""),
    ],
    ids=repr,
)
def test_a_text_that_is_only_shown_is_found_four_levels_deep(value: Any, text: str) -> None:
    assert lenient.any_text(value) == text
