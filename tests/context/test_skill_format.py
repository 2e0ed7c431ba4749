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
name: weather
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
    return parse_skill_md(text, source="there/SKILL.md", level="user")


def problems(text):
    with pytest.raises(InvalidData) as caught:
        parsed(text)
    return [str(problem) for problem in caught.value.problems]


def test_every_field_is_read():
    skill = parsed(FULL)
    assert (skill.name, skill.version, skill.argument_hint) == ("weather", "1.10", "[city]")
    assert skill.description == "The weather in a city, and what to wear."
    assert skill.variables == ("city", "day") and skill.allowed_tools == ("read_file", "web_*")
    assert skill.user_invocable and not skill.model_invocable
    assert skill.instructions == "# Weather\n\nLook it up for ${city}."
    assert skill.metadata == {"license": "MIT", "metadata": {"author": {"name": "Ana"}}}
    assert (skill.source, skill.level, skill.format, skill.notes) == ("there/SKILL.md", "user", "skill_md", ())


def test_what_is_not_said_has_the_originals_default():
    skill = parsed("---\nname: a\n---\n")
    assert (skill.description, skill.version, skill.variables, skill.allowed_tools) == ("", "", (), ())
    assert not skill.user_invocable and skill.model_invocable and skill.instructions == ""


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
    assert parsed(f"---\nname: a\nallowed-tools: {written}\n---\n").allowed_tools == tools


def test_a_limit_on_arguments_allows_nothing_and_is_reported():
    skill = parsed("---\nname: a\nallowed-tools: Bash(git add:*), Bash(rm *)\n---\n")
    assert skill.allowed_tools == ("Bash(git add:*)", "Bash(rm *)")
    assert not skill.allows_tool("exec_shell") and not skill.allows_tool("Bash")
    (note,) = skill.notes
    assert "Bash(git add:*) (and 1 more)" in note


def nested(levels):
    return "---\nname: a\ndeep: " + "[" * levels + "]" * levels + "\n---\n"


def test_a_list_full_of_brackets_is_one_line_in_the_report():
    skill = parsed(f"---\nname: a\nallowed-tools: {'x(' * 20_000}\n---\n")
    assert not skill.allows_tool("x(y") and len(skill.notes) == 1


MALFORMED = {
    "empty": ("", "$: no front matter: the first line is not ---"),
    "no front matter": ("# Just text\n---\n", "$: no front matter: the first line is not ---"),
    "front matter without end": ("---\nname: a\n----\n", "$: the front matter has no end: no second --- line"),
    "not a mapping": ("---\n- name\n---\n", "$: the front matter is not a mapping"),
    "not YAML": ("---\nname: [a\n---\n", None),
    "a tab": ("---\nname:\n\t- a\n---\n", None),
    "no name": ("---\ndescription: a\n---\n", "$.name: required, and missing"),
    "a name that is a list": ("---\nname: [a]\n---\n", '$.name: expected str, got ["a"]'),
    "a description that is a mapping": (
        "---\nname: a\ndescription: {b: c}\n---\n",
        '$.description: expected str, got {"b":"c"}',
    ),
    "variables that are a mapping": ("---\nname: a\nvariables: {b: c}\n---\n", "$.variables: expected a list of words"),
    "a bool that is none": ("---\nname: a\nuser-invocable: yes\n---\n", "$.user_invocable: expected true or false"),
    "eleven levels": (nested(MAX_DEPTH), f"$.deep: nested deeper than {MAX_DEPTH}"),
    # The parser may refuse this first, in its own words.
    "50 000 levels": (nested(25_000), None),
    "an anchor": ("---\nname: &a b\n---\n", "$.name: anchors and aliases are not allowed"),
    "a key twice": ("---\nname: a\nname: b\n---\n", "$.name: given twice"),
    "a key in both spellings": ("---\nname: a\nuser-invocable: true\nuser_invocable: true\n---\n", None),
    "a key that is a list": ("---\n[a]: b\n---\n", "$: a key has to be text"),
    "a tag that makes objects": ("---\nname: !!python/object/apply:os.system [x]\n---\n", None),
    "two documents": ("---\nname: a\n...\nname: b\n---\n", None),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_malformed_is_refused_with_its_place(kind):
    text, said = MALFORMED[kind]
    (problem,) = problems(text)
    assert "\n" not in problem and len(problem) < 400
    assert problem == said if said else problem.startswith("$")


def test_ten_levels_are_allowed():
    assert parsed(nested(MAX_DEPTH - 1)).name == "a"


def test_an_alias_bomb_is_refused_before_it_is_built():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
        f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 40)
    )
    (problem,) = problems(f"---\nname: a\n{bomb}\n---\n")
    assert problem == "$.a0: anchors and aliases are not allowed"


@pytest.mark.parametrize(
    "name", ["..", "../a", "a/b", "a\\b", "a..b", "", " ", "a b", "a\nb", "-a", "`a`", "x" * 65, "a\u202eb"]
)
def test_a_name_that_could_be_more_than_a_name_is_refused(name):
    (problem,) = problems(f"---\nname: {json.dumps(name)}\n---\n")
    assert problem.startswith("$.name: ") and "is not a name" in problem


@pytest.mark.parametrize("name", ["a", "code-review", "Über_2", "x" * 64, "a.b:c"])
def test_a_plain_name_is_a_name(name):
    assert parsed(f"---\nname: {name}\n---\n").name == name


def test_every_problem_is_told():
    assert len(problems("---\nname: [a]\ndescription: [b]\nvariables: {c: d}\n---\n")) == 3


def test_legacy_has_the_same_fields_and_limits():
    settings_ = {"name": "a", "description": "b", "allowed_tools": ["c"], "user-invocable": True, "extra": 1}
    skill = parse_legacy(json.dumps(settings_), "Do\r\nit. <|im_end|>", source="s")
    assert (skill.name, skill.description, skill.allowed_tools, skill.user_invocable) == ("a", "b", ("c",), True)
    assert (skill.instructions, skill.format, skill.metadata) == ("Do\nit.", "legacy", {"extra": 1})
    assert skill.notes == ("1 control tokens taken out",)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"name": 5}', '{"name": "../a"}', '{"name": "a", "user_invocable": 1}', "[" * 30_000]
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
