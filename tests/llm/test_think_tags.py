"""Reasoning between `<think>` tags in the text."""

import pytest
from hypothesis import example, given, settings, strategies as st
from llm.spoken import chunk, concluded, read_all, reading

from clawft_trio.llm.think_tags import ThinkTags

ANSWERS = [
    ("<think>I greet.</think>\n\nHello!", "Hello!", "I greet."),
    ("\n<think>\nI greet.\n</think>Hello!", "Hello!", "\nI greet.\n"),
    ("<think>a</think> <think>b</think> c", "c", "ab"),
    ("<think></think>Hello!", "Hello!", ""),
    ("Use <think> for thoughts.", "Use <think> for thoughts.", ""),
    ("<thinking> is no tag", "<thinking> is no tag", ""),
    ("<think>never closed </thi", "", "never closed </thi"),
    ("<thi", "<thi", ""),
    ("Hello </think> there", "Hello </think> there", ""),
    ("<think>a < b</think>yes", "yes", "a < b"),
    ("\n  Hello", "\n  Hello", ""),
    (" \n", " \n", ""),
    ("<think>a</think> \n", "", "a"),
    ("<think>a</think> <thi", "<thi", "a"),
    ("<think>a</think>\n<thinking> is no tag", "<thinking> is no tag", "a"),
]


@pytest.mark.parametrize(("text", "shown", "thought"), ANSWERS)
@settings(max_examples=20)
@example(cuts=list(range(60)))
@given(cuts=st.lists(st.integers(0, 60), max_size=6).map(sorted))
def test_tags_split_text_however_it_is_cut(text, shown, thought, cuts):
    tags = ThinkTags()
    pieces = [tags.split(text[a:b]) for a, b in zip([0, *cuts], [*cuts, 60], strict=True)]
    pieces.append(tags.rest())
    assert "".join(piece for piece, _ in pieces) == shown
    assert "".join(piece for _, piece in pieces) == thought


def test_less_than_one_tag_is_held_back():
    tags = ThinkTags()
    assert tags.split(" <think>a </thin") == ("", "a ")
    assert tags.split("g b") == ("", "</thing b")
    assert tags.split("</think>\nc <") == ("c <", "")
    assert tags.split("think>d</think>") == ("think>d</think>", "")
    assert tags.rest() == ("", "")


def test_tags_are_text_unless_the_server_is_known_for_them():
    body = chunk({"content": "<think>I greet.</think>Hello!"}) + chunk({}, "stop")
    reader = reading("openai")
    response, _ = concluded(reader, read_all(reader, body))
    assert response.text == "<think>I greet.</think>Hello!"
    reader = reading("openai", think_tags=True)
    response, _ = concluded(reader, read_all(reader, body))
    assert (response.text, response.reasoning) == ("Hello!", "I greet.")
