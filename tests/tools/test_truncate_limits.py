"""Results at their limits: what just fits stays whole, and what is cut fills the limit."""

from __future__ import annotations

import array
import dataclasses
import json
from collections import OrderedDict, UserDict, UserList, deque
from datetime import date
from types import MappingProxyType

import pytest

from clawft_trio.large_json import LARGE
from clawft_trio.tools import truncate
from clawft_trio.tools.truncate import MOST_ITEMS, answer_text, collected, is_large


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


WHOLE = {
    "list of numbers": list(range(200)),
    "list of texts": ["text"] * 100,
    "list of null": [None] * 200,
    "lists in lists": [[1, [2, [3]]]] * 60,
    "object": {f"key{number}": number for number in range(60)},
    "objects": [{"name": "n", "value": 1.5}] * 40,
    "object of digits": {f"k{number}": number % 10 for number in range(100)},
    "ASCII text in an object": {"text": "x" * 600},
    "objects in objects": {f"k{number}": {"a": {"b": "c"}} for number in range(40)},
    "text in an object": {"text": "é" * 300},
    "escapes": {"text": '"\\\n' * 150},
    "empty ones": [{}, [], "", None, False] * 50,
}


@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE)
def test_what_just_fits_is_whole_and_with_a_byte_less_it_is_cut(value: object) -> None:
    whole = compact(value)
    size = len(whole.encode())
    assert answer_text(value, limit=size) == whole
    shown = answer_text(value, limit=size - 1)
    assert len(shown.encode()) < size
    assert "left out" in shown
    json.loads(shown)


@pytest.mark.parametrize("value", ["x" * 600, "é" * 300, "{" + "x" * 599, "[1," * 200], ids=lambda text: text[:3])
def test_text_that_just_fits_is_whole_and_with_a_byte_less_it_is_cut(value: str) -> None:
    size = len(value.encode())
    assert answer_text(value, limit=size) == value
    shown = answer_text(value, limit=size - 1)
    assert len(shown.encode()) <= size - 1
    assert shown.endswith("characters left out]")


@pytest.mark.parametrize("limit", range(600, 660))
def test_a_cut_text_fills_its_limit(limit: int) -> None:
    shown = answer_text("x" * 5000, limit=limit)
    kept = len(shown.partition("\n")[0])
    assert len(shown) == limit
    assert f"[truncated: {5000 - kept} of 5000 characters left out]" in shown
    assert len(answer_text(["x" * 5000], limit=limit)) == limit - len(',{"_truncated":"1 of 1 elements left out"}')


@pytest.mark.parametrize("limit", range(600, 660))
@pytest.mark.parametrize(("element", "size"), [(1, 1), ("ab", 4), ([], 2)], ids="123")
def test_a_cut_list_has_no_room_for_another_small_element(element: object, size: int, limit: int) -> None:
    items = [element] * 5000
    shown = answer_text(items, limit=limit)
    *kept, mark = json.loads(shown)
    assert limit - len(",") - size < len(shown) <= limit
    assert kept == items[: len(kept)]
    assert mark == {"_truncated": f"{len(items) - len(kept)} of {len(items)} elements left out"}


@pytest.mark.parametrize("limit", range(600, 640))
def test_a_cut_object_has_no_room_for_another_small_field(limit: int) -> None:
    fields = {f"k{number:04}": 7 for number in range(2000)}
    shown = answer_text(fields, limit=limit)
    kept = json.loads(shown)
    assert limit - len(',"k0000":7') < len(shown) <= limit
    assert kept.pop("_truncated") == f"{2000 - len(kept)} of 2000 fields left out"
    assert kept == dict(list(fields.items())[: len(kept)])


@pytest.mark.parametrize("limit", range(900, 930))
def test_a_cut_text_in_an_object_takes_all_the_room_that_is_left(limit: int) -> None:
    shown = answer_text({"out": "x" * 9000, "code": 3}, limit=limit)
    assert len(shown) == limit - len(',"_truncated":"2 of 2 fields left out"')
    assert json.loads(shown)["code"] == 3


