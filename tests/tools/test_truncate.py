"""Results for a model: whole, or cut where they may be cut."""

from __future__ import annotations

import json

import attrs
from hypothesis import given, settings, strategies as st

from clawft_trio.tools import RESULT_LIMIT, answer_text

ODD_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from('\0"\\\n\x1fé€😀'), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(ODD_TEXT, inner, max_size=8),
    max_leaves=20,
)


def size(text):
    return len(text.encode())


@given(ODD_TEXT.map(lambda text: text * 9), st.integers(256, 3000))
@settings(deadline=None, max_examples=150)
def test_text_is_cut_between_characters_and_says_what_is_missing(text, limit):
    if text.lstrip()[:1] in {"{", "["}:
        text = "x" + text
    shown = answer_text(text, limit=limit)
    assert size(shown) <= limit
    if size(text) <= limit:
        assert shown == text
    else:
        kept, _, note = shown.rpartition("\n")
        assert text.startswith(kept)
        assert note == f"[truncated: {len(text) - len(kept)} of {len(text)} characters left out]"
        assert size(kept) >= limit - 80


@given(JSON.filter(lambda value: not isinstance(value, str)), st.sampled_from([1, 30, 300]), st.integers(1024, 4000))
@settings(deadline=None, max_examples=80)
def test_json_stays_json_and_within_its_limit(value, times, limit):
    value = value if times == 1 else [value] * times
    shown = answer_text(value, limit=limit)
    assert size(shown) <= limit
    again = json.loads(shown)
    if size(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) <= limit:
        assert again == value


@given(st.lists(JSON, min_size=1), st.sampled_from([1, 100]), st.integers(1024, 4000))
@settings(deadline=None, max_examples=50)
def test_text_that_is_json_stays_json(value, times, limit):
    text = json.dumps(value * times)
    shown = answer_text(text, limit=limit)
    assert size(shown) <= limit
    json.loads(shown)
    if size(text) <= limit:
        assert shown == text


def test_the_leading_elements_of_a_list_are_kept_whole():
    shown = json.loads(answer_text(list(range(100_000)), limit=1024))
    *kept, note = shown
    assert kept == list(range(len(kept)))
    assert note == {"_truncated": f"{100_000 - len(kept)} of 100000 elements left out"}
    assert len(kept) > 200


def test_what_is_large_in_an_object_is_cut_and_what_is_small_stays():
    shown = json.loads(answer_text({"stdout": "x" * 100_000, "exit_code": 3, "stderr": "why"}, limit=2000))
    assert (shown["exit_code"], shown["stderr"]) == (3, "why")
    assert shown["stdout"].startswith("x" * 1500)
    assert shown["stdout"].endswith(" of 100000 characters left out]")


def test_two_large_fields_share_the_room():
    shown = json.loads(answer_text({"a": "x" * 100_000, "b": ["y" * 300] * 1000}, limit=4000))
    assert len(shown["a"]) > 1500
    assert len(shown["b"]) > 5
    assert "elements left out" in shown["b"][-1]["_truncated"]


def test_more_fields_than_fit_are_counted():
    shown = json.loads(answer_text({f"key{n}": n for n in range(100_000)}, limit=2000))
    assert list(shown)[:3] == ["key0", "key1", "key2"]
    assert shown["_truncated"] == f"{100_000 - len(shown) + 1} of 100000 fields left out"


def test_what_is_small_is_the_plain_json_of_it():
    @attrs.frozen
    class Point:
        x: int
        y: int

    assert answer_text({"at": Point(1, 2), "é": [None, True]}) == '{"at":{"x":1,"y":2},"é":[null,true]}'
    assert answer_text(None) == "null"
    assert answer_text("") == ""
    assert answer_text(b"caf\xc3\xa9 \xff") == "café \ufffd"
    assert answer_text({1: "a", (1, 2): "b"}) == '{"1":"a","(1, 2)":"b"}'
    assert answer_text([2**80]) == f"[{2**80}]"


def test_lone_surrogates_never_reach_a_request():
    for value in ("a\udcff", {"a\udcff": "b\udc80"}, ["\ud800"]):
        answer_text(value).encode()


def test_what_is_nested_too_deep_or_in_itself_is_left_out():
    deep = value = []
    for _ in range(50_000):
        value.append([])
        value = value[0]
    json.loads(answer_text(deep))
    circle = {}
    circle["me"] = circle
    assert "left out" in answer_text(circle)
    json.loads(answer_text(circle))


def test_the_limit_is_that_of_the_original():
    assert RESULT_LIMIT == 65_536
    assert size(answer_text("x" * 100_000_000)) <= RESULT_LIMIT
