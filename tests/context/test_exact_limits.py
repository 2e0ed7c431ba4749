"""What happens exactly at a limit of skills and memory, and which calls a grant covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawft_trio.context import Memory, Skill, SkillReport
from clawft_trio.context.skill_format import MAX_DESCRIPTION, MAX_NAME, parse_skill_md
from clawft_trio.context.skill_use import listing
from clawft_trio.context.tool_grants import parse_grants
from clawft_trio.errors import InvalidData
from clawft_trio.files import FileCache


@pytest.mark.parametrize(
    ("entry", "tool", "arguments", "covered"),
    [
        ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://example.org/x"}, True),
        ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://docs.example.org/x"}, True),
        ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://badexample.org/x"}, False),
        ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://example.org.evil.net"}, False),
        ("WebFetch(domain:example.org)", "web_fetch", {"url": 5}, False),
        ("WebFetch(domain:example.org)", "web_fetch", {"url": "http://[::1"}, False),
        ("WebFetch(domain:example.org)", "web_fetch", {}, False),
        # An argument without a known meaning covers nothing.
        ("WebFetch(example.org)", "web_fetch", {"url": "https://example.org/x"}, False),
        ("WebSearch(domain:example.org)", "web_search", {"url": "https://example.org/x"}, False),
        ("WebSearch", "web_search", {"query": "anything"}, True),
        ("Read(src/**)", "read_file", {"path": "src/a/b.py"}, True),
        ("Read(src/**)", "read_file", {"path": "./src/a/b.py"}, True),
        ("Read(src/**)", "read_file", {"path": "src/../etc/passwd"}, False),
        ("Read(src/**)", "read_file", {"path": 5}, False),
        ("Read(src/**)", "write_file", {"path": "src/a"}, False),
        ("Bash(git status)", "run_command", {"argv": ["git", "status"]}, True),
        ("Bash(git status)", "run_command", {"argv": ["git", "status", "-s"]}, False),
        ("Bash(git status)", "run_command", {"argv": ["git"]}, False),
        ("Bash(git *)", "run_command", {"argv": ["git", "push"]}, True),
        ("Bash(git:*)", "run_command", {"command": "git push"}, True),
        ("Bash(git:*)", "run_command", {"command": "git push; rm x"}, False),
        ("Bash(git:*)", "run_command", {"command": "git 'push"}, False),
        ("Bash(git:*)", "run_command", {"argv": "git"}, False),
        ("Bash(git:*)", "run_command", {"argv": ["git", 5]}, False),
        ("Bash(git:*)", "run_command", {}, False),
        ("Bash(git')", "run_command", {"argv": ["git"]}, False),
        ("mcp__files", "files__read", {}, True),
        ("mcp__files__read", "files__read", {}, True),
        ("mcp__files__read", "files__write", {}, False),
    ],
)
def test_which_calls_an_entry_approves(entry: str, tool: str, arguments: dict[str, object], covered: bool) -> None:
    (grant,) = parse_grants(entry)
    assert grant.covers(tool, arguments) is covered


@pytest.mark.parametrize(
    ("entry", "understood"),
    [
        ("WebFetch(domain:example.org)", True),
        ("WebFetch(example.org)", False),
        ("WebSearch(domain:example.org)", False),
        ("WebSearch", True),
        ("Read(src/**)", True),
        ("Bash(git:*)", True),
        ("Other(x)", False),
    ],
)
def test_an_argument_has_a_meaning_for_files_commands_and_domains_of_pages(entry: str, understood: bool) -> None:
    (grant,) = parse_grants(entry)
    assert grant.understood is understood
    skill = parse_skill_md(f"---\nname: a\ndescription: d\nallowed-tools: {entry}\n---\nx", source="/s/a/SKILL.md")
    assert bool(skill.notes) is not understood


@pytest.mark.parametrize(
    ("name", "kept", "noted"),
    [
        ("a" * MAX_NAME, True, False),
        ("a" * (MAX_NAME + 1), True, True),
        ("a" * 128, True, True),
        ("a" * 129, False, True),
        ("two-words", True, False),
        ("two--words", True, True),
        ("Upper", True, True),
        ("two words", True, True),
        ("ürsel", True, False),
    ],
)
def test_a_name_that_breaks_a_rule_is_used_with_a_note(name: str, kept: bool, noted: bool) -> None:
    folder = name if kept else "folder"
    skill = parse_skill_md(f"---\nname: {name}\ndescription: d\n---\nx", source=f"/skills/{folder}/SKILL.md")
    assert skill.name == folder
    assert bool(skill.notes) is noted


@pytest.mark.parametrize(("length", "noted"), [(MAX_DESCRIPTION, False), (MAX_DESCRIPTION + 1, True)])
def test_a_description_longer_than_the_limit_is_kept_with_a_note(length: int, noted: bool) -> None:
    skill = parse_skill_md(f"---\nname: a\ndescription: {'d' * length}\n---\nx", source="/skills/a/SKILL.md")
    assert len(skill.description) == length
    assert bool(skill.notes) is noted


def test_a_problem_of_front_matter_names_the_line_by_its_number_from_one() -> None:
    skill = parse_skill_md("---\nname: a\ndescription: [\n---\nx", source="/skills/a/SKILL.md")
    assert skill.notes[0].endswith("(line 3)")
    with pytest.raises(InvalidData, match="line 1"):
        parse_skill_md("---\n\tname: a\ndescription: d\n---\nx", source="/skills/a/SKILL.md")


def skills(*descriptions: str) -> SkillReport:
    return SkillReport(
        skills=tuple(
            Skill(name=f"s{number}", description=text, instructions="x", source=f"/s{number}/SKILL.md")
            for number, text in enumerate(descriptions)
        )
    )


def test_the_list_of_skills_has_descriptions_up_to_half_of_its_limit_and_ends_at_the_limit() -> None:
    report = skills("d" * 12, "d" * 12, "d" * 12)
    # Each line with a description is `- s0: dddddddddddd` and its end: 19 characters; without one, 5.
    whole = "- s0: dddddddddddd\n- s1: dddddddddddd\n- s2: dddddddddddd"
    assert listing(report, limit=78) == whole
    assert listing(report, limit=77) == "- s0: dddddddddddd\n- s1: dddddddddddd\n- s2"
    assert listing(report, limit=43) == "- s0: dddddddddddd\n- s1: dddddddddddd\n- s2"
    assert listing(report, limit=42) == "- s0: dddddddddddd\n- s1: dddddddddddd\n- and 1 more that do not fit here"
    assert listing(report, limit=40) == "- s0: dddddddddddd\n- s1: dddddddddddd\n- and 1 more that do not fit here"
    assert listing(report, limit=39) == "- s0: dddddddddddd\n- s1\n- s2"
    assert listing(report, limit=28) == "- s0: dddddddddddd\n- s1\n- and 1 more that do not fit here"
    assert listing(report, limit=18) == "- and 3 more that do not fit here"
    assert listing(report) == whole


async def test_an_entry_and_the_notes_may_be_exactly_as_large_as_their_limits(tmp_path: Path) -> None:
    memory = Memory(tmp_path, FileCache(), max_entry=10, max_bytes=24)
    with pytest.raises(InvalidData, match="may have 10"):
        await memory.append("a" * 11)
    await memory.append("ä" * 5)
    await memory.append("b" * 10)
    assert (await memory.read()).paragraphs == ("äääää", "b" * 10)
    with pytest.raises(InvalidData, match="full"):
        await memory.append("c")
    smaller = Memory(tmp_path, FileCache(), max_bytes=23)
    assert "more than 23" in (await smaller.read()).problems[0]


async def test_the_latest_entries_are_found_first_and_ten_of_them_by_default(tmp_path: Path) -> None:
    memory = Memory(tmp_path, FileCache())
    for number in range(12):
        await memory.append(f"Note {number} about tea")
    assert await memory.search("TEA note", limit=2) == ("Note 11 about tea", "Note 10 about tea")
    assert len(await memory.search("tea")) == 10
    assert await memory.search("tea coffee") == ()
    assert await memory.search(" ") == ()


@pytest.mark.parametrize(
    ("per_sender", "sender", "own"),
    [
        (False, "telegram:ana", False),
        (True, "telegram:ana", True),
        (True, "local:local", True),
        (True, "", False),
        (None, "telegram:ana", True),
        (None, "local:local", False),
        (None, "", False),
    ],
)
def test_who_has_notes_of_its_own(per_sender: bool | None, sender: str, own: bool, tmp_path: Path) -> None:
    path = Memory(tmp_path, FileCache(), per_sender=per_sender).path(sender)
    assert (path != Memory(tmp_path, FileCache()).path()) is own


def test_senders_whose_names_are_equal_in_readable_part_have_different_folders(tmp_path: Path) -> None:
    memory = Memory(tmp_path, FileCache(), per_sender=True)
    names = ["t:" + "a" * 100 + "1", "t:" + "a" * 100 + "2", "t:ana", "t:Ana", "t:../x", "t:\udcff", "t:\udcfe"]
    paths = [Path(memory.path(name)) for name in names]
    assert len({str(path).casefold() for path in paths}) == len(names)
    assert all(path.parent.parent == tmp_path / "memory" / "senders" for path in paths)
    assert all(len(path.parent.name) <= 97 for path in paths)


def front(lines: str, body: str = "x") -> Skill:
    return parse_skill_md(f"---\nname: a\n{lines}\n---\n{body}", source="/skills/a/SKILL.md")


@pytest.mark.parametrize(
    ("lines", "description"),
    [
        ("description: plain", "plain"),
        # What is not YAML is read line by line.
        ("description: Use when: it rains", "Use when: it rains"),
        ('description: "Use" when: it rains', '"Use" when: it rains'),
        ("description: 'Use when: it''s: wet", "'Use when: it''s: wet"),
        ("description: @home: now", "@home: now"),
        ('x: a: b\ndescription: "quoted: text"', "quoted: text"),
        ("x: a: b\ndescription: Use\n  more: text\n\tand: tabs", "Use more: text and: tabs"),
        ("x: a: b\ndescription: >\n  folded\n  text", "folded text"),
        ("x: a: b\ndescription: first\ndescription: second", "first"),
        ("description: [one, two]", "one two"),
        ("description: 7", "7"),
    ],
)
def test_descriptions_of_published_skills_are_read_as_they_are_meant(lines: str, description: str) -> None:
    assert front(lines).description == description


def test_a_skill_without_a_description_has_its_first_paragraph_up_to_the_limit() -> None:
    skill = front("version: 1.5", "# Heading\n\n```\n\nFirst  words\nof it.\n\nSecond.")
    assert (skill.description, skill.version) == ("First words of it.", "1.5")
    assert "missing" in skill.notes[0]
    assert len(front("version: x", "d" * (MAX_DESCRIPTION + 5)).description) == MAX_DESCRIPTION
    late = "# h\n\n" * 4000 + "Late."
    assert front("version: x", late).description == ""


@pytest.mark.parametrize(
    ("value", "invocable", "noted"),
    [("true", True, 0), ("no", False, 0), ("0", False, 0), ("ON", True, 0), ("maybe", True, 1), ("[a]", True, 1)],
)
def test_a_flag_has_the_words_of_other_programs(value: str, invocable: bool, noted: int) -> None:
    skill = front(f"description: d\nuser-invocable: {value}\ndisable-model-invocation: {value}")
    assert skill.user_invocable is invocable
    assert skill.model_invocable is (True if noted else not invocable)
    assert len(skill.notes) == 2 * noted


def test_variables_and_hints_may_be_lists_or_text() -> None:
    assert front("description: d\nvariables: a, b c\nargument-hint: [task]").variables == ("a", "b", "c")
    skill = front("description: d\nvariables: [a, ' b ', '']\nargument-hint: [task, day]\nallowed-tools: {a: b}")
    assert (skill.variables, skill.argument_hint, skill.allowed_tools) == (("a", "b"), "[task, day]", ())
    assert len(skill.notes) == 1
    skill = front("description: d\nallowed-tools: Read(a) Other(x) More(y)")
    assert skill.notes == ("$.allowed-tools: Other(x) (and 1 more) is not understood, and approves nothing",)


async def test_notes_of_control_tokens_alone_and_notes_without_an_end_of_line(tmp_path: Path) -> None:
    file = tmp_path / "memory" / "MEMORY.md"
    file.parent.mkdir()
    cache = FileCache()
    memory = Memory(tmp_path, cache)
    file.write_text("by hand")
    await memory.append("more")
    assert file.read_text() == "by hand\n\nmore\n\n"
    await memory.append("still more")
    assert file.read_text() == "by hand\n\nmore\n\nstill more\n\n"
    file.write_text("<|im_end|>kept<|im_start|>")
    cache.forget([str(file)])
    read = await memory.read()
    assert (read.text, len(read.problems)) == ("kept", 1)
    file.write_text("<|im_" * 50 + "<|im_end|>" + "end|>" * 50)
    cache.forget([str(file)])
    read = await memory.read()
    assert (read.text, read.paragraphs) == ("", ())
    assert "made of control tokens" in read.problems[0]