@pytest.mark.parametrize("character", ['"', "\\", "\n", "\x00", "é", "😀"])
@pytest.mark.parametrize("limit", [700, 701, 702, 703, 704, 705])
def test_a_cut_text_in_a_list_ends_at_a_whole_character(character: str, limit: int) -> None:
    (text,) = json.loads(answer_text([character * 9000], limit=limit))
    kept, _, note = text.partition(" [truncated: ")
    assert set(kept) == {character}
    assert note == f"{9000 - len(kept)} of 9000 characters left out]"
    width = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    assert len(kept) * width > limit - 130


def test_three_large_fields_share_the_room_alike() -> None:
    shown = json.loads(answer_text(dict.fromkeys("abc", "x" * 9000), limit=3000))
    sizes = sorted(len(text) for text in shown.values())
    assert sizes[0] > 900
    assert sizes[-1] - sizes[0] < 40


def test_what_small_fields_leave_goes_to_the_large_one() -> None:
    shown = json.loads(answer_text({"a": "x" * 9000, "b": "y" * 100, "c": "z" * 200}, limit=3000))
    assert (shown["b"], shown["c"]) == ("y" * 100, "z" * 200)
    assert len(shown["a"]) > 2600


def test_a_field_without_room_worth_cutting_ends_the_object() -> None:
    fields = {f"k{number}": "x" * 5000 for number in range(20)}
    shown = json.loads(answer_text(fields, limit=1200))
    assert shown.pop("_truncated") == f"{20 - len(shown)} of 20 fields left out"
    assert [len(compact({name: text})[1:-1] + ",") for name, text in shown.items()] == [512, 512]


def test_an_element_without_room_worth_cutting_ends_the_list() -> None:
    items = ["x" * 200, "y" * 200, "z" * 200]
    assert json.loads(answer_text(items, limit=560)) == [*items[:2], {"_truncated": "1 of 3 elements left out"}]
    first, *rest = json.loads(answer_text(["x" * 5000, "y"], limit=560))
    assert first.startswith("x" * 400)
    assert rest == [{"_truncated": "1 of 2 elements left out"}] or rest == ["y"]


@pytest.mark.parametrize(("longer", "cut"), [(0, True), (1, False)])
def test_a_value_is_cut_in_256_bytes_of_room_and_left_out_of_less(longer: int, cut: bool) -> None:
    first = 1024 - 256 - len('["",,{"_truncated":"2 of 2 elements left out"}]') + longer
    items = json.loads(answer_text(["x" * first, "y" * 5000], limit=1024))
    assert items[0] == "x" * first
    assert items[1]["_truncated"] == "1 of 2 elements left out" if not cut else items[1].startswith("yyy")

    limit = 512 + 256 + len('{"b":,"_truncated":"2 of 2 fields left out"}') - longer
    fields = json.loads(answer_text({"a": "x" * 5000, "b": "y" * 5000}, limit=limit))
    assert list(fields) == ["a", "b" if cut else "_truncated"]


def test_what_fits_into_a_result_is_converted_at_once_and_more_in_a_thread() -> None:
    for fits in ([1] * 32_767, dict.fromkeys(range(16383), 1), "x" * (LARGE - 2)):
        assert not is_large(fits)
    for more in ([1] * 32_768, {str(number): "x" * 1000 for number in range(20_000)}, "x" * (LARGE - 1)):
        assert is_large(more)


def test_nan_under_a_number_as_key_is_named() -> None:
    assert json.loads(answer_text({1: float("nan"), 2: [float("-inf")]})) == {"1": "NaN", "2": ["-Infinity"]}


