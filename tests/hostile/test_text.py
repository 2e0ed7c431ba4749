"""Text from outside: growing in pieces, and with characters that UTF-8 does not have."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given, strategies as st

from clawft_trio.chat import GrowingText
from clawft_trio.codec import decode_json, encode_json, without_surrogates
from clawft_trio.keys import joined_key, storable_key

ANY_TEXT = st.text(st.characters(categories=None), max_size=20)


@given(st.lists(st.one_of(st.text(max_size=5), st.text("ab", min_size=1000, max_size=1100)), max_size=400))
def test_growing_text_is_its_pieces(pieces: list[str]) -> None:
    text = GrowingText()
    for number, piece in enumerate(pieces):
        text.write(piece)
        if number % 100 == 50:
            assert text.getvalue() == "".join(pieces[: number + 1])
    assert text.tell() == sum(map(len, pieces))
    assert text.getvalue() == text.getvalue() == "".join(pieces)


@pytest.mark.parametrize("size", [1, 4, 1000, 10_000])
def test_growing_text_takes_little_more_than_its_characters(size: int) -> None:
    text = GrowingText()
    for _ in range(400_000 // size):
        text.write("x" * size)
    kept = [*text._whole, *text._small]
    assert sum(map(sys.getsizeof, kept)) < 2 * text.tell() + 100_000


@given(
    st.recursive(ANY_TEXT | st.integers(-9, 9) | st.none(), lambda one: st.lists(one) | st.dictionaries(ANY_TEXT, one))
)
def test_any_text_is_encoded_and_only_lone_surrogates_are_replaced(value: object) -> None:
    data = encode_json(value)
    data.decode()
    assert decode_json(data) == without_surrogates(value)


@given(ANY_TEXT)
def test_text_without_surrogates_is_unchanged(text: str) -> None:
    whole = without_surrogates(text)
    whole.encode()
    assert len(whole) == len(text)
    assert all(one == other or "\ud800" <= other <= "\udfff" for one, other in zip(whole, text, strict=True))


LONG = "x" * 498 + "é"


@pytest.mark.parametrize(
    "long", [LONG + "y", LONG + "\ud800", LONG + ":" * 1_000_000, LONG + "\0"], ids=["y", "surrogate", "colons", "NUL"]
)
def test_a_key_of_a_long_name_is_short_and_its_own(long: str) -> None:
    key = joined_key("ch", long)
    assert len(key) < 700
    assert joined_key("ch", LONG) == f"ch:{LONG}"
    others = [joined_key("ch", long + "z"), joined_key("ch", key.removeprefix("ch:")), joined_key(long, "x")]
    others += [joined_key(key), joined_key(long)]
    assert len({key, *others}) == 6
    for one in (key, *others):
        one.encode()
        assert "\0" not in one


LONGEST = ["a" * 9000, "\U0001f600" * 500, "é" * 300, ":" * 500, "\ud800%" * 250]


@pytest.mark.parametrize("long", LONGEST, ids=["ascii", "emoji", "accents", "colons", "surrogates"])
def test_keys_of_long_names_fit_into_an_index(long: str) -> None:
    # PostgreSQL's limit is 2704 bytes, with the other columns of the index.
    session, turn, call = joined_key(long, long), joined_key(long, long, long), storable_key(long)
    assert len((turn + call).encode()) < 2650
    assert len((storable_key(session) + call).encode()) < 2650
    assert storable_key(session) == session
    assert storable_key(call) == call
    assert storable_key(long + "x") != call


@given(ANY_TEXT, ANY_TEXT)
def test_keys_of_different_names_differ_and_can_be_stored(one: str, other: str) -> None:
    for key in (joined_key("ch", one), joined_key(one, "x"), storable_key(one)):
        key.encode()
        assert "\0" not in key
    assert (joined_key("ch", one) == joined_key("ch", other)) is (one == other)
    assert storable_key("a:b%3A c") == "a:b%3A c"
    assert json.loads(json.dumps(storable_key(one))) == storable_key(one)
