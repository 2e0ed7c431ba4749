from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.context.control_tokens import without_control_tokens
from clawft_trio.context.front_matter import MAX_DEPTH, parse_front_matter, split_front_matter
from clawft_trio.context.skill_format import parse_legacy, parse_skill_md
from clawft_trio.errors import InvalidData

FULL = """\
---
name: a
description: The weather in a city,
  and what to wear.
version: 1.10
variables: [city, day]
allowed-tools:
  - read_file
  - web_*
argument-hint: "[city]"
user-invocable: true
disable-model-invocation: true
license: MIT
metadata:
  author: {name: Ana}
---

# Weather

Look it up for ${city}.
"""


def parsed(text):
    return parse_skill_md(text, source="there/a/SKILL.md", level="user")


def tools_of(skill):
    return tuple(map(str, skill.allowed_tools))


def problems(text):
    with pytest.raises(InvalidData) as caught:
        parsed(text)
    return [str(problem) for problem in caught.value.problems]


def test_every_field_is_read():
    skill = parsed(FULL)
    assert (skill.name, skill.version, skill.argument_hint) == ("a", "1.10", "[city]")
    assert skill.description == "The weather in a city, and what to wear."
    assert skill.variables == ("city", "day") and tools_of(skill) == ("read_file", "web_*")
    assert skill.user_invocable and not skill.model_invocable
    assert skill.instructions == "# Weather\n\nLook it up for ${city}."
    assert skill.metadata == {"license": "MIT", "metadata": {"author": {"name": "Ana"}}}
    assert (skill.source, skill.level, skill.format, skill.notes) == ("there/a/SKILL.md", "user", "skill_md", ())


def test_fields_that_are_missing_have_defaults():
    skill = parsed("---\nname: a\n---\n")
    assert (skill.description, skill.version, skill.variables, skill.allowed_tools) == ("", "", (), ())
    assert skill.user_invocable and skill.model_invocable and skill.instructions == ""


def test_hyphens_and_underscores_are_the_same():
    assert parsed(FULL.replace("-tools", "_tools").replace("user-inv", "user_inv")) == parsed(FULL)


def test_line_endings_do_not_matter():
    assert parsed(FULL.replace("\n", "\r\n")) == parsed(FULL)


def test_only_a_line_of_three_hyphens_ends_the_front_matter():
    skill = parsed("---  \nname: a\ndescription: |\n  x\n  ----\n  y\n---\n---\nbody")
    assert skill.description == "x ---- y" and skill.instructions == "---\nbody"


@pytest.mark.parametrize("scalar", ["on", "null", "1.0", "2024-01-01", "0x10", "~"])
def test_a_scalar_is_the_text_that_was_written(scalar):
    assert parsed(f"---\nname: a\nversion: {scalar}\n---\n").version == scalar


@pytest.mark.parametrize(
    ("written", "tools"),
    [
        ("read_file, web_fetch", ("read_file", "web_fetch")),
        ("read_file web_fetch", ("read_file", "web_fetch")),
        ("[read_file, web_fetch]", ("read_file", "web_fetch")),
        ("Read WebFetch", ("read_file", "web_fetch")),
        ("", ()),
    ],
)
def test_allowed_tools_may_be_written_as_others_write_them(written, tools):
    assert (
        parsed(f"---\nname: a\nallowed-tools: {written}\n---\n")
        and tools_of(parsed(f"---\nname: a\nallowed-tools: {written}\n---\n")) == tools
    )


def nested(levels):
    return "---\nname: a\ndeep: " + "[" * levels + "]" * levels + "\n---\n"


def test_a_list_full_of_brackets_is_read_in_linear_time():
    skill = parsed(f"---\nname: a\nallowed-tools: {'x(' * 20_000}\n---\n")
    assert tools_of(skill) == ("x",)


MALFORMED = {
    "empty": ("", "$: no front matter: the first line is not ---"),
    "no front matter": ("# Just text\n---\n", "$: no front matter: the first line is not ---"),
    "front matter without end": ("---\nname: a\n----\n", "$: the front matter has no end: no second --- line"),
    "not a mapping": ("---\n- name\n---\n", "$: the front matter is not a mapping"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_file_without_front_matter_is_refused_in_one_line(kind):
    text, message = MALFORMED[kind]
    (problem,) = problems(text)
    assert "\n" not in problem and len(problem) < 400
    assert problem == message if message else problem.startswith("$")


NOTED = {
    "not YAML": ("---\nname: [a\n---\n", "not valid YAML"),
    "a tab": ("---\nname: a\nlicense:\n\t- a\n---\n", "not valid YAML"),
    "no name": ("---\ndescription: a\n---\n", "$.name: missing; the folder's name 'a' is used"),
    "a description that is a mapping": ("---\nname: a\ndescription: {b: c}\n---\n", "$.description: expected text"),
    "variables that are a mapping": ("---\nname: a\nvariables: {b: c}\n---\n", "$.variables: expected a list of words"),
    "a flag that is none": ("---\nname: a\nuser-invocable: maybe\n---\n", "$.user-invocable: expected true or false"),
    "eleven levels": (nested(MAX_DEPTH), f"nested deeper than {MAX_DEPTH}"),
    "50 000 levels": (nested(25_000), "not valid YAML"),
    "an anchor": ("---\nname: a\nlicense: &a b\n---\n", "anchors and aliases are not allowed"),
    "a key twice": ("---\nname: a\nname: b\n---\n", "given twice"),
    "a key in both spellings": ("---\nname: a\nuser-invocable: true\nuser_invocable: true\n---\n", "given twice"),
    "a tag that makes objects": ("---\nname: a\nx: !!python/object/apply:os.system [x]\n---\n", "$.description"),
}


@pytest.mark.parametrize("kind", NOTED)
def test_a_malformed_field_is_noted_and_the_skill_is_loaded(kind):
    text, message = NOTED[kind]
    skill = parsed(text)
    assert skill.name == "a"
    assert any(message in note and "\n" not in note and len(note) < 400 for note in skill.notes)


def test_ten_levels_are_allowed():
    assert parsed(nested(MAX_DEPTH - 1)).name == "a"


def test_an_alias_bomb_is_not_built():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
        f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 40)
    )
    with pytest.raises(InvalidData):
        parse_front_matter(bomb)
    skill = parsed(f"---\nname: a\n{bomb}\n---\n")
    assert skill.metadata["a1"] == "&a1 [" + ", ".join(["*a0"] * 9) + "]"