def test_a_long_name_of_a_field_is_cut() -> None:
    (name,) = json.loads(answer_text({"n" * 1000: 1, "b": "x" * 3000}, limit=2000)).keys() - {"b"}
    assert name == "n" * 256


class Table:
    def tolist(self) -> list[int]:
        return [1, 2]


class Pydantic:
    __pydantic_validator__ = None

    def model_dump(self, mode: str) -> dict[str, str]:
        return {"mode": mode}


class Broken:
    def tolist(self) -> list[int]:
        raise TypeError("none")

    def __str__(self) -> str:
        return "broken"


VALUES = [
    (range(3), [0, 1, 2]),
    (deque([1, 2]), [1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.items(), [["a", 1]]),
    (UserList([1]), [1]),
    (UserDict({"a": 1}), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (OrderedDict(a=1), {"a": 1}),
    (array.array("i", [1, 2]), [1, 2]),
    (Table(), [1, 2]),
    (Pydantic(), {"mode": "json"}),
    (frozenset([1]), [1]),
    (date(2026, 1, 2), "2026-01-02"),
    (Broken(), "broken"),
    (float("nan"), "NaN"),
    (2.5, 2.5),
]


@pytest.mark.parametrize(("value", "data"), VALUES, ids=[f"{type(value).__name__} {data}" for value, data in VALUES])
@pytest.mark.parametrize("limit", [400, 65_536])
def test_a_value_is_the_data_in_it_alone_and_inside_of_others(value: object, data: object, limit: int) -> None:
    assert json.loads(answer_text(value, limit=limit)) == data
    assert json.loads(answer_text([value], limit=limit)) == [data]
    assert json.loads(answer_text({"a": [value, None]}, limit=limit)) == {"a": [data, None]}
    cut = json.loads(answer_text([value, "x" * 9000], limit=700))
    assert cut[0] == data
    assert "left out" in cut[1]


def test_a_short_text_with_a_lone_surrogate_is_whole_but_for_a_question_mark() -> None:
    assert json.loads(answer_text(["a\ud800b", {"c\ud800": "\ud800"}, 1])) == ["a?b", {"c?": "?"}, 1]
    most = 1024 - len('["",{"_truncated":"1 of 1 elements left out"}]')
    assert answer_text(["\ud800".ljust(most, "x")], limit=1024) == json.dumps(["?".ljust(most, "x")])
    assert "characters left out" in answer_text(["\ud800".ljust(most + 1, "x")], limit=1024)


def test_bytes_are_text() -> None:
    for value in (b"caf\xc3\xa9", bytearray(b"caf\xc3\xa9"), memoryview(b"caf\xc3\xa9")):
        assert answer_text(value) == "café"


def test_an_iterator_is_a_list_down_to_three_levels() -> None:
    assert collected(iter("ab")) == ["a", "b"]
    assert collected({"a": iter("ab"), "b": 1}) == {"a": ["a", "b"], "b": 1}
    assert collected([iter("ab"), 1]) == [["a", "b"], 1]
    assert collected((1, (iter("a"),))) == [1, [["a"]]]
    assert collected({"a": {"b": iter("a")}}) == {"a": {"b": ["a"]}}
    assert collected([[[iter("a")]]]) == [[[["a"]]]]
    assert collected({"a": {"b": {"c": iter("a")}}}) == {"a": {"b": {"c": ["a"]}}}


def test_an_iterator_below_the_third_level_is_left_as_it_is() -> None:
    one = iter("a")
    assert collected([[[[one]]]])[0][0][0][0] is one
    assert collected({"a": {"b": {"c": {"d": one}}}})["a"]["b"]["c"]["d"] is one
    assert collected([{"a": ({"b": one},)}])[0]["a"][0]["b"] is one


def test_what_holds_no_iterator_is_the_same_object() -> None:
    for value in ([1, 2], {"a": 1}, (1, "x"), "text", 5):
        assert collected(value) is value


def test_an_iterator_without_end_gives_a_bounded_number_of_items() -> None:
    def numbers():
        number = 0
        while True:
            yield number
            number += 1

    assert len(collected(numbers())) == MOST_ITEMS
    *kept, mark = json.loads(answer_text({"a": numbers()}, limit=500))["a"]
    assert kept == list(range(len(kept)))
    assert mark == {"_truncated": f"{MOST_ITEMS - len(kept)} of {MOST_ITEMS} elements left out"}


@pytest.mark.parametrize(("depth", "whole"), [(1, True), (30, True), (79, True), (80, False), (1000, False)])
def test_nesting_is_left_out_below_a_level(depth: int, whole: bool) -> None:
    value: object = 7
    for _ in range(depth):
        value = [value]
    shown = answer_text(value)
    assert (shown == "[" * depth + "7" + "]" * depth) is whole
    assert ("[truncated: a list left out]" in shown) is not whole
    if not whole:
        assert shown.startswith("[" * 40 + '"')
        for _ in range(depth):
            value = {"a": value}
        assert answer_text(value).startswith('{"a":' * 40 + '"[truncated: a dict left out]"')


@pytest.mark.parametrize("digits", [400, 4000, 5000, 9000])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_of_many_digits_is_a_number_or_text(digits: int, sign: int) -> None:
    number = sign * 10**digits
    try:
        text = str(number)
    except ValueError:
        text = hex(number)
    assert answer_text(number).strip('"') == text
    assert json.loads(answer_text([1, number]), parse_int=str)[1] == text
    assert answer_text({"a": [number]}).replace('"', "") == f"{{a:[{text}]}}"
    assert list(json.loads(answer_text({number: 1}))) in ([text], [text[:256]])
    cut = json.loads(answer_text(number, limit=1000), parse_int=str)
    assert cut == text[:998]


@pytest.mark.parametrize("before", ["", " ", "\n\t", "\r\n"])
@pytest.mark.parametrize("text", ['{"a": %s}', "[%s]"])
def test_text_that_is_json_is_cut_as_json(before: str, text: str) -> None:
    long = before + text % json.dumps("x" * 3000)
    shown = answer_text(long, limit=500)
    json.loads(shown)
    assert "left out" in shown


def test_text_that_only_begins_like_json_is_cut_as_text() -> None:
    shown = answer_text("[not json " + "x" * 3000, limit=500)
    assert shown.startswith("[not json xxx")
    assert shown.endswith("characters left out]")


@pytest.mark.parametrize(("longer", "as_json"), [(0, True), (1, False)])
def test_json_text_longer_than_the_limit_of_parsing_is_cut_as_text(
    longer: int, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(["x" * 3000])
    monkeypatch.setattr(truncate, "_MOST_PARSED", len(text) - longer)
    shown = answer_text(text, limit=500)
    assert shown.endswith(' characters left out]"]' if as_json else " characters left out]")
    assert (shown[:3], shown.count("\n")) == ('["x', 0 if as_json else 1)


def test_the_limits_are_the_documented_ones() -> None:
    assert (truncate.RESULT_LIMIT, truncate.MOST_ITEMS, truncate._MOST_PARSED) == (65_536, 65_536, 16 << 20)


@dataclasses.dataclass
class Record:
    fields: dict[object, object]


def test_a_record_that_contains_itself_is_text() -> None:
    record = Record({})
    record.fields["self"] = record
    assert json.loads(answer_text(record)).startswith("Record(fields=")


@pytest.mark.parametrize(
    ("key", "name"), [(1, "1"), (None, "None"), ((1, 2), "(1, 2)"), (date(2026, 1, 2), "2026-01-02")]
)
def test_a_record_whose_keys_are_no_text_and_whose_member_is_no_data_is_still_an_object(key: object, name: str) -> None:
    assert json.loads(answer_text(Record({key: Broken(), "b": 1}))) == {"fields": {name: "broken", "b": 1}}
