from __future__ import annotations

import json

import pytest

from clawft_trio.chat import Message, ToolCall
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skill_use import in_use, invoked, listing, presented, rendered, restriction
from clawft_trio.context.skills import SkillReport


def skill(name="a", **fields):
    return Skill(**{"name": name, "instructions": "Do it.", "source": f"{name}/SKILL.md", **fields})


def report(*skills):
    return SkillReport(skills=tuple(sorted(skills, key=lambda one: one.name)))


def load(name, *others):
    calls = [ToolCall(id="1", name="load_skill", arguments=json.dumps({"name": name}))]
    calls += [ToolCall(id=str(n), name=other) for n, other in enumerate(others, 2)]
    return Message.assistant("", tool_calls=tuple(calls))


def test_the_model_is_told_of_those_it_may_load():
    text = listing(report(skill("b", description="Second"), skill("a"), skill("c", model_invocable=False)))
    assert text == "- a\n- b: Second"
    assert listing(report()) == listing(report(skill(model_invocable=False))) == ""


def test_a_long_list_loses_descriptions_first_and_says_what_is_missing():
    many = report(*(skill(f"s{n:03}", description="x" * 50) for n in range(200)))
    text = listing(many, limit=2000)
    lines = text.splitlines()
    assert len(text) <= 2100
    assert lines[0] == "- s000: " + "x" * 50 and lines[-2].startswith("- s") and ":" not in lines[-2]
    named = [line for line in lines if line.startswith("- s")]
    assert lines[-1] == f"- and {200 - len(named)} more that do not fit here"


@pytest.mark.parametrize(
    ("instructions", "text"),
    [
        ("For $ARGUMENTS.", "For x y."),
        ("First ${1}, then ${2}${3}.", "First x, then y."),
        ("In ${city} or {{ city }}.", "In Oslo or Oslo."),
        ("Not ${day}.", "Not ."),
        ("Keep ${HOME}, {{other}}, $1, ${unclosed", "Keep ${HOME}, {{other}}, $1, ${unclosed"),
        ("$ARGUMENTS_LIST and ${ARGUMENTS}", "$ARGUMENTS_LIST and x y"),
        ("${0}", ""),
    ],
)
def test_places_are_filled_in_and_everything_else_is_text(instructions, text):
    one = skill(instructions=instructions, variables=("city", "day"))
    assert rendered(one, "x y", {"city": "Oslo", "HOME": "secret"}) == text


def test_a_value_brings_in_no_place_of_its_own():
    one = skill(instructions="$ARGUMENTS ${a} ${b}", variables=("a", "b"))
    assert rendered(one, "${a} $ARGUMENTS", {"a": "{{b}}", "b": "x"}) == "${a} $ARGUMENTS {{b}} x"


def test_the_model_reads_the_allowed_tools():
    assert "read_file, web_*" in presented(skill(allowed_tools=("read_file", "web_*")))
    assert "Only these" not in presented(skill())


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("/a", ""),
        (" /a  x y\nz ", "x y\nz"),
        ("/a\nmore", "more"),
        ("/b x", None),
        ("/c", None),
        ("a", None),
        ("/ a", None),
    ],
)
def test_a_message_starts_a_skill_that_users_may_invoke(text, arguments):
    found = invoked(report(skill("a", user_invocable=True), skill("b")), text)
    assert (found and found[1]) == arguments


LIMITED = skill("limited", allowed_tools=("read_*", "web_fetch"))
OTHER = skill("other", allowed_tools=("write_file",))
FREE = skill("free")
HIDDEN = skill("hidden", allowed_tools=("nothing",), model_invocable=False, user_invocable=True)
ALL = report(LIMITED, OTHER, FREE, HIDDEN)
USER = Message.user("hello")


def allowed(*messages):
    rule = restriction(ALL, messages)
    return {name for name in ("read_file", "web_fetch", "write_file", "exec_shell", "load_skill") if rule.allows(name)}


EVERYTHING = {"read_file", "web_fetch", "write_file", "exec_shell", "load_skill"}


def test_without_a_skill_everything_is_allowed():
    assert allowed(USER) == allowed() == allowed(USER, load("free")) == EVERYTHING


def test_a_loaded_skill_restricts_also_the_calls_beside_its_loading():
    assert allowed(USER, load("limited", "exec_shell")) == {"read_file", "web_fetch", "load_skill"}


def test_a_skill_without_a_list_is_no_way_around():
    assert allowed(USER, load("limited"), load("free")) == {"read_file", "web_fetch", "load_skill"}


def test_two_lists_are_taken_together():
    assert allowed(USER, load("limited"), load("other")) == EVERYTHING - {"exec_shell"}


def test_a_skill_is_in_use_for_its_turn():
    assert allowed(USER, load("limited"), Message.assistant("done"), Message.user("and now?")) == EVERYTHING


def test_the_skill_that_the_user_started_restricts():
    assert allowed(Message.user("/hidden now")) == {"load_skill"}


def test_what_was_not_loaded_does_not_restrict():
    wrong = Message.assistant("", tool_calls=(ToolCall(id="1", name="load_skill", arguments="{"),))
    listed = Message.assistant("", tool_calls=(ToolCall(id="1", name="load_skill", arguments='["limited"]'),))
    said = Message.user("load limited")
    assert allowed(USER, load("hidden"), load("nowhere"), wrong, listed) == allowed(said) == EVERYTHING


def test_a_refusal_says_what_is_allowed():
    rule = restriction(ALL, [USER, load("limited")])
    assert rule.skills == ("limited",)
    assert rule.refusal("exec_shell") == (
        "exec_shell may not be called while using limited; allowed: read_*, web_fetch"
    )
    assert in_use(ALL, [USER, load("limited")]) == (LIMITED,)