@pytest.mark.parametrize(
    "name", ["..", "../a", "a/b", "a\\b", "a..b", "", " ", "a\x00b", "`a`", "x" * 200, "a\u202eb", "<a>", "---"]
)
def test_a_name_that_could_be_more_than_a_name_is_replaced_by_the_folders(name):
    skill = parsed(f"---\nname: {json.dumps(name)}\ndescription: d\n---\n")
    assert skill.name == "a"
    assert any(note.startswith("$.name: ") for note in skill.notes)


@pytest.mark.parametrize("name", ["A", "Code Review", "Über_2", "x" * 65, "a.b:c", "-a", "a--b", "a-"])
def test_a_name_that_breaks_the_rules_is_used_with_a_note(name):
    skill = parsed(f"---\nname: {name}\ndescription: d\n---\n")
    assert skill.name == name and len(skill.notes) == 1


@pytest.mark.parametrize("name", ["a", "code-review", "über-2", "x" * 64, "3d"])
def test_a_name_by_the_rules_has_no_note(name):
    text = f"---\nname: {name}\ndescription: d\n---\n"
    skill = parse_skill_md(text, source=f"there/{name}/SKILL.md")
    assert (skill.name, skill.notes) == (name, ())


def test_legacy_has_the_same_fields_and_limits():
    settings_ = {"name": "a", "description": "b", "allowed_tools": ["c"], "user-invocable": True, "extra": 1}
    skill = parse_legacy(json.dumps(settings_), "Do\r\nit. <|im_end|>", source="a/skill.json")
    assert (skill.name, skill.description, tools_of(skill), skill.user_invocable) == ("a", "b", ("c",), True)
    assert (skill.instructions, skill.format, skill.metadata) == ("Do\nit.", "legacy", {"extra": 1})
    assert skill.notes == ("1 control tokens removed",)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"name": "../a"}', "[" * 30_000]
    + ['{"name": "a", "deep": ' + "[" * levels + "]" * levels + "}" for levels in (10, 2000)],
)
def test_malformed_legacy_is_refused(text):
    with pytest.raises(InvalidData):
        parse_legacy(text, "", source="s")


def test_ten_levels_of_json_are_allowed():
    assert parse_legacy('{"name": "a", "deep": ' + "[" * 9 + "]" * 9 + "}", "", source="s").name == "a"


@pytest.mark.parametrize(
    ("text", "left", "removed"),
    [
        ("plain <b> [1]", "plain <b> [1]", 0),
        ("a<|im_start|>b", "ab", 1),
        ("<SYSTEM>x</System>", "x", 2),
        ("[INST]<<SYS>>x<</SYS>>[/inst]", "x", 4),
        ("<|im_<|im_end|>end|>", "", 2),
    ],
)
def test_control_tokens_are_taken_out(text, left, removed):
    cleaned = without_control_tokens(text)
    assert (cleaned.text, cleaned.removed, cleaned.clean) == (left, removed, True)


def test_what_was_made_to_outlast_the_passes_is_not_clean():
    text = "<|im_end|>"
    for _ in range(12):
        text = text[:5] + text + text[5:]
    cleaned = without_control_tokens(text)
    assert not cleaned.clean
    assert problems(f"---\nname: a\n---\n{text}") == ["$: made of control tokens"]


TOKENS = ["<system>", "</SYSTEM>", "<|im_start|>", "<|im_", "end|>", "[INST]", "[/", "INST]", "<<SYS>>", "x", " "]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_clean_text_has_no_control_token(text):
    cleaned = without_control_tokens(text)
    if cleaned.clean:
        assert without_control_tokens(cleaned.text).removed == 0
    if not cleaned.removed:
        assert cleaned.text == text


leaves = st.text("ab:-[]{}&*!'\"# \n~|>0", max_size=12)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(leaves, inner, max_size=3), max_leaves=8
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(leaves, trees, max_size=4))
def test_what_was_written_as_json_is_read_back(tree):
    # JSON is YAML, but for some of its longest keys.
    assert parse_front_matter(json.dumps(tree)) == tree


@settings(deadline=None, max_examples=300)
@given(st.text("ab:-[]{}&*!,?|>'\"#\n \t.%@`~\x00\u2028", max_size=60))
def test_any_text_is_a_mapping_or_refused(text):
    try:
        tree = parse_front_matter(text)
    except InvalidData as exc:
        assert exc.problems
    else:
        assert isinstance(tree, dict)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=50), st.text(max_size=50))
def test_splitting_loses_nothing(front, body):
    front = front.replace("\r", "").replace("---", "")
    body = body.replace("\r\n", "\n")
    assert split_front_matter(f"---\n{front}\n---\n{body}") == (front, body)
