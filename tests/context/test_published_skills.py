"""Skills as they are published: written for other programs, by hand, against the Agent Skills specification or not.

Each front matter is the shape of one that a public collection has; the texts are our own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from clawft_trio.context.skill_format import Skill, parse_skill_md
from clawft_trio.context.skills import Skills, user_skill_folders, workspace_skill_folders
from clawft_trio.context.tool_grants import parse_grants
from clawft_trio.files import FileCache
from tests.context.skill_files import skill_md, write, write_skill

LOADED = {
    "a colon in the description": (
        "description: Test first. Use when: a bug is fixed",
        "Test first. Use when: a bug is fixed",
    ),
    "two colons": ("description: Use: this. Example: '/blog trio'", "Use: this. Example: '/blog trio'"),
    "a colon on the next line": (
        "description: Write a post\n  in two steps: plan, write",
        "Write a post in two steps: plan, write",
    ),
    "a URL": ("description: See https://example.org/a: all of it", "See https://example.org/a: all of it"),
    "a hash": ("description: Use C# or F# code", "Use C# or F# code"),
    "an at sign first": ("description: @mention a person", "@mention a person"),
    "a backtick first": ("description: `git` for people", "`git` for people"),
    "an asterisk first": ("description: *Always* use it", "*Always* use it"),
    "an ampersand first": ("description: &c. and so on", "&c. and so on"),
    "a percent sign first": ("description: %-formatting of text", "%-formatting of text"),
    "an exclamation mark first": ("description: !important rules: all", "!important rules: all"),
    "brackets first": ("description: [BETA] Writes: everything", "[BETA] Writes: everything"),
    "braces first": ("description: {draft} text", "{draft} text"),
    "quotes that end early": ('description: "Quoted" and more: text', '"Quoted" and more: text'),
    "an apostrophe": ("description: 'It's mine: all of it'", "It's mine: all of it"),
    "a folded block": ("description: >\n  Use when:\n  a bug is fixed", "Use when: a bug is fixed"),
    "a block with a colon in another key": ("description: |-\n  One.\n  Two.\nversion: a: b", "One. Two."),
    "a tab": ("description:\tTabbed: text", "Tabbed: text"),
    "a comment": ("# by Ana\ndescription: Text # not shown", "Text"),
    "a list in another key": ("tags: [a, b\ndescription: Text", "Text"),
    "nested metadata": ("description: Text\nmetadata:\n  a:\n    b: [1, 2]", "Text"),
    "a key with a capital": ("Description: Text", "Text"),
}


def parsed(front: str, body: str = "Do it.", folder: str = "a") -> Skill:
    return parse_skill_md(f"---\nname: a\n{front}\n---\n{body}\n", source=f"/skills/{folder}/SKILL.md")


@pytest.mark.parametrize("kind", LOADED)
def test_a_description_that_is_not_valid_yaml_is_read(kind: str) -> None:
    front, description = LOADED[kind]
    skill = parsed(front)
    assert (skill.name, skill.description, skill.instructions) == ("a", description, "Do it.")


FLAGS = {
    "true": True, "yes": True, "on": True, "Yes": True, "TRUE": True, '"true"': True,
    "false": False, "no": False, "off": False, "No": False, "FALSE": False, "'no'": False,
}  # fmt: skip


@pytest.mark.parametrize("written", FLAGS)
def test_a_flag_may_be_written_in_every_way_of_yaml(written: str) -> None:
    skill = parsed(f"description: d\nuser-invocable: {written}\ndisable-model-invocation: {written}")
    assert (skill.user_invocable, skill.model_invocable) == (FLAGS[written], not FLAGS[written])
    assert skill.notes == ()


@pytest.mark.parametrize("start", ["\ufeff", "\n\n", "\ufeff\r\n", "  \n"])
def test_what_editors_put_before_the_front_matter_is_skipped(start: str) -> None:
    assert parse_skill_md(start + skill_md("a"), source="/skills/a/SKILL.md").notes == ()


def test_a_skill_without_a_description_is_described_by_its_first_paragraph() -> None:
    skill = parsed("license: MIT", "# Title\n\nFirst\nparagraph.\n\nSecond.")
    assert skill.description == "First paragraph."
    assert skill.notes == ("$.description: missing; the first paragraph is used",)


def test_a_long_description_is_kept_and_noted() -> None:
    skill = parsed(f"description: {'x' * 1500}")
    assert len(skill.description) == 1500 and skill.notes == ("$.description: 1500 characters are more than 1024",)


def test_an_argument_hint_in_brackets_is_text() -> None:
    assert parsed("description: d\nargument-hint: [file] [format]").argument_hint == "[file] [format]"
    assert parsed("description: d\nargument-hint: [file, format]").argument_hint == "[file, format]"


GRANTED = [
    ("Bash(git:*)", "run_command", {"argv": ["git", "log", "-1"]}, True),
    ("Bash(git:*)", "run_command", {"command": "git log -1"}, True),
    ("Bash(git:*)", "run_command", {"argv": ["github"]}, False),
    ("Bash(git:*)", "run_command", {"argv": ["rm", "git"]}, False),
    ("Bash(git:*)", "run_command", {"command": "git log; rm -rf ."}, False),
    ("Bash(git:*)", "run_command", {"command": "git log $(rm x)"}, False),
    ("Bash(git:*)", "run_command", {}, False),
    ("Bash(git add:*)", "run_command", {"argv": ["git", "add", "."]}, True),
    ("Bash(git add:*)", "run_command", {"argv": ["git", "push"]}, False),
    ("Bash(npm run test)", "run_command", {"argv": ["npm", "run", "test"]}, True),
    ("Bash(npm run test)", "run_command", {"argv": ["npm", "run", "test", "--", "x"]}, False),
    ("Bash(npm run *)", "run_command", {"argv": ["npm", "run", "lint"]}, True),
    ("Bash(*)", "run_command", {"argv": ["anything"]}, True),
    ("Bash", "run_command", {"argv": ["anything"]}, True),
    ("Read, Write", "write_file", {"path": "x"}, True),
    ("Write(docs/**)", "write_file", {"path": "./docs/a/b.md"}, True),
    ("Write(docs/**)", "write_file", {"path": "docs/../x"}, False),
    ("Write(docs/**)", "write_file", {"path": "src/x"}, False),
    ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://www.example.org/a"}, True),
    ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://notexample.org/a"}, False),
    ("WebFetch(domain:example.org)", "web_fetch", {"url": "https://example.org.evil.net"}, False),
    ("mcp__github__create_issue", "github__create_issue", {}, True),
    ("mcp__github", "github__create_issue", {}, True),
    ("mcp__github__*", "github__create_issue", {}, True),
    ("mcp__github__create_issue", "gitlab__create_issue", {}, False),
    ("web_*", "web_fetch", {"url": "https://example.org"}, True),
    ("Task(reviewer)", "Task", {"a": "reviewer"}, False),
    ("Read", "write_file", {"path": "x"}, False),
    ("", "run_command", {"argv": ["ls"]}, False),
]


@pytest.mark.parametrize(("written", "tool", "arguments", "granted"), GRANTED)
def test_allowed_tools_approve_the_calls_they_name(
    written: str, tool: str, arguments: dict[str, object], granted: bool
) -> None:
    assert any(one.covers(tool, arguments) for one in parse_grants(written)) is granted
    # As a YAML list, too.
    assert any(one.covers(tool, arguments) for one in parse_grants([written])) is granted


PLACES = [
    "a/SKILL.md", "b/skill.md", "c/Skill.md", "group/d/SKILL.md", "group/inner/e/SKILL.md", "one/two/three/f/SKILL.md",
]  # fmt: skip


async def test_skills_are_found_in_groups_and_in_any_case(tmp_path: Path) -> None:
    for place in PLACES:
        write(tmp_path / place, skill_md((tmp_path / place).parent.name))
    write(tmp_path / "a/references/deep/SKILL.md", skill_md("deep"))
    write(tmp_path / "node_modules/x/SKILL.md", skill_md("x"))
    write(tmp_path / "1/2/3/4/5/SKILL.md", skill_md("too-deep"))
    report = await Skills(FileCache(), user=tmp_path).load()
    assert [skill.name for skill in report.skills] == list("abcdef")
    assert report.problems == ()


async def test_a_folder_that_is_a_skill_itself_is_found(tmp_path: Path) -> None:
    write(tmp_path / "pdf" / "SKILL.md", skill_md("pdf"))
    report = await Skills(FileCache(), user=tmp_path / "pdf").load()
    assert [skill.name for skill in report.skills] == ["pdf"]


async def test_the_folders_of_a_workspace_are_searched_in_their_order(tmp_path: Path) -> None:
    for folder in workspace_skill_folders(tmp_path):
        write_skill(Path(folder), "shared", f"of {folder}")
        write_skill(Path(folder), Path(folder).parent.name.removeprefix("."))
    skills = Skills(FileCache(), workspace=workspace_skill_folders(tmp_path), trust_workspace=True)
    report = await skills.load()
    assert [skill.name for skill in report.skills] == ["agents", "claude", "clawft", "shared"]
    assert report.get("shared") is not None and ".clawft" in report.get("shared").instructions  # type: ignore[union-attr]
    assert len(report.shadowed) == 2
    assert user_skill_folders("/home/ana")[1] == "/home/ana/.agents/skills"


async def test_the_number_of_folders_is_limited_in_groups_too(tmp_path: Path) -> None:
    for number in range(30):
        write_skill(tmp_path / "group", f"s{number:02}")
    report = await Skills(FileCache(), user=tmp_path, max_skills=10).load()
    assert len(report.skills) == 10
    assert [line.reason for line in report.skipped] == ["20 entries not read: more than 10 in all"]


async def test_a_long_skill_is_loaded_whole(tmp_path: Path) -> None:
    write_skill(tmp_path, "long", "Read this.\n" * 20_000)
    report = await Skills(FileCache(), user=tmp_path).load()
    assert len(report.skills[0].instructions) == 219_999 and report.problems == ()


async def test_a_skill_may_be_a_link_to_another_folder_of_the_workspace_and_to_none_outside(tmp_path: Path) -> None:
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    write_skill(workspace / ".agents" / "skills", "shared")
    write_skill(outside, "secret")
    (workspace / ".claude" / "skills").mkdir(parents=True)
    (workspace / ".claude" / "skills" / "shared").symlink_to("../../.agents/skills/shared")
    (workspace / ".claude" / "skills" / "secret").symlink_to(outside / "secret")
    skills = Skills(FileCache(), workspace=workspace / ".claude" / "skills", trust_workspace=True)
    assert [skill.name for skill in (await skills.load()).skills] == ["shared"]
