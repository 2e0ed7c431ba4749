from __future__ import annotations

import json

import pytest

from clawft_trio.chat import Message, ToolCall
from clawft_trio.context.skill_format import Skill
from clawft_trio.context.skill_use import in_use, invoked, listing, preapproval, presented, rendered
from clawft_trio.context.skills import SkillReport
from clawft_trio.context.tool_grants import parse_grants


def skill(name="a", **fields):
    return Skill(**{"name": name, "instructions": "Do it.", "source": f"{name}/SKILL.md", **fields})


def report(*skills):
    return SkillReport(skills=tuple(sorted(skills, key=lambda one: one.name)))


def load(name, *others):
    calls = [ToolCall(id="1", name="load_skill", arguments=json.dumps({"name": name}))]
    calls += [ToolCall(id=str(n), name=other) for n, other in enumerate(others, 2)]
    return Message.assistant("", tool_calls=tuple(calls))


def test_the_list_has_the_skills_that_the_model_may_load():
    text = listing(report(skill("b", description="Second"), skill("a"), skill("c", model_invocable=False)))
    assert text == "- a\n- b: Second"
    assert listing(report()) == listing(report(skill(model_invocable=False))) == ""


def test_a_long_list_loses_descriptions_first_and_counts_what_is_missing():
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


def test_a_value_adds_no_place():
    one = skill(instructions="$ARGUMENTS ${a} ${b}", variables=("a", "b"))
    assert rendered(one, "${a} $ARGUMENTS", {"a": "{{b}}", "b": "x"}) == "${a} $ARGUMENTS {{b}} x"


def test_the_model_reads_where_the_files_of_a_skill_are():
    one = skill(source="/skills/a/SKILL.md", instructions="Run ${CLAUDE_SKILL_DIR}/x.py, then {baseDir}/y.")
    text = presented(one)
    assert "Its folder: /skills/a" in text and "Run /skills/a/x.py, then /skills/a/y." in text
    assert "may be called" not in presented(GIT)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("/a", ""),
        (" /a  x y\nz ", "x y\nz"),
        ("/a\nmore", "more"),
        ("/A x", "x"),
        ("/b x", None),
        ("/c", None),
        ("/My Skill x", "x"),
        ("/my skill", ""),
        ("/My Skills", None),
        ("/usr/bin is a folder", None),
        ("a", None),
        ("/ a", None),
    ],
)
def test_a_message_starts_a_skill_that_users_may_invoke(text, arguments):
    found = invoked(report(skill("a"), skill("b", user_invocable=False), skill("My Skill")), text)
    assert (found and found[1]) == arguments


GIT = skill("git", allowed_tools=parse_grants("Bash(git:*) Read"))
WRITER = skill("writer", allowed_tools=parse_grants("Write(docs/**)"))
FREE = skill("free")
HIDDEN = skill("hidden", allowed_tools=parse_grants("Bash"), model_invocable=False)
ALL = report(GIT, WRITER, FREE, HIDDEN)
USER = Message.user("hello")
NEXT = Message.assistant("", tool_calls=(ToolCall(id="9", name="run_command"),))
CALLS = {
    "git": ("run_command", {"argv": ["git", "log"]}),
    "rm": ("run_command", {"argv": ["rm", "-rf", "."]}),
    "docs": ("write_file", {"path": "docs/a.md"}),
    "source": ("write_file", {"path": "src/a.py"}),
}


def approved(*messages):
    known = preapproval(ALL, (*messages, NEXT))
    return {name for name, (tool, arguments) in CALLS.items() if known.approves(tool, arguments)}


def test_without_a_skill_nothing_is_approved():
    assert approved(USER) == approved() == approved(USER, load("free")) == set()


def test_a_loaded_skill_approves_the_calls_after_its_loading():
    assert approved(USER, load("git")) == {"git"}
    beside = load("git", "run_command")
    assert not preapproval(ALL, (USER, beside)).approves("run_command", {"argv": ["git", "log"]})


def test_two_skills_approve_what_either_approves():
    assert approved(USER, load("git"), load("writer")) == {"git", "docs"}


def test_a_skill_is_in_use_for_its_turn():
    assert approved(USER, load("git"), Message.assistant("done"), Message.user("and now?")) == set()


def test_a_skill_that_the_user_started_approves():
    assert approved(Message.user("/hidden now")) == {"git", "rm"}


def test_a_skill_that_was_not_loaded_approves_nothing():
    wrong = Message.assistant("", tool_calls=(ToolCall(id="1", name="load_skill", arguments="{"),))
    listed = Message.assistant("", tool_calls=(ToolCall(id="1", name="load_skill", arguments='["git"]'),))
    assert approved(USER, load("hidden"), load("nowhere"), wrong, listed) == set()
    assert in_use(ALL, [USER, load("git")]) == (GIT,)
